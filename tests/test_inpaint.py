"""In-painting as a fill of curves."""

from __future__ import annotations

import numpy as np
import pytest
from networks.counting import IMAGE, TABLE, answer, ask, some_map
from skimage.restoration import inpaint_biharmonic

from crossxai import InvalidInput, Unsupported, evaluation
from crossxai.evaluation.curves import Deletion, Insertion, auto, fills
from crossxai.evaluation.curves.imputation import Inpaint

RNG = np.random.default_rng(0)


def test_curves_score_the_image_in_painted_at_each_step() -> None:
    question = ask(n=2)
    relevance = some_map(question)
    (images,) = question.inputs
    order = np.argsort(-relevance.reshape(2, -1), axis=1)
    hidden = np.zeros((2, 64), dtype=bool)
    for row in range(2):
        hidden[row, order[row, :32]] = True
    painted = [inpaint_biharmonic(i, h.reshape(8, 8), channel_axis=-1) for i, h in zip(images, hidden, strict=True)]
    expected = question.score((np.stack(painted),))
    scores = Deletion(2, fill="inpaint")(question, answer(question, relevance))
    assert scores.curve is not None
    np.testing.assert_allclose(scores.curve[:, 1], expected)
    np.testing.assert_allclose(scores.curve[:, 0], question.score())
    np.testing.assert_allclose(scores.curve[:, 2], question.score((np.zeros_like(images),)))  # nothing to continue
    assert scores.params["fill"] == "inpaint"
    inserted = Insertion(2, fill="inpaint")(question, answer(question, -relevance)).curve
    assert inserted is not None
    np.testing.assert_allclose(inserted[:, 1], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_left_stays_and_a_plane_is_continued(dtype: str) -> None:
    y, x = np.mgrid[:12, :12] / 12
    plane = np.stack([y, x, 0.5 * y + 0.3 * x], axis=-1).astype(dtype)
    hidden = np.zeros((12, 12), dtype=bool)
    hidden[4:7, 3:9] = True
    painted = Inpaint().impute(plane, hidden, RNG)
    assert painted.dtype == dtype
    np.testing.assert_array_equal(painted[~hidden], plane[~hidden])
    np.testing.assert_allclose(painted[hidden], plane[hidden], atol=1e-5)
    assert not Inpaint().impute(plane, np.ones_like(hidden), RNG).any()
    np.testing.assert_array_equal(Inpaint().impute(plane, np.zeros_like(hidden), RNG), plane)


@pytest.mark.parametrize("side", [1, 2, 3, 9])
def test_small_images_and_a_single_pixel_left(side: int) -> None:
    image = RNG.random((side, side, 1)).astype(np.float32)
    for left in (1, max(1, side * side // 2)):
        hidden = np.ones(side * side, dtype=bool)
        hidden[RNG.permutation(side * side)[:left]] = False
        painted = Inpaint().impute(image, hidden.reshape(side, side), RNG)
        assert np.isfinite(painted).all()
        assert painted.min() >= image.min()


def test_where_it_cannot_be() -> None:
    for name in ("table", "pixels"):
        both = ask(modalities=(IMAGE, TABLE))
        maps = answer(both, some_map(both), RNG.normal(size=(4, 3)))
        metric = (
            Deletion(2, fill="inpaint", modality="table")
            if name == "table"
            else Deletion(2, fill="inpaint", unit="element", modality="image")
        )
        with pytest.raises(Unsupported, match="'inpaint' imputes whole pixels of 2-D images"):
            metric(both, maps)
    question = ask()
    maps = answer(question, some_map(question))
    with pytest.raises(InvalidInput, match="an imputation already reads the mask"):
        Deletion(2, fill="inpaint", refill=True)
    with pytest.raises(InvalidInput, match="takes no value"):
        fills.resolve({"inpaint": 3})
    with pytest.raises(InvalidInput, match=r"paints images \(height, width, channels\)"):
        Inpaint().impute(np.zeros((2, 2, 2, 1)), np.zeros((2, 2, 2), dtype=bool), RNG)
    with pytest.raises(Unsupported, match="reads the mask has no estimate"):
        auto.estimate(question, [maps], [Deletion(4, fill="inpaint")])
    scaled = {"standardised": {"fill": "inpaint", "mean": [0.5] * 3, "sd": [0.2] * 3}}
    assert np.isfinite(Deletion(2, fill=scaled)(question, maps).value).all()


@pytest.mark.parametrize("fill", ["inpaint", "noisy_linear"])
@pytest.mark.parametrize("name", ["aopc", "sufficiency", "infidelity", "mu_fidelity", "irof", "joint_deletion"])
def test_metrics_whose_copies_do_not_read_the_mask_refuse_it(name: str, fill: str) -> None:
    """They would have put in what stands for "everything hidden", which is zero, under the fill's name."""
    question = ask()
    with pytest.raises(Unsupported, match="makes hidden pixels of those that are left"):
        evaluation.get(name, fill=fill)(question, answer(question, some_map(question), completeness_gap=np.zeros(4)))


def test_a_standardised_constant_has_an_estimate() -> None:
    question = ask(n=3)
    fill = {"standardised": {"fill": "zero", "mean": [0.5] * 3, "sd": [0.2] * 3}}
    metric = Deletion(8, fill=fill)
    maps = answer(question, some_map(question))
    found = auto.estimate(question, [maps], [metric], points=12).table[0][0]
    assert found.mean == pytest.approx(float(metric(question, maps).value.mean()))
