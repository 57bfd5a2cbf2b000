"""What a run will cost is what it then costs: passes counted at the model, by a model that counts for itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai
from rich.console import Console
from torch import nn

import crossxai as xai
from crossxai.adapters.torch import TorchModel
from crossxai.experiment import preparing
from crossxai.experiment.counting import counting
from crossxai.experiment.loading import load_model
from crossxai.experiment.planning import plan
from crossxai.experiment.run import Prepared, run
from crossxai.experiment.specification import Experiment

SIDE, N = 16, 5
IMAGES = np.random.default_rng(0).random((N, 4, 4, 3), np.float32).repeat(4, axis=1).repeat(4, axis=2)
ASKED = ["captum.saliency", ("captum.integrated_gradients", {"steps": 7}), "gradcam.gradcam", ("lime.image", {"samples": 20}),
         ("captum.feature_ablation", {"segmentation": "quickshift", "patch": 4})]  # fmt: skip


class Counting(TorchModel):
    """Counts the samples that it is handed, and those whose gradient it is asked for; a call within a call is none."""

    forward = backward = depth = 0


def _counted(verb: str, weighs: bool) -> Any:
    def method(self: Counting, inputs: Any, *more: Any) -> Any:
        if not self.depth:
            self.forward += len(inputs[0])
            self.backward += len(inputs[0]) * (weighs and (verb != "attention_vjp" or more[0] is not None))
        self.depth += 1
        try:
            return getattr(TorchModel, verb)(self, inputs, *more)
        finally:
            self.depth -= 1

    return method


for verb, weighs in (
    ("predict", False),
    ("vjp", True),
    ("layer_vjp", True),
    ("read", False),
    ("replace", False),
    ("activations", False),
    ("attention_vjp", True),
):
    setattr(Counting, verb, _counted(verb, weighs))


def model() -> Counting:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3))
    layers[-1].weight.data.abs_()  # activation maps that are not zero: equal maps share passes
    return Counting(nn.Sequential(*layers).eval(), (xai.Modality.image(),), outputs="logits")


def prepared(own: Any, explainers: Any = ASKED, metrics: Any = None) -> tuple[Experiment, Any]:
    batch = preparing.arrays.read(own, IMAGES)
    return preparing.prepare(
        {"net": own},
        batch,
        explainers,
        metrics,
        target="predicted",
        classes=(),
        groups=(),
        title="t",
        controls=True,
        check="on",
        seed=0,
    )


CURVES = [("deletion", {"steps": 5}), ("insertion", {"steps": 5}), ("max_sensitivity", {})]


@pytest.mark.parametrize(("explainers", "metrics"), [(ASKED, None), (ASKED, CURVES), (None, None)])
def test_passes_are_those_that_the_run_makes(tmp_path: Path, explainers: Any, metrics: Any) -> None:
    first, second = model(), model()
    experiment, given = prepared(first, explainers, metrics)
    planned = plan(experiment, tmp_path / "out", given)
    assert not (tmp_path / "out").exists()
    experiment, given = prepared(second, explainers, metrics)
    before = second.forward  # of what is handed over, labels are predicted beforehand
    run(experiment, tmp_path / "out", Console(quiet=True), given)
    assert not planned.bounded
    assert planned.passes == (second.forward - before, second.backward)
    again = plan(experiment, tmp_path / "out", given)
    assert {row.note for row in again.rows if row.kind == "explainer"} == {"done"}
    assert not [row for row in again.rows if row.kind == "metric" and row.forward]


def test_a_plan_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    own = model()
    verbs = dict(vars(Counting))
    experiment, given = prepared(own)
    plan(experiment, tmp_path / "out", given)
    assert dict(vars(Counting)) == verbs
    assert "vjp" not in vars(own)


def test_what_is_not_known_is_said_and_bounded(tmp_path: Path) -> None:
    def mine(images: Any) -> Any:
        return images.mean(axis=-1)

    both = [(f"{library}.occlusion", {"patch": 4, "stride": 1}) for library in ("captum", "xplique")]
    explainers = [mine, *both, "attention.rollout"]
    experiment, given = prepared(
        model(), explainers, [("deletion", {"steps": "auto"}), ("insertion", {"steps": {"auto": {"precision": 0.1}}})]
    )
    rows = {row.name: row for row in plan(experiment, tmp_path / "out", given).rows}
    assert rows["mine"].bounded
    assert "how many passes mine makes is not known" in rows["mine"].note
    assert "equal maps of methods of one name" in rows["deletion"].note
    assert "precision decides" in rows["insertion"].note
    assert rows["attention.rollout"].forward == 0
    assert "attention" in rows["attention.rollout"].note


@pytest.mark.process
def test_a_dry_run_on_the_command_line_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dry_own.py").write_text(
        "import torch\nfrom torch import nn\ndef net():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Conv2d(3, 4, 3), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()\n"
    )
    np.save("images.npy", IMAGES)
    words = ("compare", "dry_own:net", "--data", "images.npy", "--out", "new")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = crossxai(*words, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "exactly so many passes" in done.stdout
    told = json.loads(crossxai(*words, "--dry-run", "--json").stdout)
    assert sum(row["forward"] for row in told["rows"]) == told["total"]["forward"] > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before
    assert crossxai(*words).exit_code == 0
    written = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert written < told["disk"] < 20 * written


def test_maps_that_are_equal_on_two_samples_share_their_passes(tmp_path: Path) -> None:
    """A library whose own convention is the canonical one."""
    explainers = [
        {"name": "captum.saliency", "profile": "canonical"},
        "xplique.saliency",
        "gradcam.gradcam",
        "gradcam.hirescam",
    ]
    first, second = model(), model()
    experiment, given = prepared(first, explainers, CURVES[:2])
    planned = plan(experiment, tmp_path / "out", given)
    experiment, given = prepared(second, explainers, CURVES[:2])
    before = second.forward
    run(experiment, tmp_path / "out", Console(quiet=True), given)
    assert not planned.bounded
    assert planned.passes == (second.forward - before, second.backward)
    alone, given = prepared(model(), explainers[1:], CURVES[:2])
    passes = [
        sum(row.forward for row in one.rows if row.kind == "metric") for one in (planned, plan(alone, tmp_path, given))
    ]
    assert passes[0] == passes[1]


@pytest.mark.deep
def test_the_demo_makes_the_passes_and_takes_half_to_twice_the_time_that_were_said(
    embedded: Path, tmp_path: Path
) -> None:
    from crossxai.cli import given

    experiment = given.chosen(given.DEMO, None, "")
    said = plan(experiment, tmp_path / "said")
    assert not said.bounded
    models = {one.name: load_model(one, experiment.folder) for one in experiment.models}
    start = time.perf_counter()
    with counting([one.model for one in models.values()]) as counted:
        run(experiment, tmp_path / "demo", Console(quiet=True), Prepared(models=models))
        made = [counted.of(one.model) for one in models.values()]
    took = time.perf_counter() - start
    assert took / 2 < said.seconds < took * 2
    assert said.passes == tuple(map(sum, zip(*made, strict=True)))
