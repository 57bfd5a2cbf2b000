"""What drops at random in training, Keras's dropouts and stochastic depth, in a graph: the identity, whose rate is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from crossxai.porting import from_keras_ops as ops
from crossxai.porting.from_keras_ops import Call, Ref


def dropout(c: Call, layer: Any, x: Ref) -> Ref:
    shape = layer.noise_shape or (None,) * c.check(x).rank
    axes = [axis for axis, (drawn, size) in enumerate(zip(shape, x.shape, strict=True)) if drawn == 1 != size]
    return ops.identity(c, layer, x) if 0 in axes else _dropped(c, layer, x, layer.rate, axes)


def spatial_dropout(c: Call, layer: Any, x: Ref) -> Ref:
    first = getattr(layer, "data_format", None) == "channels_first"  # the one in 1-D has none
    return _dropped(c, layer, x, layer.rate, range(1 + first, c.check(x).rank - 1 + first))


def stochastic_depth(c: Call, layer: Any, x: Ref) -> Ref:
    return _dropped(c, layer, x, layer.drop_path_rate, range(1, c.check(x).rank))


def is_stochastic_depth(operation: Any) -> bool:
    """Whether it is that of keras.applications, which is not public."""
    kind = type(operation)
    return kind.__name__ == "StochasticDepth" and kind.__module__.startswith(keras.__name__ + ".")


def _dropped(c: Call, layer: Any, x: Ref, rate: float, together: Iterable[int]) -> Ref:
    if not rate:
        return ops.identity(c, layer, x)
    return c.node("dropout", x, rate=float(rate), together=tuple(together))
