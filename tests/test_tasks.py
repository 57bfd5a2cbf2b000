"""Experiments on classes, values and regions: what is asked, what is measured, and what the page says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml

from crossxai import InvalidInput, files
from crossxai.experiment import loading
from crossxai.experiment import specification as experiment
from crossxai.studies import medical

OWN = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

MODALITIES = (Modality.image('t1', ('grey',)), Modality.image('t2', ('grey',)))
RNG = np.random.default_rng(0)
T1, T2 = RNG.random((4, 12, 12, 1), np.float32), RNG.random((4, 12, 12, 1), np.float32)
T1[:, 3:6, 3:6], T2[:, 6:9, 6:9] = 1, 1
MASK = np.zeros((4, 12, 12), bool)
MASK[:, 3:6, 3:6] = True
TRUTH = {'t1': MASK, 't2': MASK[:, ::-1, ::-1]}
INPUTS = {'t1': T1, 't2': T2}

def values():
    labels, masks = np.array([1.5, 2, 3, 4]), {'lesion': MASK}
    return Samples(tuple('abcd'), MODALITIES, INPUTS, labels, ('disability',), masks, TRUTH, 'regression')
def classes():
    return Samples(tuple('abcd'), MODALITIES, INPUTS, np.array([0, 0, 0, 0]), ('one',), {'lesion': MASK})
def value():
    def f(t1, t2):
        return (3 * t1[:, 3:6, 3:6].mean(axis=(1, 2, 3)) + t2[:, 6:9, 6:9].mean(axis=(1, 2, 3)))[:, None]
    return FunctionModel(f, MODALITIES)
def regions():
    masks = {'tumour': MASK, 'nothing': MASK & False}
    return Samples(tuple('abcd'), MODALITIES, INPUTS, np.zeros(4, int), ('tumour',), masks, TRUTH, 'segmentation')
def region():
    return FunctionModel(lambda t1, t2: 4 * (6 * t1 * t1 + t2 - 5.5), MODALITIES, output_axes=('y', 'x', 'class'))
def probability():
    logits = region().predict
    return FunctionModel(lambda *x: 1 / (1 + np.exp(-logits(x))), MODALITIES, output_axes=('y', 'x', 'class'))
"""
EXPLAINERS = [{"name": "captum.occlusion", "params": {"patch": 3, "stride": 3}}, {"name": "captum.modality_ablation"}]
METRICS: list[dict[str, Any]] = [
    {"name": "deletion", "label": "deletion of t1", "params": {"steps": 4, "modality": "t1"}},
    {"name": "deletion", "label": "deletion of t2", "params": {"steps": 4, "modality": "t2"}},
    {"name": "insertion", "label": "insertion of t1", "params": {"steps": 4, "modality": "t1"}},
    {"name": "pointing", "label": "pointing in t1", "params": {"modality": "t1", "mask": "lesion"}},
]


def written(folder: Path, data: str, model: str, target: dict[str, Any] | None = None, mask: str = "lesion") -> Path:
    (folder / "tasks_own.py").write_text(OWN)
    metrics = [{**m, "params": {**m["params"], **({"mask": mask} if "mask" in m["params"] else {})}} for m in METRICS]
    content = {
        "data": {"factory": f"tasks_own:{data}"},
        "models": [{"name": "own", "factory": f"tasks_own:{model}"}],
        "explainers": EXPLAINERS,
        "metrics": metrics,
        **({"target": target} if target else {}),
    }
    path = folder / "e.toml"
    path.write_text(toml(content))
    return path


def ran(path: Path) -> Path:
    out = path.parent / "out"
    done = crossxai("compare", str(path), "--out", str(out))
    assert done.exit_code == 0, done.output
    return out


def refused(path: Path) -> str:
    done = crossxai("compare", str(path), "--out", str(path.parent / "out"))
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


def test_a_regression_explains_its_value(tmp_path: Path) -> None:
    out = ran(written(tmp_path, "values", "value"))
    said = files.read_predictions(out / "predictions" / "own.h5")
    np.testing.assert_allclose(said.score, said.outputs[:, 0])
    assert said.target == "raw output of disability"
    found = files.read_result(out / "explanations" / "own" / "captum.occlusion.h5")
    assert set(found.scores) == {m["label"] for m in METRICS}
    assert found.scores["deletion of t2"].metric == "deletion"
    assert found.scores["deletion of t2"].params["modality"] == "t2"
    # By construction t1 carries three quarters of the value, at known pixels.
    assert found.scores["pointing in t1"].value.mean() == 1
    drops = files.read_result(out / "explanations" / "own" / "captum.modality_ablation.h5").attribution.extras[
        "modality_drop"
    ]
    np.testing.assert_allclose(drops, np.tile([3.0, 1.0], (4, 1)), rtol=1e-5)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "label: disability 1.50" in page
    assert "own: " in page
    assert "disability 4.000" in page
    for label in ("Deletion of t1", "Deletion of t2", "Insertion of t1", "Pointing in t1"):
        assert label in page, label
    assert "Deletion of t1 and insertion of t1" not in page  # one pair has fewer than four explainers
    samples = files.read_samples(out / "samples.h5")
    assert samples.task == "regression"
    np.testing.assert_array_equal(samples.labels, [1.5, 2, 3, 4])


@pytest.mark.parametrize(
    ("of", "measure", "words", "value"),
    [
        ("label", "auto", "probability of tumour, mean over the true tumour region", None),
        ("predicted", "identity", "raw output of tumour, mean over the predicted tumour region", None),
        ("label", "dice", "Dice coefficient with the true tumour region", None),
    ],
)
def test_a_segmentation_explains_a_region(tmp_path: Path, of: str, measure: str, words: str, value: Any) -> None:
    out = ran(written(tmp_path, "regions", "region", {"of": of, "measure": measure}, "tumour"))
    said = files.read_predictions(out / "predictions" / "own.h5")
    assert said.target == words
    samples = files.read_samples(out / "samples.h5")
    logits = said.outputs[..., 0]
    region = samples.masks["tumour"] if of == "label" else logits > 0
    p = 1 / (1 + np.exp(-logits)) if measure != "identity" else logits
    expected = [p[i][region[i]].mean() for i in range(4)]
    if measure == "dice":
        expected = [2 * (p[i] * region[i]).sum() / (p[i].sum() + region[i].sum()) for i in range(4)]
    np.testing.assert_allclose(said.score, expected, rtol=1e-5)
    found = files.read_result(out / "explanations" / "own" / "captum.occlusion.h5")
    assert found.scores["pointing in t1"].value.mean() == 1
    assert "label: tumour" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "model", "target", "words"),
    [
        ("values", "value", {"of": "label"}, 'write output = 0, its number, and measure = "identity"'),
        ("values", "value", {"measure": "accuracy"}, 'measure = "identity"'),
        ("values", "value", {"output": 3}, "output = 3: model 'own' has outputs 0 … 0"),
        ("classes", "value", {"output": 1}, "a class is chosen by of"),
        ("values", "region", None, "a regression has values (n, outputs)"),
        ("regions", "value", None, "a segmentation has maps (n, *space, classes)"),
        ("regions", "region", {"of": 1}, "segments classes 0 … 0"),
        ("regions", "region", {"of": "label", "mask": "other"}, "no mask 'other', only: tumour, nothing"),
        ("regions", "region", {"of": "label", "mask": "nothing"}, "the true region of model 'own' is empty for a, b, c, d"),
        ("regions", "region", {"output": 2}, "segments classes 0 … 0"),
        ("values", "value", {"explain": "logit"}, "a regression has a value"),
    ],
)  # fmt: skip
def test_what_a_task_cannot_be_asked(tmp_path: Path, data: str, model: str, target: Any, words: str) -> None:
    path = written(tmp_path, data, model, target, "tumour" if data == "regions" else "lesion")
    assert words in refused(path)


@pytest.mark.parametrize("measure", ["auto", "sigmoid", "dice"])
def test_a_segmentation_that_gives_probabilities_has_the_region_of_its_logits(tmp_path: Path, measure: str) -> None:
    scores = []
    for model in ("region", "probability"):
        (tmp_path / model).mkdir()
        out = ran(written(tmp_path / model, "regions", model, {"measure": measure}, "tumour"))
        scores.append(files.read_predictions(out / "predictions" / "own.h5").score)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_one_metric_twice_needs_labels(tmp_path: Path) -> None:
    path = written(tmp_path, "values", "value")
    path.write_text(path.read_text().replace("deletion of t2", "deletion of t1"))
    assert "metrics: deletion of t1 appears twice; give each its own label" in refused(path)


def test_samples_say_what_is_wrong_with_their_labels() -> None:
    with pytest.raises(InvalidInput, match="finite float values, got int64"):
        files.Samples(("a",), (), {}, np.array([1]), ("x",), task="regression")
    with pytest.raises(InvalidInput, match="unknown task 'ranking'"):
        files.Samples(("a",), (), {}, np.array([1]), ("x",), task="ranking")  # type: ignore[arg-type]


def test_in_a_control_set_nothing_decides(tmp_path: Path) -> None:
    """Its masks say where the signal would lie; its truth is empty, so nobody is asked to find it, and it has no oracle."""
    for planted in (True, False):
        root = medical.write(tmp_path / str(planted), 4, 1, 2, 2, workers=1, planted=planted, progress=False, size=32)
        content = {
            "data": {"source": "medical", "root": str(root), "task": "segmentation", "n": 2},
            "models": [{"name": "net"}],
            "explainers": [{"name": "captum.saliency"}],
            "metrics": [{"name": "pointing", "params": {"mask": "truth"}}],
        }
        asked = experiment.check(content)
        found, about = loading.samples(asked)
        assert found.masks["tumour"].any()
        assert {name: bool(mask.any()) for name, mask in found.truth.items()} == {"flair": planted, "t1ce": planted}
        assert about["structure"]["flair"] == ("sufficient" if planted else "uninformative")
        assert ("without the signal" in about["description"]) is not planted
        controls = {spec.name for spec in loading.with_controls(asked, found).explainers}
        assert ("controls.oracle" in controls) is planted
