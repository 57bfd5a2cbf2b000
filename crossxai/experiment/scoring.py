"""Scores of maps by metrics, where one failure is one row: whatever a metric raises, the others have their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from crossxai.attribution import Attribution, Explainer, Metric, Scores, apply_metric
from crossxai.evaluation import curves
from crossxai.question import Question

Refuse = Callable[[Exception, str, str], str]
"""Given an error, an explainer's label and a metric's, keeps it and returns the reason of the row."""


def evaluate_alone(
    label: str, metric: Metric, question: Question, attribution: Attribution, explainer: Explainer, refuse: Refuse
) -> Scores:
    """Scores of a metric of the explained question; NaN with the reason where it, or the explainer that it runs again, fails."""
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
    """Scores of metrics of the measured question by label, per map, from one stream; NaN with the reason where one
    fails. After a failure the metrics run one by one, then the maps, so that the others have their scores."""
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


def split_by_question(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Metrics of the measured question, which share a stream, and those of the explained one, by their labels."""
    others = {label: m for label, m in metrics.items() if getattr(m, "asks", "")}
    return {label: m for label, m in metrics.items() if label not in others}, others
