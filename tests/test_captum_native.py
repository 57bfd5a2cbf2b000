"""Captum's smoothing, ablations, surrogates and layer Grad-CAM through the bridge against Captum's own code on torch."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from networks import toys, zoo
from torch import nn

from crossxai import InvalidInput, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.explainers import get
from crossxai.explainers.captum import seed_of
from crossxai.explainers.families import noise
from crossxai.explainers.groups import groups, lime_samples, shap_coalitions
from crossxai.explainers.native import seeded
from crossxai.model import Array

FRAMEWORKS = ["torch", "keras"]


class ChannelsLast(nn.Module):
    """What a torch user would hand to Captum, for images channels last: then Captum's draws have our shapes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.mean, self.sd = torch.tensor(toys.MEAN), torch.tensor(toys.SD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(((x - self.mean) / self.sd).permute(0, 3, 1, 2))


@cache
def module() -> nn.Module:
    return ChannelsLast(toys.torch_net())


@cache
def model(framework: str) -> Any:
    return toys.torch_model() if framework == "torch" else toys.keras_model()


def one(row: int) -> Any:
    return torch.tensor(toys.images()[row : row + 1])


def close(found: Array, expected: Any, tolerance: float = 3e-5) -> None:
    right = np.broadcast_to(expected, found.shape) if np.ndim(expected) else expected
    assert np.abs(right).max() > 0
    assert np.abs(found - right).max() <= tolerance * np.abs(right).max()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("rule", captum.attr._utils.approximation_methods.SUPPORTED_METHODS)
def test_every_quadrature_in_bounded_memory(framework: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, seen = Question.score_and_grad, []
    monkeypatch.setattr(
        Question, "score_and_grad", lambda q, inputs, rows: (seen.append(len(rows)), ask(q, inputs, rows))[1]
    )
    answer = get("captum.integrated_gradients", steps=25, quadrature=rule)(
        toys.question(model(framework), batch_size=4)
    )
    right = captum.attr.IntegratedGradients(module()).attribute(
        torch.tensor(toys.images()), target=torch.tensor([0, 1, 2]), n_steps=25, method=rule
    )
    close(answer.values[0], right.numpy())
    assert max(seen) <= 4 * 4
    assert sum(seen) == 3 * 25


def test_quadratures_are_named() -> None:
    with pytest.raises(UnknownName, match=r"no quadrature of captum.integrated_gradients is called 'simpson'"):
        get("captum.integrated_gradients", quadrature="simpson")
    with pytest.raises(InvalidInput, match=r'canonical profile is the trapezoid rule; .* write profile="native"'):
        get("captum.integrated_gradients", quadrature="gausslegendre", profile="canonical")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("stdev", [0.0, 0.3])
def test_gradient_shap(framework: str, stdev: float) -> None:
    question = toys.question(model(framework))
    found = get("captum.gradient_shap", baseline=0.5, stdev=stdev)(question).values[0]
    for row in range(3):
        with seeded(seed_of(question, row, 0)):
            right = captum.attr.GradientShap(module()).attribute(
                one(row), torch.full((1, toys.SIZE, toys.SIZE, 3), 0.5), target=row, stdevs=stdev
            )
        close(found[row], right[0].numpy())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("name", "over", "base", "options"),
    [
        ("smooth_grad", "saliency", "Saliency", {}),
        ("smooth_grad", "integrated_gradients", "IntegratedGradients", {"n_steps": 3, "baselines": 0.5}),
        ("smooth_grad_sq", "input_x_gradient", "InputXGradient", {}),
        ("var_grad", "saliency", "Saliency", {}),
    ],
)
def test_noise_tunnel(framework: str, name: str, over: str, base: str, options: dict[str, Any]) -> None:
    """Captum's own draws, sample by sample; batches of one force it to take the noise in parts."""
    question = toys.question(model(framework), batch_size=1)
    found = get(f"captum.{name}", over=over, steps=3, baseline=0.5)(question).values[0]
    kind = {"smooth_grad": "smoothgrad", "smooth_grad_sq": "smoothgrad_sq", "var_grad": "vargrad"}[name]
    for row in range(3):
        tunnel = captum.attr.NoiseTunnel(getattr(captum.attr, base)(module()))
        with seeded(seed_of(question, row, 0)):
            right = tunnel.attribute(one(row), nt_type=kind, target=row, **options)
        close(found[row], right[0].detach().numpy(), 1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_canonical_smoothing_equals_its_definition(framework: str) -> None:
    question = zoo.question(framework, "image+table", dtype="float64")
    draws = [noise(question, row, 6, 3) for row in range(2)]
    gradients = []
    for row in range(2):
        copies = tuple(v[row] + 0.7 * draw for v, draw in zip(question.values, draws[row], strict=True))
        gradients.append(question.score_and_grad(copies, np.full(6, row))[1])
    params: dict[str, Any] = {"samples": 6, "sd": 0.7, "seed": 3, "profile": "canonical"}
    for name, statistic in (
        ("smooth_grad", lambda g: g.mean(0)),
        ("smooth_grad_sq", lambda g: (g**2).mean(0)),
        ("var_grad", lambda g: g.var(0)),
    ):
        image, table = get(f"captum.{name}", **params)(question).values
        for row in range(2):
            close(image[row, ..., 0], statistic(gradients[row][0]).sum(-1), 1e-9)
            close(table[row], statistic(gradients[row][1]), 1e-9)


def mask(question: Question, segmentation: str, patch: int, rows: Any) -> Any:
    return torch.from_numpy(np.stack([groups(question, row, segmentation, patch)[0] for row in rows]))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("segmentation", "patch"), [("grid", 12), ("felzenszwalb", 8), ("modalities", 1)])
def test_feature_ablation(framework: str, segmentation: str, patch: int) -> None:
    """felzenszwalb gives these images different numbers of groups."""
    question = toys.question(model(framework), batch_size=2)
    found = get("captum.feature_ablation", segmentation=segmentation, patch=patch, baseline=0.5)(question).values[0]
    masks = mask(question, segmentation, patch, range(3))
    assert segmentation != "felzenszwalb" or len({int(m.max()) for m in masks}) > 1
    right = captum.attr.FeatureAblation(module()).attribute(
        torch.tensor(toys.images()), 0.5, torch.tensor([0, 1, 2]), feature_mask=masks
    )
    assert found.shape[-1] == 1
    close(found, right[..., :1].numpy())


def test_modality_ablation_on_image_and_table() -> None:
    for framework in FRAMEWORKS:
        question = zoo.question(framework, "image+table")
        answer = get("captum.modality_ablation", baseline=0.3)(question)
        x, row = question.inputs
        drops = [
            question.score() - question.score((np.full_like(x, 0.3), row), [0, 1]),
            question.score() - question.score((x, np.full_like(row, 0.3)), [0, 1]),
        ]
        close(answer.extras["modality_drop"], np.stack(drops, axis=1))
        close(answer.of("t1"), drops[0].reshape(2, 1, 1, 1))
        close(answer.of("table"), drops[1].reshape(2, 1))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_shapley_lime_and_kernel_shap(framework: str) -> None:
    question = toys.question(model(framework))
    for name, kind, samples in (
        ("shapley_value_sampling", "ShapleyValueSampling", 3),
        ("lime", "Lime", 40),
        ("kernel_shap", "KernelShap", 40),
    ):
        found = get(f"captum.{name}", patch=16, samples=samples, baseline=0.5)(question).values[0]
        for row in range(3):
            with seeded(seed_of(question, row, 0)):
                right = getattr(captum.attr, kind)(module()).attribute(
                    one(row),
                    0.5,
                    row,
                    feature_mask=mask(question, "grid", 16, [row]),
                    n_samples=samples,
                )
            if kind == "Lime" and not right.any():  # its Lasso(0.01) often is
                assert not found[row].any()
            else:
                close(found[row], right[0, ..., :1].numpy(), 2e-4)


def fitted(question: Question, labels: tuple[Array, ...], shown: Array, fill: float) -> Array:
    """Scores of one sample under each row of shown groups."""
    copies = tuple(
        np.where(shown[:, numbers] == 1, v[0], v.dtype.type(fill))
        for v, numbers in zip(question.values, labels, strict=True)
    )
    return question.score(copies, np.zeros(len(shown)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_canonical_lime_equals_its_definition(framework: str) -> None:
    question = zoo.question(framework, "image+table", n=1)
    params: dict[str, Any] = {"profile": "canonical", "patch": 8, "samples": 60, "baseline": 0.5, "seed": 2}
    image, table = get("captum.lime", **params)(question).values
    labels = groups(question, 0, "grid", 8)
    z = lime_samples(question.rng(0, 2), 60, 7)
    assert z[0].all()
    y = fitted(question, labels, z, 0.5)
    distance = 1 - np.sqrt(z.mean(axis=1))
    weight = np.exp(-(distance**2) / (2 * 0.25**2))
    centred = z - np.average(z, axis=0, weights=weight)
    gram = centred.T @ (weight[:, None] * centred) + np.eye(7)
    right = np.linalg.solve(gram, centred.T @ (weight * (y - np.average(y, weights=weight))))
    close(image[0], right[labels[0]], 1e-4)
    close(table[0], right[labels[1]], 1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_canonical_kernel_shap(framework: str) -> None:
    """With every coalition drawn often enough the values are the exact ones, over all orders; they always add up."""
    question = zoo.question(framework, "image+table", n=1)
    params: dict[str, Any] = {"profile": "canonical", "segmentation": "modalities", "samples": 3}
    image, table = get("captum.kernel_shap", **params)(question).values
    both, image_only, table_only, none = fitted(
        question, groups(question, 0, "modalities"), np.array([[1, 1], [1, 0], [0, 1], [0, 0]]), 0.0
    )
    close(image[0], np.full((16, 16, 1), (both - table_only + image_only - none) / 2), 1e-5)
    close(table[0], np.full(3, (both - image_only + table_only - none) / 2), 1e-5)
    few = get("captum.kernel_shap", profile="canonical", patch=4, samples=10)(question).values
    total = few[0][0, ::4, ::4].sum() + few[1][0].sum()
    np.testing.assert_allclose(total, both - none, atol=1e-5)


def test_coalitions_follow_the_shapley_kernel() -> None:
    shown = shap_coalitions(np.random.default_rng(0), 20000, 5)
    sizes = np.bincount(shown.sum(axis=1), minlength=6) / 20000
    right = np.array([0, 1 / 4, 1 / 6, 1 / 6, 1 / 4, 0]) / (2 / 4 + 2 / 6)
    np.testing.assert_allclose(sizes, right, atol=0.012)
    np.testing.assert_allclose(shown.mean(axis=0), 0.5, atol=0.012)
    with pytest.raises(Unsupported, match="there is only 1: choose smaller groups"):
        shap_coalitions(np.random.default_rng(0), 5, 1)
    with pytest.raises(Unsupported, match=r"captum\.kernel_shap compares groups of entries"):
        get("captum.kernel_shap", segmentation="modalities")(toys.question(model("torch")))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_feature_permutation_takes_another_samples_groups(framework: str) -> None:
    question = zoo.question(framework, "image+table", n=4, batch_size=1)
    answer = get("captum.feature_permutation", patch=8, seed=1)(question)
    x, table = question.inputs
    labels = groups(question.only("t1"), 0, "grid", 8)[0]
    for row, number in itertools.product(range(4), range(4)):
        swapped = [np.where(labels == number, x[other], x[row]) for other in range(4) if other != row]
        drops = question.score()[row] - question.only("t1").score((np.stack(swapped),), np.full(3, row))
        found = np.unique(answer.of("t1")[row][labels == number])
        assert len(found) == 1
        assert np.abs(drops - found).min() < 1e-5
    for row, column in itertools.product(range(4), range(3)):
        changed = np.repeat(table[row : row + 1], 4, axis=0)
        changed[:, column] = table[:, column]
        drops = question.score()[row] - question.only("table").score((changed,), np.full(4, row))
        assert np.abs(np.delete(drops, row) - answer.of("table")[row, column]).min() < 1e-5
    turned = get("captum.feature_permutation", patch=8, seed=1)(question[[2, 0, 3, 1]])
    np.testing.assert_allclose(turned.of("t1"), answer.of("t1")[[2, 0, 3, 1]], atol=1e-6)
    other = get("captum.feature_permutation", patch=8, seed=2)(question)
    assert not np.allclose(other.of("t1"), answer.of("t1"))
    with pytest.raises(Unsupported, match="swaps entries between samples, and there is only one"):
        get("captum.feature_permutation")(question[[0]])


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("layer", ["conv2", "relu1"])
def test_layer_grad_cam(framework: str, layer: str) -> None:
    net = module()
    cam = captum.attr.LayerGradCam(net, getattr(net.net, layer)).attribute(
        torch.tensor(toys.images()), target=torch.tensor([0, 1, 2])
    )
    right = captum.attr.LayerAttribution.interpolate(cam, (toys.SIZE, toys.SIZE)).detach().permute(0, 2, 3, 1).numpy()
    question = toys.question(model(framework))
    found = get("captum.layer_grad_cam", layer=layer)(question).values[0]
    assert found.min() < 0
    close(found, right)
    theirs = get("xplique.gradcam", layer=layer, profile="canonical")(question).values[0]
    close(get("captum.layer_grad_cam", layer=layer, profile="canonical")(question).values[0], theirs)


@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        ("smooth_grad", {"over": "lime"}, UnknownName, "no over of captum.smooth_grad is called 'lime'"),
        ("var_grad", {"sd": -1.0}, InvalidInput, "sd must be at least 0"),
        ("gradient_shap", {"samples": 0}, InvalidInput, "samples must be at least 1"),
        ("feature_ablation", {"segmentation": "blocks"}, InvalidInput, "segmentation is one of grid"),
        ("feature_ablation", {"patch": 0}, InvalidInput, "patch must be at least 1"),
        ("lime", {"samples": 1}, InvalidInput, "samples must be at least 2"),
        ("kernel_shap", {"samples": 2}, InvalidInput, "samples must be at least 3"),
        ("shapley_value_sampling", {"samples": 0}, InvalidInput, "samples must be at least 1"),
        (
            "deep_lift_shap",
            {"baselines": 1},
            InvalidInput,
            "baselines must be at least 2, got 1; or write captum.deep_lift",
        ),
        ("lrp", {"rule": "zeta"}, UnknownName, "no rule of captum.lrp is called 'zeta'"),
        ("lrp", {"epsilon": 0.0}, InvalidInput, "epsilon must be positive"),
    ],
)
def test_wrong_parameters(name: str, params: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get(f"captum.{name}", **params)


def test_scores_are_enough_for_perturbation() -> None:
    """Any function: nothing of a framework is asked for."""
    inner = toys.torch_model()
    question = Question(
        FunctionModel(lambda x: inner.predict((x,)), (toys.IMAGE,)), (toys.images(),), Target.classes([0] * 3, 3)
    )
    assert np.ptp(get("captum.feature_ablation")(question).values[0]) > 0
    with pytest.raises(Unsupported, match="needs module"):
        get("captum.lrp")(question)


VERDICTS: list[tuple[str, str, dict[str, Any]]] = [
    ("smooth_grad", "smooth_grad", {"samples": 6, "sd": 0.15, "seed": 4}),
    ("kernel_shap", "kernel_shap", {"patch": 8, "samples": 40, "baseline": 0.2, "seed": 4}),
    ("kernel_shap", "kernel_shap", {"patch": 4, "samples": 12, "baseline": 0.2}),  # fewer coalitions than groups
    ("lime", "lime", {"segmentation": "grid", "patch": 8, "samples": 40, "baseline": 0.2, "seed": 4}),
    ("layer_grad_cam", "gradcam", {}),
]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("name", "referee", "params"), VERDICTS)
def test_canonical_profiles_equal_the_referee(framework: str, name: str, referee: str, params: dict[str, Any]) -> None:
    question = zoo.question(framework, "image+table")
    question = question if name in ("smooth_grad", "kernel_shap") else question.only("t1")
    found = get(f"captum.{name}", profile="canonical", **params)(question)
    for ours, right in zip(found.values, get(f"reference.{referee}", **params)(question).values, strict=True):
        close(ours, right, 2e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_canonical_lime_equals_the_lime_library(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "SIZE", 48)  # at 16 pixels quickshift finds one segment
    question = zoo.question(framework)
    theirs = get("lime.image", profile="canonical", samples=60, fill=0.3)(question).values[0]
    params: dict[str, Any] = {"segmentation": "quickshift", "samples": 60, "baseline": 0.3}
    ours = get("captum.lime", profile="canonical", **params)(question).values[0]
    assert len(np.unique(theirs[0])) > 2
    close(ours, theirs, 1e-5)
    assert np.abs(get("captum.lime", **params)(question).values[0] - theirs).max() > 0.05 * np.abs(theirs).max()
