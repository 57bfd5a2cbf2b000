"""What drops at random in training, torch's dropouts and stochastic depth, in a graph: the identity, whose rate is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from crossxai.porting import from_torch_ops as ops
from crossxai.porting.from_torch_ops import Call, Ref


def dropout(c: Call, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Ref:
    return _dropped(c, x, p, training)


def feature_dropout(c: Call, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Ref:
    """Whole channels."""
    return _dropped(c, x, p, training, range(2, c.check(x).value.ndim))


def alpha_dropout(c: Call, x: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Ref:
    """Left out, as no other framework drops to anything but zero."""
    _dropped(c, x, p if training else 0.0, training)
    return ops.identity(c, x)


def stochastic_depth(c: Call, x: Any, p: float, mode: str, training: bool = True) -> Ref:
    """torchvision's; left out where one draw stands for all samples."""
    return _dropped(c, x, p if mode == "row" else 0.0, training, range(1, c.check(x).value.ndim))


def _drop_path(c: Call, m: Any, x: Any) -> Ref:
    return stochastic_depth(c, x, float(m.drop_prob or 0), "row", training=False)


def _drop_together(c: Call, m: Any, x: Any) -> Ref:
    return _dropped(c, x, m.p, False, m.axes)


def by_name(module: nn.Module) -> Callable[..., Ref] | None:
    """The translation of a module known by its name: every library, and every file that a port was written to, has a class of
    its own, whose code tells nothing in evaluation mode."""
    name = type(module).__name__
    if name.endswith("DropPath") and hasattr(module, "drop_prob"):  # timm's, and the copies of it that transformers has
        return _drop_path
    return _drop_together if name == "DropTogether" and hasattr(module, "axes") else None


def _dropped(c: Call, x: Any, p: float, training: bool, together: Iterable[int] = ()) -> Ref:
    """One draw stands for all of the axes `together` of torch's."""
    if training and p:
        raise c.fail("drops at random even in evaluation mode: write training=self.training")
    if not p:
        return ops.identity(c, x)
    axes = tuple(sorted(c.check(x).axis(axis) for axis in together))
    c.view = True  # in evaluation it gives what it got, and an operation in place after it changes both
    return c.node("dropout", x, rate=float(p), together=axes)
