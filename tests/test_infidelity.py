"""Infidelity: Captum's number for the same perturbations, known values, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks.counting import IMAGE, SIDE, TABLE, answer, ask, contributions, some_map

from crossxai import Unsupported
from crossxai.evaluation import get
from crossxai.question import Question


def captum(question: Question, values: Any, perturbations: Any, changed: Any, normalise: bool) -> Any:
    """captum.metrics.infidelity of our model and our perturbations (n, samples, …): what they multiply, and what they make."""
    import torch
    from captum.metrics import infidelity

    n, samples = perturbations.shape[:2]
    rows = np.repeat(np.arange(n), samples)

    def forward(x: Any) -> Any:
        which = rows if len(x) == len(rows) else np.arange(n)
        return torch.from_numpy(question.score((x.numpy(),), which))

    def perturb(_: Any) -> Any:
        return tuple(torch.from_numpy(v.reshape(-1, *v.shape[2:])) for v in (perturbations, changed))

    x = torch.from_numpy(question.inputs[0])
    found = infidelity(forward, perturb, x, torch.from_numpy(values), n_perturb_samples=samples, normalize=normalise)
    return found.numpy()


@pytest.mark.parametrize("normalise", ["signed", "none"])
@pytest.mark.parametrize("perturbation", ["square", "subset"])
@pytest.mark.parametrize("reading", ["contributions", "gradients"])
def test_captum_infidelity_is_reproduced(normalise: str, perturbation: str, reading: str) -> None:
    question = ask()
    values = some_map(question, 3)
    params: dict[str, Any] = {"perturbation": perturbation, "reading": reading, "normalise": normalise}
    metric: Any = get("infidelity", samples=20, **params)
    scores = metric(question, answer(question, values))
    masks = np.stack([metric.masks(question, row) for row in range(4)]).reshape(4, 20, SIDE, SIDE, 1)
    x = question.inputs[0][:, None]
    changed = x * ~masks
    perturbations = masks * np.ones(3) if reading == "contributions" else x - changed
    np.testing.assert_allclose(
        scores.value, captum(question, values, perturbations, changed, normalise == "signed"), rtol=1e-9
    )


@pytest.mark.parametrize("normalise", ["signed", "none"])
def test_captum_infidelity_with_noise(normalise: str) -> None:
    question = ask()
    values = some_map(question, 3)
    metric: Any = get("infidelity", samples=20, perturbation="noise", reading="gradients", normalise=normalise, sd=0.3)
    noise = np.stack([metric.noise(question, row) for row in range(4)])
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    expected = captum(question, values, noise, question.inputs[0][:, None] - noise, normalise == "signed")
    np.testing.assert_allclose(metric(question, answer(question, values)).value, expected, rtol=1e-9)


def test_maps_that_explain_a_linear_model_have_none() -> None:
    question = ask(link="identity", linear=True)
    (truth,) = contributions(question)
    weight = truth / question.inputs[0]
    for params in (
        {},
        {"perturbation": "subset"},
        {"reading": "gradients"},
        {"reading": "gradients", "perturbation": "noise"},
        {"normalise": "none"},
    ):
        values = weight if "reading" in params else truth
        scores = get("infidelity", **params)(question, answer(question, values))
        np.testing.assert_allclose(scores.value, 0, atol=1e-12)


def test_only_a_signed_factor_forgives_a_map_upside_down() -> None:
    question = ask()
    values = some_map(question, 3)
    found = {}
    for normalise in ("positive", "signed", "none"):
        metric = get("infidelity", normalise=normalise)
        found[normalise] = [metric(question, answer(question, m)).value for m in (values, -values, 0 * values)]
    best, turned, nothing = (np.array(v) for v in found["signed"])
    np.testing.assert_allclose(best, turned)
    np.testing.assert_allclose(np.sort(found["positive"][:2], axis=0), [best, nothing])
    assert (found["none"][0] > best).all()


def test_a_zero_map_predicts_no_change() -> None:
    question = ask()
    metric: Any = get("infidelity", samples=10)
    for normalise in ("positive", "signed", "none"):
        scores = get("infidelity", samples=10, normalise=normalise)(
            question, answer(question, np.zeros((4, SIDE, SIDE, 1)))
        )
        for row in range(4):
            copies = question.inputs[0][row] * ~metric.masks(question, row).reshape(10, SIDE, SIDE, 1)
            drops = question.score()[row] - question.score((copies,), [row] * 10)
            assert scores.value[row] == pytest.approx((drops**2).mean())


def test_squares_lie_inside_and_have_every_size() -> None:
    question = ask(n=3)
    masks = get("infidelity", samples=300).masks(question, 0).reshape(300, SIDE, SIDE)  # type: ignore[attr-defined]
    sides = np.sqrt(masks.sum(axis=(1, 2)))
    assert sorted(set(sides.tolist())) == [1, 2, 3, 4]
    for mask, side in zip(masks, sides, strict=True):
        assert mask.any(axis=0).sum() == mask.any(axis=1).sum() == side
    assert masks.any(axis=0).all()
    assert masks[:, 0].any()
    assert masks[:, -1].any()


def test_tables_and_summed_maps() -> None:
    question = ask(modalities=(IMAGE, TABLE))
    both = answer(question, some_map(question), np.random.default_rng(1).normal(size=(4, 3)))
    with pytest.raises(Unsupported, match="write perturbation='subset'"):
        get("infidelity", modality="table")(question, both)
    with pytest.raises(Unsupported, match="one value per channel"):
        get("infidelity", modality="image", reading="gradients")(question, both)
    for reading in ("contributions", "gradients"):
        scores = get("infidelity", modality="table", perturbation="subset", reading=reading)(question, both)
        assert (scores.value >= 0).all()
