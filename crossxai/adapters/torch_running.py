"""How a torch module is run (without wrappers, when memory runs out, with every call recorded) and copied (in float64 to measure
with, with batch norms folded to score faster, with weights drawn anew, which may then be trained)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.overrides import TorchFunctionMode

from crossxai.adapters.checks import ITSELF, LARGEST_COPY, redrawn
from crossxai.adapters.torch_layers import hooked, inner_layers, makes_weights
from crossxai.errors import CrossXAIError, InvalidInput, OutOfMemory, Unsupported
from crossxai.model import Array
from crossxai.porting.graph import Graph, foldable_norms
from crossxai.process import foreign


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile and of data parallelism, which compute the same."""
    inner: Any = getattr(module, "_orig_mod", None)
    if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    return unwrap(inner) if isinstance(inner, nn.Module) else module


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
        torch.cuda.empty_cache()  # blocks of larger batches are of no use for smaller ones
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if isinstance(error, CrossXAIError) or not says_no_memory(str(error)):
            raise
        raise OutOfMemory(str(error)) from error


def device_of(given: str | torch.device) -> torch.device:
    """A device by its name; "auto" is the first GPU that torch can use, else the CPU. Raises `InvalidInput` if there is none."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if given == "auto" else given
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # an assertion where torch is built without CUDA
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InvalidInput(
            f"device {str(given)!r} is not there ({reason}); torch sees {there}: write one of them, or 'auto'"
        ) from error
    return device


NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "CUDA error: out of memory", "ALLOC_FAILED"),
)  # the last is how cuBLAS and cuDNN say it


def says_no_memory(words: str) -> bool:
    return any(saying in words for saying in NO_MEMORY)


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
            numbers = [float(a) for a in args[1:] if isinstance(a, Real) or (isinstance(a, Tensor) and a.numel() == 1)]
            if name in SCALES and numbers and numbers[0]:
                self.calls.scales.append(numbers[0] ** SCALES[name])
            if name in MOVES and args[0].ndim == 4:
                self.calls.moved.append(f"{name}({', '.join(map(str, args[1:]))})")
        return func(*args, **(kwargs or {}))


def record_calls(module: nn.Module, run: Callable[[], Any]) -> Calls:
    """What the module calls in `run()`, one forward pass; nothing of TorchScript, whose calls are out of sight."""
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        return Calls()
    listening = _Listening()
    runs: dict[str, int] = {}

    def before(name: str, layer: nn.Module, _given: Any) -> None:
        listening.inside = True
        own = type(layer).__module__.startswith("torch.nn.modules") and not list(layer.children())
        listening.running.append((name, own))
        runs[name] = runs.get(name, 0) + 1

    def after(_name: str, _layer: nn.Module, _given: Any, _output: Any) -> None:
        listening.running.pop()
        listening.inside = len(listening.running) > 1

    with hooked(dict(module.named_modules()), after, before), torch.compiler.set_stance("force_eager"), listening:
        run()
    leaves = {n: m for n, m in inner_layers(module).items() if not list(m.children()) and not list(m.parameters())}
    listening.calls.twice = {n: count for n, count in runs.items() if count > 1 and n in leaves}
    return listening.calls


def float64_copy(module: nn.Module) -> nn.Module | None:
    """A copy of the module, as it computes now, in float64; None of TorchScript, exported, compiled and quantised modules, of
    large ones, and of what `copy.deepcopy` or the device refuses."""
    if isinstance(module, torch.jit.ScriptModule) or "eval" in vars(module):
        return None
    if any(hasattr(m, "_orig_mod") or "quantized" in type(m).__module__ for m in module.modules()):
        return None
    if 8 * sum(w.numel() for ws in (module.parameters(), module.buffers()) for w in ws) > LARGEST_COPY:
        return None
    raised: tuple[type[Exception], ...] = (MemoryError, *foreign())
    try:
        return _with_weights_made(copy.deepcopy(module)).double()
    except raised:
        return None


def _with_weights_made(module: nn.Module) -> nn.Module:
    """The module, whose weights that are made of others (weight norm) are now those that it has computed with."""
    for layer in [m for m in module.modules() if makes_weights(m)]:
        if parametrize.is_parametrized(layer):
            # Not torch's own way: it takes the weight from a class that the copy shares with the original.
            made = {name: getattr(layer, name).detach() for name in layer.parametrizations}  # type: ignore[union-attr]
            del layer.parametrizations
            layer.__class__ = type(layer).__bases__[0]
            for name, values in made.items():
                layer.register_parameter(name, nn.Parameter(values))
        elif any(isinstance(hook, SpectralNorm) for hook in layer._forward_pre_hooks.values()):
            nn.utils.remove_spectral_norm(layer)
        else:
            nn.utils.remove_weight_norm(layer)
    return module


def _copy(module: nn.Module, model: str, so: str) -> nn.Module:
    """A copy; raises `Unsupported`, with what is so because of that, where there is none."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise Unsupported(f"model {model!r} cannot be copied, so {so}: {error}") from error


CONVOLUTIONS, NORMS = (nn.Conv2d, nn.Conv3d), (nn.BatchNorm2d, nn.BatchNorm3d)


def folded_copy(module: nn.Module, trace: Callable[[], Graph], model: str) -> nn.Module:
    """A copy in which every convolution takes over the batch norm after it, where the graph says that nothing comes between; it
    is traced only if there may be something to fold."""
    nothing = f"model {model!r} has no batch norm behind a convolution, so there is nothing to fold"
    foldable = [(path, m) for path, m in module.named_modules() if type(m) in (*CONVOLUTIONS, *NORMS)]
    # Where someone wants to see or change what a layer does, it stays as it is.
    leaves = {path: m for path, m in foldable if not (m._forward_hooks or m._forward_pre_hooks)}
    kinds = {type(m) for m in leaves.values()}
    if not (kinds & set(CONVOLUTIONS) and kinds & set(NORMS)):
        raise Unsupported(nothing)
    graph = trace()
    paths = {graph.layers[path]: path for path in leaves if path in graph.layers}
    pairs = foldable_norms(graph).items()
    wanted = [(paths[conv], paths[norm]) for norm, conv in pairs if conv in paths and norm in paths]
    if not wanted:
        raise Unsupported(nothing)
    twin = _copy(module, model, "its batch norms stay")
    for conv, norm in wanted:
        before, after = twin.get_submodule(conv), twin.get_submodule(norm)
        assert isinstance(before, CONVOLUTIONS)
        assert isinstance(after, NORMS)
        twin.set_submodule(conv, fuse_conv_bn_eval(before, after))
        twin.set_submodule(norm, nn.Identity().eval())
    # Convolutions of volumes take no other layout in memory, and are no faster in that of their own.
    return twin if nn.Conv3d in kinds else twin.to(memory_format=torch.channels_last)


def weighted_layers(module: nn.Module, run: Callable[[], object]) -> dict[str, list[str]]:
    """Layer → names of its parameters, the layer that `run` starts last first. Parameters of modules that never run as such, like
    the projections inside fused attention, belong to the module around them."""
    started: dict[str, None] = {}
    with hooked(dict(module.named_modules()), before=lambda name, _layer, _given: started.setdefault(name)):
        run()
    owned: dict[str, list[str]] = {name: [] for name in reversed(started)}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in owned:
            owner = owner.rpartition(".")[0]
        if parameter.is_floating_point():
            owned[owner].append(name)
    return {name or ITSELF: parameters for name, parameters in owned.items() if parameters}


def randomised_copy(module: nn.Module, weights: dict[str, list[str]], seed: int, model: str) -> nn.Module:
    """A copy of the module in which these layers' parameters are drawn anew; the module itself stays as it is."""
    twin = _copy(module, model, "its weights cannot be drawn anew")
    parameters = dict(twin.named_parameters())
    with torch.no_grad():
        for layer, names in weights.items():
            for number, name in enumerate(names):
                values = redrawn(parameters[name].detach().double().cpu().numpy(), layer, number, seed)
                parameters[name].copy_(torch.from_numpy(values))
    return twin


def trained_statistics(module: nn.Module, run: Callable[[], object]) -> dict[str, tuple[Array, Array]]:
    """Name → (running mean, running variance) of every batch norm that runs once in `run`, after it: one pass in which the norms
    alone are in training mode. All is then as before.

    The batch's own variance is in them, not n / (n - 1) times it, which torch takes. Raises `Unsupported` for a norm with a mean
    over all batches.
    """
    norms: dict[str, Any] = {
        n: m
        for n, m in module.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_var is not None
    }
    before = {name: [buffer.clone() for buffer in norm.buffers()] for name, norm in norms.items()}
    sizes: dict[str, list[int]] = {}

    def begin(name: str, norm: Any, given: tuple[Tensor, ...]) -> None:
        if norm.momentum is None:
            raise Unsupported(f"batch norm {name!r} has momentum=None, a mean over all batches, which Keras has not")
        sizes.setdefault(name, []).append(given[0].numel() // given[0].shape[1])
        norm.training = True

    def end(name: str, norm: Any, _given: Any, _output: Any) -> None:
        norm.training = False

    try:
        with hooked(norms, after=end, before=begin):
            run()
        found = {}
        for name in (name for name, every in sizes.items() if len(every) == 1):
            norm, old = norms[name], before[name][1]
            batch = norm.running_var - (1 - norm.momentum) * old
            found[name] = (to_array(norm.running_mean.clone()), to_array(norm.running_var - batch / sizes[name][0]))
        return found
    finally:
        for name, norm in norms.items():
            norm.training = False
            for buffer, value in zip(norm.buffers(), before[name], strict=True):
                buffer.copy_(value)


def calibrate(module: nn.Module, run: Callable[[], object]) -> None:
    """Set the running statistics of every batch norm to those of what reaches it in `run`, one forward pass of many samples."""
    norms = {name: m for name, m in module.named_modules() if getattr(m, "running_mean", None) is not None}

    def measure(_name: str, layer: Any, given: tuple[Tensor, ...]) -> None:
        others = [axis for axis in range(given[0].ndim) if axis != 1]
        layer.running_mean.copy_(given[0].mean(others))
        layer.running_var.copy_(given[0].var(others, correction=0))

    with hooked(norms, before=measure):
        run()
