"""What the known truth scores: whether a metric can tell it from noise, and who scores better than it."""

from __future__ import annotations

from collections.abc import Sequence

from crossxai.report import analysis, words
from crossxai.report.analysis import Row
from crossxai.report.run import ORACLE, RANDOM, Run
from crossxai.report.wording import Finding, by_models, code, names, on, tally, together


def oracle(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """The oracle against random and against the explainers, by deletion and insertion; nothing without one."""
    points: list[str] = []
    blind: dict[str, list[str]] = {}
    for metric in run.curves:
        texts, above = {}, {}
        for model in run.models:
            row = next((r for r in rows if (r.model, r.label) == (model, ORACLE) and metric in r.cells), None)
            tests = analysis.against(run, model, metric, ORACLE, libraries_only=True) if row else {}
            if row is None or not tests:
                continue
            cell = row.cells[metric]
            above[model] = [x for x, t in tests.items() if t.verdict == "better"]
            worse = [x for x, t in tests.items() if t.verdict == "worse"]
            text = f"{metric.capitalize()}{{where}}: {code(ORACLE)} has {words.number(cell.summary.mean)}"
            if cell.versus is not None:
                than = "from" if cell.versus.verdict == "not told apart" else "than"
                text += f", {cell.versus.verdict} {than} random"
                if cell.versus.verdict != "better":
                    blind.setdefault(model, []).append(metric)
            texts[model] = (
                f"{text}; {tally(len(worse), len(tests))} do worse than it, {len(above[model]) or 'none'} better."
            )
        points += together(texts, run.models)
        for where, labels in by_models(above, run.models):
            points.append(
                f"Better than the oracle in {metric}{where}: {names(labels)}. The model goes by more than the truth of the "
                "label, or the metric rewards something else."
            )
    if not points:
        return []
    if blind:
        said: dict[str, list[str]] = {}
        for model, found in blind.items():
            said.setdefault(words.listing(found), []).append(model)
        listed = [f"{found}{on(models, run.models)}" for found, models in said.items()]
        text = (
            f"The known truth itself is not shown to beat random in {' and '.join(listed)}: a map that fails to beat "
        )
        text += f"{code(RANDOM)} there may still be a correct one."
        return [Finding("Oracle", text, tuple(points), 79, "warning")]
    text = "The known truth beats random, so these scores can tell a correct map from noise."
    return [Finding("Oracle", text, tuple(points), 76, "good")]
