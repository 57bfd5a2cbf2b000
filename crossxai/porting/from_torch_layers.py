"""What torch's dense layers, norms and attention are in a graph, and the tables of all translations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from crossxai.model import Array
from crossxai.porting import from_torch_ops as ops
from crossxai.porting import from_torch_shapes as shapes
from crossxai.porting import layout
from crossxai.porting.from_torch_ops import Call, Joined, Ref, array
from crossxai.porting.from_torch_windows import weighted


def linear(c: Call, x: Any, weight: Any, bias: Any = None) -> Ref:
    if isinstance(x, Joined):
        inner = x.inner @ weight.T
        made = linear(Call(c.builder, c.name, c.layer, c.kind, inner), Ref(x.name, x.inner, x.order), weight, bias)
        return Joined(made.name, c.result, made.order, inner)
    return c.node("dense", c.last(x), weights=weighted(bias, kernel=array(weight).T.copy()))


def embedding(
    c: Call, x: Any, weight: Any, _padding: Any = None, max_norm: Any = None, *_rest: Any, **_named: Any
) -> Ref:
    if not isinstance(x, Ref) or max_norm is not None:
        raise c.fail("of numbers that no input changes, or with max_norm")
    return c.node("embedding", c.plain(x), weights={"table": array(weight)}, order=layout.plain(c.result.ndim))


def batch_norm(
    c: Call,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Ref:
    if training or running_mean is None:
        raise c.fail("it normalises by the batch at hand, so samples depend on each other")
    mean, variance = array(running_mean), array(running_var)
    weights = {**_scaled(weight, bias), "mean": mean, "variance": variance}
    kept: dict[str, Any] = {} if momentum is None else {"momentum": float(momentum)}  # None: a mean over all batches
    return c.node("batch_norm", c.image(x, 2, 3, 4, 5), weights=weights, eps=float(eps), **kept)


def _scaled(weight: Any, bias: Any) -> dict[str, Array]:
    return {name: array(values) for name, values in (("gamma", weight), ("beta", bias)) if values is not None}


def layer_norm(c: Call, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Ref:
    return c.node(
        "layer_norm",
        c.last(x, len(normalized_shape)),
        weights=_scaled(weight, bias),
        axes=len(normalized_shape),
        eps=float(eps),
    )


def rms_norm(c: Call, x: Any, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Ref:
    eps = torch.finfo(c.check(x).value.dtype).eps if eps is None else eps
    return c.node(
        "rms_norm",
        c.last(x, len(normalized_shape)),
        weights=_scaled(weight, None),
        axes=len(normalized_shape),
        eps=float(eps),
    )


def group_norm(c: Call, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Ref:
    x = c.image(x, 2, 3, 4, 5)
    return c.node("group_norm", x, weights=_scaled(weight, bias), groups=int(num_groups), eps=float(eps))


def instance_norm(
    c: Call,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Ref:
    if not use_input_stats:
        return batch_norm(c, x, running_mean, running_var, weight, bias, eps=eps)
    return group_norm(c, x, c.check(x, 3, 4, 5).value.shape[1], weight, bias, eps)


def instance_module(c: Call, m: Any, x: Any) -> Ref:
    own = m.training or not m.track_running_stats
    return instance_norm(c, x, m.running_mean, m.running_var, m.weight, m.bias, own, eps=m.eps)


def attention(
    c: Call,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Ref:
    """torch's fused attention in its four steps."""
    if (
        dropout_p
        or enable_gqa
        or isinstance(attn_mask, Ref)
        or not all(isinstance(v, Ref) for v in (query, key, value))
    ):
        raise c.fail(f"dropout_p={dropout_p}, enable_gqa={enable_gqa}, or with a mask that depends on the inputs")
    q, k = query.value, key.value
    steps = partial(Call, c.builder, layer=c.layer, kind=c.kind)
    factor = q.shape[-1] ** -0.5 if scale is None else float(scale)
    query = ops.arithmetic("multiply", steps(name=f"{c.name}.scaled", result=q), query, factor)
    scores = q @ k.transpose(-2, -1)
    turned = shapes.turned(steps(name=c.name, result=k.transpose(-2, -1)), key)
    found = shapes.matmul(steps(name=f"{c.name}.scores", result=scores), query, turned)
    if is_causal:
        attn_mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros(attn_mask.shape, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
        found = ops.arithmetic("add", steps(name=f"{c.name}.masked", result=scores), found, attn_mask)
    found = ops.softmax("softmax", steps(name=f"{c.name}.softmax", result=scores), found, -1)
    return shapes.matmul(c, found, value)


def multi_head(
    c: Call,
    m: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Ref, None]:
    order = layout.plain(3) if m.batch_first else TOKENS_FIRST
    more = m.bias_k is not None or m.add_zero_attn
    separate = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)
    kernels = separate if m.in_proj_weight is None else m.in_proj_weight.chunk(3)
    rows = (*kernels, m.out_proj.weight), m.in_proj_bias, m.out_proj.bias
    return _heads(c, (query, key, value), order, m.num_heads, *rows, m.dropout, (attn_mask, key_padding_mask), more)


def multi_head_function(
    c: Call, query: Any, key: Any, value: Any, _width: int, heads: int, in_weight: Any, in_bias: Any, bias_k: Any,
    bias_v: Any, add_zero_attn: bool, dropout_p: float, out_weight: Any, out_bias: Any, training: bool = True,
    key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None, use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None, k_proj_weight: Any = None, v_proj_weight: Any = None, **_more: Any,
) -> tuple[Ref, None]:  # fmt: skip
    """What a layer calls that is made from torch's and has a forward of its own."""
    more = bias_k is not None or add_zero_attn
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    kernels = separate if use_separate_proj_weight else in_weight.chunk(3)
    rows = (*kernels, out_weight), in_bias, out_bias
    return _heads(c, (query, key, value), TOKENS_FIRST, heads, *rows, dropout_p, (attn_mask, key_padding_mask), more)


TOKENS_FIRST = (1, 0, 2)


def _added(c: Call, between: Any, padding: Any, dtype: Any) -> Array | None:
    """What masks add to scores, (t, s) or (heads, t, s); in boolean ones, True is where nothing looks."""
    total: Any = None
    if isinstance(between, Ref) or isinstance(padding, Ref):
        raise c.fail("with a mask that depends on the inputs")
    for mask, per_sample in ((between, between is not None and between.ndim == 3), (padding, True)):
        if mask is None:
            continue
        values = np.where(array(mask), -np.inf, 0.0) if mask.dtype == torch.bool else array(mask)
        if per_sample:
            values = values.reshape(2, -1, *mask.shape[1:])  # of the two examples
            if not np.array_equal(values[0], values[1]):
                raise c.fail("with a mask that differs from sample to sample")
            values = values[0]
        total = values if total is None else total + values
    if total is None:
        return None
    return np.asarray(total[0] if total.ndim == 3 and (total == total[:1]).all() else total, dtype)


def _heads(
    c: Call, inputs: Any, order: layout.Order, heads: int, kernels: Any, in_bias: Any, out_bias: Any, rate: float,
    masks: tuple[Any, Any], more: bool,
) -> tuple[Ref, None]:  # fmt: skip
    if more:
        raise c.fail("with bias_k or add_zero_attn")
    names = ("query", "key", "value", "output")
    weights = dict(zip(names, (array(k).T.copy() for k in kernels), strict=True))
    if in_bias is not None:
        biases = (*in_bias.chunk(3), out_bias)
        weights |= {f"{name}_bias": array(b) for name, b in zip(names, biases, strict=True)}
    refs = [c.laid(c.check(x, 3), order) for x in inputs]
    mask = _added(c, *masks, weights["query"].dtype)
    weights |= {} if mask is None else {"mask": mask}
    call = Call(c.builder, c.name, c.layer, c.kind, c.result[0])
    kept = {"dropout": float(rate)} if rate else {}
    return call.node("multi_head_attention", *refs, weights=weights, order=order, heads=heads, **kept), None
