"""Metrics of the explained question in an experiment: which question they see, what they cost, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from experiments import BOTH, crossxai, toml
from networks import toys

from crossxai import Modality, Question, Target, Unsupported, files
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation import get
from crossxai.experiment import loading, progress, scoring
from crossxai.experiment.specification import MetricSpec
from crossxai.explainers import get as explainer_of

IMAGE = Modality.image()


def test_they_run_by_name_in_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    names = (
        "noise_correlation",
        "repeatability",
        "model_randomisation",
        "completeness_gap",
        "grid_pointing",
        "entropy",
    )
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}},
            {"name": "controls.random"},
        ],
        "metrics": [{"name": name, "params": {"modality": "image"}} for name in names],
        "target": {"of": "label", "explain": "identity", "measure": "softmax"},
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    folder = tmp_path / "out" / "explanations" / "fusion"
    found = {n: files.read_result(folder / f"{n}.h5").scores for n in ("captum.occlusion", "controls.random")}
    for scores in found.values():
        assert set(scores) == set(names) - {"model_randomisation"}  # a function has no weights
        assert all(s.value.shape == (3,) for s in scores.values())
    np.testing.assert_allclose(found["captum.occlusion"]["repeatability"].value, 1)  # it draws nothing
    assert (found["controls.random"]["repeatability"].value < 0.5).all()
    assert (found["controls.random"]["noise_correlation"].value > 0.999).all()  # it sees nothing
    # Occlusion gives each of a block's 64 pixels the whole block's share of the raw output, which is linear in the image.
    gap = found["captum.occlusion"]["completeness_gap"]
    np.testing.assert_allclose(gap.value, 63 * np.abs(gap.extras["difference"]), rtol=1e-4)
    assert gap.params["link"] == "identity"
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "model_randomisation needs weights that can be drawn anew" in text
    assert "Entropy of the shares of absolute relevance" in (tmp_path / "out" / "report.html").read_text(
        encoding="utf-8"
    )


def keeping(said: list[str]) -> scoring.Refuse:
    """Keeps what is refused, and gives the reason."""

    def refuse(error: Exception, explainer: str, metric: str) -> str:
        said.append(f"{metric} of {explainer}: {error}")
        return str(error)

    return refuse


def test_their_cost_is_in_the_bar() -> None:
    question, explainer = toys.question(toys.torch_model()), explainer_of("captum.integrated_gradients", steps=4)
    once, forward = progress.explaining_cost(explainer, question)
    assert once >= 3 * (4 + 2 * 4)  # per sample: four steps, forwards and backwards
    assert forward >= 3 * 4
    for name, expected in (("max_sensitivity", 10 * once), ("repeatability", 0), ("completeness_gap", 6)):
        assert progress.evaluation_cost(get(name), question, explainer)[0] == expected
    assert progress.evaluation_cost(get("model_randomisation", stages=2), question, explainer)[0] == 2 * once


def test_a_network_without_weights_ends_no_run() -> None:
    """Randomisation has nothing to draw anew there: the cost is still a number, and the metric NaN with its reason."""
    from torch import nn

    from crossxai.adapters.torch import TorchModel

    model = TorchModel(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), (IMAGE,))
    question, explainer = toys.question(model), explainer_of("captum.saliency")
    metric, said = get("model_randomisation"), list[str]()
    assert progress.evaluation_cost(metric, question, explainer)[0] >= 1
    found = scoring.evaluate_alone("drawn", metric, question, explainer(question), explainer, keeping(said))
    assert np.isnan(found.value).all()
    assert "no layer with weights" in said[0]


class Bug(Exception):
    """Nothing that a model or a library raises."""


@pytest.mark.parametrize(
    "kind", [Unsupported, KeyError, ZeroDivisionError, ImportError, FileNotFoundError, MemoryError, Bug]
)
def test_a_cost_that_cannot_be_told_is_one_pass_a_sample(kind: type[Exception]) -> None:
    """What refuses or fails says so at its turn; anything else is a mistake of the code, and is seen."""

    def raises(*_: Any) -> Any:
        raise kind("lost")

    question, explainer = toys.question(toys.torch_model()), explainer_of("captum.saliency")
    metric = SimpleNamespace(name="lost", asks="model", passes=raises)
    unsure = type("Unsure", (type(explainer),), {"cost": raises})()
    asks: dict[str, Any] = {
        "metric": lambda: progress.evaluation_cost(metric, question, explainer),
        "explainer": lambda: progress.explaining_cost(unsure, question),
        "stream": lambda: progress.stream_cost({"lost": metric}, question, [explainer(question)]),
    }
    n = len(question)
    for name, expected in (("metric", (n, n)), ("explainer", (n, n)), ("stream", n)):
        if kind is Bug:
            with pytest.raises(Bug):
                asks[name]()
        else:
            assert asks[name]() == expected


def test_an_explainer_that_refuses_to_be_asked_again_is_nan_with_the_reason() -> None:
    question, explainer = toys.question(toys.torch_model()), explainer_of("captum.saliency")
    answer, said = explainer(question), list[str]()
    plain = Question(
        FunctionModel(lambda x: x.mean(axis=(1, 2)), (IMAGE,)), question.inputs, Target.classes([0, 1, 2], 3)
    )
    found = scoring.evaluate_alone("sensitive", get("max_sensitivity"), plain, answer, explainer, keeping(said))
    assert np.isnan(found.value).all()
    assert "needs gradients" in found.params["refused"]
    assert said == [f"sensitive of captum.saliency: {found.params['refused']}"]


def test_metrics_of_masks_find_theirs_in_the_data() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[:, 1:3, 1:3] = True
    samples = files.Samples(
        ("a", "b"),
        (IMAGE,),
        {"image": np.zeros((2, 4, 4, 3), np.float32)},
        np.array([0, 1]),
        ("no", "yes"),
        {"lesion": masks},
    )
    for name in ("mask_share", "relevance_rank", "top_k_intersection", "auprc", "mask_iou", "mask_dice"):
        spec = MetricSpec(name=name, params={"labels": [1]})
        found: Any = loading.metric(spec, 7, samples)
        assert found.ids == ("a", "b")
        np.testing.assert_array_equal(found.masks, [masks[0] & False, masks[1]])
    noisy: Any = loading.metric(MetricSpec(name="max_sensitivity"), 7, samples)
    assert noisy.seed == 7
