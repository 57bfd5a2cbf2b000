"""How a run's models compute where that is not as they are, in reduced precision or compiled: as said, and what it does."""

from __future__ import annotations

from typing import Any

from crossxai.assumptions import reduced
from crossxai.assumptions.facts import itself
from crossxai.model import Array
from crossxai.question import Question


def stated(model: Any) -> dict[str, Any]:
    """What a model says of its precision and of compiling, where it is not the default; for settings and files."""
    model = itself(model)
    about = {"precision": getattr(model, "precision", "float32"), "compile": getattr(model, "compile", "")}
    return {key: value for key, value in about.items() if isinstance(value, str) and value not in ("float32", "")}


def precision(model: Any) -> dict[str, str]:
    """The precision of a model where it is reduced, for what decides maps."""
    return {key: value for key, value in stated(model).items() if key == "precision"}


def measured(question: Question, outputs: Array) -> dict[str, Any]:
    """The manifest's entries on how a question's model computes. outputs: the model's on all samples.

    `precision`: what less of it does to outputs and to one gradient map; see `reduced.Effect`. `compile`: the backend, and the
    largest difference of outputs as a share of how far they vary. Raises `InvalidInput` where the network cannot be compiled.
    """
    model: Any = itself(question.model)
    about: dict[str, Any] = {}
    if (effect := reduced.effect(model, question.inputs, question.target, outputs)) is not None:
        about["precision"] = effect.content()
    if backend := stated(model).get("compile"):
        copy = model.folded(question.few)
        about["compile"] = {"backend": backend, "difference": copy.compiled_difference}
    return about
