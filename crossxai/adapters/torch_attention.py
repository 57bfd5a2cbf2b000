"""What a torch module attends to, recorded without touching the module: probabilities as arrays, and the gradient there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from crossxai.adapters import torch_flow
from crossxai.adapters.torch_flow import INPUTS, Flow, Past, Product, tensors, version
from crossxai.adapters.torch_running import to_array
from crossxai.attention import AttentionMap, check_recorded
from crossxai.errors import Unsupported
from crossxai.model import Array

_STEPS = {
    "multi_head_attention_forward": torch_flow.multi_head,
    "scaled_dot_product_attention": torch_flow.scaled_dot_product,
}
_MULTIPLIES = ("mul", "multiply", "__mul__", "__rmul__")
_PRODUCTS = (
    *("matmul", "__matmul__", "__rmatmul__", "einsum", "tensordot", "inner", "dot", "vdot", "mv", "addmv", "addbmm"),
)
_LEAVES = ("numpy", "tolist", "__array__", "__dlpack__")


@dataclass(frozen=True)
class Recorded:
    """One layer's probabilities, part of the graph of the outputs.

    order: its axes as (samples, heads, queries, keys). certain: whether the first is known to be that of the samples.
    bit: what stands for this layer in `torch_flow.Past`.
    """

    layer: str
    tensor: Tensor
    order: tuple[int, ...]
    certain: bool
    bit: int
    version: int

    @property
    def probabilities(self) -> Tensor:
        """(samples, heads, queries, keys), or as many axes as there are."""
        return self.tensor.permute(self.order)

    def tells_samples(self, n: int) -> bool:
        """Whether it is clear which axis is that of n samples."""
        shape = self.probabilities.shape
        return self.certain or (shape[0] == n and (len(shape) == 3 or shape[1] != n))


@dataclass
class _Running:
    """A module that runs, and how many attentions of its own it has computed in this call."""

    name: str
    attentions: int = 0


class Recording(TorchFunctionMode):
    """While on, attention is computed so that its probabilities exist, and these are kept in `layers`; only this thread sees it.

    Fused attention is computed step by step. Attention written by hand is recognised by its two products: a softmax of what one
    gave, multiplied with values along the axis that it sums to 1 over. Every other product of two activations is refused.

    gradients: whether the probabilities will be differentiated at. nudges: layer by layer, (heads, queries, keys) of one
    sample, what its probabilities change by, relative to what they are. Raises `Unsupported`, from within the pass, for
    attention that cannot be recorded.
    """

    def __init__(
        self, module: nn.Module, inputs: Iterable[Tensor], gradients: bool, nudges: Sequence[Array] = ()
    ) -> None:
        super().__init__()
        self.module = module
        self.gradients, self.nudges = gradients, nudges
        self.layers: list[Recorded] = []
        self.flow = Flow(inputs)
        self.others: dict[int, str] = {}  # products of two activations that are no attention so far: bit → layer
        self.left = ""  # the layer where activations left torch, if any did
        self._bit = INPUTS
        self._running: list[_Running] = []
        self._closing = ExitStack()

    def __enter__(self) -> Recording:
        with ExitStack() as stack:
            stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code calls no function of torch
            for name, module in self.module.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    raise Unsupported(f"{name or 'the module'} is TorchScript, whose attention is out of sight")
                stack.callback(module.register_forward_pre_hook(partial(self._before, name)).remove)
                stack.callback(module.register_forward_hook(self._after, with_kwargs=True).remove)
            self._closing = stack.pop_all()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._closing.close()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(getattr(func, "overloadpacket", func), "__name__", "")  # exported modules call overloads
        past = self.flow.past(args, kwargs)
        if name in _STEPS:
            outputs = _STEPS[name](self._layer, self._keep, args, kwargs)
            self.flow.set(outputs, Past(past.all | self.layers[-1].bit))
            return outputs
        if "attention" in name or name == "_transformer_encoder_layer_fwd":
            raise Unsupported(
                f"layer {self._here!r} calls {name}, whose probabilities cannot be recorded: a map without that layer would "
                "be wrong"
            )
        factors = torch_flow.product(name, args, kwargs)
        if factors is not None:
            return self._multiply(factors, name, past, func, args, kwargs)
        outputs = func(*args, **kwargs)
        self._follow(name, args, kwargs, outputs, past)
        return outputs

    @property
    def _here(self) -> str:
        """The innermost module that runs."""
        return (self._running[-1].name if self._running else "") or "the module itself"

    @property
    def _layer(self) -> str:
        """What the next attention is called: the innermost module that runs, numbered if it has computed others."""
        before = self._running[-1].attentions if self._running else 0
        return f"{self._here} ({before + 1})" if before else self._here

    def _before(self, name: str, _module: nn.Module, _args: Any) -> None:
        self._running.append(_Running(name))

    def _after(self, _module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
        """A module's outputs depend on its inputs even where what it does was not seen."""
        self._running.pop()
        past = self.flow.past(args, kwargs)
        self.flow.set([t for t in tensors(outputs) if not self.flow.knows(t)], Past(past.all))

    def _new(self) -> int:
        self._bit <<= 1
        return self._bit

    def _keep(self, tensor: Tensor, order: tuple[int, ...] | None = None, certain: bool = False) -> Tensor:
        layer = self._layer
        if self.gradients and not torch.is_grad_enabled():
            raise Unsupported(f"layer {layer!r} runs under torch.no_grad(), so there is no gradient at its attention")
        if tensor.isnan().any():
            raise Unsupported(f"layer {layer!r}: the masks leave a token nothing to attend to")
        if self.gradients and not tensor.requires_grad:  # frozen weights, and inputs that need no gradient
            tensor = tensor.detach().requires_grad_()  # not the model's own, which it may go on writing to
        axes = tuple(range(tensor.dim())) if order is None else order
        self.layers.append(Recorded(layer, tensor, axes, certain, self._new(), version(tensor)))
        if self._running:
            self._running[-1].attentions += 1
        if not self.nudges:
            return tensor
        ordered = tensor.permute(axes)
        nudge = torch.as_tensor(self.nudges[len(self.layers) - 1], dtype=tensor.dtype, device=tensor.device)
        return (ordered * (1 + nudge.reshape(ordered.shape))).permute(
            [axes.index(axis) for axis in range(tensor.dim())]
        )

    def _multiply(
        self, factors: Product, name: str, past: Past, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """A product of matrices: attention's second one, or possibly its first."""
        both = sum(self.flow.past(t).all & INPUTS for t in factors.tensors) > 1
        values = both or sum(t.dim() > 2 for t in factors.tensors) > 1  # else a linear map with the model's weights
        for position, tensor in enumerate(factors.tensors):
            weights = self.flow.weights(tensor)
            order = None if weights is None else factors.order(position, weights.axis)
            if weights is not None and order is not None and weights.product and values:
                recorded = self._keep(tensor, order)
                self.others = {bit: layer for bit, layer in self.others.items() if not bit & weights.product}
                args, kwargs = torch_flow.swapped((args, kwargs), tensor, recorded)
                outputs = func(*args, **kwargs)
                self.flow.set(outputs, Past(past.all | self.layers[-1].bit))
                return outputs
        bit = self._new()
        if both:
            self.others[bit] = self._here
        outputs = func(*args, **kwargs)
        earlier = 0 if both else past.product
        self.flow.set(outputs, Past(past.all | bit, earlier if name == "linear" and not both else earlier | bit))
        return outputs

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, past: Past) -> None:
        """Any other call: its results depend on what its arguments do."""
        given, results = list(tensors((args, kwargs))), list(tensors(outputs))
        if name in _LEAVES and past.all:
            self.left = self._here
        if name in ("softmax", "_softmax"):
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            self.flow.set(outputs, Past(past.all))
            if axis is not None and results[0].dim():
                self.flow.softmax(results[0], axis, past.product)
            return
        softmaxes = [t for t in given if self.flow.weights(t) is not None]
        mixes = name in _PRODUCTS or (softmaxes and name in _MULTIPLIES)
        if mixes and sum(self.flow.past(t).all & INPUTS for t in given) > 1:
            bit = self._new()  # values weighed and, perhaps, summed by hand
            self.others[bit], past = self._here, Past(past.all | bit, past.product)
        self.flow.set(outputs if results else given[:1], past)  # x[…] = y gives nothing back
        for before in softmaxes:
            for after in results:
                if not self.flow.same(name, before, after) and "dropout" in name:
                    raise Unsupported(f"layer {self._here!r} drops attention at random")


KIND = "attention that can be recorded: torch's own, or softmax(query · key) · value written by hand"


def attended(
    module: nn.Module,
    run: Callable[[list[Tensor]], Tensor],
    inputs: list[Tensor],
    weigh: Callable[[Tensor], Tensor] | None,
    model: str,
    nudges: Sequence[Array] = (),
) -> tuple[Tensor, tuple[AttentionMap, ...]]:
    """(outputs, what each layer attends to), with the gradient of sum(weights · outputs) there unless weigh is None.

    run: the pass from inputs to outputs. weigh: outputs → weights. Samples are taken one by one where a batch does not tell
    which axis of a layer's attention they are on: heads may be merged with them, or be as many. nudges: see `Recording`.
    """
    with Recording(module, inputs, weigh is not None, nudges) as recording:
        outputs = run(inputs)
    weights = None if weigh is None else weigh(outputs)
    n = len(outputs)
    if n == 1 or all(r.tells_samples(n) for r in recording.layers):
        return outputs, _maps(recording, outputs, weights, model)
    parts = []
    for i in range(n):
        single = [t[i : i + 1].detach() for t in inputs]
        with Recording(module, single, weigh is not None) as recording:
            output = run(single)
        parts.append(_maps(recording, output, None if weights is None else weights[i : i + 1], model))
    return outputs, tuple(AttentionMap.concatenate(layer) for layer in zip(*parts, strict=True))


def _maps(recording: Recording, outputs: Tensor, weights: Tensor | None, model: str) -> tuple[AttentionMap, ...]:
    layers = recording.layers
    reached = recording.flow.past(outputs).all if recording.flow.knows(outputs) else -1
    if recording.left:
        raise Unsupported(f"layer {recording.left!r} goes on in NumPy: attention methods would miss what it mixes")
    for bit, layer in recording.others.items():
        if bit & reached:
            raise Unsupported(
                f"layer {layer!r} multiplies activations with activations, but not as softmax(query · key) · value: attention "
                "methods would miss what this mixes"
            )
    values = [_with_heads(r.probabilities, len(outputs)) for r in layers]
    check_recorded([(r.layer, tuple(v.shape)) for r, v in zip(layers, values, strict=True)], len(outputs), model, KIND)
    for recorded in layers:
        if version(recorded.tensor) != recorded.version:
            raise Unsupported(f"layer {recorded.layer!r} writes over its probabilities after it has used them")
    if weights is None:
        return tuple(AttentionMap(r.layer, _array(v)) for r, v in zip(layers, values, strict=True))
    at: list[Tensor | None] = [None] * len(layers)
    if outputs.requires_grad:
        try:
            at = list(torch.autograd.grad(outputs, [r.tensor for r in layers], weights, allow_unused=True))
        except CheckpointError as error:  # blocks that run once more on the way back, where nothing is recorded
            raise Unsupported(
                f"model {model!r} checkpoints its activations, so attention has no gradient: switch that off, such as by "
                "set_grad_checkpointing(False) or gradient_checkpointing_disable()"
            ) from error
    maps = []
    for recorded, value, gradient in zip(layers, values, at, strict=True):
        if gradient is None and recorded.bit & reached:
            raise Unsupported(
                f"the outputs depend on layer {recorded.layer!r}, but the gradient's way to it is cut (torch.no_grad(), "
                "detach): only attention.rollout needs none"
            )
        full = (
            torch.zeros_like(value) if gradient is None else _with_heads(gradient.permute(recorded.order), len(outputs))
        )
        maps.append(AttentionMap(recorded.layer, _array(value), _array(full)))
    return tuple(maps)


def _with_heads(probabilities: Tensor, n: int) -> Tensor:
    """Attention without an axis of heads has one head; of a single sample, the first axis is that of the heads."""
    if probabilities.dim() != 3:
        return probabilities
    return probabilities[:, None] if len(probabilities) == n else probabilities[None] if n == 1 else probabilities


def _array(tensor: Tensor) -> Array:
    return to_array(tensor.detach()).copy()  # what the module holds may be written to later
