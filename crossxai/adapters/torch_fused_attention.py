"""Torch's two fused attentions, computed step by step so that their probabilities exist and are part of the graph."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crossxai.errors import Unsupported

Keep = Callable[..., Tensor]  # records probabilities (…, queries, keys) and gives them back
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def multi_head(layer: str, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """What `F.multi_head_attention_forward` gives; keep gets (n, heads, queries, keys)."""
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    _check(given, layer)
    query, key, value = _projected(given)
    logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    probabilities = keep(torch.softmax(_masked(logits, given), dim=-1), certain=True)
    mixed = (probabilities @ value).permute(2, 0, 1, 3).flatten(2)
    output = F.linear(mixed, given["out_proj_weight"], given["out_proj_bias"])
    if not given["need_weights"]:
        return output, None
    return output, probabilities.mean(dim=1) if given["average_attn_weights"] else probabilities.clone()


def scaled_dot_product(layer: str, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What `F.scaled_dot_product_attention` gives; half precision is computed in float32, as its kernels do."""
    return _scaled(layer, keep, *args, **kwargs)


def _scaled(
    layer: str,
    keep: Keep,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p > 0:
        raise Unsupported(f"layer {layer!r} drops attention at random (dropout_p={dropout_p})")
    if enable_gqa:  # each head of the keys serves as many of the queries, in a row
        shared = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(shared, -3), value.repeat_interleave(shared, -3)
    exact = query.dtype if query.dtype == torch.float64 else torch.float32
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = query.to(exact) @ key.to(exact).transpose(-2, -1) * scale
    if is_causal:
        logits = _hidden(logits, torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1))
    if attn_mask is not None:  # here True is what takes part
        logits = _hidden(logits, ~attn_mask if attn_mask.dtype == torch.bool else attn_mask.to(exact))
    return keep(torch.softmax(logits, dim=-1)).to(value.dtype) @ value


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
