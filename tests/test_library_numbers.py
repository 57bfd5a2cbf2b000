"""The libraries' own numbers on the demo's trained ResNet-18 and twenty of its images, reproduced to 1e-5; slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossxai import Attribution, Question, Target
from crossxai.evaluation.curves import evaluate, presets
from crossxai.explainers import get
from crossxai.model import Array
from crossxai.studies.networks import keras_networks, torch_networks, weight_files

pytestmark = pytest.mark.deep
N = 20
MAPS = ["random", "captum.saliency", "captum.integrated_gradients", "gradcam.gradcam"]


@dataclass(frozen=True)
class Trained:
    """The same weights as both frameworks' subjects, the questions about twenty images, and the images standardised."""

    torch: Question
    keras: Question
    mean: Array
    sd: Array
    embedded: Path

    @property
    def standard(self) -> Array:
        """What the libraries are handed, whose networks do not standardise: their zero is then the mean colour."""
        return (self.torch.inputs[0] - np.float32(self.mean)) / np.float32(self.sd)

    @property
    def labels(self) -> Array:
        return self.torch.target.weights.argmax(axis=1)


@pytest.fixture(scope="module")
def trained(embedded: Path) -> Trained:
    from crossxai.experiment.loading import load_model, samples
    from crossxai.experiment.specification import Data, Experiment, ExplainerSpec, MetricSpec, ModelSpec

    specs = [ModelSpec(name="torch"), ModelSpec(name="keras", framework="tensorflow")]
    parts = {"explainers": (ExplainerSpec(name="x"),), "metrics": (MetricSpec(name="x"),), "models": tuple(specs)}
    images = samples(Experiment(data=Data(n=N), **parts))[0].inputs["image"]  # type: ignore[arg-type]
    pytorch, keras = (load_model(spec, Path()) for spec in specs)
    target = Target.classes(pytorch.model.predict((images,)).argmax(axis=1), 2, "softmax")
    one, other = (Question(s.model, (images,), target) for s in (pytorch, keras))
    return Trained(one, other, pytorch.mean["image"], pytorch.sd["image"], embedded)


@pytest.fixture(scope="module")
def maps(trained: Trained) -> Callable[[str], Attribution]:
    held: dict[str, Attribution] = {}

    def of(name: str) -> Attribution:
        if name not in held:
            question = trained.torch
            drawn = np.random.default_rng(0).random((N, 96, 96, 1), np.float32)
            random = Attribution((drawn,), question.modalities, question.ids, "random")
            held[name] = random if name == "random" else get(name)(question)
        return held[name]

    return of


@pytest.mark.parametrize("name", MAPS)
def test_xplique_deletion_and_insertion(name: str, trained: Trained, maps: Callable[[str], Attribution]) -> None:
    from xplique import metrics

    values = maps(name)
    ours = tuple(replace(m, fill={"dataset_mean": trained.mean}) for m in presets.get("xplique"))
    found = evaluate(trained.keras, [values], ours)[0]
    net = keras_networks.load(trained.embedded, weight_files.read(trained.embedded))
    labels = np.float32(trained.keras.target.weights)
    for metric, scores, theirs in zip(ours, found, (metrics.Deletion, metrics.Insertion), strict=True):
        expected = theirs(net, trained.standard, labels, activation="softmax").evaluate(values.values[0])
        np.testing.assert_allclose(metric.total(scores), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam asks NumPy about tensors
@pytest.mark.parametrize("name", MAPS)
def test_pytorch_grad_cam_road(
    name: str, trained: Trained, maps: Callable[[str], Attribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both orders over nine percentiles, and their combination, with the same noise.

    Maps in float64: theirs ranks 1 - map for the least relevant, which in float32 makes ties of small values.
    """
    import torch
    from pytorch_grad_cam.metrics import road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    values = maps(name)
    flat = values.values[0].sum(axis=-1).astype(np.float64)
    question, calls = trained.torch, iter(range(1_000_000))

    def same_noise(like: torch.Tensor) -> torch.Tensor:
        draw = question.rng(next(calls) % N, 0).standard_normal(tuple(like.shape))
        return torch.from_numpy(draw).to(like)

    monkeypatch.setattr(torch, "randn_like", same_noise)
    metrics = presets.get("gradcam_road", mean=trained.mean, sd=trained.sd)
    found = evaluate(question, [replace(values, values=(flat[..., None],))], metrics)[0]
    net = torch_networks.load(trained.embedded, weight_files.read(trained.embedded))
    x = torch.from_numpy(np.moveaxis(trained.standard, -1, 1).copy())
    targets = [ClassifierOutputSoftmaxTarget(int(c)) for c in trained.labels]
    both = []
    for scores, kind in zip(
        found, (road.ROADMostRelevantFirstAverage, road.ROADLeastRelevantFirstAverage), strict=True
    ):
        both.append(kind()(x, flat, targets, net))
        np.testing.assert_allclose(scores.value, both[-1], atol=1e-5)
    np.testing.assert_allclose((found[1].value - found[0].value) / 2, (both[1] - both[0]) / 2, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_quantus_pixel_flipping(name: str, quantus: Any, trained: Trained, maps: Callable[[str], Attribution]) -> None:
    """576 elements a step, which makes 48 of them; the curve of each image, and its area over its width."""
    values = maps(name)
    (metric,) = presets.get("quantus_pixel_flipping", mean=trained.mean, sd=trained.sd, limit=48)
    scores = metric(trained.torch, values)
    theirs = quantus.PixelFlipping(features_in_step=576, normalise=False, disable_warnings=True)
    curves = theirs(
        model=torch_networks.load(trained.embedded, weight_files.read(trained.embedded)),
        x_batch=np.moveaxis(trained.standard, -1, 1).copy(),
        y_batch=trained.labels,
        a_batch=np.moveaxis(values.values[0], -1, 1).copy(),
        channel_first=True,
        device="cpu",
    )
    np.testing.assert_allclose(scores.curve, curves, atol=1e-5)
    np.testing.assert_allclose(scores.value / 47, np.trapezoid(curves, axis=1) / 47, atol=1e-5)
