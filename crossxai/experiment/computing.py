"""How a run's models compute where that is not as they are, in reduced precision or compiled: as said, and what it does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

from crossxai.adapters.checks import Precision
from crossxai.assumptions import reduced
from crossxai.assumptions.facts import itself
from crossxai.experiment.questions import Questions
from crossxai.model import Foldable, Reducible

REDUCED = get_args(Precision)[1:]


def stated(model: Any) -> dict[str, Any]:
    """What a model says of its precision and of compiling, where it is not the default; for settings and files."""
    model, about = itself(model), {}
    if isinstance(model, Reducible) and model.precision in REDUCED:
        about["precision"] = model.precision
    if isinstance(model, Foldable) and isinstance(backend := getattr(model, "compile", ""), str) and backend:
        about["compile"] = backend
    return about


def precision(model: Any) -> dict[str, str]:
    """The precision of a model where it is reduced, for what decides maps."""
    return {key: value for key, value in stated(model).items() if key == "precision"}


def measured(questions: Questions) -> dict[str, Any]:
    """The manifest's entries on how the model of a run's questions computes.

    `precision`: what less of it does to outputs and to one gradient map; see `reduced.Effect`. `compile`: the backend, and the
    largest difference of outputs as a share of how far they vary. Raises `InvalidInput` where the network cannot be compiled.
    """
    question, about = questions.explained, dict[str, Any]()
    model: Any = itself(question.model)
    effect = reduced.effect(model, question.inputs, question.target, questions.outputs, questions.kind)
    if effect is not None:
        about["precision"] = effect.content()
    if backend := stated(model).get("compile"):
        with suppress(MemoryError):  # where there is no room for a copy, streams go through the model itself, too
            about["compile"] = {"backend": backend, "difference": model.folded(question.few).compiled_difference}
    return about
