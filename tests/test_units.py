"""No unit of an image changes its segments: not 0-255, not [-1, 1], not one that is not declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data, transform

from crossxai import Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import fills, presets
from crossxai.evaluation.metrics.removal import Irof
from crossxai.explainers import get
from crossxai.explainers.groups import groups
from crossxai.model import Array, to_unit_interval

PICTURE = np.round(transform.resize(data.astronaut()[:200, 120:320], (48, 56)) * 255)
PICTURE[0, 0], PICTURE[0, 1] = 0, 255  # without a declared range an image's own is taken: here from black to white
UNITS: dict[str, tuple[float, float, tuple[float, float] | None]] = {
    "0-255": (0.0, 255.0, (0.0, 255.0)),
    "-1 to 1": (-1.0, 1.0, (-1.0, 1.0)),
    "not declared": (-3.0, 4.0, None),
}


def asked(low: float, high: float, declared: tuple[float, float] | None, channels: int = 3) -> Question:
    """The picture in a unit, and a model that puts it back into [0, 1]."""
    x = PICTURE[None, ..., :channels].astype(np.float32) * ((high - low) / 255) + np.float32(low)

    def score(v: Array) -> Array:
        inside = (v - low) / (high - low)
        return np.stack([inside[:, 8:20, 8:20].mean((1, 2, 3)), inside.mean((1, 2, 3))], 1)

    modality = Modality.image(channels=("red", "green", "blue")[:channels], range=declared)
    return Question(FunctionModel(score, (modality,)), (x,), Target.outputs(0, 1, 2))


UNIT = asked(0.0, 1.0, (0.0, 1.0))


@pytest.mark.parametrize("segmentation", ["quickshift", "slic", "felzenszwalb", "grid"])
@pytest.mark.parametrize("name", UNITS)
def test_segments_are_those_of_the_unit_image(name: str, segmentation: str) -> None:
    (there,) = groups(UNIT, 0, segmentation)
    (here,) = groups(asked(*UNITS[name]), 0, segmentation)
    np.testing.assert_array_equal(here, there)
    assert there.max() > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("explainer", ["lime.image", "xplique.lime", "xplique.kernel_shap"])
@pytest.mark.parametrize("name", ["0-255", "-1 to 1"])
def test_the_libraries_own_segments_do_not_depend_on_the_unit(explainer: str, name: str, channels: int) -> None:
    """Natively lime's and Xplique's quickshift and felzenszwalb; their fills are relative to the unit, too, but for black."""
    fill = {"fill": None} if explainer == "lime.image" or channels == 3 else {"fill": UNITS[name][0]}
    options: dict[str, Any] = {"samples": 60}
    there = get(explainer, **options)(asked(0.0, 1.0, (0.0, 1.0), channels)).values[0]
    here = get(explainer, **options, **fill)(asked(*UNITS[name], channels)).values[0]
    np.testing.assert_allclose(here, there, atol=1e-4 * np.abs(there).max())
    assert np.ptp(there) > 0


@pytest.mark.parametrize("name", UNITS)
def test_irof_does_not_depend_on_the_unit(name: str) -> None:
    relevance = np.random.default_rng(0).random((1, 48, 56, 1)).astype(np.float32)

    def value(question: Question) -> Array:
        found = Irof(segments=12)(question, Attribution((relevance,), question.modalities, question.ids, "test"))
        return np.append(found.value, found.extras["segments"])

    np.testing.assert_allclose(value(asked(*UNITS[name])), value(UNIT), rtol=1e-4)


def test_grey_is_that_of_the_declared_range() -> None:
    values = np.zeros((1, 2, 2, 3), np.float32)
    for declared, grey in (((0.0, 255.0), 127.5), ((-1.0, 1.0), 0.0), ((0.0, 1.0), 0.5), (None, 0.5)):
        assert (fills.filled("grey", Modality.image(range=declared), values) == grey).all()
    assert fills.describe(fills.resolve({"grey": 0.25})) == {"grey": 0.25}
    with pytest.raises(InvalidInput, match="share of the range"):
        fills.resolve({"grey": 127})
    deletion, _ = presets.get("interpretdl")
    assert fills.filled(deletion.fill, Modality.image(range=(0.0, 255.0)), values)[0, 0, 0, 0] == 127


def test_an_image_of_one_value_without_a_range_has_one_segment() -> None:
    flat = np.full((4, 4, 3), 7.0, np.float32)
    assert not to_unit_interval(flat, Modality.image(range=None)).any()
    assert to_unit_interval(flat, Modality.image(range=(0.0, 14.0)))[0, 0, 0] == 0.5
