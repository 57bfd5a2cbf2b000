"""Runs: going on after a stop, computing only what is missing, and saying what cannot be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiments import BOTH, SMALL, crossxai, toml

from crossxai import files
from crossxai.evaluation import curves
from crossxai.experiment import model_run as job
from crossxai.experiment import run as runs
from crossxai.experiment.specification import check, load


def test_a_stopped_run_goes_on(tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk is not computed again; what is damaged or of another task is; what is no longer named goes away."""
    asked: list[str] = []
    original = job.write_result

    def recording(path: Path, explanation: files.Result) -> None:
        asked.append(f"{'judge' if explanation.scores else 'explain'} {path.stem}")
        if len(asked) == stop:
            raise KeyboardInterrupt
        original(path, explanation)

    monkeypatch.setattr(job, "write_result", recording)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        runs.run(check(SMALL), tmp_path)
    assert asked == ["explain captum.saliency", "explain gradcam.gradcam", "explain controls.random"]
    assert not (tmp_path / "manifest.json").exists()
    stop, asked[:] = -1, []
    runs.run(check(SMALL), tmp_path)
    assert asked == [
        "explain controls.random",
        "judge captum.saliency",
        "judge gradcam.gradcam",
        "judge controls.random",
    ]
    asked.clear()
    runs.run(check(SMALL), tmp_path)
    assert asked == []

    path = tmp_path / "explanations" / "pytorch" / "captum.saliency.h5"
    path.write_bytes(path.read_bytes()[:1000])
    runs.run(check(SMALL), tmp_path)
    assert asked == ["explain captum.saliency", "judge captum.saliency"]

    asked.clear()
    changed = {
        **SMALL,
        "metrics": [{"name": "deletion", "params": {"steps": 5}}],
        "explainers": SMALL["explainers"][:2],
    }
    runs.run(check(changed), tmp_path)
    assert asked == ["judge captum.saliency", "judge gradcam.gradcam"]
    assert not (tmp_path / "explanations" / "pytorch" / "controls.random.h5").exists()

    asked.clear()
    seeded = {**SMALL, "seed": 1, "data": {"n": 3}}
    runs.run(check(seeded), tmp_path)
    assert len(asked) == 6  # other samples: everything is computed again


def test_only_what_changed_is_judged_again(tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further metric costs its own passes only; other masks or seeds are another metric."""
    passes: list[int] = []
    original = curves.evaluate

    def counting(question: Any, maps: Any, metrics: Any, progress: Any) -> Any:
        passes.append(curves.passes(question, maps, metrics))
        return original(question, maps, metrics, progress)

    monkeypatch.setattr(curves, "evaluate", counting)
    runs.run(check(SMALL), tmp_path)
    assert passes == [3 * (2 + 3 * 3)]  # both ends once, then three steps for each of three explainers
    more = {**SMALL, "metrics": [{"name": "centre_share"}, *SMALL["metrics"]]}
    runs.run(check(more), tmp_path)
    assert passes[1:] == [0]
    runs.run(check({**more, "metrics": more["metrics"][:1]}), tmp_path)
    assert set(files.read_result(tmp_path / "explanations/pytorch/captum.saliency.h5").scores) == {"centre_share"}
    assert sum(passes[1:]) == 0
    seeded = {**SMALL, "metrics": [{"name": "deletion", "params": {"steps": 4, "seed": 3}}]}
    runs.run(check(seeded), tmp_path)
    assert passes[-1] == passes[0]


def test_what_cannot_be_done_is_said_and_the_rest_goes_on(tmp_path: Path, untrained: Path) -> None:
    """A layer that does not exist, a window larger than the image, a centre larger than the image: rows and lines."""
    experiment = {
        **SMALL,
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 200, "stride": 100}},
            {"name": "gradcam.gradcam", "params": {"layer": "layer9"}},
            {"name": "controls.random"},
            {"name": "controls.edges"},
        ],
        "metrics": [*SMALL["metrics"], {"name": "centre_share", "params": {"size": 500}}],
    }
    (tmp_path / "e.toml").write_text(toml(experiment))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for message in ("patch 200 is larger", "'layer9'; did you mean", "cannot be 500 × 500"):
        assert message in text
    assert set(files.read_result(tmp_path / "out/explanations/pytorch/controls.edges.h5").scores) == {"deletion"}


def test_two_modalities_in_one_experiment(tmp_path: Path) -> None:
    """An image and a table through factories: joint and single explainers answer, metrics that must choose say so."""
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}},
            {"name": "xplique.occlusion", "params": {"patch": 2, "stride": 2}},
            {"name": "gradcam.gradcam"},
            {"name": "controls.random"},
        ],
        "metrics": [{"name": "deletion", "params": {"steps": 4, "modality": "image"}}, {"name": "insertion"}],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    for name in ("captum.occlusion", "xplique.occlusion", "controls.random"):
        explanation = files.read_result(tmp_path / "out" / "explanations" / "fusion" / f"{name}.h5")
        assert set(explanation.maps) == {"image", "table"}
        assert set(explanation.scores) == {"deletion"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "gradcam.gradcam needs layers" in text
    assert "insertion" in text


def test_joint_metrics_judge_the_maps_that_add_up_and_say_why_not_the_others(tmp_path: Path) -> None:
    """Integrated gradients need gradients, which a function has not: the maps are written by hand in their place."""
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [{"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}}, {"name": "controls.random"}],
        "metrics": [
            {"name": "joint_deletion", "params": {"steps": 4}},
            {"name": "road", "params": {"modality": "image"}},
        ],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    arguments = ("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    done = crossxai(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    path = tmp_path / "out/explanations/fusion/captum.occlusion.h5"
    found = files.read_result(path)
    assert set(found.scores) == {"road"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    # Controls add up to nothing, and nobody expects it: they are in the manifest, not among the findings.
    assert "`joint_deletion` of `captum.occlusion`: " in text
    assert "joint_deletion of controls.random" in (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    # The same file with a gap that is small: only that explainer is judged, by that metric alone.
    files.write_result(
        path, replace(found, attribution=replace(found.attribution, extras={"completeness_gap": np.zeros(3)}))
    )
    done = crossxai(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    assert set(files.read_result(path).scores) == {"joint_deletion", "road"}
    random = files.read_result(tmp_path / "out/explanations/fusion/controls.random.h5")
    assert set(random.scores) == {"road"}


def test_a_fill_that_a_table_has_not_leaves_out_its_metric_only(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [{"name": "controls.random"}],
        "metrics": [
            {"name": "insertion", "params": {"modality": "table"}},
            {"name": "deletion", "params": {"modality": "table"}},
        ],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "needs an image, modality 'table' is a table" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    explanation = files.read_result(tmp_path / "out" / "explanations" / "fusion" / "controls.random.h5")
    assert set(explanation.scores) == {"deletion"}


def test_files_of_others_are_left_alone(tmp_path: Path, untrained: Path) -> None:
    precious = [tmp_path / "predictions" / "mine.h5", tmp_path / "explanations" / "mine" / "thesis.h5"]
    for path in precious:
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    runs.run(check(SMALL), tmp_path)
    assert [path.read_text() for path in precious] == ["precious", "precious"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "samples.h5").write_text("precious")
    (tmp_path / "e.toml").write_text(toml(SMALL))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(other))
    assert done.exit_code == 2
    assert "was not written by CrossXAI and would be lost" in " ".join(done.output.split())
    assert (other / "samples.h5").read_text() == "precious"


def test_unsupported_is_a_row_with_its_reason(tmp_path: Path, untrained: Path) -> None:
    """A model without gradients: the perturbation explainers answer, the others say why not."""
    (tmp_path / "mine.py").write_text(
        "from crossxai.adapters.numpy import FunctionModel\n"
        "from crossxai import Modality\n"
        "import numpy as np\n"
        "def brown():\n"
        "    def function(x):\n"
        "        s = (x[:, 32:64, 32:64, 0] - x[:, 32:64, 32:64, 2]).mean(axis=(1, 2))\n"
        "        return np.stack([-s, s], axis=1) * 20\n"
        "    return FunctionModel(function, (Modality.image(),), name='brown')\n"
    )
    names = ("captum.saliency", "captum.occlusion", "controls.random")
    models = [{"name": "brown", "factory": "mine:brown"}]
    (tmp_path / "experiment.toml").write_text(
        toml({**SMALL, "models": models, "explainers": [{"name": n} for n in names]})
    )
    done = crossxai("compare", str(tmp_path / "experiment.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "Unsupported" in done.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "captum.saliency needs gradients, which model" in page
    frame = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("label")
    assert frame.loc["captum.saliency", "status"] == "unsupported"
    assert frame.loc["captum.occlusion", "deletion_mean"] < frame.loc["controls.random", "deletion_mean"]


def test_pcam_files_of_ones_own(tmp_path: Path, untrained: Path) -> None:
    """PatchCamelyon's own layout through the experiment file, with a relative root; a truncated file is named."""
    source = untrained.parents[1] / "histology"
    (tmp_path / "pcam").symlink_to(source)
    content = {**SMALL, "data": {"source": "pcam", "root": "pcam", "split": "valid", "n": 2}}
    (tmp_path / "e.toml").write_text(toml(content))
    experiment = load(tmp_path / "e.toml")
    runs.run(experiment, tmp_path / "out")
    samples = files.read_samples(tmp_path / "out" / "samples.h5")
    assert samples.classes == ("not stained", "stained")  # a copy of the embedded set is known by its note
    assert sorted(samples.labels.tolist()) == [0, 1]
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in source.glob("*valid*"):
        (bad / path.name).write_bytes(path.read_bytes())
    x = bad / "camelyonpatch_level_2_split_valid_x.h5"
    x.write_bytes(x.read_bytes()[:5000])
    content["data"]["root"] = "bad"
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out2"))
    assert done.exit_code == 2
    assert "split_valid_x.h5" in done.output
