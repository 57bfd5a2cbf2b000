"""Passes of models, counted where they are asked: what a run measures of them before its first map, for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

VERBS = {"predict": 0, "vjp": 1, "layer_vjp": 1, "read": 0, "replace": 0, "activations": 0, "attention_vjp": 1}
"""What a model does, and whether it takes a backward pass."""


class Counted:
    """(forward, backward) passes of models, by id, and of all their copies."""

    def __init__(self, models: list[Any]) -> None:
        self._passes = {id(model): [0, 0] for model in models}
        self._copies = [0, 0]
        self._inside = False

    def of(self, model: Any) -> tuple[int, int]:
        """The passes of a model so far, with those of copies since the last time that this was asked of any model."""
        forward, backward = self._copies
        self._copies = [0, 0]
        self.add(model, forward, backward)
        forward, backward = self._passes[id(model)]
        return forward, backward

    def add(self, model: Any, forward: int, backward: int) -> None:
        """So many more."""
        own = self._passes.get(id(model), self._copies)
        own[0] += forward
        own[1] += backward

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is counted inside."""
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before

    def watched(self, verb: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a model that counts its samples, unless another method of a model calls it."""

        def watching(model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
            if self._inside:
                return function(model, inputs, *more, **options)
            weighed = bool(VERBS[verb]) and (
                verb != "attention_vjp" or (*more, options.get("cotangent"))[0] is not None
            )
            self.add(model, len(inputs[0]), len(inputs[0]) * weighed)
            with self.paused():
                return function(model, inputs, *more, **options)

        return watching


@contextmanager
def counting(models: list[Any]) -> Iterator[Counted]:
    """Inside, the passes of these models and of their copies are counted."""
    counted = Counted(models)
    kinds = {type(model) for model in models}
    own = [(kind, verb, vars(kind).get(verb)) for kind in kinds for verb in VERBS if hasattr(kind, verb)]
    for kind, verb, _ in own:
        setattr(kind, verb, counted.watched(verb, getattr(kind, verb)))
    try:
        yield counted
    finally:
        for kind, verb, before in own:
            if before is None:
                delattr(kind, verb)
            else:
                setattr(kind, verb, before)
