"""The referee against identities, and its verdict: every library's canonical profile equals it on the same question."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from networks import zoo

from crossxai import InvalidInput, Modality, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.explainers import discover, get
from crossxai.explainers.groups import shap_coalitions
from crossxai.explainers.reference.perturbation import shapley_regression
from crossxai.model import Array

GRID: dict[str, Any] = {"segmentation": "grid", "patch": 8, "baseline": 0.3}
SQUARES: dict[str, Any] = {"segmentation": "grid", "patch": 8, "fill": 0.3}
LIME: dict[str, Any] = {"samples": 60, "baseline": 0.3, "seed": 4}
# Library's explainer, its parameters, the referee, its parameters. A row whose explainer does not exist is an error.
PAIRS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("captum.saliency", {}, "reference.saliency", {}),
    ("captum.input_x_gradient", {}, "reference.gradient_x_input", {}),
    ("captum.integrated_gradients", {"steps": 9, "baseline": 0.2}, "reference.integrated_gradients", {}),
    ("captum.occlusion", {"patch": 7, "stride": 4, "baseline": 0.3}, "reference.occlusion", {}),
    ("xplique.saliency", {}, "reference.saliency", {}),
    ("xplique.integrated_gradients", {"steps": 9, "baseline": 0.2}, "reference.integrated_gradients", {}),
    ("xplique.gradcam", {}, "reference.gradcam", {}),
    ("xplique.occlusion", {"patch": 8, "stride": 4, "baseline": 0.3}, "reference.occlusion", {}),
    ("gradcam.gradcam", {}, "reference.gradcam", {}),
    ("lime.image", {"samples": 60, "fill": 0.3, "seed": 4}, "reference.lime", LIME),
    ("captum.layer_grad_cam", {}, "reference.gradcam", {}),
    ("captum.smooth_grad", {"samples": 4, "sd": 0.1, "seed": 3}, "reference.smooth_grad", {}),
    ("captum.lime", {**GRID, "samples": 60, "seed": 4}, "reference.lime", {}),
    ("captum.kernel_shap", {**GRID, "samples": 60, "seed": 4}, "reference.kernel_shap", {}),
    ("xplique.gradient_input", {}, "reference.gradient_x_input", {}),
    ("xplique.smooth_grad", {"samples": 4, "sd": 0.1, "seed": 3}, "reference.smooth_grad", {}),
    ("xplique.lime", {**SQUARES, "samples": 60, "seed": 4}, "reference.lime", {**GRID, "samples": 60, "seed": 4}),
    ("xplique.kernel_shap", {**SQUARES, "samples": 60}, "reference.kernel_shap", {**GRID, "samples": 60}),
]
QUESTIONS = [("image", "class"), ("image+table", "regression"), ("image+image", "segmentation")]


@pytest.fixture(scope="module")
def questions() -> dict[tuple[str, ...], Question]:
    """By framework, inputs and task; and, under "large", at a size where quickshift finds more than one segment."""
    found: dict[tuple[str, ...], Question] = {}
    with pytest.MonkeyPatch.context() as patch:
        for size, label in ((16, ()), (48, ("large",))):
            patch.setattr(zoo, "SIZE", size)
            found |= {(f, *q, *label): zoo.question(f, *q) for f in ("torch", "keras") for q in QUESTIONS}
    return found


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("inputs", "task"), QUESTIONS)
@pytest.mark.parametrize(("name", "params", "referee", "its"), PAIRS)
def test_verdict(
    questions: Any, framework: str, inputs: str, task: str, name: str, params: Any, referee: str, its: Any
) -> None:
    """Together where both answer for all modalities at once, else one modality at a time, the others held."""
    library = get(name, profile="canonical", **params)
    reference = get(referee, **(its or params))
    question = questions[framework, inputs, task, *(["large"] if name == "lime.image" else [])]
    kinds = discover()
    together = kinds[name].joint and kinds[referee].joint
    asked = [question] if together else [p for p in question.parts() if _answers(kinds[name], p)]
    assert asked
    for part in asked:
        found, expected = library(part), reference(part)
        assert found.modalities == expected.modalities
        for a, b in zip(found.values, expected.values, strict=True):
            assert (np.ptp(b.reshape(len(b), -1), axis=1) > 0).all()
            np.testing.assert_allclose(np.broadcast_to(a, b.shape), b, atol=2e-5 * np.abs(b).max())
        for key in set(found.extras) & set(expected.extras):
            np.testing.assert_allclose(found.extras[key], expected.extras[key], atol=1e-4)


def _answers(kind: Any, part: Question) -> bool:
    """lime takes 1 or 3 channels; Xplique's windows slide over a table's columns, which is another definition."""
    (modality,) = part.modalities
    return modality.kind in kind.kinds and (modality.spatial or kind.name != "xplique.occlusion")


def test_every_referee_sits_in_judgement() -> None:
    """A canonical profile without a counterpart here is named, so that a new one is a decision."""
    judged = {(name, "canonical") for name, *_ in PAIRS}
    referees = {referee for *_, referee, _ in PAIRS}
    assert {n for n, k in discover().items() if k.library == "reference"} - referees == UNUSED
    assert judged <= {(name, p) for name, kind in discover().items() for p in kind.profiles}


UNUSED = {
    "reference.drise",
    "reference.rise",
    "reference.shapley",
}  # no library draws a crop per mask, or asks for every coalition


class Linear:
    """score = sum over modalities of w · x."""

    name = "linear"

    def __init__(self, modalities: tuple[Modality, ...], weights: tuple[Array, ...]) -> None:
        self.modalities, self.weights = modalities, weights

    def predict(self, inputs: Any) -> Array:
        n = len(inputs[0])
        return np.sum([(x * w).reshape(n, -1).sum(axis=1) for x, w in zip(inputs, self.weights, strict=True)], axis=0)[
            :, None
        ]

    def vjp(self, inputs: Any, cotangent: Any) -> Any:
        outputs = self.predict(inputs)
        upstream = cotangent(outputs)[:, 0]
        return outputs, tuple(np.multiply.outer(upstream, w) for w in self.weights)


@pytest.fixture
def linear() -> Question:
    rng = np.random.default_rng(0)
    modalities = (Modality.image(), Modality.table(("a", "b", "c")))
    weights = (rng.normal(size=(8, 8, 3)), rng.normal(size=3))
    return Question(
        Linear(modalities, weights), (rng.random((2, 8, 8, 3)), rng.normal(size=(2, 3))), Target.outputs(0, 2, 1)
    )


def test_a_linear_model_is_explained_by_its_weights(linear: Question) -> None:
    (image, table), (wi, wt) = linear.inputs, linear.model.weights  # type: ignore[attr-defined]
    b = 0.25
    parts = (wi * (image - b)).sum(axis=-1, keepdims=True), wt * (table - b)
    found = get("reference.integrated_gradients", steps=3, baseline=b)(linear)
    for got, want in zip(found.values, parts, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_allclose(found.extras["completeness_gap"], 0, atol=1e-12)
    product = get("reference.gradient_x_input")(linear)
    np.testing.assert_allclose(product.of("image"), (wi * image).sum(axis=-1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(product.of("table"), wt * table, atol=1e-12)
    saliency = get("reference.saliency")(linear)
    np.testing.assert_allclose(saliency.of("image")[1], np.abs(wi).max(axis=-1, keepdims=True))
    np.testing.assert_allclose(saliency.of("table")[1], np.abs(wt))
    smooth = get("reference.smooth_grad", samples=2)(linear)
    np.testing.assert_allclose(smooth.of("image")[0], wi.sum(axis=-1, keepdims=True))
    blocks = parts[0].reshape(2, 2, 4, 2, 4).sum(axis=(2, 4))
    squares = np.repeat(np.repeat(blocks, 4, axis=1), 4, axis=2)[..., None]
    for name, params in (
        ("reference.occlusion", {"patch": 4, "stride": 4}),
        ("reference.shapley", {"patch": 4}),
        ("reference.kernel_shap", {"patch": 4, "samples": 40}),
    ):
        answer = get(name, baseline=b, **params)(linear)
        np.testing.assert_allclose(answer.of("image"), squares, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(answer.of("table"), parts[1], atol=1e-9, err_msg=name)


def test_occlusion_averages_overlaps_and_clips_at_the_border() -> None:
    """Size 5, patch 3, stride 2 are two windows; size 6 needs a third one, clipped to columns 4 and 5."""
    x = np.arange(1.0, 7.0).reshape(1, 1, 6, 1)
    image = Modality.image(channels=("grey",), range=None)
    question = Question(
        FunctionModel(lambda v: v.sum(axis=(1, 2, 3))[:, None], (image,)),
        (np.repeat(x, 3, 1) / 3,),
        Target.outputs(0, 1, 1),
    )
    found = get("reference.occlusion", patch=3, stride=2)(question).values[0][0, 0, :, 0]
    np.testing.assert_allclose(found, [6, 6, (6 + 12) / 2, 12, (12 + 11) / 2, 11], atol=1e-12)


def test_smooth_grad_s_noise_is_a_share_of_the_range() -> None:
    """The mean gradient of x³ under noise of sd s is 3x² + 3s²: s is a share of 255 here."""
    image = Modality.image(channels=("grey",), range=(0.0, 255.0))

    class Cube(Linear):
        def predict(self, inputs: Any) -> Array:
            return (inputs[0] ** 3).sum(axis=(1, 2, 3))[:, None]

        def vjp(self, inputs: Any, cotangent: Any) -> Any:
            outputs = self.predict(inputs)
            return outputs, (cotangent(outputs)[:, :, None, None] * 3 * inputs[0] ** 2,)

    question = Question(Cube((image,), ()), (np.full((1, 20, 20, 1), 100.0),), Target.outputs(0, 1, 1))
    found = get("reference.smooth_grad", samples=400, sd=0.1)(question).values[0].mean()
    assert abs(found / (3 * 100**2 + 3 * 25.5**2) - 1) < 3e-3


def test_rise_is_the_paper_s_sum_written_out() -> None:
    import torch

    question = zoo.question("torch", n=1)
    found = get("reference.rise", samples=30, grid=3, keep=0.3, baseline=0.1, seed=5)(question).values[0][0, ..., 0]
    rng, image = question.rng(0, 5), question.inputs[0][0]
    patterns = (rng.random((30, 3, 3)) < 0.3).astype(np.float32)
    corners = rng.integers(0, 6, (30, 2))  # one cell is ceil(16 / 3) pixels
    large = torch.nn.functional.interpolate(torch.tensor(patterns)[:, None], (24, 24), mode="bilinear")[:, 0].numpy()
    total = 0
    for mask, (y, x) in zip(large, corners, strict=True):
        crop = mask[y : y + 16, x : x + 16]
        copy = (image * crop[..., None] + 0.1 * (1 - crop[..., None])).astype(np.float32)
        total = total + question.score((copy[None],), [0])[0] * crop
    np.testing.assert_allclose(found, total / (30 * 0.3), atol=1e-5 * np.abs(found).max())
    assert len(np.unique(corners, axis=0)) > 15, "one crop per mask"


def test_rise_of_a_constant_score_is_that_score() -> None:
    model = FunctionModel(lambda x: np.full((len(x), 1), 2.5), (Modality.image(),))
    question = Question(model, (np.full((1, 16, 16, 3), 0.5),), Target.outputs(0, 1, 1))
    np.testing.assert_allclose(get("reference.rise", samples=3000)(question).values[0], 2.5, atol=0.2)


def game(values: Any) -> Question:
    """A game of five players, the columns of a table of ones over a baseline of zeros."""
    table = Modality.table(("a", "b", "c", "d", "e"))
    return Question(FunctionModel(lambda x: values(x)[:, None], (table,)), (np.ones((1, 5)),), Target.outputs(0, 1, 1))


def played(x: Array) -> Array:
    """a and b are interchangeable, e does nothing; a, b and c interact."""
    return 2 + x[:, 0] * x[:, 1] * (1 + 3 * x[:, 2]) + np.sin(x[:, 2] + 2 * x[:, 3]) + x[:, 0] + x[:, 1]


def test_shapley_s_axioms_and_definition() -> None:
    question = game(played)
    phi = get("reference.shapley")(question).values[0][0]
    ends = question.score((np.array([[1.0] * 5, [0.0] * 5]),), [0, 0])
    np.testing.assert_allclose(phi.sum(), ends[0] - ends[1], atol=1e-12)  # efficiency
    np.testing.assert_allclose(phi[0], phi[1], atol=1e-12)  # symmetry
    assert phi[4] == 0  # dummy
    by_orders = np.zeros(5)
    for order in itertools.permutations(range(5)):
        x = np.zeros((6, 5))
        for step, player in enumerate(order):
            x[step + 1 :, player] = 1
        by_orders[list(order)] += np.diff(played(x)) / 120
    np.testing.assert_allclose(phi, by_orders, atol=1e-12)


def test_kernel_regression_on_every_coalition_gives_shapley_values() -> None:
    shown = np.array([z for z in itertools.product((0, 1), repeat=5) if 0 < sum(z) < 5])
    size = shown.sum(axis=1)
    counts = np.array([1, 5, 10, 10, 5, 1])
    weights = 4 / (counts[size] * size * (5 - size))
    empty, full = played(np.array([[0.0] * 5, [1.0] * 5]))
    phi = shapley_regression(shown, weights, played(shown), empty, full)
    np.testing.assert_allclose(phi, get("reference.shapley")(game(played)).values[0][0], atol=1e-12)


def test_kernel_shap_meets_both_ends_and_nears_shapley() -> None:
    exact = get("reference.shapley")(game(played)).values[0]
    for samples, tolerance in ((3, np.inf), (200, 0.5), (20_000, 0.03)):
        found = get("reference.kernel_shap", samples=samples)(game(played)).values[0]
        np.testing.assert_allclose(found.sum(), exact.sum(), atol=1e-9)
        assert np.abs(found - exact).max() <= tolerance


def test_coalitions_follow_the_shapley_kernel() -> None:
    shown = shap_coalitions(np.random.default_rng(0), 20_000, 5)
    sizes = np.bincount(shown.sum(axis=1), minlength=6) / 20_000
    kernel = 4 / (np.arange(1, 5) * np.arange(4, 0, -1))
    np.testing.assert_allclose(sizes[1:5], kernel / kernel.sum(), atol=0.01)
    assert sizes[[0, 5]].sum() == 0
    np.testing.assert_allclose(shown.mean(axis=0), 0.5, atol=0.02)


def test_what_is_refused() -> None:
    question = zoo.question("torch", "image+image")
    with pytest.raises(Unsupported, match=r"at most 12 groups, here are 32 \(2\^32 passes"):
        get("reference.shapley", patch=4)(question)
    assert get("reference.shapley", patch=8).passes(question) == (256, 0)  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="depends on the image: write grid, scalars or modalities"):
        get("reference.shapley", segmentation="quickshift")
    with pytest.raises(Unsupported, match="there is only 1"):
        get("reference.kernel_shap", patch=16)(zoo.question("torch"))
    with pytest.raises(InvalidInput, match=r"grid 17 is finer than the image's \(16, 16\) pixels"):
        get("reference.rise", grid=17, samples=2)(zoo.question("torch"))
    for name, params in (
        ("reference.smooth_grad", {"samples": 0}),
        ("reference.smooth_grad", {"sd": -1.0}),
        ("reference.rise", {"keep": 0.0}),
        ("reference.lime", {"samples": 1}),
        ("reference.kernel_shap", {"patch": 0}),
        ("reference.shapley", {"segmentation": "squares"}),
        ("reference.saliency", {"profile": "native"}),
    ):
        with pytest.raises(InvalidInput, match=name):
            get(name, **params)
