"""Noisy linear imputation against a dense system; ROAD against pytorch-grad-cam's on one model and the same maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import toys
from networks.counting import Counting, answer, ask, some_map

from crossxai import Modality, Target, Unsupported
from crossxai.evaluation import get
from crossxai.evaluation.curves.imputation import WEIGHTS, Imputation, Imputations
from crossxai.question import Question


def dense(removed: Any, image: Any) -> Any:
    """The same equations, written pixel by pixel: x = sum of weights · neighbours / sum of weights."""
    height, width = removed.shape
    system, known = np.eye(removed.size), np.zeros((removed.size, image.shape[-1]))
    for y in range(height):
        for x in range(width):
            if not removed[y, x]:
                known[y * width + x] = image[y, x]
                continue
            near = {(y + a, x + b): w for (a, b), w in WEIGHTS.items() if 0 <= y + a < height and 0 <= x + b < width}
            for (v, u), weight in near.items():
                system[y * width + x, v * width + u] = -weight / sum(near.values())
    return np.linalg.solve(system, known).reshape(image.shape)


@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (5, 1), (2, 2)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_solves_the_neighbours_equations(shape: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 3))
    removed = rng.permutation(np.arange(image[..., 0].size)).reshape(shape) < max(1, share * shape[0] * shape[1] - 1)
    np.testing.assert_allclose(Imputation(removed)(image), dense(removed, image)[removed], atol=1e-12)


def test_a_constant_image_stays_constant_and_the_range_is_kept() -> None:
    removed = np.random.default_rng(0).random((12, 12)) < 0.8
    np.testing.assert_allclose(Imputation(removed)(np.full((12, 12, 1), 3.5)), 3.5, atol=1e-12)
    found = Imputation(removed)(np.random.default_rng(1).random((12, 12, 1)))
    assert 0 < found.min() < found.max() < 1


def test_masks_are_solved_once_and_forgotten_in_turn() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((8, 8)) < 0.5 for _ in range(3)]
    a, b, c = (Imputation(mask).size for mask in masks)
    held = Imputations(most=max(a + b, a + c, b + c))
    first, second = held(masks[0]), held(masks[1])
    assert held(masks[0].copy()) is first
    held(masks[2])  # no room: the one used longest ago goes
    assert len(held) == 2
    assert held(masks[0]) is first
    assert held(masks[1]) is not second
    tiny = Imputations(most=1)
    tiny(masks[0])
    assert len(tiny) == 1  # the one in use always stays


def test_road_solves_each_mask_once_for_every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossxai.evaluation.curves import imputation
    from crossxai.evaluation.metrics import road

    made: list[int] = []

    class Counted(Imputation):
        def __init__(self, removed: Any) -> None:
            made.append(1)
            super().__init__(removed)

    monkeypatch.setattr(imputation, "Imputation", Counted)
    monkeypatch.setattr(road, "_IMPUTATIONS", Imputations())
    question = ask(n=2)
    a = answer(question, some_map(question))
    for name in ("road", "road_morf", "road_lerf"):
        get(name)(question, a)
    assert len(made) == 2 * 18


# Theirs calls NumPy functions on tensors, and `spsolve` on systems that have no solution.
THEIRS = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")


class Theirs:
    """pytorch-grad-cam's metric on a crossxai torch model: inputs standardised, channels first, softmax of the class."""

    def __init__(self, question: Question) -> None:
        import torch
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

        self.net = question.model.module  # type: ignore[attr-defined]
        mean, sd = (np.array(v, np.float32) for v in (toys.MEAN, toys.SD))
        images = (question.inputs[0] - mean) / sd
        self.images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
        self.targets = [ClassifierOutputSoftmaxTarget(i % 3) for i in range(len(question))]

    def __call__(self, metric: Any, maps: Any) -> Any:
        return np.asarray(metric(self.images, maps, self.targets, self.net))


@pytest.fixture(scope="module")
def asked() -> Question:
    question = toys.question(toys.torch_model())
    return Question(question.model, question.inputs, Target.classes([0, 1, 2], 3, "softmax"), question.ids)


class Drawn:
    """Our noise, in the order in which pytorch-grad-cam asks for its own: (channels, removed pixels) of one image each."""

    def __init__(self, question: Question, masks: list[tuple[int, Any]]) -> None:
        self.question, self.masks = question, iter(masks)

    def __call__(self, like: Any) -> Any:
        import torch

        row, mask = next(self.masks)
        noise = self.question.rng(row, 0).standard_normal(self.question.inputs[0].shape[1:])
        assert like.shape == noise[mask].T.shape
        # Theirs is added to standardised values, ours to raw ones.
        return torch.from_numpy((noise[mask] / np.array(toys.SD)).T.astype(np.float32))


@THEIRS
@pytest.mark.parametrize("name", ["road_morf", "road_lerf", "road"])
@pytest.mark.parametrize("cut", ["ranks", "thresholds"])
def test_pytorch_grad_cam_is_reproduced(name: str, cut: Any, asked: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our noise in place of theirs; a map without ties is cut alike by ranks and by their thresholds."""
    import torch
    from pytorch_grad_cam.metrics import road

    maps = np.random.default_rng(3).random((3, toys.SIZE, toys.SIZE)).astype(np.float32)
    percentiles = (20, 50, 80)
    metric: Any = get(name, percentiles=percentiles, cut=cut)
    kinds = {"road_morf": road.ROADMostRelevantFirstAverage, "road_lerf": road.ROADLeastRelevantFirstAverage}
    reference = {**kinds, "road": road.ROADCombined}[name](list(percentiles))
    ends = {"road_morf": ["morf"], "road_lerf": ["lerf"], "road": ["lerf", "morf"]}[name]
    masks = [(row, metric.masks(asked, maps[row], row, end)[k]) for end in ends for k in range(3) for row in range(3)]
    monkeypatch.setattr(torch, "randn_like", Drawn(asked, masks))
    scores = metric(asked, answer(asked, maps[..., None]))
    np.testing.assert_allclose(scores.value, Theirs(asked)(reference, maps), atol=2e-6)


def imputer_of_nothing() -> Any:
    """What theirs makes of an image of which no pixel is left; in the units of the network's own input."""
    import torch
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    return NoisyLinearImputer(noise=0)(torch.rand(3, 16, 16), torch.zeros(16, 16)).numpy()


@THEIRS
def test_their_trap_and_how_ranks_avoid_it(asked: Question) -> None:
    """A map of mostly zeros: their thresholds impute the whole image as black at every percentile, the ranking does not."""
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric, RemoveMostRelevantFirst
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    maps = np.zeros((3, toys.SIZE, toys.SIZE), np.float32)
    maps[:, 8:16, 8:16] = np.random.default_rng(0).random((3, 8, 8))
    # One system of theirs is singular here: where it gives up, no number is left to compare.
    a = answer(asked, maps[..., None])
    theirs: Any = get("road_morf", percentiles=(10, 50, 80), noise=0.0, cut="thresholds")
    for row in range(3):
        masks = theirs.masks(asked, maps[row], row, "morf")
        assert masks.all()
    found = theirs(asked, a).value
    np.testing.assert_array_equal(imputer_of_nothing(), 0)
    black = asked.score((np.zeros_like(asked.inputs[0]),)) - asked.score()
    np.testing.assert_allclose(found, black, atol=1e-6)
    ours: Any = get("road_morf", percentiles=(10, 50, 80), noise=0.0)
    masks = ours.masks(asked, maps[0], 0, "morf")
    np.testing.assert_array_equal(masks.sum(axis=(1, 2)), [921, 512, 205])
    assert (np.abs(ours(asked, a).value - black) > 1e-3).all()
    # The least relevant 10 % are zeros of theirs too, one percentile of which takes all the zeros at once.
    imputer = RemoveMostRelevantFirst(96, NoisyLinearImputer(noise=0))
    sharp: Any = get("road_morf", percentiles=(96,), noise=0.0, cut="thresholds")
    theirs_96 = Theirs(asked)(PerturbationConfidenceMetric(imputer), maps)
    np.testing.assert_allclose(sharp(asked, a).value, theirs_96, atol=2e-6)


def test_constant_maps_are_ranked_by_the_seed() -> None:
    question = ask()
    flat = answer(question, np.ones((4, 8, 8, 1)))
    a, b, c = (get("road", seed=seed)(question, flat).value for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).all()


def test_noise_is_the_samples_own_and_small() -> None:
    question = ask()
    a = answer(question, some_map(question))
    without, some = (get("road_morf", noise=noise)(question, a).value for noise in (0.0, 0.01))
    assert 0 < np.abs(without - some).max() < 0.01


def test_only_images() -> None:
    volume = Modality("scan", ("z", "y", "x", "channel"), ("grey",))
    question = ask()
    inputs = (np.ones((4, 2, 2, 2, 1)),)
    scan = Question(Counting((volume,)), inputs, question.target, question.ids)
    with pytest.raises(Unsupported, match="'scan' is a volume: write 'aopc' or 'deletion'"):
        get("road")(scan, answer(scan, np.ones((4, 2, 2, 2, 1))))
