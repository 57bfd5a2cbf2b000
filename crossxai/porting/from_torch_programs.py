"""The operations of a program of torch.export, as the functions and methods of torch's that they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from crossxai.porting import from_torch_layers as layers
from crossxai.porting import from_torch_shapes as shapes
from crossxai.porting.from_torch_ops import Call, Ref
from crossxai.porting.from_torch_tables import FUNCTIONS, METHODS


def name_of(target: Any) -> str:
    """ "conv2d" of the operator aten.conv2d.default; "" of what is no operator of torch's."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return ""
    return str(target._schema.name.partition("::")[2])


def translation(target: Any) -> Callable[..., Any] | None:
    """That of an operator such as aten.conv2d.default, whose arguments are its function's, but for those in `OTHERWISE`."""
    if not (name := name_of(target)):
        return None
    if name in OTHERWISE:
        return OTHERWISE[name]
    for known in (name, name.removesuffix("_")):  # in place or not
        functions = (FUNCTIONS.get(getattr(place, known, None)) for place in (F, torch))
        found = next((f for f in functions if f is not None), None) or METHODS.get(known)
        if found is not None:
            return found
    return None


def taken_apart(target: Any) -> str:
    """Why an operator has no translation; "" of those that `run_decompositions` did not make."""
    if name_of(target) not in DECOMPOSED:
        return ""
    return "run_decompositions() took the layers of this program apart: port the program that torch.export.export gave"


def _batch_norm(
    c: Call, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float, _cudnn: bool
) -> Ref:  # fmt: skip
    return layers.batch_norm(c, x, mean, variance, weight, bias, training, momentum, eps)


def _layer_norm(
    c: Call, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, _cudnn: bool = True
) -> Ref:
    return layers.layer_norm(c, x, shape, weight, bias, eps)


def _group_norm(
    c: Call, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, _cudnn: bool = True
) -> Ref:
    return layers.group_norm(c, x, groups, weight, bias, eps)


def _embedding(c: Call, weight: Any, x: Any, *_how: Any) -> Ref:
    return layers.embedding(c, x, weight)


def _slice(c: Call, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Ref:
    end = None if end is None or end >= c.check(x).value.shape[dim] else end
    ref = shapes.part(c, x, dim, slice(start or None, end, step))
    c.view = True
    return ref


DECOMPOSED = frozenset({
    "convolution", "addmm", "native_layer_norm", "native_group_norm", "_native_batch_norm_legit_no_training", "_softmax",
    "_log_softmax", "_adaptive_avg_pool2d", "max_pool2d_with_indices", "upsample_bilinear2d", "upsample_nearest2d", "where",
})  # fmt: skip
"""Operators that layers become in a program of core ATen."""
OTHERWISE: Mapping[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "slice": _slice,
}
