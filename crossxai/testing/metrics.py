"""What every metric promises, on a linear model whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.question import Question
from crossxai.scores import Metric, Scores
from crossxai.target import Target
from crossxai.testing.state import require, require_same, require_untouched, snapshot


class _Linear:
    """score = sum of weights · image."""

    name = "linear"
    modalities = (Modality.image(),)

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray((inputs[0] * self.weights).reshape(len(inputs[0]), -1).sum(axis=1, keepdims=True))

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs = self.predict(inputs)
        return outputs, (np.multiply.outer(cotangent(outputs)[:, 0], self.weights),)


def linear_question(n: int = 12, size: int = 16) -> tuple[Question, Attribution]:
    """Dark images (n, size, size, 3) with a bright square of size / 2 in the middle, the only place a linear model looks at,
    and the true map: weight times input, summed over channels, positive inside the square and zero elsewhere."""
    rng = np.random.default_rng(0)
    middle = slice(size // 4, size // 4 + size // 2)
    images = rng.uniform(0.1, 0.2, (n, size, size, 3))
    images[:, middle, middle] = rng.uniform(0.8, 1.0, images[:, middle, middle].shape)
    weights = np.zeros((size, size, 3))
    weights[middle, middle] = rng.uniform(0.2, 2.0, weights[middle, middle].shape) / (size * size)
    question = Question(_Linear(weights), (images,), Target.outputs(0, n, 1))
    truth = (images * weights).sum(axis=-1, keepdims=True)
    complete = {"completeness_gap": np.zeros(n)}
    return question, Attribution((truth,), question.modalities, question.ids, "the truth", extras=complete)


def check_metric(
    metric: Metric, question: Question | None = None, truth: Attribution | None = None
) -> tuple[str, ...] | Unsupported:
    """Hold a metric to its contract, on `linear_question()` unless you give a question and its true map.

    One number per sample, in the declared direction, the same every time, whatever the other samples; of a map that is not
    finite NaN; inputs, map and process left as found. The truth beats random maps, and those beat the truth upside down.
    A map that only ranks alike gets the same value; if the class says `invariant_to = "scale"`, only a multiple does; if
    "nothing", none need. A curve goes from fraction 0 to 1, and one end of it is the score of the untouched input.

    Returns what was not checked, and why, one sentence each, or the `Unsupported` that the metric refused with. Raises
    `AssertionError` with what is broken.
    """
    if (question is None) != (truth is None):
        raise InvalidInput("give a question and the true map of it, or neither")
    if question is None or truth is None:
        question, truth = linear_question()
    who = f"metric {metric.name!r}"
    inputs, values = question.values[0].copy(), truth.values[0].copy()
    before = snapshot(question.model)
    try:
        best = metric(question, truth)
    except Unsupported as refusal:
        require(str(refusal).strip(), f"{who} raised Unsupported without a reason")
        return refusal
    require_same(before, snapshot(question.model), who)
    require_untouched((inputs, values), (question.values[0], truth.values[0]), who)
    _check_scores(metric, question, best, who)
    left_out: list[str] = []
    rows = np.arange(len(question))[::-2]
    some = replace(
        truth,
        values=(truth.values[0][rows],),
        ids=tuple(question.ids[i] for i in rows),
        extras={name: np.asarray(extra)[rows] for name, extra in truth.extras.items()},
    )
    _require_equal(metric(question, truth).value, best.value, f"{who} gives two values for one map")
    _require_equal(metric(question[rows], some).value, best.value[rows], f"{who} depends on the other samples")
    _check_invariance(metric, question, truth, best, who, left_out)
    _check_order(metric, question, truth, best, who)
    _check_curve(metric, question, truth, best, who, left_out)
    broken = metric(question, _map(truth, np.full_like(truth.values[0], np.nan)))
    require(np.isnan(broken.value).all(), f"{who} gives {broken.value[0]} for a map of NaN: give NaN, which is counted")
    return tuple(left_out)


def _check_scores(metric: Metric, question: Question, scores: Scores, who: str) -> None:
    require(scores.metric == metric.name, f"{who} signs its scores as {scores.metric!r}")
    require(
        scores.higher_is_better == metric.higher_is_better,
        f"{who} says higher_is_better = {metric.higher_is_better}, its scores say {scores.higher_is_better}",
    )
    require(scores.value.shape == (len(question),), f"{who} gives values of shape {scores.value.shape}")
    require(np.isfinite(scores.value).all(), f"{who} gives NaN or infinity for the true map")
    for name, extra in scores.extras.items():
        shape = np.shape(extra)
        require(shape == (len(question),), f"{who} extra {name!r} has shape {shape}: one number per sample is needed")


def _check_invariance(
    metric: Metric, question: Question, truth: Attribution, best: Scores, who: str, left_out: list[str]
) -> None:
    kind = getattr(metric, "invariant_to", "order")
    require(kind in ("order", "scale", "nothing"), f"{who}: invariant_to is order, scale or nothing, not {kind!r}")
    (values,) = truth.values
    if kind == "nothing":
        left_out.append("invariance: the class says invariant_to = 'nothing'")
        return
    _require_equal(metric(question, _map(truth, 8 * values)).value, best.value, f"{who} changes with a map's scale")
    if kind == "scale":
        left_out.append("invariance to a monotone rescaling of the map: the class says invariant_to = 'scale'")
        return
    bent = np.exp(2 * values / np.abs(values).max())
    message = f"{who} changes when a map's order stays: if it is meant to, write invariant_to = 'scale' in the class"
    _require_equal(metric(question, _map(truth, bent)).value, best.value, message)


def _check_order(metric: Metric, question: Question, truth: Attribution, best: Scores, who: str) -> None:
    (values,) = truth.values
    noise = np.random.default_rng(1).random(values.shape).astype(values.dtype)
    maps = {"random maps": noise, "the truth upside down": values.max() - values}
    sign = 1 if metric.higher_is_better else -1
    means = {"the truth": sign * float(best.value.mean())}
    means |= {name: sign * float(np.nanmean(metric(question, _map(truth, v)).value)) for name, v in maps.items()}
    for better, worse in pairwise(means):
        require(
            means[better] > means[worse],
            f"{who} gives {better} {sign * means[better]:.4g} and {worse} {sign * means[worse]:.4g}, "
            f"with higher_is_better = {metric.higher_is_better}: the direction or the metric is wrong",
        )


def _check_curve(
    metric: Metric, question: Question, truth: Attribution, best: Scores, who: str, left_out: list[str]
) -> None:
    if best.curve is None or best.fractions is None:
        left_out.append("end points: the metric has no curve")
        return
    fractions = np.broadcast_to(best.fractions, best.curve.shape)
    whole = (fractions[:, 0] == 0).all() and (fractions[:, -1] == 1).all() and (np.diff(fractions, axis=1) > 0).all()
    require(whole, f"{who}: a curve's fractions rise from 0 to 1, got {fractions[0]}")
    ends = best.curve[:, [0, -1]]
    untouched = question.score()[:, None]
    require(
        np.isclose(ends, untouched, rtol=1e-5).all(axis=0).any(),
        f"{who}: neither end of the curve is the score of the untouched input",
    )
    other = metric(question, _map(truth, truth.values[0].max() - truth.values[0]))
    assert other.curve is not None
    _require_equal(other.curve[:, [0, -1]], ends, f"{who}: the ends of the curve depend on the map")


def _map(truth: Attribution, values: Array) -> Attribution:
    return replace(truth, values=(values,))


def _require_equal(found: Any, expected: Any, message: str) -> None:
    gap = np.abs(found - expected).max()
    require(np.allclose(found, expected, rtol=1e-6, atol=1e-9), f"{message}: the largest difference is {gap:.3g}")
