"""Faithfulness metrics against Quantus' own numbers on the same model, images and maps; what sets the two apart is asserted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from beside_quantus import SIDE, N, beside, first

from crossxai.evaluation import get
from crossxai.evaluation.curves import presets, ranks
from crossxai.evaluation.curves.imputation import Imputation
from crossxai.evaluation.metrics.correlation import Infidelity
from crossxai.question import Question


@pytest.mark.parametrize("link", ["softmax", "identity"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_flipping(quantus: Any, channels: int, link: str) -> None:
    both = beside(link)
    values = both.maps(channels)
    (metric,) = presets.get("quantus_pixel_flipping")
    scores = metric(both.question, both.answer(values))
    curves = np.array(both.call(quantus.PixelFlipping, values))
    assert curves.shape == (N, SIDE * SIDE * 3)
    np.testing.assert_allclose(scores.curve, curves, atol=1e-5)
    areas = both.call(quantus.PixelFlipping, values, return_auc_per_sample=True)
    np.testing.assert_allclose(scores.value, areas, rtol=1e-5)  # hundreds of float32 steps of width 1
    (limited,) = presets.get("quantus_pixel_flipping", limit=12)
    areas = both.call(quantus.PixelFlipping, values, features_in_step=64, return_auc_per_sample=True)
    np.testing.assert_allclose(limited(both.question, both.answer(values)).value, areas, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_region_perturbation_and_selectivity(quantus: Any, channels: int) -> None:
    """Theirs are curves without the start; AOPC is the sum of the drops over one point more."""
    both = beside()
    values = both.maps(channels)
    scores = get("aopc", patch=4, steps=16, fill="minimum")(both.question, both.answer(values))
    drops = np.array(both.call(quantus.RegionPerturbation, values, patch_size=4))
    assert drops.shape == (N, 16)
    np.testing.assert_allclose(scores.value, drops.sum(axis=1) / 17, atol=1e-5)
    np.testing.assert_allclose(scores.curve[:, :1] - scores.curve[:, 1:], drops, atol=1e-5)
    left = both.call(quantus.Selectivity, values, patch_size=4)
    np.testing.assert_allclose(scores.curve[:, 1:], left, atol=1e-5)
    half = get("aopc", patch=4, steps=8, share=0.5, fill="minimum")(both.question, both.answer(values))
    drops = np.array(both.call(quantus.RegionPerturbation, values, patch_size=4, regions_evaluation=8))
    np.testing.assert_allclose(half.value, drops.sum(axis=1) / 9, atol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:The settings for perturbing input:UserWarning"
)  # a batch with nothing left to remove
@pytest.mark.parametrize("channels", [1, 3])
def test_irof(quantus: Any, channels: int) -> None:
    """Theirs has no start point and is not divided by the segments: L · ours + (1 + r1) / 2, r1 the share left after one."""
    from skimage.segmentation import slic

    both = beside()
    values = both.maps(channels)
    question = both.question
    scores = get("irof", fill="zero")(question, both.answer(values))
    # One image at a time: in a batch, theirs goes on to 0 for images of fewer segments, and takes half a step more off them.
    # Its own way of putting in a baseline refuses images of several channels, hence ours.
    fill = {"perturb_func": lambda arr, mask, **_: np.where(mask, np.float32(0), arr)}
    areas = np.ravel([both.call(quantus.IROF, values, batch_size=1, **fill)])
    left = []
    for row in range(N):
        labels = slic(question.inputs[0][row].astype(np.float64), start_label=0)
        mean = np.bincount(labels.ravel(), values[row].sum(axis=-1).ravel()) / np.bincount(labels.ravel())
        one = np.where((labels == mean.argmax())[..., None], 0, question.inputs[0][[row]])
        left.append(question.score((one.astype(np.float32),), [row])[0] / question.score()[row])
    segments = scores.extras["segments"]
    assert len(set(segments.tolist())) > 1
    np.testing.assert_allclose(scores.value, (areas - (1 + np.array(left)) / 2) / segments, atol=1e-5)
    batched = np.ravel(both.call(quantus.IROF, values, **fill))
    nothing = question.score((np.zeros_like(question.inputs[0]),)) / question.score()
    np.testing.assert_allclose(areas - batched, np.where(segments < segments.max(), nothing / 2, 0), atol=1e-4)
    with pytest.raises(AssertionError, match="same as the mask shape"):
        both.call(quantus.IROF, values, perturb_baseline=0.0)


@pytest.mark.parametrize(("fill", "baseline"), [("zero", 0.0), ("minimum", "black")])
@pytest.mark.parametrize("channels", [1, 3])
def test_faithfulness_correlation(
    quantus: Any, channels: int, fill: str, baseline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our subsets: theirs draws elements, ours pixels with all their channels."""
    both = beside()
    values = both.maps(channels)
    metric: Any = get("faithfulness_correlation", subsets=30, fill=fill)
    subsets = np.stack([metric.masks(both.question, row) for row in range(N)], axis=1)
    elements = iter(np.flatnonzero(np.tile(mask, 3)) for each in subsets for mask in each)
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(elements))
    theirs = both.call(quantus.FaithfulnessCorrelation, values, nr_runs=30, subset_size=1, perturb_baseline=baseline)
    np.testing.assert_allclose(metric(both.question, both.answer(values)).value, theirs, atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Blocks(Infidelity):
    """Quantus' perturbations: square after square is removed, and none put back."""

    def masks(self, question: Question, row: int) -> Any:
        side = 4
        blocks = np.arange(SIDE) // side
        number = blocks[:, None] * (SIDE // side) + blocks
        return np.stack([(number <= k).ravel() for k in range((SIDE // side) ** 2)])


def test_infidelity(quantus: Any) -> None:
    both = beside("identity")
    values = both.maps(3)
    metric = Blocks(samples=16, reading="gradients", normalise="none")
    theirs = both.call(quantus.Infidelity, values, perturb_patch_sizes=[4], n_perturb_samples=1, perturb_baseline=0.0)
    np.testing.assert_allclose(metric(both.question, both.answer(values)).value, theirs, rtol=1e-5)


def test_road_imputes_alike_and_counts_right_answers(quantus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs is the share of images whose class survives; it takes grey images alone, element numbers being pixels there."""
    import torch
    from torch import nn

    both = beside()
    grey, values = both.question.inputs[0][..., :1], both.maps(1)
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        net[1].bias -= net(torch.from_numpy(first(grey))).mean(dim=0)  # close calls
        labels = net(torch.from_numpy(first(grey))).argmax(dim=1).numpy()
    monkeypatch.setattr(np.random, "randn", lambda *shape: np.zeros(shape))
    levels = [10, 30, 50, 70, 90]
    theirs = quantus.ROAD(percentages=levels, normalise=False, disable_warnings=True)(
        model=net, x_batch=first(grey), y_batch=labels, a_batch=first(values), channel_first=True, device="cpu"
    )
    order = ranks.order(both.question, values[..., 0], np.arange(N))
    for level in levels:
        images = grey.astype(np.float64)
        for row in range(N):
            removed = np.zeros(SIDE * SIDE, dtype=bool)
            removed[order[row, : int(SIDE * SIDE * level / 100)]] = True
            removed = removed.reshape(SIDE, SIDE)
            images[row][removed] = Imputation(removed)(images[row])
            indices = np.flatnonzero(removed)
            found = quantus.functions.perturb_func.noisy_linear_imputation(first(grey)[row], indices, noise=0)
            np.testing.assert_allclose(images[row, ..., 0], found[0], atol=1e-6)
        with torch.no_grad():
            right = net(torch.from_numpy(first(images).astype(np.float32))).argmax(dim=1).numpy() == labels
        assert theirs[level] == pytest.approx(right.mean())
    assert len(set(theirs.values())) > 1


def test_sensitivity_n_is_another_thing_there(quantus: Any) -> None:
    """Theirs removes in order of relevance, and correlates over the samples: one number per size, none per sample."""
    both = beside()
    values = both.maps(3)
    theirs = both.call(quantus.SensitivityN, values, features_in_step=64, n_max_percentage=1.0)
    (metric,) = presets.get("quantus_pixel_flipping", limit=12)
    drops = both.question.score()[:, None] - metric(both.question, both.answer(values)).curve
    held = -np.sort(-values.reshape(N, -1), axis=1).reshape(N, 12, 64).sum(axis=2)
    assert len(theirs) == SIDE * SIDE // 64  # it counts pixels, and removes elements
    for step, value in enumerate(theirs):
        assert value == pytest.approx(np.corrcoef(held[:, step], drops[:, step])[0, 1], abs=1e-5)
