"""Border share and grid energy on maps whose answer is known, and where they have none."""

from __future__ import annotations

import numpy as np
import pytest
from networks.counting import answer, ask
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from crossxai import InvalidInput, Modality, Unsupported
from crossxai.evaluation.metrics.complexity import BorderShare, GridEnergy
from crossxai.model import Array

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
NOISE = np.random.default_rng(0).normal(size=(SIDE, SIDE))
PERIODS = (4, 8, 16, 32)


def coarse(period: int) -> Array:
    return np.random.default_rng(1).normal(size=(SIDE // period, SIDE // period)).astype(np.float32)


def energy(image: Array, period: int) -> float:
    return float(GridEnergy(period=period).measure(np.asarray(image, np.float64)[None])[0])


def test_the_rim_by_plain_counting() -> None:
    even = np.full((1, 10, 20), -2.0)
    assert BorderShare(width=2).measure(even)[0] == pytest.approx(1 - 6 * 16 / 200)
    inner, edge = np.zeros((1, 10, 20)), np.zeros((1, 10, 20))
    inner[0, 2, 2], edge[0, 1, 5] = 1e-200, -1e200
    assert BorderShare(width=2).measure(inner)[0] == 0
    assert BorderShare(width=2).measure(edge)[0] == 1
    assert BorderShare(width=2).measure(inner + edge / 1e200 * 3e-200)[0] == pytest.approx(0.75)


@pytest.mark.parametrize("period", PERIODS)
def test_checkerboards_are_grids(period: int) -> None:
    board = (ROWS // (period // 2) + COLUMNS // (period // 2)) % 2
    assert energy(board, period) == pytest.approx(1)
    assert energy(2 * board - 1, period) == pytest.approx(1)
    assert energy(board, 3 * period // 4) < 0.4  # another period


@pytest.mark.parametrize("period", PERIODS)
def test_enlarged_maps_are_grids_by_their_lines_and_kinks(period: int) -> None:
    nearest = np.kron(coarse(period), np.ones((period, period)))
    bilinear = np.asarray(Image.fromarray(coarse(period)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert energy(nearest, period) > 0.4
    assert energy(bilinear, period) > 0.6
    # Bicubic enlarging has neither lines nor kinks: there is nothing to see.
    assert energy(zoom(coarse(period), period, order=3), period) < 0.1


@pytest.mark.parametrize("period", [2, 4, 8])
def test_uneven_overlap_is_a_grid_whatever_the_signs(period: int) -> None:
    """A gradient through strided 1 × 1 convolutions reaches one pixel of each tile, others by halves."""
    reached = 1 + 3.0 * ((ROWS % period == 0) & (COLUMNS % period == 0))
    assert energy(NOISE * (reached > 1), period) > 0.5
    assert energy(NOISE * reached, period) > 0.1
    assert energy(NOISE, period) < 0.01


@pytest.mark.parametrize("period", [2, *PERIODS])
def test_what_does_not_repeat_is_none(period: int) -> None:
    heavy = np.random.default_rng(2).standard_t(2, size=(SIDE, SIDE))
    spot = np.exp(-((ROWS - 8) ** 2 + (COLUMNS - 8) ** 2) / 8)
    bump = np.exp(-((ROWS - 47.5) ** 2 + (COLUMNS - 47.5) ** 2) / 2 / 16**2)
    maps = {"noise": NOISE, "positive noise": np.abs(NOISE), "heavy noise": heavy, "spot": spot, "bump": bump}
    maps |= {f"speckle of {sigma} pixels": gaussian_filter(NOISE, sigma) for sigma in (1, 2, 4, 10)}
    for name, image in maps.items():
        assert energy(image, period) < 0.06, name
    assert energy(np.full((SIDE, SIDE), 3.0), period) == 0
    edges = [energy((column < COLUMNS) * 1.0, period) for column in (0, 15, 31, 40, 47, 94)]
    assert max(edges) < (0.25 if period == 32 else 0.14)


def test_it_is_the_share_of_the_spectrum_at_the_grid() -> None:
    """Parseval: the mean tile's variance is the spectrum's at multiples of 1 / period, of a map of whole periods."""
    image = np.exp(NOISE) + (ROWS % 8 == 0)
    power = np.abs(np.fft.fft2(image)) ** 2
    power[0, 0] = 0
    share, chance = power[::12, ::12].sum() / power.sum(), 1 / 144
    flat = (share - chance) / (1 - chance)
    assert energy(image, 8) >= flat - 1e-9
    assert energy(image - 1e6, 8) == pytest.approx(flat, rel=1e-3)  # all of one sign: no other picture says more


def test_a_real_cam_is_a_grid_of_its_layers_stride() -> None:
    import torch
    from torch import nn

    from crossxai import Question, Target, explainers
    from crossxai.adapters.torch import TorchModel

    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()]
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    model = TorchModel(net, (Modality.image(),))
    images = np.random.default_rng(0).random((6, 64, 64, 3)).astype(np.float32)
    question = Question(model, (images,), Target.classes([0, 1] * 3, 2))
    cam = explainers.get("gradcam.gradcam", layer="3", profile="canonical")(question)
    gradient = explainers.get("captum.saliency")(question)
    at = {period: np.nanmean(GridEnergy(period=period)(question, cam).value) for period in (5, 8)}
    assert at[8] > 0.15 > 4 * at[5]
    assert (
        GridEnergy(period=4)(question, gradient).value.mean()
        > 4 * GridEnergy(period=5)(question, gradient).value.mean()
    )


def test_they_refuse_what_has_no_rim_or_no_second_tile() -> None:
    question = ask()
    flat = answer(question, np.ones((4, 8, 8, 1)))
    with pytest.raises(Unsupported, match="a rim of 4 pixels leaves no inside of 8 × 8"):
        BorderShare()(question, flat)
    with pytest.raises(Unsupported, match="nothing repeats in a 8 × 8 image with a period of 8 pixels"):
        GridEnergy()(question, flat)
    with pytest.raises(InvalidInput, match="width must be a whole number"):
        BorderShare(width=0)
    with pytest.raises(InvalidInput, match="period must be a whole number"):
        GridEnergy(period=1)
    table = Modality.table(("age", "size"))
    about = ask(modalities=(table,))
    with pytest.raises(Unsupported, match="needs an image"):
        GridEnergy()(about, answer(about, np.ones((4, 2))))
    found = BorderShare(width=2)(question, flat)
    np.testing.assert_allclose(found.value, 0.75)
    np.testing.assert_allclose(found.extras["border_area"], 0.75)
    assert found.params["width"] == 2
    holed = np.ones((4, 8, 8, 1))
    holed[0, 0, 0], holed[1] = np.nan, 0
    for metric in (BorderShare(width=1), GridEnergy(period=4)):
        assert np.isnan(metric(question, answer(question, holed)).value).tolist() == [True, True, False, False]
