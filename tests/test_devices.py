"""Where a torch network runs is said by name, wherever a model is named; a device that is not there is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from experiments import crossxai
from torch import nn

import crossxai as xai
from crossxai.adapters.torch import TorchModel
from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.experiment.loading import load_model
from crossxai.experiment.specification import ModelSpec

NETWORK = "torchvision:squeezenet1_1@random"


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = xai.wrap(net, device="auto")
    assert isinstance(model, TorchModel)
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:7", "gpu", "xpu"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"device '{name}' is not there .*torch sees cpu.*or 'auto'"):
        xai.wrap(nn.Sequential(nn.Conv2d(3, 2, 3)).eval(), device=name)


def test_networks_that_are_not_torch_s() -> None:
    import keras

    net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()])
    assert xai.wrap(net, device="auto").framework == "Keras on TensorFlow"
    with pytest.raises(InvalidInput, match=r"device is of torch networks, and this is a Keras.*CUDA_VISIBLE_DEVICES"):
        xai.wrap(net, device="cuda")


@pytest.mark.process  # makes the embedded set
def test_in_an_experiment(tmp_path: Path, untrained: Path) -> None:
    def model(**said: Any) -> Any:
        return load_model(ModelSpec(name="net", **said), tmp_path).model

    assert model(checkpoint=NETWORK, device="cpu").device == torch.device("cpu")
    assert model(checkpoint=str(untrained), device="auto").device.type in ("cpu", "cuda")
    for said in ({"checkpoint": NETWORK}, {"checkpoint": str(untrained)}):
        with pytest.raises(CrossXAIError, match="device 'cuda:9' is not there"):
            model(**said, device="cuda:9")
    with pytest.raises(InvalidInput, match="device is of torch networks"):
        model(checkpoint=str(untrained), framework="tensorflow", device="cuda")


def test_on_the_command_line(tmp_path: Path) -> None:
    done = crossxai("compare", NETWORK, "--data", str(tmp_path), "--device", "cuda:9", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "device 'cuda:9' is not there" in " ".join(done.output.replace("│", " ").split())
    done = crossxai("compare", "examples/first.toml", "--device", "cuda", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "--device belong to --model" in " ".join(done.output.replace("│", " ").split())
