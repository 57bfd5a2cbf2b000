"""Each preset against the real library's number, or against its published definition written a second way."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import published
import pytest
from networks import toys

from crossxai import Attribution, InvalidInput, Question, Target, UnknownName
from crossxai.evaluation.curves import Curve, Deletion, evaluate, passes, presets
from crossxai.evaluation.curves.imputation import NoisyLinear
from crossxai.testing import linear_question

N = 4
OTHERS = [name for name in presets.PRESETS if name not in ("ours", "xplique", "gradcam_road")]


@cache
def ask(framework: str = "torch") -> Question:
    model = toys.torch_model() if framework == "torch" else toys.keras_model()
    return Question(model, (toys.images(N),), Target.classes(np.arange(N) % 3, 3, "softmax"), batch_size=7)


def maps(question: Question, channels: int = 1, ties: bool = False) -> Attribution:
    values = np.random.default_rng(5).normal(size=(N, 32, 32, channels)).astype(np.float32)
    values = np.round(values) if ties else values
    return Attribution((values,), question.modalities, question.ids, "test")


def first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_published_definitions(name: str, channels: int) -> None:
    question, question_maps = ask(), maps(ask(), channels, ties=channels == 1)
    mean, sd = np.float32(toys.MEAN), np.float32(toys.SD)
    metrics = presets.get(name, mean=toys.MEAN, sd=toys.SD)
    step = 256
    if name == "quantus_pixel_flipping":
        metrics = presets.get(name, mean=toys.MEAN, sd=toys.SD, limit=32 * 32 * 3 // step)
    found = evaluate(question, [question_maps], metrics)[0]
    for row in range(N):

        def score(image: np.ndarray, row: int = row) -> float:
            raw = np.moveaxis(image, 0, -1) * sd + mean
            return float(question.score((raw[None].astype(np.float32),), [row])[0])

        image = first((question.inputs[0][row] - mean) / sd)
        relevance = first(question_maps.values[0][row])
        if name in ("rise", "torchcam", "latec", "pnpxai"):  # they take one map for all channels
            relevance = relevance.sum(axis=0, keepdims=True)
        if name == "interpretdl":
            grey = first(np.broadcast_to((127 / 255 - mean) / sd, (32, 32, 3)))
            expected = published.interpretdl(score, image, grey, relevance)
        elif name == "quantus_pixel_flipping":
            expected = published.quantus_pixel_flipping(score, image, relevance, step)
        else:
            expected = getattr(published, name)(score, image, relevance)
        np.testing.assert_allclose([s.value[row] for s in found], expected, rtol=2e-6, atol=2e-6)
    for metric, scores in zip(metrics, found, strict=True):
        np.testing.assert_allclose(metric.total(scores), scores.value.mean(), atol=1e-12)


@pytest.mark.parametrize("link", ["identity", "softmax"])
@pytest.mark.parametrize("ties", [False, True])
def test_xplique_s_own_numbers(link: str, ties: bool) -> None:
    from xplique import metrics

    from crossxai.adapters.tensorflow import KerasModel

    net = toys.keras_net()
    question = replace(ask(), model=KerasModel(net, (toys.IMAGE,)), target=Target.classes(np.arange(N) % 3, 3, link))
    given = maps(question, 3, ties)
    labels = np.eye(3, dtype=np.float32)[np.arange(N) % 3]
    for metric, scores, theirs in zip(
        presets.get("xplique"),
        evaluate(question, [given], presets.get("xplique"))[0],
        (metrics.Deletion, metrics.Insertion),
        strict=True,
    ):
        activation = None if link == "identity" else link
        reference = theirs(net, question.inputs[0], labels, batch_size=16, activation=activation)
        np.testing.assert_allclose(metric.total(scores), reference.evaluate(given.values[0]), rtol=2e-6)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam asks NumPy about tensors
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_pytorch_grad_cam_s_own_road(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from pytorch_grad_cam.metrics import road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    question = ask()
    values = np.random.default_rng(3).random((N, 32, 32, 1), np.float32)
    given = Attribution((values,), question.modalities, question.ids, "test")
    metrics = presets.get("gradcam_road", mean=toys.MEAN, sd=toys.SD)
    if not noise:
        fill = replace(metrics[0].fill, fill=NoisyLinear(0.0))  # type: ignore[type-var]
        metrics = tuple(replace(m, fill=fill) for m in metrics)
        monkeypatch.setattr(road.NoisyLinearImputer.__init__, "__defaults__", (0.0, road.neighbors_weights))
    calls = iter(range(1000))

    def same_noise(like: torch.Tensor) -> torch.Tensor:
        draw = question.rng(next(calls) % N, 0).standard_normal(tuple(like.shape))
        return torch.from_numpy(draw).to(like)

    monkeypatch.setattr(torch, "randn_like", same_noise)
    net = toys.torch_net()
    x = torch.from_numpy(np.moveaxis((question.inputs[0] - np.float32(toys.MEAN)) / np.float32(toys.SD), -1, 1).copy())
    targets = [ClassifierOutputSoftmaxTarget(i % 3) for i in range(N)]
    found = evaluate(question, [given], metrics)[0]
    theirs = (road.ROADMostRelevantFirstAverage, road.ROADLeastRelevantFirstAverage)
    both = []
    for scores, kind in zip(found, theirs, strict=True):
        both.append(kind()(x, values[..., 0], targets, net))
        np.testing.assert_allclose(scores.value, both[-1], atol=2e-6)
    combined = (found[1].value - found[0].value) / 2
    np.testing.assert_allclose(combined, (both[1] - both[0]) / 2, atol=2e-6)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_the_truth_beats_random_beats_the_truth_upside_down(name: str) -> None:
    question, truth = linear_question(6, 16)
    (values,) = truth.values
    noise = np.random.default_rng(0).random(values.shape)
    answers = [replace(truth, values=(v,)) for v in (values, noise, values.max() - values)]
    metrics = presets.get(name, limit=24)
    rows = evaluate(question, answers, metrics)
    for place, metric in enumerate(metrics):
        sign = 1 if metric.higher_is_better else -1
        best, middle, worst = (sign * metric.total(row[place]) for row in rows)
        assert best > middle > worst, metric.name
        broken = metric(question, replace(truth, values=(np.full_like(values, np.nan),)))
        assert np.isnan(broken.value).all()
        assert np.isnan(metric.total(broken))


def test_presets_share_images_and_announce_their_passes() -> None:
    question = ask()
    for name in presets.PRESETS:
        for metric in presets.get(name, mean=toys.MEAN, sd=toys.SD, limit=6):
            assert N * metric.passes(question) == passes(question, [maps(question)], [metric]), name
    xplique, torchcam = presets.get("xplique"), presets.get("torchcam")
    # every tenth is not every twentieth rounded up, but the ends are shared
    separate = passes(question, [maps(question)], xplique) + passes(question, [maps(question)], torchcam)
    assert passes(question, [maps(question)], [*xplique, *torchcam]) == separate - 2 * N


def test_get_says_what_to_write() -> None:
    with pytest.raises(UnknownName, match="did you mean xplique"):
        presets.get("xpliqe")
    with pytest.raises(InvalidInput, match="mean and sd together"):
        presets.get("rise", mean=(0.5,))
    with pytest.raises(InvalidInput, match="at least 2, or 0"):
        presets.get("rise", limit=1)
    for name in presets.PRESETS:
        for metric in presets.get(name, mean=toys.MEAN, sd=toys.SD, limit=4, seed=3):
            assert isinstance(metric, Curve)
            assert len(metric(ask(), maps(ask())).fractions) <= 6  # type: ignore[arg-type]
            again = type(metric)(**{k: v for k, v in metric(ask(), maps(ask())).params.items() if k != "link"})
            np.testing.assert_array_equal(again(ask(), maps(ask())).value, metric(ask(), maps(ask())).value)
    assert Deletion() == Deletion(24)
