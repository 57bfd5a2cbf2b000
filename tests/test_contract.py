"""What models, explainers and metrics promise, held against the discovered lists by `crossxai.testing`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
from cheap import CHEAP
from networks import attentive, zoo

from crossxai import Attribution, Modality, Question, Target, Unsupported, evaluation
from crossxai.adapters.numpy import FunctionModel
from crossxai.attribution import Axis
from crossxai.explainers import discover, get
from crossxai.model import Array, Differentiable, Inputs, Layered
from crossxai.testing import check_explainer, check_metric, check_model

CASES = [(name, profile) for name, kind in discover().items() for profile in kind.profiles]


@cache
def asked(framework: str, inputs: str) -> Question:
    """Three small samples; the same weights everywhere."""
    question = zoo.question("torch" if framework == "numpy" else framework, inputs, n=3, batch_size=3)
    if framework == "numpy":
        inner = question.model
        return replace(question, model=FunctionModel(lambda *values: inner.predict(values), inner.modalities))
    return question


@pytest.mark.parametrize("framework", ["torch", "keras", "numpy"])
@pytest.mark.parametrize(("name", "profile"), CASES)
def test_explainers(framework: str, name: str, profile: Any) -> None:
    """In both frameworks and on a plain function: refused exactly where the model lacks what is needed."""
    explainer: Any = get(name, **{**CHEAP.get(name, {}), "profile": profile})
    image = "image" in discover()[name].kinds
    question = asked(framework, "image" if image else "image+table")
    answer = check_explainer(explainer, question)
    if isinstance(answer, Unsupported):
        has = {
            "scores": True,
            "nothing": True,
            "gradients": isinstance(question.model, Differentiable),
            "layers": isinstance(question.model, Layered),
            "module": hasattr(question.model, "graph"),
            "attention": False,  # a convolutional network has none: tests/test_attention.py asks transformers
        }
        assert not has[explainer.needs], answer
        return
    (values,) = answer.values
    assert values.shape[:3] == ((3, zoo.SIZE, zoo.SIZE) if image else (3, 3))
    assert np.ptp(values) > 0


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", [name for name, kind in discover().items() if kind.needs == "attention"])
def test_explainers_of_transformers(framework: str, name: str) -> None:
    answer = check_explainer(get(name), attentive.ask(attentive.vits()[framework]))  # type: ignore[arg-type]
    assert isinstance(answer, Attribution)
    assert (np.ptp(answer.values[0], axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("inputs", zoo.INPUTS)
def test_adapters(framework: str, inputs: str, dtype: str) -> None:
    left_out = check_model(zoo.model(framework, inputs, dtype=dtype), zoo.values(inputs, 3, dtype))
    if dtype == "float64":
        assert not [words for words in left_out if "quotient" in words]
    else:
        assert len([words for words in left_out if "whose rounding is most of a quotient" in words]) == 2


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_adapters_of_other_tasks(framework: str, task: str) -> None:
    assert not check_model(zoo.model(framework, "image", task, "float64"), zoo.values("image", 2, "float64"))


def test_a_function_has_neither_gradients_nor_layers() -> None:
    model = FunctionModel(lambda x: x.mean(axis=(1, 2)), zoo.MODALITIES["image"])
    assert check_model(model, zoo.values("image", 2)) == (
        "gradients: the model gives none",
        "layers: the model gives none",
    )


MIDDLE = np.zeros((16, 16))
MIDDLE[4:12, 4:12] = 1
METRICS: dict[str, dict[str, Any]] = {
    "centre_share": {"size": 8},
    "mask_share": {"masks": MIDDLE},
    "pointing": {"masks": MIDDLE},
    "relevance_rank": {"masks": MIDDLE},
    "top_k_intersection": {"masks": MIDDLE},
    "auprc": {"masks": MIDDLE},
    "mask_iou": {"masks": MIDDLE},
    "mask_dice": {"masks": MIDDLE},
}
CURVES = {"aopc", "deletion", "insertion", "irof", "joint_deletion", "joint_insertion"}


@pytest.mark.parametrize("entry", evaluation.discover(), ids=lambda entry: entry.name)
def test_metrics(entry: evaluation.Entry) -> None:
    left_out = check_metric(evaluation.get(entry.name, **METRICS.get(entry.name, {})))
    assert not isinstance(left_out, Unsupported)
    assert any(words.startswith("end points") for words in left_out) == (entry.name not in CURVES)
    assert any("invariant_to = 'scale'" in words for words in left_out) == (_invariance(entry) == "scale")


@pytest.mark.parametrize("entry", evaluation.discover(), ids=lambda entry: entry.name)
def test_metrics_say_what_the_table_needs(entry: evaluation.Entry) -> None:
    metric: Any = evaluation.get(entry.name, **METRICS.get(entry.name, {}))
    assert metric.axis in get_args(Axis)
    low, high = metric.range
    assert low is None or high is None or low < high
    assert metric.source
    assert metric.passes(zoo.question("torch")) >= 0
    assert entry.purpose.endswith(".")


def _invariance(entry: evaluation.Entry) -> str:
    return getattr(evaluation.get(entry.name, **METRICS.get(entry.name, {})), "invariant_to", "order")


class Linear:
    """score = w · x: every complete method has to answer w · (x - baseline)."""

    name = "linear"

    def __init__(self, modality: Modality, weights: Array) -> None:
        self.modalities = (modality,)
        self.weights = weights

    def predict(self, inputs: Inputs) -> Array:
        return (inputs[0] * self.weights).reshape(len(inputs[0]), -1).sum(axis=1, keepdims=True)

    def vjp(self, inputs: Inputs, cotangent: Any) -> tuple[Array, Inputs]:
        outputs = self.predict(inputs)
        upstream = cotangent(outputs).reshape(-1, *[1] * self.weights.ndim)
        return outputs, (upstream * self.weights * np.ones_like(inputs[0]),)


@pytest.mark.parametrize("kind", ["image", "table"])
@pytest.mark.parametrize(
    ("name", "profile", "baseline"),
    [
        ("captum.input_x_gradient", "canonical", 0.0),
        ("captum.integrated_gradients", "native", 0.25),
        ("captum.integrated_gradients", "canonical", 0.25),
        ("xplique.integrated_gradients", "canonical", 0.25),
    ],
)
def test_linear_model_identity(kind: str, name: str, profile: Any, baseline: float) -> None:
    rng = np.random.default_rng(0)
    modality = Modality.image() if kind == "image" else Modality.table(("a", "b", "c"))
    shape = (6, 5, 3) if kind == "image" else (3,)
    weights, x = rng.normal(size=shape).astype(np.float32), rng.random((2, *shape)).astype(np.float32)
    question = Question(Linear(modality, weights), (x,), Target.outputs(0, 2, 1))
    params = {} if name.endswith("x_gradient") else {"baseline": baseline}
    answer = get(name, profile=profile, **params)(question)
    expected = weights * (x - baseline)
    if kind == "image" and profile == "canonical":
        expected = expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(answer.values[0], expected, atol=2e-6)
    for gap in answer.extras.values():
        np.testing.assert_allclose(gap, 0, atol=2e-5)


def test_occlusion_of_a_linear_model_is_the_windows_sum() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 8, 3)).astype(np.float32)
    x = rng.random((2, 8, 8, 3)).astype(np.float32)
    question = Question(Linear(Modality.image(), weights), (x,), Target.outputs(0, 2, 1))
    blocks = (weights * x).sum(axis=-1).reshape(2, 2, 4, 2, 4).sum(axis=(2, 4))
    expected = np.repeat(np.repeat(blocks, 4, axis=1), 4, axis=2)
    for name in ("captum.occlusion", "xplique.occlusion"):
        found = get(name, profile="canonical", patch=4, stride=4)(question).values[0][..., 0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_held_modality_keeps_its_own_values() -> None:
    """Explaining the image of an image + table model must use each sample's own row of the table."""
    table = Modality.table(("age", "dose"))
    weights = np.random.default_rng(1).normal(size=(16, 16, 3)).astype(np.float32)

    def function(image: Array, row: Array) -> Array:
        return ((image * weights).sum(axis=(1, 2, 3)) * row[:, 0] + row[:, 1])[:, None]

    model = FunctionModel(function, (Modality.image(), table))
    rng = np.random.default_rng(2)
    image = rng.random((3, 16, 16, 3)).astype(np.float32)
    rows = np.array([[1, 0], [-2, 5], [3, 1]], np.float32)
    question = Question(model, (image, rows), Target.outputs(0, 3, 1))
    blocks = (image * weights).sum(axis=-1).reshape(3, 4, 4, 4, 4).sum(axis=(2, 4)) * rows[:, 0].reshape(-1, 1, 1)
    expected = np.repeat(np.repeat(blocks, 4, axis=1), 4, axis=2)
    for name in ("captum.occlusion", "xplique.occlusion"):
        answer = get(name, patch=4, stride=4)(question.only("image"))
        np.testing.assert_allclose(answer.of("image")[..., 0], expected, atol=1e-4)
    both = get("captum.occlusion", patch=4, stride=4)(question)
    np.testing.assert_allclose(both.of("image")[..., 0], expected, atol=1e-4)
    expected_rows = np.stack([(image * weights).sum(axis=(1, 2, 3)) * rows[:, 0], rows[:, 1]], axis=1)
    np.testing.assert_allclose(both.of("table"), expected_rows, atol=1e-4)
