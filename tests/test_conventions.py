"""Conventions as data: every library does what the data say of it, and the search names what was changed."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from networks import zoo

from crossxai import InvalidInput, Question, Unsupported
from crossxai.conventions.agreement import agreement, distance
from crossxai.conventions.convention import CANONICAL, CONVENTIONS
from crossxai.conventions.disagreement import disagreement
from crossxai.conventions.libraries import USAGES, setting_of
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.search import Finding, blind, switched, switches
from crossxai.explainers import discover, get
from crossxai.model import Array

SMALL: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 12, "baseline": 0.2},
    "smooth_grad": {"samples": 6, "sd": 0.2, "seed": 3},
    "occlusion": {"patch": 8, "stride": 4, "baseline": 0.3},
    "rise": {"samples": 70, "grid": 5, "seed": 3},
    "lime": {"samples": 60, "segmentation": "grid", "patch": 8, "seed": 3},
    "kernel_shap": {"samples": 60, "segmentation": "grid", "patch": 8, "seed": 3},
}
UNEVEN = {"patch": 8, "stride": 5, "baseline": 0.3}
"""Windows that leave a border: Xplique's canonical profile refuses them."""


@pytest.fixture(scope="module")
def questions() -> dict[str, Question]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "SIZE", 32)
        return {framework: zoo.question(framework, "image", "class") for framework in ("torch", "keras")}


CASES = [(name, profile) for name, kind in discover().items() if name in USAGES for profile in kind.profiles]


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("name", "profile"), CASES)
def test_a_library_does_what_is_documented_of_it(
    questions: dict[str, Question], framework: str, name: str, profile: Any
) -> None:
    params = SMALL.get(USAGES[name].method, {})
    uneven = name == "captum.occlusion" or (name, profile) == ("xplique.occlusion", "native")
    for given in (params, UNEVEN) if uneven else (params,):
        known = {f.name for f in fields(get(name))}  # type: ignore[arg-type]
        own = get(name, profile=profile, **{k: v for k, v in given.items() if k in known})
        maps = own(questions[framework]).values[0]
        recipe = Renderer(questions[framework], USAGES[name].method)(setting_of(own))
        assert recipe.shape == maps.shape
        assert distance(recipe, maps) <= 1e-5


def test_all_that_is_said_of_libraries_is_a_known_convention() -> None:
    for usage in USAGES.values():
        assert set(usage.options) <= set(CANONICAL[usage.method])
        assert all(
            option in CONVENTIONS[name].options or CONVENTIONS[name].candidates
            for name, option in usage.options.items()
        )
    assert set(USAGES) <= set(discover())


def start(method: str) -> dict[str, Any]:
    """A setting that is quick to compute."""
    few: dict[str, dict[str, Any]] = {
        "integrated_gradients": {"steps": 20},
        "smooth_grad": {"samples": 10},
        "occlusion": {"patch": 8, "stride": 5},
        "rise": {"samples": 20, "grid": 4},
        "lime": {"samples": 50, "patch": 8},
        "kernel_shap": {"samples": 50, "patch": 8},
    }
    return {**CANONICAL[method], **few.get(method, {})}


def layers_of(render: Renderer, setting: dict[str, Any]) -> tuple[str, ...]:
    """The other layers that a finished map of the method may be drawn at."""
    return render.layers(setting, render.question.values[0].shape[1:3]) if "layer" in setting else ()


def planted(render: Renderer, setting: dict[str, Any], rng: np.random.Generator) -> tuple[set[Any], Array]:
    """One to three conventions switched at random, each of which acts, and the map that they give.

    Another layer comes with conventions that need no pass through the model, as it is searched with those.
    """
    every = switches(setting, layers_of(render, setting))
    while True:
        some = [every[i] for i in rng.choice(len(every), rng.integers(1, 4), replace=False)]
        if len({s.convention for s in some}) < len(some):
            continue
        if "layer" in {s.convention for s in some} and not render.known(switched(setting, some)):
            continue
        try:
            wanted = render(switched(setting, some))
            without = [render(switched(setting, [s for s in some if s is not one])) for one in some]
        except Unsupported:  # a softmax under guided backpropagation, a kernel that gives no copy a weight
            continue
        if np.isfinite(wanted).all() and all(w.shape != wanted.shape or distance(w, wanted) > 1e-3 for w in without):
            return set(some), wanted


def right(finding: Finding, some: set[Any]) -> bool:
    return len(finding.closing) == 1 and set(finding.closing[0]) == some


@pytest.mark.parametrize("method", ["saliency", "gradient_x_input", "gradcam"])
def test_planted_conventions_are_named(questions: dict[str, Question], method: str) -> None:
    rng, render, setting = np.random.default_rng(0), Renderer(questions["torch"], method), start(method)
    trials = [planted(render, setting, rng) for _ in range(10)]
    layers = layers_of(render, setting)
    assert sum(right(blind(render, setting, wanted, layers=layers), some) for some, wanted in trials) >= 9


@pytest.mark.deep
def test_two_hundred_planted_conventions(questions: dict[str, Question]) -> None:
    """At least 95 of 100 are named exactly."""
    rng, named, methods = np.random.default_rng(1), 0, list(CANONICAL)
    renders = {method: Renderer(questions["torch"], method) for method in methods}
    for number in range(200):
        method = methods[number % len(methods)]
        some, wanted = planted(renders[method], start(method), rng)
        layers = layers_of(renders[method], start(method))
        named += right(blind(renders[method], start(method), wanted, layers=layers), some)
    assert named >= 190


def strangers(maps: Array) -> dict[str, Array]:
    """Differences that are in no convention."""
    return {
        "transposed": np.swapaxes(maps, 1, 2),
        "of another sample": maps[::-1],
        "flipped": maps[:, ::-1],
        "noise": np.random.default_rng(0).normal(size=maps.shape).astype(maps.dtype),
        "shifted": np.roll(maps, 1, axis=2),
    }


@pytest.mark.parametrize("method", ["saliency", "gradient_x_input", "gradcam"])
def test_what_is_in_no_convention_blames_none(questions: dict[str, Question], method: str) -> None:
    render, setting = Renderer(questions["torch"], method), start(method)
    layers = layers_of(render, setting)
    for what, maps in strangers(render(setting)).items():
        assert not blind(render, setting, maps, layers=layers).explained, what


@pytest.mark.deep
def test_a_hundred_strangers(questions: dict[str, Question]) -> None:
    """Of maps with an ordinary fault that is no convention, none is put down to one."""
    one, two = questions["torch"], questions["keras"]
    network = np.random.default_rng(5)
    trials = 0
    for question in (one, two):
        stale = replace(question, target=replace(question.target, weights=question.target.weights[::-1].copy()))
        other = replace(question, inputs=tuple(network.permuted(v, axis=1) for v in question.inputs))
        for method in CANONICAL:
            render, setting = Renderer(question, method), start(method)
            faults = strangers(render(setting))
            faults |= {name: Renderer(q, method)(setting) for name, q in (("stale target", stale), ("image", other))}
            for what, maps in faults.items():
                trials += 1
                layers = layers_of(render, setting)
                assert not blind(render, setting, maps, layers=layers).explained, (method, what)
    assert trials >= 100


def test_rungs() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 16, 16, 1))
    cases = {
        "identical": maps,
        "equal to rounding": maps * (1 + 1e-6),
        "equal up to a scale": maps * 3,
        "same ranking": np.sign(maps) * np.abs(maps) ** 1.2,
        "same region": np.where(maps > np.quantile(maps, 0.85), maps, rng.normal(size=maps.shape).clip(max=0.9)),
        "different": rng.normal(size=maps.shape),
    }
    assert {rung: agreement(maps, other).rung() for rung, other in cases.items()} == {rung: rung for rung in cases}


def test_six_measures_of_disagreement() -> None:
    """Worked by hand from the definitions of Krishna et al. 2022."""
    one, other = np.array([[4.0, -3, 2, 1, 0.5, 0]]), np.array([[5.0, 2, -4, 0, 1, 0.5]])
    measured = disagreement(one, other, top=0.5)  # tops: 0, 1, 2 and 0, 2, 1
    assert measured.features == 1
    assert measured.ranks == pytest.approx(1 / 3)
    assert measured.signs == pytest.approx(1 / 3)
    assert measured.signed_ranks == pytest.approx(1 / 3)
    assert measured.rank_correlation == pytest.approx(0.5)
    assert measured.pairwise_ranks == pytest.approx(2 / 3)
    itself = vars(disagreement(one, one, top=0.5))
    assert all(values == 1 for values in itself.values())


def test_maps_that_cannot_be_laid_together() -> None:
    with pytest.raises(InvalidInput, match=r"\(n, y, x, channels\)"):
        agreement(np.zeros((2, 8, 8)), np.zeros((2, 8, 8, 1)))
    with pytest.raises(InvalidInput, match="2 and 3 channels"):
        agreement(np.zeros((2, 8, 8, 2)), np.zeros((2, 8, 8, 3)))
