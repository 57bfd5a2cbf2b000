"""Xplique through the question: every number against the library's own code, and against the definitions it meets others on."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import xplique.attributions as native
from networks import zoo
from xplique.attributions.global_sensitivity_analysis import LatinHypercubeRS
from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

from crossxai import Question
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get
from crossxai.explainers.families import noise
from crossxai.explainers.groups import groups, lime_samples, shap_coalitions
from crossxai.explainers.xplique import seeded, swapped
from crossxai.model import Array

X = zoo.values("image")[0]
ONE_HOT = np.eye(3, dtype=np.float32)[:2]


def close(found: Array, expected: Any, tolerance: float = 3e-5) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def net(task: str = "class") -> Any:
    """The very network that goes to Xplique."""
    made = zoo.keras_net("image", task)
    return keras.Model(made.inputs[0], made.outputs[0])


def asked(framework: str, task: str = "class", **options: Any) -> Question:
    """Without standardisation, so that the library sees the same numbers."""
    named: dict[str, Any] = {"output_axes": ("y", "x", "class") if task == "segmentation" else ("class",)}
    if framework == "keras":
        return Question(KerasModel(net(task), (zoo.T1,), **named), (X,), zoo.target(task), **options)
    return Question(TorchModel(zoo.torch_net("image", task), (zoo.T1,), **named), (X,), zoo.target(task), **options)


OWN: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("xplique.gradient_input", {}, "GradientInput", {}),
    ("xplique.gradcam_plus_plus", {"layer": "t1_conv2"}, "GradCAMPP", {"conv_layer": "t1_conv2"}),
    ("xplique.gradcam_plus_plus", {"layer": "t1_conv1_relu"}, "GradCAMPP", {"conv_layer": "t1_conv1_relu"}),
    ("xplique.guided_backprop", {}, "GuidedBackprop", {}),
    ("xplique.deconv_net", {}, "DeconvNet", {}),
    ("xplique.sobol", {"designs": 4}, "SobolAttributionMethod", {"nb_design": 4}),
    (
        "xplique.sobol",
        {"grid": 3, "designs": 8, "estimator": "glen", "perturbation": "blurring"},
        "SobolAttributionMethod",
        {
            "grid_size": 3,
            "nb_design": 8,
            "estimator": native.global_sensitivity_analysis.GlenEstimator(),
            "perturbation_function": "blurring",
        },
    ),
    ("xplique.hsic", {"designs": 50}, "HsicAttributionMethod", {"nb_design": 50}),
    (
        "xplique.hsic",
        {"grid": 4, "designs": 30, "estimator": "sobolev", "sampler": "halton"},
        "HsicAttributionMethod",
        {
            "grid_size": 4,
            "nb_design": 30,
            "estimator": native.global_sensitivity_analysis.SobolevEstimator(),
            "sampler": native.global_sensitivity_analysis.HaltonSequence(),
        },
    ),
]


@pytest.mark.parametrize(("name", "params", "method", "options"), OWN)
def test_the_library_s_own_numbers(name: str, params: Any, method: str, options: Any) -> None:
    expected = getattr(native, method)(net(), **options)(X, ONE_HOT)
    for framework in ("torch", "keras"):
        close(get(name, **params)(asked(framework)).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_fem(framework: str) -> None:
    """Also batch by batch, as the library asks for activations."""
    expected = native.FEM(net(), conv_layer="t1_conv2", k=1.0)(X, None)
    for size in (1, 32):
        close(get("xplique.fem", layer="t1_conv2", k=1.0)(asked(framework, batch_size=size)).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_region_of_a_segmentation_map(framework: str) -> None:
    """Through the library's own operator for segmentation."""
    targets = (zoo.target("segmentation").weights != 0).astype(np.float32)
    for name in ("gradient_input", "guided_backprop"):
        method = {"gradient_input": native.GradientInput, "guided_backprop": native.GuidedBackprop}[name]
        expected = method(net("segmentation"), operator="semantic segmentation")(X, targets)
        close(get(f"xplique.{name}")(asked(framework, "segmentation")).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_forgrad(framework: str) -> None:
    from xplique.commons import forgrad

    expected = forgrad(native.Saliency(net())(X, ONE_HOT), sigma=5)
    close(get("xplique.forgrad", sigma=5)(asked(framework)).values[0][..., 0], expected)


STATISTICS = {"smooth_grad": "SmoothGrad", "square_grad": "SquareGrad", "var_grad": "VarGrad"}


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_under_noise(framework: str, name: str) -> None:
    """The library's code with the same noise; batches smaller and larger than the samples, which it groups differently."""
    question = asked(framework)
    method = getattr(native, STATISTICS[name])(net(), nb_samples=6, noise=0.3)
    expected = []
    for row in range(2):
        drawn = noise(question, row, 6, 1)[0]
        with swapped(GradientStatistic, _perturb_samples=lambda x, n, sd, drawn=drawn: x + np.float32(sd) * drawn[:n]):
            expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    for size in (1, 32):
        found = get(f"xplique.{name}", samples=6, sd=0.3, seed=1)(asked(framework, batch_size=size)).values[0]
        close(found, np.concatenate(expected), 2e-4)


def test_canonical_statistics_are_their_definitions() -> None:
    """sd a share of the range, gradients signed, over n, per channel, then summed."""
    wide = zoo.Modality.image("t1", range=(-1.0, 3.0))
    question = Question(TorchModel(zoo.torch_net("image", "class"), (wide,)), (X,), zoo.target("class"))
    expected: dict[str, list[Array]] = {name: [] for name in STATISTICS}
    for row in range(2):
        copies = X[row] + np.float32(0.1 * 4) * noise(question, row, 8, 0)[0]
        _, (gradients,) = question.score_and_grad((copies,), np.full(8, row))
        expected["smooth_grad"].append(gradients.mean(0).sum(-1, keepdims=True))
        expected["square_grad"].append((gradients**2).mean(0).sum(-1, keepdims=True))
        expected["var_grad"].append(gradients.astype(np.float64).var(0).sum(-1, keepdims=True))
    for name, maps in expected.items():
        found = get(f"xplique.{name}", profile="canonical", samples=8, sd=0.1)(question).values[0]
        close(found, np.stack(maps), 1e-3)  # the library's variance is a difference of squares in float32


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", ["lime", "kernel_shap"])
def test_surrogates(framework: str, name: str) -> None:
    """The library's own segments, draws and regression, under the same seed."""
    question = asked(framework)
    expected = []
    for row in range(2):
        method = {"lime": native.Lime, "kernel_shap": native.KernelShap}[name](net(), nb_samples=40)
        method.pertub_func = method.pertub_func.python_function
        with seeded(None, int(question.rng(row, 3).integers(2**31))):
            expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    for size in (3, 32):
        found = get(f"xplique.{name}", samples=40, seed=3)(asked(framework, batch_size=size))
        close(found.values[0], np.concatenate(expected), 1e-4)


def test_the_library_s_shared_regression_is_not_fitted() -> None:
    """Xplique's default is one Ridge object for all who explain; it must come out of our calls as it was."""
    shared = native.Lime.__init__.__defaults__[2]
    shared.coef_ = "untouched"
    get("xplique.lime", samples=20)(asked("torch"))
    assert shared.coef_ == "untouched"


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_latin_hypercube_per_sample(framework: str) -> None:
    question = asked(framework)
    expected = []
    for row in range(2):
        sampler = LatinHypercubeRS()
        draw = partial(sampler.qmc.LatinHypercube, seed=question.rng(row, 2))
        sampler.qmc = type("Seeded", (), {"LatinHypercube": staticmethod(draw)})
        method = native.SobolAttributionMethod(net(), grid_size=3, nb_design=8, sampler=sampler)
        expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    explainer = get("xplique.sobol", grid=3, designs=8, sampler="latin_hypercube", seed=2)
    close(explainer(question).values[0], np.concatenate(expected), 1e-4)
    close(explainer(question[[1]]).values[0], expected[1], 1e-4)


def test_canonical_lime_is_lime_s_own_regression() -> None:
    """The lime library, given our segments, our binary samples and our fill."""
    from lime.lime_image import LimeImageExplainer

    question = asked("torch")
    found = get("xplique.lime", profile="canonical", samples=60, segmentation="slic", patch=4, fill=0.25)(question)
    for row in range(2):
        labels = groups(question, row, "slic", 4, 0)[0][..., 0]
        shown = lime_samples(question.rng(row, 0), 60, labels.max() + 1)
        explainer = LimeImageExplainer(feature_selection="none")
        explainer.random_state = type("Given", (), {"randint": lambda self, a, b, size, z=shown: z.ravel()})()
        answer = explainer.explain_instance(
            X[row],
            lambda images, row=row: question.score((images.astype(np.float32),), np.full(len(images), row))[:, None],
            labels=(0,),
            top_labels=None,
            hide_color=0.25,
            num_samples=60,
            segmentation_fn=lambda _image, labels=labels: labels,
            random_seed=0,
        )
        close(found.values[0][row, ..., 0], np.vectorize(dict(answer.local_exp[0]).get)(labels), 1e-4)
        fit = answer.score[0] if isinstance(answer.score, dict) else answer.score
        assert abs(found.extras["r2"][row] - fit) < 1e-4


def test_canonical_kernel_shap_is_the_constrained_regression() -> None:
    question = asked("torch")
    answer = get("xplique.kernel_shap", profile="canonical", samples=50, segmentation="grid", patch=8, fill=0.5)(
        question
    )
    labels = groups(question, 0, "grid", 8)[0]
    full, empty = question.score(), question.score((np.full_like(X, 0.5),), [0, 1])
    for row in range(2):
        values = answer.values[0][row, [0, 0, 8, 8], [0, 8, 0, 8], 0].astype(np.float64)
        assert abs(values.sum() - (full[row] - empty[row])) < 1e-5
        z = shap_coalitions(question.rng(row, 0), 50, 4)
        copies = np.where(z[:, labels] == 1, X[row], np.float32(0.5))
        y = question.score((copies,), np.full(50, row)).astype(np.float64) - empty[row]
        # Lagrange: minimise |z v - y|² with sum(v) = total.
        system = np.block([[z.T @ z, np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
        solved = np.linalg.solve(system, np.append(z.T @ y, full[row] - empty[row]))[:4]
        np.testing.assert_allclose(values, solved, atol=1e-5)
    native_answer = get("xplique.kernel_shap", samples=50, segmentation="grid", patch=8, fill=0.5)(question).values[0]
    assert abs(native_answer[0, [0, 0, 8, 8], [0, 8, 0, 8], 0].sum() - (full[0] - empty[0])) > 1e-4


def test_canonical_gradcam_plus_plus_has_the_paper_s_sums() -> None:
    question = asked("torch")
    _, a, g = question.layer_score_and_grad("t1_conv2_relu")
    denominator = 2 * g**2 + a.sum((1, 2), keepdims=True) * g**3
    alpha = np.divide(g**2, denominator, out=np.zeros_like(g), where=g != 0)
    weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
    from crossxai.explainers.families import bilinear

    expected = bilinear(np.maximum((weights * a).sum(-1), 0), 16, 16)[..., None]
    close(get("xplique.gradcam_plus_plus", profile="canonical", layer="t1_conv2_relu")(question).values[0], expected)
