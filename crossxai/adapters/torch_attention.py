"""What `nn.MultiheadAttention` attends to, recorded without touching the module.

A function mode sees every call of torch within its `with`, in this thread only, so nothing is replaced that would have to be
put back. While it is on, torch itself leaves the fused paths of `TransformerEncoder`, its layers and `MultiheadAttention`
(each asks `has_torch_function`), which would otherwise run in evaluation mode without ever forming the probabilities.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crossxai.attention import AttentionMap, check_recorded
from crossxai.errors import Unsupported

_FORWARD = F.multi_head_attention_forward
_SIGNATURE = inspect.signature(_FORWARD)
_FUSED = ("scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd")


@dataclass
class Recorded:
    """One layer's probabilities (n, heads, queries, keys), part of the graph of the outputs."""

    layer: str
    probabilities: Tensor


class Recording(TorchFunctionMode):
    """While on, every multi-head attention is computed step by step and its probabilities are kept in `found`.

    gradients: whether the probabilities will be differentiated at. Raises `Unsupported`, from within the pass, for attention
    that cannot be recorded or that would be missing from what is.
    """

    def __init__(self, module: nn.Module, gradients: bool) -> None:
        super().__init__()
        self.gradients = gradients
        self.found: list[Recorded] = []
        self._names = {
            id(m.out_proj.weight): name or "the module itself"
            for name, m in module.named_modules()
            if isinstance(m, nn.MultiheadAttention)
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _FORWARD:
            return self._attend(_SIGNATURE.bind(*args, **(kwargs or {})))
        if getattr(func, "__name__", "") in _FUSED:
            raise Unsupported(
                f"the model calls {func.__name__} outside nn.MultiheadAttention, where its probabilities cannot be "
                "recorded: a map without that layer would be wrong"
            )
        return func(*args, **(kwargs or {}))

    def _attend(self, bound: inspect.BoundArguments) -> tuple[Tensor, Tensor | None]:
        bound.apply_defaults()
        given = bound.arguments
        layer = self._names.get(id(given["out_proj_weight"]), f"attention {len(self.found)}")
        _check(given, layer)
        if self.gradients and not torch.is_grad_enabled():
            raise Unsupported(f"layer {layer!r} runs under torch.no_grad(), so there is no gradient at its attention")
        query, key, value = _projected(given)
        logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        probabilities = torch.softmax(_masked(logits, given), dim=-1)
        if probabilities.isnan().any():
            raise Unsupported(f"layer {layer!r}: the masks leave a token nothing to attend to")
        if self.gradients and not probabilities.requires_grad:  # frozen weights, and inputs that need no gradient
            probabilities.requires_grad_()
        self.found.append(Recorded(layer, probabilities))
        mixed = (probabilities @ value).permute(2, 0, 1, 3).flatten(2)
        output = F.linear(mixed, given["out_proj_weight"], given["out_proj_bias"])
        if not given["need_weights"]:
            return output, None
        return output, probabilities.mean(dim=1) if given["average_attn_weights"] else probabilities.clone()


def maps(found: list[Recorded], outputs: Tensor, weights: Tensor | None, model: str) -> tuple[AttentionMap, ...]:
    """The recorded layers as arrays, with the gradient of sum(weights · outputs) at them unless weights is None."""
    check_recorded(
        [(r.layer, tuple(r.probabilities.shape)) for r in found], len(outputs), model, "torch.nn.MultiheadAttention"
    )
    values = [r.probabilities for r in found]
    gradients: list[Tensor | None] = [None] * len(found)
    if weights is not None and outputs.requires_grad:
        gradients = list(torch.autograd.grad(outputs, values, weights, allow_unused=True))
    return tuple(
        AttentionMap(
            recorded.layer,
            _array(value),
            None if weights is None else _array(torch.zeros_like(value) if gradient is None else gradient),
        )
        for recorded, value, gradient in zip(found, values, gradients, strict=True)
    )


def _check(given: Mapping[str, Any], layer: str) -> None:
    reasons = {
        "adds a learned key (add_bias_kv), a token of no stream": given["bias_k"] is not None,
        "adds an empty key (add_zero_attn), a token of no stream": given["add_zero_attn"],
        "is given keys of its own (static_k)": given["static_k"] is not None or given["static_v"] is not None,
        "takes one sample without its batch axis": given["query"].dim() != 3,
        "drops attention at random": given["training"] and given["dropout_p"] > 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Unsupported(f"layer {layer!r} {reason}")


def _projected(given: Mapping[str, Any]) -> list[Tensor]:
    """Query, key and value, each (n, heads, tokens, size); torch hands them over as (tokens, n, channels)."""
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in ("q", "k", "v")]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
    projected = [
        F.linear(given[name], weight, bias)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True)
    ]
    return [p.reshape(*p.shape[:2], given["num_heads"], -1).permute(1, 2, 0, 3) for p in projected]


def _masked(logits: Tensor, given: Mapping[str, Any]) -> Tensor:
    """Logits (n, heads, queries, keys) with masks applied: True, or -inf in a mask of numbers, hides a key."""
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    if given["is_causal"] and padding is None and not given["need_weights"]:
        # The one case in which torch follows the hint and does not look at the mask.
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
    if mask is not None:
        logits = _hidden(logits, mask if mask.dim() == 2 else mask.view(logits.shape))
    return logits if padding is None else _hidden(logits, padding[:, None, None, :])


def _hidden(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else logits + mask


def _array(tensor: Tensor) -> Any:
    kept = tensor.detach()
    return (kept if kept.dtype in (torch.float32, torch.float64) else kept.float()).cpu().numpy().copy()
