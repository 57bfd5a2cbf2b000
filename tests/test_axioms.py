"""Axioms: a planted violation is found, what keeps them passes, and every promise holds of the definition."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossxai as xai
from crossxai.adapters.torch import TorchModel
from crossxai.conventions.answers import explainer_of
from crossxai.conventions.axiom_checks import MEASURES, change, total, with_checks
from crossxai.conventions.axioms import AXIOMS, PROMISES, AxiomCheck
from crossxai.conventions.convention import CANONICAL
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.conventions.parity import parity
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import Entry
from crossxai.conventions.situation import baseline_of
from crossxai.explainers import discover
from crossxai.explainers.method import Maps
from crossxai.explainers.native import quiet
from crossxai.explainers.reference import IntegratedGradients
from crossxai.model import Array

IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
LABELS = [0, 1, 2]
GROUPS = {"segmentation": "grid", "patch": 4, "samples": 60}
PARAMS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 300},
    "smooth_grad": {"samples": 5},
    "gradcam": {"layer": "4"},
    "gradcam_plus_plus": {"layer": "4"},
    "occlusion": {"patch": 4, "stride": 2},
    "rise": {"samples": 20},
    "lime": GROUPS,
    "kernel_shap": GROUPS,
}


def network(smooth: bool = False) -> Any:
    """Convolutions with batch norms; smooth: integrals along a path converge within few steps."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 12)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.SiLU(), nn.AvgPool2d(2)] if smooth else [nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 4)).eval()
    for place in (1, 5):
        net[place].running_mean.normal_(0, 0.3)
        net[place].running_var.uniform_(0.05, 0.5)
    net[-1].weight.data *= 10  # so that the lasso leaves something
    return net


def asked(net: Any) -> xai.Question:
    return xai.Question(TorchModel(net, (xai.Modality.image(),)), (IMAGES,), xai.Target.classes(LABELS, 4))


@pytest.fixture(scope="module")
def question() -> xai.Question:
    return asked(network())


@pytest.fixture(scope="module")
def smooth() -> xai.Question:
    return asked(network(smooth=True))


def definition(method: str) -> Any:
    """The canonical explainer that stands for a method: the referee where there is one, else a library's in torch."""
    names = [name for name in explainers_of(method) if not name.startswith("xplique.")]
    return explainer_of(names[-1], "canonical", PARAMS.get(method, {}))


@pytest.mark.parametrize("method", CANONICAL)
def test_the_definition_keeps_what_it_promises(question: xai.Question, method: str) -> None:
    explainer = definition(method)
    (maps,) = explainer(question).values
    measured = {axiom: measure for axiom, measure in MEASURES.items() if axiom in PROMISES[method]}
    for axiom, measure in measured.items():
        assert measure(explainer, question, maps, setting_of(explainer)).max() <= 1e-4, axiom
    assert set(PROMISES[method]) <= {*measured, "completeness", "implementation invariance"}
    if "implementation invariance" in PROMISES[method]:
        assert isinstance(question.model, TorchModel)
        other = replace(question, model=question.model.folded(question.inputs))
        assert np.abs(explainer(other).values[0] - maps).max() <= 1e-5 * np.abs(maps).max()
    if "completeness" in PROMISES[method]:
        setting = setting_of(explainer)
        expected = change(question, baseline_of(question, setting))
        assert np.abs(total(question, maps, setting) - expected).mean() <= 5e-3 * np.abs(expected).mean()


@pytest.mark.parametrize(
    ("method", "axiom"),
    [
        ("saliency", "linearity"),
        ("gradient_x_input", "shift invariance"),
        ("gradcam", "linearity"),
        ("gradcam_plus_plus", "linearity"),
        ("rise", "dummy"),
        ("guided_backprop", "linearity"),
        ("lime", "symmetry"),
        ("kernel_shap", "symmetry"),
    ],
)
def test_what_is_not_promised_may_be_broken(question: xai.Question, method: str, axiom: Any) -> None:
    explainer = definition(method)
    assert axiom not in PROMISES[method]
    assert MEASURES[axiom](explainer, question, explainer(question).values[0], setting_of(explainer)).max() > 0.05


@dataclass(frozen=True, kw_only=True)
class Planted(IntegratedGradients):
    """Integrated gradients with a fault."""

    fault: str = ""

    def explain(self, question: xai.Question) -> Maps:
        (maps,), extras = super().explain(question)
        size = np.abs(maps).max()
        faults = {
            "dummy": lambda: maps + 0.03 * size,
            "linearity": lambda: np.abs(maps),
            "symmetry": lambda: maps * np.linspace(0.9, 1, maps.shape[2])[:, None],
            "shift invariance": lambda: maps * (1 + 0.1 * question.values[0].mean(axis=-1, keepdims=True)),
        }
        return (np.asarray(faults[self.fault](), maps.dtype),), extras


@pytest.mark.parametrize("fault", ["dummy", "linearity", "symmetry", "shift invariance"])
def test_a_planted_explainer_is_found(question: xai.Question, fault: Any) -> None:
    right = explainer_of("reference.integrated_gradients", "canonical", {"steps": 10})
    for explainer, kept in ((Planted(steps=10, fault=fault), False), (right, True)):
        error = MEASURES[fault](explainer, question, explainer(question).values[0], setting_of(explainer)).max()
        assert error <= 1e-6 if kept else error > 0.01


def checked(question: xai.Question, maps: Array, method: str, **setting: Any) -> AxiomCheck:
    """The completeness of maps that are said to have a setting."""
    entry = Entry("mine", "torch", "native", maps, {**CANONICAL[method], **setting}, outside=True)
    ((found,),) = (e.axioms for e in with_checks([entry], Renderer(question, method), "torch", None))
    return found


def measured(question: xai.Question, name: str, profile: Any, params: dict[str, Any]) -> tuple[AxiomCheck, ...]:
    """All checks of one explainer."""
    explainer = explainer_of(name, profile, params)
    setting = setting_of(explainer)
    entry = Entry(name, "torch", profile, explainer(question).values[0], setting)
    (one,) = with_checks([entry], Renderer(question, USAGES[name].method), "torch", params)
    return one.axioms


def test_planted_maps_that_do_not_add_up(smooth: xai.Question) -> None:
    numbers = {"steps": 20, "baseline": 0.2}
    method = "integrated_gradients"
    render = Renderer(smooth, method)
    right = render({**CANONICAL[method], **numbers, "channels": "each"})
    assert checked(smooth, right, method, **numbers, channels="each").kept
    assert checked(smooth, right.sum(axis=-1, keepdims=True), method, **numbers).kept
    for maps, options, share, cause in (
        (-right, {"sign": "negated", "channels": "each"}, 2.0, "the map is turned round (negated)"),
        (right.mean(axis=-1, keepdims=True), {"channels": "mean"}, 2 / 3, "over channels (mean over channels)"),
        (right * 0.95, {"quadrature": "riemann_trapezoid", "channels": "each"}, 0.05, "(Captum's riemann_trapezoid"),
        (np.abs(right), {"magnitude": "absolute", "channels": "each"}, None, "the sign counts (absolute values)"),
        (right[:, ::-1] * 0.8, {"channels": "each"}, 0.2, None),
    ):
        found = checked(smooth, maps, method, **numbers, **options)
        assert found.kept is False
        assert cause is None or cause in found.cause
        assert share is None or found.error == pytest.approx(share, abs=0.02)
    assert (
        checked(smooth, np.full_like(right, np.nan), method, **numbers).refusal == "a map or a score is NaN or infinite"
    )
    level = replace(smooth, target=xai.Target(np.zeros((3, 4))))
    assert "the score of every input is that of the baseline" in checked(level, right, method, **numbers).refusal


def test_the_completeness_is_captums_delta(question: xai.Question) -> None:
    import torch
    from captum.attr import DeepLift, IntegratedGradients

    net = network()
    tensor = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()).requires_grad_()
    start, target = torch.full_like(tensor, 0.25, requires_grad=True), torch.tensor(LABELS)
    for method in (IntegratedGradients(net), DeepLift(net)):
        with quiet():
            maps = method.attribute(tensor, start, target=target)
        delta = method.compute_convergence_delta(maps, start, tensor, target=target)
        arrays = maps.detach().numpy().transpose(0, 2, 3, 1)
        ours = total(question, arrays, {}) - change(question, np.full(3, 0.25))
        np.testing.assert_allclose(ours, delta.detach().numpy(), atol=2e-6)


def test_the_tie_break(smooth: xai.Question, tmp_path: Path) -> None:
    """Captum's trapezoid weights and Xplique's mean over channels, in numbers and in words."""
    from crossxai.report.parity import write_parity

    params = {"steps": 20, "quadrature": "riemann_trapezoid"}
    result = parity({"torch": smooth}, "integrated_gradients", params, axioms=True)
    frame = result.axioms.set_index(["profile", "explainer", "axiom"])
    complete = frame.xs("completeness", level="axiom")
    assert complete.error["native", "captum.integrated_gradients"] == pytest.approx(1 / 20, abs=5e-3)
    assert complete.error["native", "xplique.integrated_gradients"] == pytest.approx(2 / 3, abs=5e-3)
    assert complete.kept.to_dict() == {
        (e.profile, e.explainer): e.profile == "canonical" for e in result.entries if e.maps is not None
    }
    assert "Captum's riemann_trapezoid" in complete.cause["native", "captum.integrated_gradients"]
    rest = frame.drop(index="completeness", level="axiom")
    assert rest.kept.all()
    assert set(rest.index.get_level_values("axiom")) == set(AXIOMS) - {"completeness"}
    page = write_parity(tmp_path, [result], "Axioms").read_text().replace("<wbr>", "")
    assert ">xplique.integrated_gradients and captum.integrated_gradients: completeness</td>" in page
    assert "xplique.integrated_gradients misses this by 66" in page
    assert "because of how a map is reduced over channels (mean over channels)" in page
    assert "captum.integrated_gradients misses this by 5.0%" in page
    assert "reference.integrated_gradients (the definition) keeps it" in page
    assert "All keep dummy, linearity, symmetry, implementation invariance and shift invariance" in page
    method = json.loads((tmp_path / "parity.json").read_text())["methods"][0]
    assert [a["name"] for a in method["axioms"]] == list(PROMISES["integrated_gradients"])
    assert {a["kept"] for a in method["axioms"][0]["answers"]} == {True, False}
    cheap = parity({"torch": smooth}, "integrated_gradients", params)
    assert set(cheap.axioms.axiom) == {"completeness"}


def test_every_number_may_be_a_group(question: xai.Question) -> None:
    (complete, *_) = measured(
        question, "reference.kernel_shap", "canonical", {"segmentation": "scalars", "samples": 20}
    )
    assert complete.axiom == "completeness"
    assert complete.kept


def test_lime_of_captum_is_neither_linear_nor_blind_to_a_shift(smooth: xai.Question) -> None:
    """Its lasso has a threshold, and the cosine of two images depends on where their zero lies."""
    found = {c.axiom: c.kept for c in measured(smooth, "captum.lime", "native", GROUPS)}
    assert found == {"linearity": False, "shift invariance": False, "implementation invariance": True}


def test_what_cannot_be_asked_says_why(question: xai.Question) -> None:
    def refusals(method: str, params: dict[str, Any], asked: xai.Question = question) -> dict[str, str]:
        checks = measured(asked, definition(method).name, "canonical", params)
        return {c.axiom: c.refusal for c in checks if c.kept is None}

    windows = refusals("occlusion", {"patch": 5, "stride": 3})
    assert windows == {"symmetry": "windows do not lie symmetrically: 16 - 5 pixels are no multiple of stride 3"}
    assert "wider than half of the image" in refusals("occlusion", {"patch": 10, "stride": 2})["dummy"]
    function = xai.wrap(lambda x: x.mean((1, 2)), modalities=(xai.Modality.image(),))
    alone = xai.Question(function, (IMAGES,), xai.Target.classes([0, 1, 2], 3))
    assert (
        "cannot be written as another network" in refusals("rise", {"samples": 5}, alone)["implementation invariance"]
    )


def test_a_table_and_a_single_output() -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).eval()
    model = TorchModel(net, (xai.Modality.table(tuple("abcde")),))
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    asked = xai.Question(model, (rows,), xai.Target.outputs(0, 3, 1))
    explainer = discover()["reference.integrated_gradients"]()
    (maps,) = explainer(asked).values
    for axiom, measure in MEASURES.items():
        assert measure(explainer, asked, maps, setting_of(explainer)).max() <= 1e-5, axiom
