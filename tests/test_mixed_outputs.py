"""One experiment about a network of logits and the same network of probabilities: one scale, one region, the same maps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as L
from torch import nn

from crossxai import Modality
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import InvalidInput
from crossxai.experiment import specification as experiment
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import Questions, check_scales, describe_questions, questions
from crossxai.explainers import get
from crossxai.files import Samples
from crossxai.model import Model

X = np.random.default_rng(0).random((4, 12, 12, 3)).astype(np.float32)
IDS = tuple("abcd")
IMAGE = (Modality.image(),)
MASK = np.zeros((4, 12, 12), bool)
MASK[:, 3:8, 3:8] = True
CLASSES = Samples(IDS, IMAGE, {"image": X}, np.array([0, 1, 2, 0]), ("a", "b", "c"))
REGIONS = Samples(IDS, IMAGE, {"image": X}, np.zeros(4, int), ("tumour",), {"tumour": MASK}, task="segmentation")
SEGMENTS = ("y", "x", "class")


def classifiers() -> dict[str, Model]:
    """A torch network that gives logits, and the same in Keras, which ends in a softmax."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    i = keras.Input((12, 12, 3))
    h = L.GlobalAveragePooling2D()(L.Conv2D(6, 3, activation="relu")(i))
    twin = keras.Model(i, L.Dense(3, activation="softmax")(h))
    conv, head = net[0], net[4]
    twin.set_weights(
        [v.detach().numpy() for v in (conv.weight.permute(2, 3, 1, 0), conv.bias, head.weight.T, head.bias)]
    )
    return {"logits": TorchModel(net, IMAGE), "probabilities": KerasModel(twin, IMAGE)}


def segmenters(framework: str) -> dict[str, Model]:
    """A network with and without a sigmoid at its end, whose probabilities never come near 1."""
    kernel, bias = np.full((1, 1, 3, 1), 3.0, np.float32), np.array([-5.0], np.float32)
    if framework == "torch":
        conv = nn.Conv2d(3, 1, 1)
        conv.weight.data, conv.bias.data = torch.tensor(kernel).permute(3, 2, 0, 1), torch.tensor(bias)
        nets = (nn.Sequential(conv).eval(), nn.Sequential(conv, nn.Sigmoid()).eval())
        return {
            name: TorchModel(n, IMAGE, output_axes=SEGMENTS)
            for name, n in zip(("logits", "probabilities"), nets, strict=True)
        }
    found: dict[str, Model] = {}
    for name, last in (("logits", None), ("probabilities", "sigmoid")):
        i = keras.Input((12, 12, 3))
        net = keras.Model(i, L.Conv2D(1, 1, activation=last)(i))
        net.set_weights([kernel, bias])
        found[name] = KerasModel(net, IMAGE, output_axes=SEGMENTS)
    return found


def asked(model: Model, samples: Samples, **target: Any) -> tuple[Questions, dict[str, str]]:
    content = {
        "models": [{"name": "m"}],
        "explainers": [{"name": "captum.saliency"}],
        "metrics": [{"name": "deletion"}],
    }
    made = experiment.check({**content, "target": target, "folder": Path()})
    found = questions(made, samples, LoadedModel(model, "", "", {}), "m")
    return found, describe_questions(found, made, samples)


@pytest.mark.parametrize("measure", ["auto", "softmax", "largest"])
def test_classes_are_measured_as_probabilities(measure: str) -> None:
    models = classifiers()
    (one, _), (other, said) = (asked(m, CLASSES, measure=measure) for m in models.values())
    np.testing.assert_allclose(one.measured.score(), other.measured.score(), rtol=1e-5)
    assert (said["outputs"], said["measured_by"]) == ("probabilities", "identity")


@pytest.mark.parametrize("explain", ["softmax", "logit"])
def test_classes_are_explained_alike(explain: str) -> None:
    models = classifiers()
    (one, first), (other, second) = (asked(m, CLASSES, of="label", explain=explain) for m in models.values())
    if explain == "softmax":
        here, there = (get("captum.saliency")(q.explained).values[0] for q in (one, other))
        np.testing.assert_allclose(here, there, atol=1e-4 * np.abs(there).max())
        assert first["explained"] == second["explained"] == "probability of the labelled class"
        return
    # The log-odds of a softmax: how far the logit is above all the others together.
    logits, k = one.outputs.astype(np.float64), np.arange(4)
    others = [np.log(np.exp(np.delete(row, label)).sum()) for row, label in zip(logits, CLASSES.labels, strict=True)]
    np.testing.assert_allclose(one.explained.score(), logits[k, CLASSES.labels], rtol=1e-6)
    np.testing.assert_allclose(other.explained.score(), logits[k, CLASSES.labels] - others, rtol=1e-4, atol=1e-5)
    assert first["explained"] == "logit of the labelled class"
    assert re.search("^log-odds .*probabilities", second["explained"])


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("measure", ["auto", "sigmoid", "dice"])
def test_the_predicted_region_and_its_measure_do_not_depend_on_a_sigmoid_at_the_end(
    framework: str, measure: str
) -> None:
    models = segmenters(framework)
    assert 0.5 < models["probabilities"].predict((X,)).max() < 0.98
    (one, _), (other, said) = (asked(m, REGIONS, measure=measure, explain="logit") for m in models.values())
    np.testing.assert_array_equal(one.explained.target.weights, other.explained.target.weights)
    assert (other.explained.target.weights > 0).mean() < 0.5
    np.testing.assert_allclose(one.measured.score(), other.measured.score(), rtol=1e-5)
    np.testing.assert_allclose(one.explained.score(), other.explained.score(), rtol=1e-4, atol=1e-4)
    assert said["outputs_known"] == "it ends in a sigmoid"


def test_two_scales_in_one_table_are_refused() -> None:
    models = classifiers()
    kinds = {name: asked(m, CLASSES, measure="identity")[0].kind for name, m in models.items()}
    content = {
        "models": [{"name": "m"}],
        "explainers": [{"name": "captum.saliency"}],
        "metrics": [{"name": "deletion"}],
    }
    for measure in ("auto", "identity"):
        made = experiment.check({**content, "target": {"measure": measure}, "folder": Path()})
        if measure == "auto":
            check_scales(made, kinds)
            continue
        check_scales(made, {"logits": kinds["logits"]})
        with pytest.raises(InvalidInput, match=r'logits logits, probabilities probabilities.*measure = "auto"'):
            check_scales(made, kinds)


def test_labels_beyond_the_outputs_are_refused_in_words() -> None:
    labels = np.array([0, 1, 990, 3])
    many = Samples(IDS, IMAGE, {"image": X}, labels, tuple(f"class {i}" for i in range(1000)))
    with pytest.raises(
        InvalidInput, match=r'of = "label": model \'m\' has 3 outputs, .* go up to 990: write of = "predicted"'
    ):
        asked(classifiers()["logits"], many, of="label")
