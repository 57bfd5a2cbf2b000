"""Copies of Keras models whose weights are drawn anew, from the output down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import keras
import numpy as np

from crossxai.adapters.redrawing import redrawn
from crossxai.errors import Unsupported
from crossxai.process import streams_kept

ITSELF = "(itself)"
Hooked = Callable[[Mapping[str, Callable[[Any], Any]]], AbstractContextManager[None]]


def owned(layer: Any) -> list[Any]:
    """A layer's own weights without its sublayers' and without statistics, whether or not they are frozen."""
    return list(layer._trainable_variables)


def layers(model: Any, named: Mapping[str, Any], hooked: Hooked, run: Callable[[], object]) -> dict[str, Any]:
    """Layer name → layer with weights of its own, the one that `run` ends last first; the model's own, of no layer, last."""
    found = {name: layer for name, layer in named.items() if owned(layer)}
    ended: dict[str, None] = {}

    def record(name: str, output: Any) -> Any:
        ended.setdefault(name)
        return output

    with hooked({name: partial(record, name) for name in found}):
        run()
    own = {ITSELF: model} if owned(model) else {}
    return {name: found[name] for name in reversed(ended)} | own


def copied(model: Any, run: Any, name: str) -> Any:
    """A copy of a Keras model that shares no variable with it. run: calls a model, which builds it."""
    try:
        with streams_kept():  # Keras's initialisers take their seeds from Python's generator
            twin = keras.models.clone_model(model)
            run(twin)
        twin.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise Unsupported(
            f"model {name!r} cannot be copied, so its weights cannot be drawn anew: a subclassed model needs get_config and "
            f"from_config ({str(error).partition(chr(10))[0]})"
        ) from error
    if {id(v) for v in twin.variables} & {id(v) for v in model.variables}:
        raise Unsupported(
            f"model {name!r} cannot be copied: its copy shares weights with it; make every layer in __init__"
        )
    if not np.allclose(np.asarray(run(twin)), np.asarray(run(model)), rtol=1e-3, atol=1e-5):
        raise Unsupported(f"model {name!r} cannot be copied: its copy with the same weights gives other outputs")
    return twin


def redraw(twin: Any, model: Any, chosen: Mapping[str, Any], seed: int) -> None:
    """Draw anew the weights of the copy's layers that correspond to the chosen layers of the model."""
    names = {id(layer): name for name, layer in chosen.items()}
    for own, other in zip(model._flatten_layers(), twin._flatten_layers(), strict=True):
        if id(own) in names:
            for number, variable in enumerate(owned(other)):
                variable.assign(redrawn(np.asarray(variable), names[id(own)], number, seed))
