"""Scores of maps by metrics of the measured and of the explained question, and what explaining and evaluating cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from crossxai.attribution import Attribution, Explainer, Metric, Scores, apply_metric, needs_explainer
from crossxai.errors import CrossXAIError
from crossxai.evaluation import curves
from crossxai.explainers import Method
from crossxai.files import Explanation, Samples
from crossxai.process import foreign
from crossxai.question import Question

Refuse = Callable[[Exception, str, str], str]
"""Given an error, an explainer's label and a metric's, keeps it and returns the reason of the row."""


def evaluate_alone(
    label: str, metric: Metric, question: Question, attribution: Attribution, explainer: Explainer, refuse: Refuse
) -> Scores:
    """Scores of a metric of the explained question; NaN with the reason where it, or the explainer that it asks again, fails."""
    try:
        return apply_metric(metric, question, attribution, explainer)
    except Exception as error:  # one failure is one row
        return _without_value(metric, question, refuse(error, attribution.explainer, label))


def evaluate_stream(
    metrics: Mapping[str, Metric],
    question: Question,
    maps: Sequence[Attribution],
    progress: Callable[[int], object],
    refuse: Refuse,
) -> list[dict[str, Scores]]:
    """Scores of metrics of the measured question by label, per map, from one stream; NaN with the reason where one fails.

    After a failure the metrics are asked one by one, then the maps, so that the others have their scores.
    """
    try:
        scores = curves.evaluate(question, maps, [*metrics.values()], progress)
        return [dict(zip(metrics, row, strict=True)) for row in scores]
    except Exception as error:  # one failure is one row
        if len(metrics) > 1:
            alone = [evaluate_stream({label: m}, question, maps, progress, refuse) for label, m in metrics.items()]
            return [{label: s for part in row for label, s in part.items()} for row in zip(*alone, strict=True)]
        if len(maps) > 1:
            return [row for one in maps for row in evaluate_stream(metrics, question, [one], progress, refuse)]
        return [
            {label: _without_value(m, question, refuse(error, one.explainer, label)) for label, m in metrics.items()}
            for one in maps
        ]


def _without_value(metric: Metric, question: Question, reason: str) -> Scores:
    values = np.full(len(question), np.nan)
    return Scores(metric.name, values, metric.higher_is_better, params={"refused": reason})


def attribution(explanation: Explanation, of: Question | Samples) -> Attribution:
    """The map of a file, as the explainer gave it."""
    modalities = tuple(m for m in of.modalities if m.name in explanation.values)
    values = tuple(explanation.values[m.name] for m in modalities)
    about = (explanation.ids, explanation.label, explanation.profile, explanation.params)
    learnt = (explanation.extras, explanation.seconds, explanation.notes)
    return Attribution(values, modalities, *about, *learnt)


def split_by_question(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Metrics of the measured question, which share a stream, and those of the explained one, by their labels."""
    others = {label: m for label, m in metrics.items() if getattr(m, "asks", "")}
    return {label: m for label, m in metrics.items() if label not in others}, others


def evaluation_cost(metric: Metric, question: Question, explainer: Explainer) -> tuple[int, int]:
    """(passes, forward ones) of a metric of the explained question, as `explaining_cost`; of its explanations, too."""
    try:
        own = len(question) * int(metric.passes(question)) if hasattr(metric, "passes") else 0
        if not needs_explainer(metric):
            return own, own
        times, (cost, forward) = metric.explanations(question, explainer), explaining_cost(explainer, question)
        return own + times * cost, own + times * forward
    except _expected():  # said again, and written down, when its turn comes
        return len(question), len(question)


def explaining_cost(explainer: Explainer, question: Question) -> tuple[int, int]:
    """(passes, forward ones) of an explainer, a backward one counted as two; at least one, so that every task moves the bar."""
    try:
        forward, backward = explainer.cost(question) if isinstance(explainer, Method) else (1, 0)
    except _expected():  # said again, and written down, when its turn comes
        forward, backward = 1, 0
    return len(question) * max(1, forward + 2 * backward), len(question) * max(1, forward)


def stream_cost(metrics: Mapping[str, Metric], question: Question, maps: Sequence[Attribution]) -> int:
    """Passes of metrics of the measured question."""
    try:
        return curves.passes(question, maps, [*metrics.values()])
    except _expected():  # said again, and written down, when its turn comes
        return len(question)


def _expected() -> tuple[type[Exception], ...]:
    """What asking for a cost may raise: refusals, what models and libraries raise, what is not installed, found or affordable."""
    return (CrossXAIError, *foreign(), ImportError, OSError, MemoryError)
