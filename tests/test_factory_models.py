"""What a factory's adapter declares reaches the metrics: mean and sd as the dataset's, and what the outputs are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml

from crossxai import Modality
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import presets
from crossxai.evaluation.curves.fills import DatasetMean
from crossxai.experiment import loading
from crossxai.experiment import specification as experiment
from crossxai.experiment.loading import load_model, weights_digest
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

def raw():
    from torch import nn
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()

def training():
    return raw().train()

def named():
    from crossxai.adapters.numpy import FunctionModel
    class Mine(FunctionModel):
        training_mean, training_sd = {{"image": (0.1, 0.2, 0.3)}}, {{"image": (1.0, 1.0, 1.0)}}
    return Mine(lambda x: x.mean(axis=(1, 2)), IMAGE)

class Declared:
    framework, modalities, name = "jax", IMAGE, "declared"
    def predict(self, inputs): ...

def declared():
    return Declared()

def data():
    import numpy as np
    from crossxai.files import Samples
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    return Samples(("a", "b"), IMAGE, {{"image": images}}, np.array([0, 1]), ("no", "yes"))

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
    metric = loading.metric(wanted, made.seed, images, subject.mean)
    assert metric.fill == DatasetMean(MEAN)  # type: ignore[attr-defined]
    deletion, _ = presets.get("torchcam", mean=subject.mean["image"], sd=subject.sd["image"])
    assert deletion.fill == DatasetMean(MEAN)  # not black


def test_what_outputs_are_is_declared_in_the_experiment(folder: Path) -> None:
    subject = load_model(spec(factory="factory_own:torch", outputs="probabilities"), folder)
    assert kind(subject.model, (np.zeros((1, 8, 8, 3), np.float32),)).kind == "probabilities"
    with pytest.raises(InvalidInput, match="cannot be set on its Fixed: declare it there"):
        load_model(spec(factory="factory_own:fixed", outputs="logits"), folder)


def test_factories_have_the_rights_of_checkpoints(folder: Path) -> None:
    raw, again = (load_model(spec(factory="factory_own:raw"), folder) for _ in range(2))  # the network itself
    assert raw.framework == "torch"
    assert len(raw.digest) == 64
    assert raw.digest != again.digest  # other weights
    raw.model.module.load_state_dict(again.model.module.state_dict())  # type: ignore[attr-defined]
    assert weights_digest(raw.model) == again.digest
    assert len(load_model(spec(factory="factory_own:keras"), folder).digest) == 64
    named = load_model(spec(factory="factory_own:named"), folder)
    assert (named.framework, named.digest) == ("numpy", "")
    assert named.mean == {"image": (0.1, 0.2, 0.3)}
    assert load_model(spec(factory="factory_own:declared"), folder).framework == "jax"


def test_a_network_in_training_mode_is_one_failed_row(folder: Path) -> None:
    content = {
        "title": "modes",
        "controls": False,
        "data": {"factory": "factory_own:data"},
        "models": [{"name": name, "factory": f"factory_own:{name}"} for name in ("training", "raw")],
        "explainers": [{"name": "captum.saliency"}],
        "metrics": [{"name": "deletion", "params": {"steps": 3}}],
    }
    (folder / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(folder / "e.toml"), "--out", str(folder / "out"))
    assert done.exit_code == 3, (done.output, done.exception)
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    training, raw = manifest["models"]
    assert "training mode" in training["failed"]
    assert len(raw["weights_sha256"]) == 64
    assert "failed" not in raw
