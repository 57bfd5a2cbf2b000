"""Which explainers and metrics are asked where nobody names any: from Python, in a file, and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai
from networks import attentive
from PIL import Image
from torch import nn

import crossxai as xai
from crossxai.experiment import defaults
from crossxai.experiment.defaults import choose
from crossxai.explainers import discover, method
from crossxai.report.run import load

SIDE = 16
FAMILIES = ["gradient", "activation map", "path", "perturbation", "surrogate"]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()


def ask(model: Any, side: int = SIDE, n: int = 3) -> xai.Question:
    images = np.random.default_rng(0).random((n, side, side, 3), np.float32)
    return xai.Question(xai.wrap(model), (images,), xai.Target.classes([0] * n, 3))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in "ab":
        values = np.random.default_rng(ord(name)).integers(0, 256, (20, 24, 3), np.uint8)
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(path)
    (tmp_path / "by_default.py").write_text(
        "from torch import nn\nimport torch\ndef net():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Conv2d(3, 4, 3), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_torch_network_is_asked_by_one_explainer_of_each_family_cheapest_first() -> None:
    question = ask(net())
    chosen, left_out = choose({"net": question})
    assert [one.family for one in chosen] == FAMILIES
    kinds = discover()
    for one in chosen:
        assert kinds[one.spec.name].family == one.family
    passes = [one.passes for one in chosen]
    assert passes == sorted(passes)
    assert "attention" in left_out["attention"]
    assert set(left_out) == {"attention", "smoothing", "propagation", "Shapley"}
    assert set(left_out) | set(FAMILIES) | {"control"} == set(method.FAMILIES)  # none is forgotten


def test_a_function_is_asked_by_those_that_need_scores_alone() -> None:
    model = xai.wrap(lambda x: x.mean(axis=(1, 2)), modalities=(xai.Modality.image(),))
    chosen, left_out = choose({"f": ask(model)})
    assert [one.spec.name for one in chosen] == ["captum.occlusion", "lime.image"]
    for family in ("gradient", "path"):
        assert "needs gradients, which model" in left_out[family]


def test_a_transformer_is_asked_for_its_attention_and_another_network_beside_it_is_said_to_refuse() -> None:
    chosen, _ = choose({"vit": ask(attentive.vit(layers=1), 32), "cnn": ask(net(), 32)})
    (own,) = [one for one in chosen if one.family == "attention"]
    assert own.spec.name == "attention.relevance"
    assert set(own.refused) == {"cnn"}
    assert "cnn refuses" in str(own)


def test_where_a_library_is_missing_the_next_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "installed", lambda library: library in ("reference", "attention"))
    chosen, left_out = choose({"net": ask(net())})
    names = {one.family: one.spec.shown for one in chosen}
    assert names["gradient"] == "reference.saliency@canonical"
    assert names["surrogate"] == "reference.lime@canonical"
    assert "path" not in left_out


@pytest.mark.parametrize("side", [8, 33, 224])
def test_occlusion_slides_over_as_many_windows_whatever_the_size(side: int) -> None:
    model = xai.wrap(lambda x: x.mean(axis=(1, 2)), modalities=(xai.Modality.image(),))
    (one, _) = choose({"f": ask(model, side)})[0]
    assert 60 < one.passes <= defaults.COPIES + 1


@pytest.mark.process
def test_the_same_is_asked_from_python_in_a_file_and_on_the_command_line(photos: Path) -> None:
    done = crossxai("compare", "--model", "by_default:net", "--data", "photos", "--size", str(SIDE), "--out", "line")
    assert done.exit_code == 0, done.output
    assert "No explainers were named: one of each family" in done.stderr
    (photos / "file.toml").write_text(
        f'[data]\nfiles = "photos"\n[[models]]\nname = "net"\ncheckpoint = "by_default:net"\nsize = {SIDE}\n'
    )
    done = crossxai("compare", "file.toml", "--out", "file")
    assert done.exit_code == 0, done.output
    run = xai.compare(xai.wrap("by_default:net", size=SIDE), "photos", out="python", progress=False)
    labels = set(run.summary["label"])
    assert {name.partition(".")[0] for name in labels} == {"captum", "gradcam", "lime", "controls"}
    for folder in ("line", "file"):
        assert set(xai.Run(folder).summary["label"]) == labels
        manifest = json.loads((photos / folder / "manifest.json").read_text())
        assert [m["params"]["steps"] for m in manifest["settings"]["metrics"]] == ["auto", "auto"]
        assert manifest["settings"]["metrics"][0]["params"]["fill"] == "mean"
        page = (photos / folder / "report.html").read_text()
        assert "Explainers and metrics were chosen, since none were named" in page
        assert "left out: Shapley" in page
    again = crossxai(
        "compare", "file.toml", "--out", "file", "--explainers", "reference.saliency", "--metrics", "deletion"
    )
    assert again.exit_code == 0, again.output
    assert "were named" not in again.stderr
    assert "were chosen" not in (photos / "file" / "report.html").read_text()
    assert set(xai.Run("file").summary["metric"]) == {"deletion"}


def test_fills_are_what_preprocessing_subtracts(photos: Path) -> None:
    model = xai.wrap(net(), size=SIDE, standardise="imagenet")
    run = xai.compare(model, "photos", explainers=["captum.saliency"], progress=False)
    (deletion, insertion) = json.loads((run.folder / "manifest.json").read_text())["settings"]["metrics"]
    assert deletion["params"]["fill"] == "dataset_mean"
    assert insertion["params"]["fill"] == "blur"
    (scores,) = {
        str(e.scores["deletion"].params["fill"]) for e in load(run.folder).explanations if e.label == "captum.saliency"
    }
    assert "0.485" in scores
