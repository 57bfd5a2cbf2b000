"""What a factory's adapter declares reaches the metrics: mean and sd as the dataset's, and what the outputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossxai import Modality
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import presets
from crossxai.evaluation.curves.fills import DatasetMean
from crossxai.experiment import loading
from crossxai.experiment import specification as experiment
from crossxai.experiment.models import load_model
from crossxai.files import Samples
from crossxai.outputs import kind

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OWN = f"""
from crossxai import Modality

IMAGE, MEAN, SD = (Modality.image(),), {MEAN}, {SD}

def torch():
    from torch import nn
    from crossxai.adapters.torch import TorchModel
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    return TorchModel(net, IMAGE, standardise={{"image": (MEAN, SD)}})

def keras():
    import keras
    from crossxai.adapters.tensorflow import KerasModel
    i = keras.Input((8, 8, 3))
    net = keras.Model(i, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(i)))
    return KerasModel(net, IMAGE, standardise={{"image": (MEAN, SD)}})

class Fixed:
    name, modalities, outputs = "fixed", IMAGE, property(lambda self: None)
    def predict(self, inputs): ...

def fixed():
    return Fixed()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "factory_own.py").write_text(OWN)
    return tmp_path


def spec(**given: Any) -> experiment.ModelSpec:
    return experiment.ModelSpec(name="own", **given)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_mean_of_the_adapter_is_the_dataset_s(folder: Path, framework: str) -> None:
    subject = load_model(spec(factory=f"factory_own:{framework}"), folder)
    assert subject.mean == {"image": pytest.approx(MEAN)}
    assert subject.sd == {"image": pytest.approx(SD)}
    wanted = experiment.MetricSpec(name="deletion", params={"fill": "dataset_mean"})
    content = {
        "models": [{"name": "m"}],
        "explainers": [{"name": "captum.saliency"}],
        "metrics": [{"name": "deletion"}],
    }
    made = experiment.check({**content, "folder": folder})
    images = Samples(
        ("a",), (Modality.image(),), {"image": np.zeros((1, 8, 8, 3), np.float32)}, np.array([0]), ("no", "yes")
    )
    _, metric = loading.metric(wanted, made, images, subject.mean)
    assert metric.fill == DatasetMean(MEAN)  # type: ignore[attr-defined]
    deletion, _ = presets.get("torchcam", mean=subject.mean["image"], sd=subject.sd["image"])
    assert deletion.fill == DatasetMean(MEAN)  # not black


def test_what_outputs_are_is_declared_in_the_experiment(folder: Path) -> None:
    subject = load_model(spec(factory="factory_own:torch", outputs="probabilities"), folder)
    assert kind(subject.model, (np.zeros((1, 8, 8, 3), np.float32),)).kind == "probabilities"
    with pytest.raises(InvalidInput, match="cannot be set on its Fixed: declare it there"):
        load_model(spec(factory="factory_own:fixed", outputs="logits"), folder)
