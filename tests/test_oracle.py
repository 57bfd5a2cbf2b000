"""On a network whose truth is known by construction (`known`), the oracle beats every explainer, and reversed it loses, by
every metric of faithfulness and of localisation that is discovered.

Why no map can do better: the score is a sum over units, so after removing a set of them it is the start less the sum of what they
add. Of all sets of k units, the k that add most leave the least, and the k that add least leave the most. So sorting by what
units add is best at every point of every curve at once, against the same fill, and sorting by its negative worst. What each unit
adds depends on the fill, so each metric's oracle is made for its fill. A map of exactly these sums has a correlation of 1 and an
infidelity of 0, with its negative at -1 and at the worst that predicting nothing gets. Metrics that need more care:

- `irof` removes whole segments by their *mean* relevance: its oracle says in every pixel what its segment adds.
- `road*` impute from the pixels that are left, so what a pixel adds might depend on the mask. Here it hardly ever does, since
  averages of neighbours do not lie in a tent; `test_imputed_pixels_add_nothing` shows that of the oracle's masks, and of random
  ones, none does, and that with masks of explainers what was made up is less than what they miss.
- localisation asks where relevance lies, not how much the score moves: the truth is the mask of the evidence, and the oracle's
  relevance is positive there and nowhere else, which is the most that each of these metrics can give. Reversed: its complement.
- `centre_share` has the evidence in the centre. `grid_pointing` halves images, so its evidence is made of 2 × 2 pixels, and the
  oracle is asked about the mosaics.
- `joint_*` rank pixels against columns, so only complete maps take part.

Equality is no accident: pixelwise occlusion *is* the truth here, by definition of what a pixel adds, up to rounding, and so are
Shapley values; a class activation map may rank as the truth does. Nobody may be better by more than rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from cheap import CHEAP
from networks import known

from crossxai import Attribution, Question, Scores, Unsupported, evaluation
from crossxai.attribution import apply_metric
from crossxai.explainers import discover, get
from crossxai.model import Array
from crossxai.testing.oracles import Oracle

CONTROLS = ("controls.random", "controls.centre", "controls.edges")
ENTRIES = [e for e in evaluation.discover() if getattr(e.metric, "axis", "") in ("faithfulness", "localisation")]
FEWER: dict[str, dict[str, Any]] = {
    "infidelity": {"samples": 32},
    "faithfulness_correlation": {"subsets": 30},
    "mu_fidelity": {"subsets": 30},
    "sensitivity_n": {"subsets": 10},
    "centre_share": {"size": known.SIDE // 2},
    "grid_pointing": {"mosaic": "same"},
    "irof": {"segments": 64, "compactness": 100},
}
EXACT = ("captum.occlusion", {"patch": 1, "stride": 1, "profile": "canonical"})
# Complete ones: their gap has to be small for maps of images and tables to be compared.
COMPLETE: dict[str, dict[str, Any]] = {
    "captum.integrated_gradients": {"steps": 200},
    "reference.integrated_gradients": {"steps": 200},
    "captum.deep_lift": {},
}


def setting(name: str) -> dict[str, bool]:
    return {"centred": name == "centre_share", "table": name.startswith("joint_")}


@cache
def asked(framework: str, block: int = 1, centred: bool = False, table: bool = False) -> Question:
    return known.ask(framework, block, centred, table)


@cache
def answers(framework: str, centred: bool, table: bool) -> dict[str, Attribution]:
    """The maps of all discovered explainers that can explain the network; tables and images together by the joint ones."""
    question, found = asked(framework, centred=centred, table=table), {}
    for name, kind in discover().items():
        if table and not getattr(kind, "joint", False):
            continue  # a map per modality, in units of its own
        params = {**CHEAP.get(name, {}), **(COMPLETE.get(name, {}) if table else {})}
        try:
            found[name] = get(name, **params)(question)
        except Unsupported:
            continue
    if not table:
        found["exact"] = get(EXACT[0], **EXACT[1])(question)
    return found


def is_evidence(question: Question) -> Array:
    """Where pixels add to their sample's class, (n, height, width)."""
    return np.asarray(known.contributions(question)[0][..., 0] > 0)


def metric_of(name: str, question: Question) -> Any:
    masks = {"masks": is_evidence(question)} if name in MASKED else {}
    return evaluation.get(name, **FEWER.get(name, {}), **masks)


MASKED = [e.name for e in ENTRIES if "masks" in getattr(e.metric, "__dataclass_fields__", {})]


def truth(metric: Any, question: Question) -> tuple[Array, ...]:
    """What each unit adds, against the fill of the metric."""
    if metric.axis == "localisation":
        return known.contributions(question)
    maps = known.contributions(question, getattr(metric, "fill", "zero"))
    if metric.name != "irof":
        return maps
    modality = question.modalities[0]
    found = []
    for labels, pixels in zip(metric._segments(question, modality, np.arange(len(question))), maps[0], strict=True):
        found.append(np.bincount(labels, pixels.ravel())[labels].reshape(pixels.shape))
    return (np.stack(found),)


def reversed_(metric: Any, question: Question, maps: tuple[Array, ...]) -> tuple[Array, ...]:
    if metric.axis == "localisation":
        return (1.0 - is_evidence(question)[..., None],)
    return tuple(-m for m in maps)


def attribution(question: Question, maps: tuple[Array, ...]) -> Attribution:
    gap = {"completeness_gap": np.zeros(len(question))}
    return Attribution(maps, question.modalities, question.ids, "oracle", extras=gap)


def oracles(metric: Any, question: Question) -> tuple[Scores, Scores]:
    maps = truth(metric, question)
    first, last = (metric(question, attribution(question, m)) for m in (maps, reversed_(metric, question, maps)))
    return first, last


def verdicts(name: str, framework: str) -> tuple[Any, Scores, Scores, dict[str, Scores]]:
    """A metric, its scores of the oracle and of the oracle reversed, and those of every explainer that it can judge."""
    question = asked("numpy", **setting(name))  # the same network and the same scores, and much the fastest
    metric = metric_of(name, question)
    found = {}
    for explainer, answer in answers(framework, **setting(name)).items():
        try:
            found[explainer] = metric(question, answer)
        except Unsupported:
            assert name.startswith("joint_")  # maps that are not complete
    return metric, *oracles(metric, question), found


def mosaics(framework: str) -> tuple[Any, Scores, Scores, dict[str, Scores]]:
    """The same for the grid pointing game, which asks explainers about images put together."""
    question, metric = asked(framework, block=2), metric_of("grid_pointing", asked(framework, block=2))

    def scored(explainer: Any) -> Scores:
        return apply_metric(metric, question, explainer(question), explainer)

    found = {}
    for name in discover():
        explainer = get(name, **CHEAP.get(name, {}))
        try:
            found[name] = scored(explainer)
        except Unsupported:
            continue
    found["exact"] = scored(get(EXACT[0], **EXACT[1]))
    first, last = (
        scored(Oracle(lambda q, _seed, sign=sign: sign * known.contributions(q)[0]))  # type: ignore[misc]
        for sign in (1, -1)
    )
    return metric, first, last, found


FEW = ("deletion", "mask_share")


def _pace(name: str, framework: str) -> list[pytest.MarkDecorator]:
    """Maps of Keras are those of torch but for rounding, and NumPy has fewer: all metrics see them in the deep run alone.

    ROAD is the mean of its two parts, of which the quick tests hold one.
    """
    quick = (
        {"torch", "numpy"} if name == "joint_deletion" else {"torch", "numpy", "keras"} if name in FEW else {"torch"}
    )
    if name == "road_lerf" or framework not in quick:
        return [pytest.mark.deep]
    return [pytest.mark.process] if name == "road" else []


CASES = [pytest.param(e.name, f, marks=_pace(e.name, f)) for e in ENTRIES for f in ("numpy", "torch", "keras")]


@pytest.mark.parametrize(("name", "framework"), CASES)
def test_the_oracle_beats_every_explainer_and_reversed_it_loses(name: str, framework: str) -> None:
    metric, oracle, worst, found = mosaics(framework) if name == "grid_pointing" else verdicts(name, framework)
    sign = 1 if metric.higher_is_better else -1
    best, last = sign * oracle.value, sign * worst.value
    scores = {explainer: sign * scores.value for explainer, scores in found.items()}
    assert np.isfinite(best).all()
    assert np.isfinite(last).all()
    rounding = (1e-6 if framework == "keras" else 1e-9) * (1 + np.abs(best))  # keras explains in float32
    for explainer, values in scores.items():
        known_ = np.isfinite(values)
        assert (values[known_] <= (best + rounding)[known_]).all(), f"{explainer} beats the oracle"
        if metric.axis == "faithfulness":
            assert (values[known_] >= (last - rounding)[known_]).all(), f"{explainer} loses to the reversed oracle"
    means = {explainer: float(np.nanmean(v)) for explainer, v in scores.items() if np.isfinite(v).any()}
    random = means["controls.random"] if "controls.random" in means else _random(metric, name)
    controls = [means[c] for c in CONTROLS if c in means] or [random]
    assert best.mean() > max(controls)
    assert last.mean() < random
    beating = [mean for explainer, mean in means.items() if mean > random and explainer not in CONTROLS]
    # Without gradients no discovered method is complete, which the joint metrics ask for.
    assert beating or (framework == "numpy" and name.startswith("joint_") and not found)
    assert last.mean() < min(beating, default=random)
    if "exact" in means:  # pixelwise occlusion is the truth
        assert means["exact"] == pytest.approx(best.mean(), rel=1e-5) or getattr(metric, "fill", None) is not None
    if not name.startswith("joint_"):
        wrong = [explainer for explainer, mean in means.items() if mean < best.mean() - 1e-3 * abs(best.mean())]
        assert len(wrong) > len(means) / 3  # the network is no walk-over


def _random(metric: Any, name: str) -> float:
    """Random maps under a metric that refuses incomplete ones: with a gap of zero put beside them."""
    question, rng = asked("numpy", **setting(name)), np.random.default_rng(5)
    maps = tuple(rng.normal(size=m.shape) for m in truth(metric, question))
    sign = 1 if metric.higher_is_better else -1
    return float(sign * metric(question, attribution(question, maps)).value.mean())


ROAD = [e.name for e in ENTRIES if e.name.startswith("road")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=_pace(n, "torch")) for n in ROAD])
def test_imputed_pixels_add_nothing(name: str) -> None:
    """So the oracle's value follows from the truth alone, as if the fill did not depend on the mask; and nobody's comes near."""
    question = asked("numpy")
    (adds,), metric = known.contributions(question), metric_of(name, question)
    ours = {"oracle": attribution(question, (adds,)), "reversed": attribution(question, (-adds,))}
    others = answers("torch", False, False)
    best = metric(question, ours["oracle"]).value
    for label, answer in {**others, **ours}.items():
        scores, relevance = metric(question, answer), answer.units("image")
        for row in range(len(question)):
            gone = [
                [adds[row][mask].sum() for mask in metric.masks(question, relevance[row], row, end)]
                for end in metric.ends
            ]
            change = -np.mean(gone, axis=1)
            expected = change[0] if len(change) == 1 else (change[1] - change[0]) / 2
            if label in ("oracle", "reversed", *CONTROLS):
                assert scores.value[row] == pytest.approx(expected, abs=1e-9), label
            else:
                assert abs(scores.value[row] - expected) <= abs(best[row] - expected), label
