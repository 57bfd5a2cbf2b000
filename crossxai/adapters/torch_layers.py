"""What a torch module shows of itself: the axes of its layers' outputs, its last operation, and hints that need no pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from crossxai.adapters.checks import original_layers
from crossxai.errors import Unsupported

Axes = tuple[str, ...]

LINE, PLANE, SPACE = ("channel", "x"), ("channel", "y", "x"), ("channel", "z", "y", "x")
"""torch's order of the axes after the sample axis."""

DEFINED: dict[type[nn.Module], Axes] = {
    **dict.fromkeys((nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d), LINE),
    **dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.MaxUnpool2d), PLANE),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.BatchNorm2d, nn.SyncBatchNorm), PLANE),
    **dict.fromkeys((nn.InstanceNorm2d, nn.Dropout2d, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad2d), PLANE),
    **dict.fromkeys((nn.ReflectionPad2d, nn.ReplicationPad2d, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d), PLANE),
    **dict.fromkeys((nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d), SPACE),
    **dict.fromkeys((nn.BatchNorm3d, nn.InstanceNorm3d, nn.Dropout3d), SPACE),
}  # fmt: skip
KEEPING = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Threshold, nn.Identity),
    *(nn.Dropout, nn.AlphaDropout, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Softmax2d),
)
"""Layers whose outputs have the axes of their inputs."""
INNER = ("forward", "_conv_forward", "_apply_instance_norm", "_check_input_dim")


def is_plainly(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of that kind and computes as it does: a subclass that overrides a method is another layer."""
    return isinstance(module, kind) and all(
        getattr(type(module), name, None) is getattr(kind, name, None) for name in INNER
    ) and "forward" not in vars(module)  # fmt: skip


def inner_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers by name, without the module itself."""
    return {name: layer for name, layer in module.named_modules() if name}


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    """The layers by every name that the layer verbs know them by: a twin's by those of the original, too."""
    own = inner_layers(module)
    return own | {name: own[layer] for name, layer in original_layers(module).items()}


def definition(module: nn.Module) -> Axes | None:
    """What the axes of its output after the sample axis mean, where the layer's definition tells."""
    return next((axes for kind, axes in DEFINED.items() if is_plainly(module, kind)), None)


def kind(module: nn.Module) -> str:
    """The class of a layer; of one that holds a linear layer and no other matrix of weights, that of the linear layer."""
    inner = [m for m in module.modules() if any(p.ndim > 1 for p in m.parameters(recurse=False))]
    return type(inner[0] if len(inner) == 1 and isinstance(inner[0], nn.Linear) else module).__name__


class Seen(TorchFunctionMode):
    """The axes of tensors that went through layers whose definition tells; while on, functions that work entry by entry keep
    them, a permutation moves them, and everything else loses them."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[int, tuple[Tensor, Axes]] = {}  # the tensor is kept, so that no other gets its number

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(output, Tensor) and (name.strip("_") in ENTRYWISE or name in ("permute", "transpose")):
            known = {axes for t in args if (axes := self._known(t)) and t.ndim == output.ndim}
            if len(known) == 1:
                axes = _moved(known.pop(), name, args, kwargs or {})
                if axes is not None:
                    self._tensors[id(output)] = (output, axes)
        return output

    def axes(self, module: nn.Module, inputs: Any, output: Tensor) -> Axes | None:
        """The axes of a module's output, as its definition says, or its input, or the layer that gave this very tensor."""
        axes = definition(module)
        if axes is None and inputs and any(is_plainly(module, kind) for kind in KEEPING):
            axes = self._known(inputs[0])
        if axes is None:
            axes = self._known(output)
        if axes is None or len(axes) + 1 != output.ndim:
            return None
        self._tensors[id(output)] = (output, axes)
        return axes

    def _known(self, tensor: Any) -> Axes | None:
        return self._tensors.get(id(tensor), (None, None))[1]


ENTRYWISE = frozenset({
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh"),
    *("sigmoid", "tanh", "softplus", "threshold", "clamp", "abs", "neg", "exp", "pow", "ipow", "maximum", "minimum", "where"),
    *("add", "iadd", "radd", "sub", "isub", "rsub", "mul", "imul", "rmul", "div", "truediv", "itruediv"),
    *("batch_norm", "layer_norm", "group_norm", "instance_norm", "dropout", "dropout2d", "feature_dropout"),
    *("clone", "contiguous", "detach", "float", "double", "to", "type_as"),
})  # fmt: skip
"""Names of torch's functions, underscores at their ends left out, whose outputs have the axes of their inputs."""


def _moved(axes: Axes, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Axes | None:
    """The axes after a permutation of all axes that leaves the sample axis first; None for others."""
    if name not in ("permute", "transpose"):
        return axes
    order = list(range(len(axes) + 1))
    if name == "transpose":
        if kwargs or len(args) != 3:
            return None
        order[args[1]], order[args[2]] = order[args[2]], order[args[1]]
    else:
        given = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:] or kwargs.get("dims", ())
        order = [i % len(order) for i in given] or order
    return tuple(axes[i - 1] for i in order[1:]) if order[0] == 0 else None


@contextmanager
def hooked(
    layers: Mapping[str, nn.Module], after: Callable[..., None] | None = None, before: Callable[..., None] | None = None
) -> Iterator[None]:
    """Inside, call `before(name, layer, inputs)` and `after(name, layer, inputs, output)` around each of the layers."""
    with ExitStack() as stack:
        for name, layer in layers.items():
            if before is not None:
                stack.callback(layer.register_forward_pre_hook(partial(before, name)).remove)
            if after is not None:
                stack.callback(layer.register_forward_hook(partial(after, name)).remove)
        yield


@contextmanager
def replacing(layer: nn.Module, function: Callable[[Tensor], Tensor], name: str) -> Iterator[None]:
    """Pass the layer's output through `function` inside; raises `Unsupported` unless it runs once and gives a tensor."""
    runs = 0

    def hook(_module: nn.Module, _args: Any, output: Any) -> Tensor:
        nonlocal runs
        runs += 1
        if runs > 1:
            raise Unsupported(f"{name} runs more than once in a pass: name another")
        if not isinstance(output, Tensor):
            raise Unsupported(f"{name} gives {type(output).__name__}, not a tensor")
        return function(output)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if not runs:
        raise Unsupported(f"{name} does not run in a forward pass")


def cut(module: nn.Module, run: Callable[[], Tensor]) -> str:
    """Where the gradient of the outputs is lost, in words: the first layer that gets a gradient and passes none on, in `run`, a
    forward pass on inputs that want gradients."""
    lost: list[str] = []

    def look(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [t for t in (output if isinstance(output, tuple | list) else [output]) if isinstance(t, Tensor)]
        wants = any(isinstance(t, Tensor) and t.requires_grad for t in inputs)
        if wants and tensors and not any(t.requires_grad for t in tensors):
            why = "" if torch.is_grad_enabled() else ", which runs under torch.no_grad()"
            if "quantized" in type(layer).__module__:
                why = ", which is quantised"
            elif not any(t.is_floating_point() for t in tensors):
                why = ", which gives whole numbers"
            lost.append(f"at layer {name!r} ({type(layer).__name__}){why}")

    with hooked(inner_layers(module), look):
        outputs = run()
    if lost:
        return lost[0]
    place = "on a part of the way" if outputs.requires_grad else "on the way to the outputs, between layers"
    return f"{place} (torch.no_grad, detach, a conversion to NumPy or to whole numbers)"


KEEPING_RANGE = frozenset({
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "T", "Transpose", "Permute", "Clone", "Alias", "Slice"),
    *("Select", "Expand", "ToCopy", "UpsampleBilinear2D", "UpsampleNearest2D", "Mean", "AvgPool2D", "AdaptiveAvgPool2D"),
    "MaxPool2DWithIndices",
})  # fmt: skip
"""Operations that keep what lies in [0, 1] there."""

ENDINGS = {
    **{"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log-softmax", "LogSigmoid": "log-sigmoid"},
    **dict.fromkeys(("Addmm", "Mm", "Bmm", "Convolution", "NativeBatchNorm", "CudnnBatchNorm"), "linear"),
}
SUMS = ("Add", "Sub")


def last_operation(outputs: Tensor) -> str | None:
    """ "sigmoid", "softmax", "log-softmax", "log-sigmoid" or "linear" (a layer without an activation); None for anything else."""
    return _ending(outputs.grad_fn)


def _ending(step: Any) -> str | None:
    while step is not None:
        name = re.sub(r"Backward\d*$", "", step.name())
        if name in SUMS:  # a bias, or a residual branch; but 0.5 + 0.5 * tanh(x) is a sigmoid
            return "linear" if any(_ending(term) == "linear" for term, _ in step.next_functions) else None
        if name not in KEEPING_RANGE:
            return ENDINGS.get(name)
        step = step.next_functions[0][0]
    return None


PLAIN = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Identity, nn.Flatten, nn.Hardtanh, nn.LeakyReLU)
"""Layers that compute the same in training mode."""


def hints(module: nn.Module) -> Mapping[str, Any]:
    """ "norms": how many batch norms there are; "fresh norms": those that never saw a batch and were never trained; "in place":
    names of layers that overwrite what they are given; "hooked": names of layers with hooks of someone else; "normalising": name
    → (mean, sd) of layers that standardise by constants, averaged over channels; "made weights": names of layers that make
    their weights of others, as weight norm does."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    return {
        "norms": len(norms),
        "fresh norms": sum(_fresh(norm) for norm in norms),
        "in place": [name for name, m in module.named_modules() if getattr(m, "inplace", False)],
        "normalising": {name: pair for name, m in module.named_modules() if (pair := _constants(m)) is not None},
        "made weights": [name for name, m in module.named_modules() if makes_weights(m)],
        "hooked": [
            name or "the module itself"
            for name, m in module.named_modules()
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        ],
    }


def makes_weights(module: nn.Module) -> bool:
    """Whether a layer makes its weights of others, by a parametrisation or, in torch's older way, by a hook."""
    return parametrize.is_parametrized(module) or any(
        isinstance(h, WeightNorm | SpectralNorm) for h in module._forward_pre_hooks.values()
    )


def _constants(module: nn.Module) -> tuple[float, float] | None:
    """The mean and sd that a module subtracts and divides by, recognised by their names; None if it holds no such numbers."""
    for mean, sd in (("mean", "std"), ("pixel_mean", "pixel_std"), ("image_mean", "image_std")):
        pair = [getattr(module, name, None) for name in (mean, sd)]
        if all(isinstance(v, torch.Tensor | list | tuple | float | int) for v in pair):
            numbers = [torch.as_tensor(v, dtype=torch.float64).flatten() for v in pair]
            trained = any(p.requires_grad for p in pair if isinstance(p, torch.Tensor))
            if all(0 < n.numel() <= 4 for n in numbers) and not trained:
                return float(numbers[0].mean()), float(numbers[1].mean())
    return None


def training_matters(module: nn.Module) -> bool:
    """Whether a module is in training mode and may compute otherwise because of it, as plain activations and quantised leaves,
    which torch makes in training mode, do not."""
    if not getattr(module, "training", False):
        return False
    return not (type(module) in PLAIN or type(module).__module__.startswith("torch.ao.nn.quantized"))


def _fresh(norm: Any) -> bool:
    tracked = norm.num_batches_tracked is not None and int(norm.num_batches_tracked) > 0
    moved = bool(torch.any(norm.running_mean != 0)) or bool(torch.any(norm.running_var != 1))
    weights = ((norm.weight, 1), (norm.bias, 0))
    scaled = any(bool(torch.any(values != start)) for values, start in weights if values is not None)
    return not (tracked or moved or scaled)
