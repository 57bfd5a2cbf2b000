"""One failure is one row: runs with models, explainers and metrics that raise, and runs that are stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml
from test_report import findings

from crossxai import files
from crossxai.evaluation import curves
from crossxai.files import tasks
from crossxai.report import write_report

MODULE = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.errors import BrokenAssumption
from crossxai.files import Samples

MODALITIES = (Modality.image(),)

def data():
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    return Samples(('a', 'b', 'c'), MODALITIES, {'image': images}, np.array([0, 1, 1]), ('no', 'yes'))
def net(v):
    return np.stack([v[:, :4].mean((1, 2, 3)), v[:, 4:].mean((1, 2, 3))], 1)
def healthy():
    return FunctionModel(net, MODALITIES)
def no_weights():
    raise FileNotFoundError(2, 'No such file', 'w.pt')
def stops():
    raise SystemExit(7)
class Lost(Exception):
    pass
def own_error():
    raise Lost('the weights')
def lacking():
    return FunctionModel(lambda v: v, (Modality.table(('age',)),))
def no_shape():
    def f(v):
        raise RuntimeError('mat1 and mat2 shapes cannot be multiplied')
    return FunctionModel(f, MODALITIES)
def nan():
    return FunctionModel(lambda v: net(v) * np.nan, MODALITIES)
def flaky():
    return FunctionModel(lambda v: {}['lost'] if (v == 0).any() else net(v), MODALITIES)
class Cut(FunctionModel):
    def vjp(self, inputs, cotangent):
        raise BrokenAssumption('the score moves with the input, and its gradient is cut: take captum.occlusion')
def cut():
    return Cut(net, MODALITIES)
stop_at = None
def slow():
    asked = []
    def f(v):
        asked.append(len(v))
        if stop_at is not None and sum(asked) > stop_at:
            raise KeyboardInterrupt
        return net(v)
    return FunctionModel(f, MODALITIES)
"""
OCCLUSION = {"name": "captum.occlusion", "params": {"patch": 4, "stride": 4}}


def run(folder: Path, *models: str, name: str = "failing", **changes: Any) -> Any:
    """`crossxai compare` on these models, in a module whose name no other test has loaded."""
    if not (folder / f"{name}.py").exists():
        (folder / f"{name}.py").write_text(MODULE)
    content = {
        "title": "rows",
        "data": {"factory": f"{name}:data"},
        "models": [{"name": model, "factory": f"{name}:{model}"} for model in models],
        "explainers": [OCCLUSION, {"name": "captum.saliency"}],
        "metrics": [{"name": "deletion", "params": {"steps": 4}}],
        **changes,
    }
    (folder / "e.toml").write_text(toml(content))
    return crossxai("compare", str(folder / "e.toml"), "--out", str(folder / "out"))


def explanation(folder: Path, model: str, label: str) -> files.Result:
    return files.read_result(folder / "out" / "explanations" / model / f"{label}.h5")


@pytest.mark.parametrize(
    ("factory", "words"),
    [("stops", "SystemExit: 7 (stopping.py, line"), ("own_error", "Lost: the weights (stopping.py, line")],
)
def test_a_factory_that_ends_the_process_is_one_row(tmp_path: Path, factory: str, words: str) -> None:
    done = run(tmp_path, factory, "healthy", name="stopping")
    assert done.exit_code == 3, (done.output, done.exception)
    row = explanation(tmp_path, factory, "captum.saliency")
    assert row.status == "failed"
    assert f"factory 'stopping:{factory}' raises {words}" in row.reason
    assert explanation(tmp_path, "healthy", "captum.occlusion").status == "ok"


def test_check_goes_on_after_a_model_that_cannot_be_made(tmp_path: Path) -> None:
    run(tmp_path, "no_weights", "stops", "healthy", "lacking", name="unmade")
    done = crossxai("check", str(tmp_path / "e.toml"))
    assert done.exit_code == 3, (done.output, done.exception)
    said = " ".join(done.output.split())
    for name, words in (
        ("no_weights", "FileNotFoundError"),
        ("stops", "SystemExit: 7"),
        ("lacking", "it needs table;"),
    ):
        assert f"model {name} failed the model itself" in said
        assert words in said
    assert "holds deterministic" in said
    assert done.output.rstrip().endswith("3 failed")
    run(tmp_path, "healthy", name="unmade")
    done = crossxai("check", str(tmp_path / "e.toml"))
    assert done.exit_code == 0, (done.output, done.exception)


def test_models_that_fail_are_rows_and_the_healthy_one_is_reported(tmp_path: Path) -> None:
    broken = ("no_weights", "no_shape", "nan")
    done = run(tmp_path, "no_weights", "healthy", "no_shape", "cut", "nan")
    assert done.exit_code == 3, (done.output, done.exception)
    healthy = explanation(tmp_path, "healthy", "captum.occlusion")
    assert np.isfinite(healthy.scores["deletion"].value).all()
    found = findings(tmp_path / "out")
    failed = found["failed"]["facts"]
    assert list(failed["lost"]) == found["verdict"]["facts"]["lost"] == ["no_weights", "no_shape", "nan"]
    assert (
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (traceback: failures/no_shape"
        in failed["lost"]["no_shape"]
    )
    (cut,) = failed["reasons"]
    assert (cut["labels"], cut["models"]) == (["captum.saliency"], ["cut"])
    assert "the score moves with the input, and its gradient is cut" in cut["reason"]
    assert any(cut["reason"] in point for point in found["failed"]["points"])
    for model in broken:
        row = explanation(tmp_path, model, "captum.saliency")
        assert (row.status, row.maps) == ("failed", {})
        trace = (tmp_path / "out" / "failures" / model / "model.txt").read_text()
        assert "Traceback" in trace
    assert "line" in (tmp_path / "out" / "failures" / "no_weights" / "model.txt").read_text()
    # A clean refusal stays one: no gradients of a function of NumPy.
    assert explanation(tmp_path, "healthy", "captum.saliency").status == "unsupported"
    assert explanation(tmp_path, "cut", "captum.saliency").status == "failed"
    assert explanation(tmp_path, "cut", "captum.occlusion").status == "ok"
    said = " ".join(done.output.split())
    assert "4 rows have failed" in said
    assert "Unsupported: captum.saliency on healthy: captum.saliency needs gradients" in said
    failures = json.loads((tmp_path / "out" / "manifest.json").read_text())["failures"]
    assert [(f["model"], f["explainer"]) for f in failures] == [
        ("no_weights", ""), ("no_shape", ""), ("nan", ""), ("cut", "captum.saliency"),
    ]  # fmt: skip


def test_an_explainer_that_raises_is_one_row_and_is_tried_again(tmp_path: Path) -> None:
    done = run(tmp_path, "flaky", explainers=[OCCLUSION, {"name": "controls.centre"}], name="failing_once")
    assert done.exit_code == 3, (done.output, done.exception)
    row = explanation(tmp_path, "flaky", "captum.occlusion")
    assert row.status == "failed"
    assert "KeyError: 'lost'" in row.reason
    assert row.reason.endswith("(traceback: failures/flaky/captum.occlusion.txt)")
    assert "KeyError: 'lost'" in (tmp_path / "out" / "failures" / "flaky" / "captum.occlusion.txt").read_text()
    # Deletion fills with black, and so its scores of the maps that there are fail as well.
    centre = explanation(tmp_path, "flaky", "controls.centre")
    assert np.isnan(centre.scores["deletion"].value).all()
    assert "KeyError: 'lost'" in centre.scores["deletion"].params["refused"]
    assert "deletion" not in centre.score_hashes
    mended = {"params": {"steps": 4, "fill": "mean"}, "name": "deletion"}
    explainers = [{**OCCLUSION, "params": {**OCCLUSION["params"], "baseline": 0.5}}, {"name": "controls.centre"}]
    done = run(tmp_path, "flaky", explainers=explainers, metrics=[mended], name="failing_once")
    assert done.exit_code == 0, (done.output, done.exception)
    assert np.isfinite(explanation(tmp_path, "flaky", "captum.occlusion").scores["deletion"].value).all()
    assert not list((tmp_path / "out" / "failures").rglob("*.txt"))


def test_a_metric_that_raises_leaves_the_others_their_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = curves.Deletion.measure

    def failing(self: curves.Curve, *arguments: Any) -> Any:
        if isinstance(self, curves.Insertion):
            raise np.linalg.LinAlgError("Singular matrix")
        return original(self, *arguments)

    monkeypatch.setattr(curves.Curve, "measure", failing)
    names = ["deletion", "insertion", "centre_share"]
    metrics: list[dict[str, Any]] = [
        {"name": name, "params": {"steps": 3} if name != "centre_share" else {"size": 4}} for name in names
    ]
    done = run(tmp_path, "healthy", metrics=metrics, explainers=[OCCLUSION])
    assert done.exit_code == 3, (done.output, done.exception)
    scores = explanation(tmp_path, "healthy", "captum.occlusion").scores
    assert np.isfinite(scores["deletion"].value).all()
    assert np.isfinite(scores["centre_share"].value).all()
    assert scores["insertion"].params["refused"].startswith("LinAlgError: Singular matrix (traceback: ")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "`insertion` of `captum.occlusion`: LinAlgError: Singular matrix" in text
    findings = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["findings"]
    assert "no_value" not in {f["key"] for f in findings}  # the failure says it
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.partition('id="ranking"')[2].partition("</section>")[0].count("no value") == 3


def test_a_run_in_which_every_model_fails_has_a_report_of_reasons(tmp_path: Path) -> None:
    done = run(tmp_path, "no_weights")
    assert done.exit_code == 3, (done.output, done.exception)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "FileNotFoundError: [Errno 2] No such file: 'w.pt' (failing.py, line" in text
    # What the experiment gets wrong stays one message and exit code 2.
    assert run(tmp_path, "nan").exit_code == 2


def test_ctrl_c_says_what_is_done_and_the_report_what_is_missing(tmp_path: Path) -> None:
    name = "failing_stopped"
    (tmp_path / f"{name}.py").write_text(MODULE.replace("stop_at = None", "stop_at = 60"))
    explainers = [OCCLUSION, {"name": "lime.image", "label": "lime of mine", "params": {"samples": 30}}]
    done = run(tmp_path, "slow", explainers=explainers, name=name, check="off")
    out = tmp_path / "out"
    assert done.exit_code == 130, (done.output, done.exception)
    said = "1 of 5 explanations are done, 0 of them evaluated"
    assert f"Stopped: {said}. The same command goes on from there" in " ".join(done.output.split())
    assert not (out / "manifest.json").exists()
    assert tasks.done(out) == said
    # A map of an earlier run that this one has not come to yet is none of its own.
    stale = out / "explanations" / "slow" / "controls.centre.h5"
    files.write_result(stale, replace(explanation(tmp_path, "slow", "captum.occlusion"), label="controls.centre"))
    done = crossxai("report", str(out))
    assert done.exit_code == 0, (done.output, done.exception)
    for page in ("report.md", "report.html"):
        text = (out / page).read_text(encoding="utf-8")
        assert f"This run was stopped before its end: {said}." in text
        assert "no scores yet of" in text
    assert {"stopped", "unchecked"} < set(findings(out))
    assert findings(out)["verdict"]["facts"]["stopped"]
    assert explanation(tmp_path, "slow", "captum.occlusion").check == "off"
    assert "no map yet of `lime of mine`, `controls.random`, `controls.centre` and `controls.edges`" in (
        out / "report.md"
    ).read_text(encoding="utf-8")
    (out / "plan.json").unlink()
    assert "This run was stopped" in write_report(out).read_text(encoding="utf-8")


def test_a_pipe_gets_lines(tmp_path: Path) -> None:
    done = run(tmp_path, "healthy", explainers=[OCCLUSION], controls=False)
    assert "healthy: captum.occlusion done: 15 of 15 passes" in done.output
    assert "healthy: evaluated: " in done.output
    assert "\x1b" not in done.output
