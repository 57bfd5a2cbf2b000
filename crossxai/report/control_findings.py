"""Findings about controls: who beats maps that ignore the model, and whether scores can tell the known truth from noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from crossxai.report import analysis
from crossxai.report.analysis import Row
from crossxai.report.run import CONTROLS, ORACLE, RANDOM, Run
from crossxai.report.wording import Fact, Tone


@dataclass(frozen=True)
class Against:
    """Explainers against one control by a metric on a model: those that are better, and those that are worse."""

    better: tuple[str, ...]
    worse: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class AgainstControl:
    """One control and one metric, by model."""

    metric: str
    control: str
    models: Mapping[str, Against]

    @property
    def losing(self) -> dict[str, Against]:
        """Models on which more than half of the explainers are worse than the control."""
        return {m: x for m, x in self.models.items() if 2 * len(x.worse) > x.total}

    @property
    def better(self) -> dict[str, tuple[str, ...]]:
        """Model → the explainers that are better."""
        return {m: x.better for m, x in self.models.items()}


@dataclass(frozen=True)
class SimpleControls(Fact):
    """Explainers against maps that ignore the model and are no noise either. able: whether n samples can show any difference."""

    key: ClassVar[str] = "simple_controls"
    n: int
    able: bool
    comparisons: tuple[AgainstControl, ...]

    @property
    def weight(self) -> float:
        """Just below the comparisons with random where a control is better than most."""
        return 88.5 if self.strongest else 80

    @property
    def tone(self) -> Tone:
        """Plain where at least half of the explainers beat every control."""
        return "warning" if self.strongest or self.few or not self.able else "plain"

    @property
    def controls(self) -> list[str]:
        """Every control once."""
        return list(dict.fromkeys(c.control for c in self.comparisons))

    @property
    def few(self) -> bool:
        """Whether fewer than half of the explainers beat some control."""
        return any(2 * len(x.better) < x.total for c in self.comparisons for x in c.models.values())

    @property
    def strongest(self) -> AgainstControl | None:
        """The comparison in which the largest share of explainers, and more than half, is worse than a control."""
        losing = [c for c in self.comparisons if c.losing]
        return max(losing, key=lambda c: max(len(x.worse) / x.total for x in c.losing.values()), default=None)


@dataclass(frozen=True)
class TruthScore:
    """The mean of the known truth, its verdict against random ("" without one), and explainers better and worse than it."""

    mean: float
    versus: str
    better: tuple[str, ...]
    worse: int
    total: int


@dataclass(frozen=True)
class KnownTruth(Fact):
    """Whether metrics can tell the known truth from noise, by metric and model."""

    key: ClassVar[str] = "known_truth"
    control: str
    scores: Mapping[str, Mapping[str, TruthScore]]

    @property
    def weight(self) -> float:
        """Higher where a metric cannot."""
        return 79 if self.blind else 76

    @property
    def tone(self) -> Tone:
        """A warning where a metric cannot."""
        return "warning" if self.blind else "good"

    @property
    def blind(self) -> dict[str, list[str]]:
        """Metric → the models on which the truth is not shown to beat random; metrics without such a model left out."""
        failing = {
            metric: [m for m, x in scores.items() if x.versus not in ("", "better")]
            for metric, scores in self.scores.items()
        }
        return {metric: models for metric, models in failing.items() if models}

    def better(self, metric: str) -> dict[str, tuple[str, ...]]:
        """Model → explainers better than the truth."""
        return {m: x.better for m, x in self.scores[metric].items()}


def facts(run: Run, rows: Sequence[Row]) -> list[Fact]:
    """What the comparisons with controls other than random say."""
    collected: list[Fact] = []
    controls = _simple_controls(run)
    if controls:
        able = any(_able(run, c.metric, c.control) for c in controls)
        collected.append(SimpleControls(models=run.models, n=run.n, able=able, comparisons=controls))
    if truth := _known_truth(run, rows):
        collected.append(KnownTruth(models=run.models, control=ORACLE, scores=truth))
    return collected


def _simple_controls(run: Run) -> tuple[AgainstControl, ...]:
    """Against every control but random and oracles."""
    oracles = {e.label for e in run.explanations if e.explainer == ORACLE}
    controls = [x for x in run.labels if x.startswith(f"{CONTROLS}.") and x not in (RANDOM, *oracles)]
    comparisons = []
    for metric in run.curves:
        for control in controls:
            models = {
                model: against for model in run.models if (against := _against(run, model, metric, control)).total
            }
            if models:
                comparisons.append(AgainstControl(metric, control, models))
    return tuple(comparisons)


def _against(run: Run, model: str, metric: str, control: str) -> Against:
    tests = analysis.against(run, model, metric, control, libraries_only=True)
    tests = {label: test for label, test in tests.items() if test.verdict != "no test"}
    ordered = sorted(tests, key=lambda label: -abs(tests[label].difference))
    better, worse = (tuple(x for x in ordered if tests[x].verdict == verdict) for verdict in ("better", "worse"))
    return Against(better, worse, len(tests))


def _able(run: Run, metric: str, control: str) -> bool:
    """Whether any comparison with a control can be significant, with so many samples and comparisons."""
    for model in run.models:
        tests = [
            t
            for t in analysis.against(run, model, metric, control, libraries_only=True).values()
            if t.verdict != "no test"
        ]
        if tests and analysis.smallest_p(max(t.n for t in tests), len(tests)) < analysis.ALPHA:
            return True
    return False


def _known_truth(run: Run, rows: Sequence[Row]) -> dict[str, dict[str, TruthScore]]:
    truth: dict[str, dict[str, TruthScore]] = {}
    for metric in run.curves:
        for row in (r for r in rows if r.label == ORACLE and metric in r.cells):
            tests = analysis.against(run, row.model, metric, ORACLE, libraries_only=True)
            if tests:
                cell, verdicts = row.cells[metric], {x: t.verdict for x, t in tests.items()}
                better = tuple(x for x, v in verdicts.items() if v == "better")
                worse = sum(v == "worse" for v in verdicts.values())
                versus = cell.versus.verdict if cell.versus else ""
                truth.setdefault(metric, {})[row.model] = TruthScore(
                    cell.summary.mean, versus, better, worse, len(tests)
                )
    return truth
