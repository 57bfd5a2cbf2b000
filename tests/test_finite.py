"""Scores that are NaN on perturbed copies: methods that fit them refuse in words, the others give maps that say so."""

from __future__ import annotations

import numpy as np
import pytest

from crossxai import Modality, Question, Target, explainers
from crossxai.adapters.numpy import FunctionModel
from crossxai.errors import Unsupported
from crossxai.model import Array

FITTED = [name for name, kind in explainers.discover().items() if kind.fits and name != "lime.tabular"]


def dividing(images: Array) -> Array:
    """0 / 0 where the top left corner is black."""
    corner = images[:, :6, :6].mean((1, 2, 3))
    with np.errstate(all="ignore"):
        return np.stack([images.mean((1, 2, 3)), corner / corner], 1)


def question() -> Question:
    images = np.random.default_rng(3).random((2, 12, 12, 3), np.float32)
    return Question(FunctionModel(dividing, (Modality.image(),)), (images,), Target.classes([1, 1], 2), ("a", "b"))


def test_every_surrogate_fits() -> None:
    kinds = explainers.discover().items()
    assert {name for name, kind in kinds if kind.family == "surrogate" or "kernel_shap" in name} == {
        *FITTED,
        "lime.tabular",
    }


@pytest.mark.parametrize("name", FITTED)
def test_what_fits_scores_refuses_nan(name: str) -> None:
    options = {"fill": 0.0} if name.startswith(("lime", "xplique")) else {}
    explainer = explainers.get(name, samples=12, segmentation="grid", patch=6, **options)
    with pytest.raises(
        Unsupported, match=rf"{name} fits the scores of perturbed copies, .* is NaN or infinite on \d+ of"
    ):
        explainer(question())


def test_tables_too() -> None:
    model = FunctionModel(lambda x: np.log(x - 10)[:, :1], (Modality.table(("age", "dose")),))
    asked = Question(model, (np.full((1, 2), 10.5, np.float32),), Target.outputs(0, 1, 1))
    with np.errstate(all="ignore"), pytest.raises(Unsupported, match=r"lime\.tabular fits the scores"):
        explainers.get("lime.tabular", samples=50)(asked)


def test_what_does_not_fit_gives_maps_that_say_so() -> None:
    maps = explainers.get("captum.occlusion", patch=12, stride=12)(question())
    assert maps.degenerate().tolist() == ["nan", "nan"]
    assert maps.notes[0] == "no map of samples 0 ('a'), 1 ('b'): NaN or infinite"
