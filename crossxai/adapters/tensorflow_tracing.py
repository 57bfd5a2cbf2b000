"""Functions on TensorFlow tensors as graphs, made once per kind of request and anew when the model has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from crossxai.adapters.tensorflow_snapshot import Snapshot
from crossxai.errors import CrossXAIError
from crossxai.process import foreign

Key = tuple[str, tuple[tuple[int | None, ...], ...]]


class NeedsSamples(Exception):
    """Raised while tracing by a function that has to know the number of samples."""


class Traces:
    """The traced functions of a model.

    A graph is for any number of samples; for the number at hand if the model's code needs to know it. What cannot be traced
    (control flow on values, a detour through NumPy) runs eagerly, every time; so does everything if `eager`.
    """

    def __init__(self, model: Any, eager: bool = False) -> None:
        self._model, self._eager = model, eager
        self._made: dict[Key, Any] = {}
        self._snapshot: Snapshot | None = None
        self._version = 0

    def version(self) -> int:
        """A number that changes when the model has changed since it was asked for."""
        self._refresh()
        self._snapshot = self._snapshot or Snapshot(self._model)
        return self._version

    def run(self, kind: str, function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
        """function(*tensors), by a graph if there can be one. kind: names the function; tensors: the sample axis first."""
        if self._eager:
            return function(*tensors)
        self._refresh()
        for known in (False, True):
            specs = [tf.TensorSpec(tuple(t.shape) if known else (None, *t.shape[1:]), t.dtype) for t in tensors]
            key = kind, tuple(tuple(s.shape) for s in specs)
            if key not in self._made:
                self._made[key] = _traced(function, specs)
                self._snapshot = Snapshot(self._model)
            if self._made[key] is not None:
                return self._made[key](*tensors)
        return function(*tensors)

    def graph(self, kind: str, function: Callable[..., Any], tensors: Sequence[Any]) -> Any | None:
        """The graph that `run` would run, for any number of samples; None if there can be none."""
        self.run(kind, function, tensors)
        return self._made.get((kind, tuple((None, *t.shape[1:]) for t in tensors)))

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """make(), kept until the model changes."""
        self._refresh()
        if (key, ()) not in self._made:
            self._made[key, ()] = make()
            self._snapshot = self._snapshot or Snapshot(self._model)
        return self._made[key, ()]

    def _refresh(self) -> None:
        if self._snapshot is not None and not self._snapshot.holds():
            self.forget()

    def forget(self) -> None:
        """Trace everything anew at the next request."""
        self._made.clear()
        self._snapshot = None
        self._version += 1


def _traced(function: Callable[..., Any], specs: Sequence[Any]) -> Any:
    """The graph for tensors of these shapes; None if the model's code does not allow one."""
    # autograph would rewrite the hooks' Python control flow, which runs once, while tracing.
    traced = tf.function(function, autograph=False)
    refused: tuple[type[Exception], ...] = (NeedsSamples, *foreign())
    try:
        return traced.get_concrete_function(*specs)
    except CrossXAIError:
        raise
    except refused:  # what is wrong with the model itself, an eager run will say
        return None
