"""A torch network as an ONNX file gives the scores of the torch module itself, by name on the command line and from Python."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from experiments import crossxai
from PIL import Image
from torch import nn

import crossxai as xai

SIDE = 32
EXPLAINERS = "reference.rise,lime.image,captum.occlusion"


def net() -> nn.Module:
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(8 * 7 * 7, 3)).eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs, the network as ONNX files of any and of one sample at a time, and a module that makes it."""
    for name in ("astronaut", "chelsea"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(getattr(skimage.data, name)()).resize((48, 40)).save(path)
    for name, axes in (("net", {"image": {0: "n"}}), ("alone", {})):
        with warnings.catch_warnings():  # the exporter that needs no package more is called an old one
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                net(), (torch.zeros(1, 3, SIDE, SIDE),), str(tmp_path / f"{name}.onnx"), dynamo=False,
                input_names=["image"], dynamic_axes=axes,
            )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process
def test_an_onnx_file_on_the_command_line_has_the_scores_of_the_torch_module(folder: Path) -> None:
    words = ("--data", "photos", "--explainers", EXPLAINERS, "--metrics", "deletion,insertion", "--size", str(SIDE))
    done = crossxai("compare", "--model", "net.onnx", *words, "--out", "out")
    assert done.exit_code == 0, done.output
    run = xai.Run("out")
    asked = {"explainers": EXPLAINERS.split(","), "metrics": ["deletion", "insertion"], "progress": False}
    of_torch = xai.compare(xai.wrap(net(), size=SIDE), "photos", **asked)
    ours, theirs = (r.scores.set_index(["label", "metric", "sample"])["value"].sort_index() for r in (run, of_torch))
    assert {label.partition("@")[0] for label in run.summary["label"]} >= set(EXPLAINERS.split(","))
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours, theirs.loc[ours.index], atol=1e-5)


def test_an_onnx_file_says_what_it_is_and_what_it_cannot(folder: Path) -> None:
    model = xai.wrap("net.onnx")
    assert "from net.onnx through ONNX Runtime: scores without gradients" in str(model.describe())
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)
    np.testing.assert_allclose(xai.wrap("alone.onnx").predict((images,)), model.predict((images,)), atol=1e-6)
    with pytest.raises(xai.Unsupported, match="needs gradients, which model 'net' does not give"):
        xai.explain(model, images, "captum.saliency")
