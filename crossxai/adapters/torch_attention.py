"""What a torch module attends to, as arrays, with the gradient there; `torch_recording` says how it is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from crossxai.adapters.torch_flow import version
from crossxai.adapters.torch_recording import Recorded, Recording
from crossxai.attention import AttentionMap, check_recorded
from crossxai.errors import Unsupported
from crossxai.model import Array

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
    if n == 1 or all(r.certain or _clear(r, n) for r in recording.layers):
        return outputs, _maps(recording, outputs, weights, model)
    parts = []
    for i in range(n):
        single = [t[i : i + 1].detach() for t in inputs]
        with Recording(module, single, weigh is not None) as recording:
            output = run(single)
        parts.append(_maps(recording, output, None if weights is None else weights[i : i + 1], model))
    return outputs, tuple(AttentionMap.concatenate(layer) for layer in zip(*parts, strict=True))


def _clear(recorded: Recorded, n: int) -> bool:
    shape = recorded.probabilities.shape
    return shape[0] == n and (len(shape) == 3 or shape[1] != n)


def _maps(recording: Recording, outputs: Tensor, weights: Tensor | None, model: str) -> tuple[AttentionMap, ...]:
    layers = recording.layers
    reached = recording.flow.past(outputs).all if recording.flow.knows(outputs) else -1
    if recording.left:
        raise Unsupported(
            f"layer {recording.left!r} goes on in NumPy: attention methods would miss what is mixed there"
        )
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
    found = []
    for recorded, value, gradient in zip(layers, values, at, strict=True):
        if gradient is None and recorded.bit & reached:
            raise Unsupported(
                f"the outputs depend on layer {recorded.layer!r}, but the gradient's way to it is cut (torch.no_grad(), "
                "detach): only attention.rollout needs none"
            )
        full = (
            torch.zeros_like(value) if gradient is None else _with_heads(gradient.permute(recorded.order), len(outputs))
        )
        found.append(AttentionMap(recorded.layer, _array(value), _array(full)))
    return tuple(found)


def _with_heads(probabilities: Tensor, n: int) -> Tensor:
    """Attention without an axis of heads has one head; of a single sample, the first axis is that of the heads."""
    if probabilities.dim() != 3:
        return probabilities
    return probabilities[:, None] if len(probabilities) == n else probabilities[None] if n == 1 else probabilities


def _array(tensor: Tensor) -> Array:
    kept = tensor.detach()
    return (kept if kept.dtype in (torch.float32, torch.float64) else kept.float()).cpu().numpy().copy()
