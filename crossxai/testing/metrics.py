"""What every metric promises, on a linear model whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from crossxai.attribution import Attribution, Explainer, ExplainingMetric, Metric, Scores, apply_metric, needs_explainer
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array
from crossxai.question import Question
from crossxai.testing import oracles
from crossxai.testing.oracles import Counting
from crossxai.testing.state import require, require_same, require_untouched, snapshot


def check_metric(
    metric: Metric | ExplainingMetric,
    question: Question | None = None,
    truth: Attribution | None = None,
    explainer: Explainer | None = None,
) -> tuple[str, ...] | Unsupported:
    """Hold a metric to its contract on a question whose true map is known.

    One number per sample, in the declared direction and range, the same every time, whatever the other samples (but where the
    class says `contrasts = True`); of a map that is not finite NaN; inputs, map and process left as they were; of each sample as
    many forward passes as `passes` announces, and as many explanations as `explanations` does.

    The truth beats what the metric's `axis` is meant to tell from it: random maps, and those beat the truth upside down, for
    faithfulness, localisation and no axis; maps drawn anew for every input for stability; maps that see neither model nor
    class for randomisation; random ones for the rest.
    A map with the same ranks gets the same value; if the class says `invariant_to = "scale"`, only a multiple does; if
    "nothing", none need. A curve goes from fraction 0 to 1, and one end of it is the score of the untouched input, unless
    `curve_over` says that it runs over something else than removed units.

    Parameters
    ----------
    metric : Metric or ExplainingMetric, the metric, with the parameters to test
    question : Question, optional
        `linear_question()` if not given; `pair_question()` for the axis "cross-modal", and `colours_question()` for a metric
        that has maps made again (`asks = "explainer"`).
    truth : Attribution, optional, the true map of that question
    explainer : Explainer, optional, the explainer that made the true map, for a metric that has maps made again

    Returns
    -------
    tuple of str or Unsupported, what was not checked, and why, one sentence each, or the refusal of the metric

    Raises
    ------
    AssertionError: with a sentence on what is broken
    """
    who = f"metric {metric.name!r}"
    trial = _trial(metric, question, truth, explainer)
    question, truth = trial.question, trial.truth
    inputs = tuple(v.copy() for v in (*question.values, *truth.values))
    before = snapshot(question.model)
    try:
        best = trial.evaluate()
    except Unsupported as refusal:
        require(str(refusal).strip(), f"{who} raised Unsupported without a reason")
        return refusal
    require_same(before, snapshot(question.model), who)
    require_untouched(inputs, (*question.values, *truth.values), who)
    _check_scores(metric, question, best, who)
    left_out: list[str] = []
    _require_equal(trial.evaluate().value, best.value, f"{who} gives two values for one map")
    if getattr(metric, "contrasts", False):
        left_out.append("independence of the other samples: the class says contrasts = True")
    else:
        rows = np.arange(len(question))[::-2]
        _require_equal(trial.of(rows).evaluate().value, best.value[rows], f"{who} depends on the other samples")
    _check_passes(trial, who)
    _check_invariance(trial, best, who, left_out)
    _check_order(trial, best, who)
    _check_curve(trial, best, who, left_out)
    broken = trial.evaluate(lambda maps: np.full_like(maps, np.nan))
    require(np.isnan(broken.value).all(), f"{who} gives {broken.value[0]} for a map of NaN: give NaN, which is counted")
    return tuple(left_out)


@dataclass(frozen=True)
class _Trial:
    """A metric, a question with its true map, and what explains like it."""

    metric: Metric | ExplainingMetric
    question: Question
    truth: Attribution
    explainer: Explainer

    def evaluate(self, change: Callable[[Array], Array] = lambda maps: maps) -> Scores:
        """The metric's scores where every true map, also of inputs like these, is changed by a function."""
        explainer = oracles.Oracle(lambda question, _seed: change(self.explainer(question).values[0]))
        changed = replace(self.truth, values=tuple(change(values) for values in self.truth.values))
        return apply_metric(self.metric, self.question, changed, explainer)

    def rival(self, relevance: Callable[[Question, int], Array]) -> Scores:
        """The metric's scores of another explainer."""
        explainer = oracles.Oracle(relevance)
        return apply_metric(self.metric, self.question, explainer(self.question), explainer)

    def of(self, rows: Any) -> _Trial:
        """The same about some of the samples."""
        some = replace(
            self.truth,
            values=tuple(values[rows] for values in self.truth.values),
            ids=tuple(self.truth.ids[i] for i in rows),
            extras={name: np.asarray(extra)[rows] for name, extra in self.truth.extras.items()},
        )
        return replace(self, question=self.question[rows], truth=some)


def _trial(
    metric: Metric | ExplainingMetric,
    question: Question | None,
    truth: Attribution | None,
    explainer: Explainer | None,
) -> _Trial:
    if (question is None) != (truth is None):
        raise InvalidInput("give a question and the true map of it, or neither")
    again = needs_explainer(metric)
    if question is None or truth is None:
        if again:
            question, explainer = oracles.colours_question(), oracles.Oracle(oracles.truth)
            truth = explainer(question)
        elif getattr(metric, "axis", "") == "cross-modal":
            question, truth = oracles.pair_question()
        else:
            question, truth = oracles.linear_question()
    if again and explainer is None:
        raise InvalidInput(f"metric {metric.name!r} has maps made again: give the explainer of the true map, too")
    return _Trial(metric, question, truth, explainer or oracles.Oracle(oracles.truth))


def _check_scores(metric: Metric | ExplainingMetric, question: Question, scores: Scores, who: str) -> None:
    require(scores.metric == metric.name, f"{who} signs its scores as {scores.metric!r}")
    require(
        scores.higher_is_better == metric.higher_is_better,
        f"{who} says higher_is_better = {metric.higher_is_better}, its scores say {scores.higher_is_better}",
    )
    require(scores.value.shape == (len(question),), f"{who} gives values of shape {scores.value.shape}")
    require(np.isfinite(scores.value).all(), f"{who} gives NaN or infinity for the true map")
    low, high = getattr(metric, "range", (None, None))
    inside = (low is None or scores.value.min() >= low - 1e-9) and (high is None or scores.value.max() <= high + 1e-9)
    require(inside, f"{who} gives {scores.value.min():.4g} to {scores.value.max():.4g}, its range is {low} to {high}")
    for name, extra in scores.extras.items():
        shape = np.shape(extra)
        require(shape == (len(question),), f"{who} extra {name!r} has shape {shape}: one number per sample is needed")


def _check_passes(trial: _Trial, who: str) -> None:
    metric: Any = trial.metric
    if not hasattr(metric, "passes"):
        return
    counting, explained = Counting(trial.question.model), 0
    counted = replace(trial, question=replace(trial.question, model=counting))

    def explain(question: Question, _seed: int) -> Array:
        nonlocal explained
        explained += len(question)
        return np.asarray(np.random.default_rng(0).random((*question.values[0].shape[:-1], 1)))

    explainer, n = oracles.Oracle(explain), len(trial.question)
    apply_metric(metric, counted.question, trial.truth, explainer)
    announced = sum(metric.passes(trial.question[[i]]) for i in range(n))
    require(counting.forward == announced, f"{who} makes {counting.forward} forward passes, and announces {announced}")
    if needs_explainer(trial.metric):
        announced = n * trial.metric.explanations(trial.question, explainer)
        require(explained == announced, f"{who} has {explained} samples explained again, and announces {announced}")


def _check_invariance(trial: _Trial, best: Scores, who: str, left_out: list[str]) -> None:
    kind = getattr(trial.metric, "invariant_to", "order")
    require(kind in ("order", "scale", "nothing"), f"{who}: invariant_to is order, scale or nothing, not {kind!r}")
    if kind == "nothing":
        left_out.append("invariance: the class says invariant_to = 'nothing'")
        return
    _require_equal(trial.evaluate(lambda maps: 8 * maps).value, best.value, f"{who} changes with a map's scale")
    if kind == "scale":
        left_out.append("invariance to a monotone rescaling of the map: the class says invariant_to = 'scale'")
        return
    largest = np.abs(trial.truth.values[0]).max()
    bent = trial.evaluate(lambda maps: np.exp(2 * maps / largest))
    message = f"{who} changes when a map's order stays: if it is meant to, write invariant_to = 'scale' in the class"
    _require_equal(bent.value, best.value, message)


def _check_order(trial: _Trial, best: Scores, who: str) -> None:
    metric = trial.metric
    axis = getattr(metric, "axis", "faithfulness")
    again = needs_explainer(metric)
    ranked = {"the truth": best}
    if axis == "randomisation":
        ranked["maps that see neither model nor class"] = trial.rival(oracles.brightness)
    elif again and axis in ("stability", "axiomatic"):
        ranked["maps drawn anew for every input"] = trial.rival(oracles.anew)
    else:
        ranked["random maps"] = trial.evaluate(
            lambda maps: np.random.default_rng(1).random(maps.shape).astype(maps.dtype, copy=False)
        )
    if axis in ("faithfulness", "localisation"):
        ranked["the truth upside down"] = trial.evaluate(lambda maps: maps.max(axis=(1, 2, 3), keepdims=True) - maps)
    sign = 1 if metric.higher_is_better else -1
    means = {name: sign * float(np.nanmean(scores.value)) for name, scores in ranked.items()}
    for better, worse in pairwise(means):
        require(
            means[better] > means[worse],
            f"{who} gives {better} {sign * means[better]:.4g} and {worse} {sign * means[worse]:.4g}, "
            f"with higher_is_better = {metric.higher_is_better}: the direction or the metric is wrong, or it "
            "ranks other maps: check_metric(metric, question, truth) takes a question and the map that is best of it",
        )


def _check_curve(trial: _Trial, best: Scores, who: str, left_out: list[str]) -> None:
    if best.curve is None or best.fractions is None:
        left_out.append("end points: the metric has no curve")
        return
    over = getattr(trial.metric, "curve_over", "units")
    if over != "units":
        left_out.append(f"end points: the curve runs over {over}")
        return
    fractions = np.broadcast_to(best.fractions, best.curve.shape)
    whole = (fractions[:, 0] == 0).all() and (fractions[:, -1] == 1).all() and (np.diff(fractions, axis=1) > 0).all()
    require(whole, f"{who}: a curve's fractions rise from 0 to 1, got {fractions[0]}")
    ends = best.curve[:, [0, -1]]
    untouched = trial.question.score()[:, None]
    require(
        np.isclose(ends, untouched, rtol=1e-5).all(axis=0).any(),
        f"{who}: neither end of the curve is the score of the untouched input",
    )
    other = trial.evaluate(lambda maps: maps.max() - maps)
    assert other.curve is not None
    _require_equal(other.curve[:, [0, -1]], ends, f"{who}: the ends of the curve depend on the map")


def _require_equal(actual: Any, expected: Any, message: str) -> None:
    gap = np.abs(actual - expected).max()
    require(np.allclose(actual, expected, rtol=1e-6, atol=1e-9), f"{message}: the largest difference is {gap:.3g}")
