"""How a torch module is run: without wrappers, when memory runs out, and with every call that it makes recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crossxai.errors import CrossXAIError, OutOfMemory
from crossxai.model import Array


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile and of data parallelism, which compute the same."""
    while True:
        inner: Any = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            break
        module = inner
    return module


def eager(module: nn.Module) -> AbstractContextManager[Any]:
    """Parts that torch.compile has compiled run as they were written, so that their layers can be read."""
    if any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in module.modules()):
        return cast(AbstractContextManager[Any], torch.compiler.set_stance("force_eager"))
    return nullcontext()


@contextmanager
def memory_errors() -> Iterator[None]:
    """What torch raises when memory runs out, as `OutOfMemory`; on a CPU that is a RuntimeError known by its message alone."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if isinstance(error, CrossXAIError) or not says_no_memory(str(error)):
            raise
        raise OutOfMemory(str(error)) from error


def shape(value: Any) -> tuple[int | None, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def says_no_memory(words: str) -> bool:
    return "can't allocate memory" in words or "not enough memory" in words


def to_array(tensor: Tensor) -> Array:
    """A contiguous NumPy array; half precision becomes float32."""
    full = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    return np.ascontiguousarray(full.detach().cpu().numpy())


ACTIVATIONS = frozenset({
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh"),
    *("sigmoid", "tanh", "softplus", "softmax", "prelu", "rrelu"),
})  # fmt: skip
WEIGHING = frozenset({
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul", "embedding", "einsum", "bmm"),
})  # fmt: skip
SCALES = {"div": -1, "truediv": -1, "itruediv": -1, "mul": 1, "imul": 1, "rmul": 1}
"""Calls with a number by which values are scaled: the exponent of the number."""
MOVES = ("permute", "transpose", "movedim", "moveaxis", "swapaxes")


@dataclass
class Calls:
    """functional: layer → activations that it calls as functions, in order. twice: layers without weights that run more than
    once → how often. scales: numbers that values are multiplied by before the first layer with weights; moved: permutations
    there."""

    functional: dict[str, list[str]] = field(default_factory=dict)
    twice: dict[str, int] = field(default_factory=dict)
    scales: list[float] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


class _Listening(TorchFunctionMode):
    """On while a module runs; calls of layers that are activations themselves are no functional ones."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.running, self.weighed = Calls(), [("", False)], False
        self.inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        layer, own = self.running[-1]
        if self.inside and not own and name in ACTIVATIONS:
            self.calls.functional.setdefault(layer or "the module itself", []).append(name)
        self.weighed |= self.inside and name in WEIGHING
        if self.inside and not self.weighed and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self._before(name, args)
        return func(*args, **(kwargs or {}))

    def _before(self, name: str, args: tuple[Any, ...]) -> None:
        """What is done to floating-point values before anything is weighed."""
        numbers = [float(a) for a in args[1:] if isinstance(a, Real) or (isinstance(a, Tensor) and a.numel() == 1)]
        if name in SCALES and numbers and numbers[0]:
            self.calls.scales.append(numbers[0] ** SCALES[name])
        if name in MOVES and args[0].ndim == 4:
            self.calls.moved.append(f"{name}({', '.join(map(str, args[1:]))})")


@contextmanager
def _named(module: nn.Module, listening: _Listening) -> Iterator[None]:
    runs: dict[str, int] = {}
    handles = []

    def before(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, _given: Any) -> None:
            listening.inside = True
            own = type(layer).__module__.startswith("torch.nn.modules") and not list(layer.children())
            listening.running.append((name, own))
            runs[name] = runs.get(name, 0) + 1

        return hook

    def after(_layer: nn.Module, _given: Any, _output: Any) -> None:
        listening.running.pop()
        listening.inside = len(listening.running) > 1

    try:
        for name, layer in module.named_modules():
            handles += [layer.register_forward_pre_hook(before(name)), layer.register_forward_hook(after)]
        with torch.compiler.set_stance("force_eager"), listening:
            yield
    finally:
        for handle in handles:
            handle.remove()
    leaves = {n: m for n, m in module.named_modules() if n and not list(m.children()) and not list(m.parameters())}
    listening.calls.twice = {n: count for n, count in runs.items() if count > 1 and n in leaves}


def record_calls(module: nn.Module, run: Callable[[], Any]) -> Calls:
    """What the module calls in `run()`, one forward pass; nothing of TorchScript, whose calls are out of sight."""
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        return Calls()
    listening = _Listening()
    with _named(module, listening):
        run()
    return listening.calls
