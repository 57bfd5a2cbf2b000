"""Hooks on the outputs of Keras layers: they work for any graph, as a torch forward hook does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from crossxai.errors import Unsupported


@contextmanager
def hooked(layers: Mapping[str, Any], hooks: Mapping[str, Callable[[Any], Any]]) -> Iterator[None]:
    """Within it, the outputs of the named layers pass through functions. layers: every layer by name."""
    own = {name: vars(layers[name])["call"] for name in hooks if "call" in vars(layers[name])}
    try:
        for name, hook in hooks.items():
            # Past Keras's own __setattr__, which would track the function as part of the model.
            object.__setattr__(layers[name], "call", _after(layers[name].call, hook))
        yield
    finally:
        for name in hooks:
            vars(layers[name]).pop("call", None)
        for name, call in own.items():
            object.__setattr__(layers[name], "call", call)


@contextmanager
def once(
    layers: Mapping[str, Any], layer: str, model: str, change: Callable[[Any], Any] = lambda output: output
) -> Iterator[list[Any]]:
    """Within it, the output of one layer passes through `change`; the list holds what came of it.

    Raises `Unsupported` afterwards unless the layer ran exactly once and gave a tensor.
    """
    seen: list[Any] = []

    def record(output: Any) -> Any:
        seen.append(change(output) if tf.is_tensor(output) and not seen else output)
        return seen[-1]

    with hooked(layers, {layer: record}):
        yield seen
    if len(seen) > 1:
        raise Unsupported(f"layer {layer!r} of model {model!r} runs more than once in a pass: name another")
    if not seen:
        raise Unsupported(f"layer {layer!r} of model {model!r} does not run in a forward pass")
    if not tf.is_tensor(seen[0]):
        raise Unsupported(f"layer {layer!r} of model {model!r} gives {type(seen[0]).__name__}, not a tensor")


def _after(call: Callable[..., Any], hook: Callable[[Any], Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return hook(call(*args, **kwargs))

    return wrapped
