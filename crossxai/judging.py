"""Judging maps by metrics that ask about the explained question, some of the explainer again; what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crossxai.attribution import Attribution, Explainer
from crossxai.errors import InvalidInput, MissingDependency, UnknownName, Unsupported
from crossxai.explainers import Method
from crossxai.files import Explanation
from crossxai.question import Question
from crossxai.scores import Metric, Scores, explains_again, judge


def asked(
    metric: Metric, question: Question, attribution: Attribution, explainer: Explainer, warn: Callable[[str], object]
) -> Scores:
    """Scores of a metric of the explained question; where the explainer refuses to explain again, NaN with the reason."""
    try:
        return judge(metric, question, attribution, explainer)
    except (Unsupported, InvalidInput, UnknownName, MissingDependency) as error:
        warn(f"{metric.name} of {attribution.explainer} is left out: {error}")
        nothing = np.full(len(question), np.nan)
        return Scores(metric.name, nothing, metric.higher_is_better, params={"refused": str(error)})


def attribution(explanation: Explanation, question: Question) -> Attribution:
    """The map of a file, as the explainer gave it."""
    modalities = tuple(m for m in question.modalities if m.name in explanation.values)
    values = tuple(explanation.values[m.name] for m in modalities)
    about = (explanation.ids, explanation.label, explanation.profile, explanation.params)
    return Attribution(values, modalities, *about, extras=explanation.extras, notes=explanation.notes)


def apart(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Metrics of the measured question, which share a stream, and those of the explained one, by their labels."""
    asking = {label: m for label, m in metrics.items() if getattr(m, "asks", "")}
    return {label: m for label, m in metrics.items() if label not in asking}, asking


def judging_cost(metric: Metric, question: Question, explainer: Explainer) -> int:
    """Passes of a metric of the explained question, a backward one counted as two; of its explanations, too."""
    try:
        own = len(question) * int(metric.passes(question)) if hasattr(metric, "passes") else 0
        if not explains_again(metric):
            return own
        return own + metric.explanations(question, explainer) * cost_of(explainer, question)
    except (Unsupported, InvalidInput, UnknownName):  # said again, and written down, when its turn comes
        return len(question)


def cost_of(explainer: Explainer, question: Question) -> int:
    """Forward passes of an explainer, a backward one counted as two; at least one, so that every task moves the bar."""
    if not isinstance(explainer, Method):
        return len(question)
    try:
        forward, backward = explainer.cost(question)
    except (Unsupported, InvalidInput, UnknownName):  # said again, and written down, when its turn comes
        return len(question)
    return len(question) * max(1, forward + 2 * backward)
