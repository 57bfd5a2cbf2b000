"""Rules that anyone may add for operations that have none: how one is read, and what a node of the graph is written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from crossxai.errors import InvalidInput
from crossxai.porting.graph import ADDED

F = TypeVar("F", bound=Callable[..., Any])
_READERS: dict[Any, Callable[..., Any]] = {}
_WRITERS: dict[tuple[str, str], Callable[..., Any]] = {}


def rule(what: Any, *, to: str | None = None) -> Callable[[F], F]:
    """Say what an operation is in a graph, or what a node of a graph is in a framework.

    Parameters
    ----------
    what : type, function or str
        Without `to`, what is read: the class of a torch module or of a Keras layer, a function of torch's, or the class of
        one of `keras.ops`. With `to`, the op that is written, a name of yours or one of `crossxai.porting.graph`.
    to : str or None, default None
        The framework that the op is written in, "torch" or "keras".

    Returns
    -------
    Callable
        A decorator, which gives the function back. A function that reads takes (call, layer, *activations), without
        `layer` where `what` is a function, and returns `call.node(op, *activations, weights={...}, **settings)`, weights
        being NumPy arrays. One that writes takes (node) and returns a torch module with its weights, or takes
        (node, dtype, name) and returns a Keras layer, or (layer, weights in the layer's order). Either is called with what the
        node's inputs give, and gives what has its axes where the first of them has.

    Raises
    ------
    InvalidInput
        If `to` names no framework, or `what` is neither.

    Notes
    -----
    A rule of yours comes before the one that CrossXAI has. The port is measured against the original like any other.
    """
    if to is not None and (to not in ("torch", "keras") or not isinstance(what, str)):
        raise InvalidInput(
            f"porting.rule: to is 'torch' or 'keras' and says where an op, by its name, is written; got {what!r}, to={to!r}"
        )
    if to is None and not callable(what):
        raise InvalidInput(
            f"porting.rule: {what!r} is no layer or function; a rule that writes an op wants to='torch' or 'keras'"
        )

    def register(function: F) -> F:
        if to is None:
            _READERS[what] = function
        else:
            _WRITERS[to, what] = function
            ADDED.add(what)
        return function

    return register


def reader(operation: Any) -> Callable[..., Any] | None:
    """The rule that somebody added for a layer, by its class, or for a function."""
    try:
        return next((_READERS[key] for key in (operation, *type(operation).__mro__) if key in _READERS), None)
    except TypeError:  # what cannot be hashed is neither
        return None


def writer(framework: str, op: str) -> Callable[..., Any] | None:
    return _WRITERS.get((framework, op))
