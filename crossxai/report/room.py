"""What the ends of a run's curves say of its areas: how much an order of units can gain, and whether the model extrapolates."""

from __future__ import annotations

from crossxai.model import Array
from crossxai.report import analysis, words
from crossxai.report.phrases import together
from crossxai.report.run import Run

SMALL = 0.2  # of the larger end: the ends of the curves are alike
FAR = 1.0  # widths of the scores of whole inputs, outside them: the model extrapolates


def little(run: Run, metric: str) -> list[str]:
    """Where both ends of the curves are alike: no order can make much difference, unless half removed moves the model more
    than what is wholly removed."""
    done, units = ("removed" if run.kinds[metric] == "deletion" else "put back"), _units(run, metric)
    texts = {}
    for model, curves in _curves(run, metric).items():
        # All curves of a model share both ends: nothing changed, and everything changed.
        start, end = float(curves[0][0]), float(curves[0][-1])
        if abs(end - start) >= SMALL * max(abs(start), abs(end)):
            continue
        ends = f"the mean score is {words.number(start)} with nothing {done} and {words.number(end)} with everything {done}"
        lowest, highest = min(float(c.min()) for c in curves), max(float(c.max()) for c in curves)
        beyond = max(min(start, end) - lowest, highest - max(start, end))
        if beyond <= SMALL * max(abs(start), abs(end)):
            texts[model] = f"Little room{{where}}: {ends}, so no order of {units} has much to gain here."
        else:
            extreme = lowest if min(start, end) - lowest == beyond else highest
            texts[model] = (
                f"Both ends are alike{{where}}: {ends}, but a mean curve reaches {words.number(extreme)} in between. What is "
                "half removed moves the model more than what is wholly removed: such an area also shows what misleads it."
            )
    return together(texts, run.models)


def off_scale(run: Run, metric: str) -> list[str]:
    """Where a regression's curves leave the scores of whole inputs by far: the model is asked about what it never saw."""
    if getattr(run.samples, "task", "classification") != "regression":
        return []
    texts = {}
    for model, curves in _curves(run, metric).items():
        found = next(c for e in run.of(model).values() if (c := analysis.mean_curve(e, metric)) is not None)[1]
        whole = found[:, 0] if run.kinds[metric] == "deletion" else found[:, -1]
        low, high = float(whole.min()), float(whole.max())
        lowest, highest = min(float(c.min()) for c in curves), max(float(c.max()) for c in curves)
        if min(lowest - low, high - highest) < -FAR * (high - low) and len(whole) > 1:
            texts[model] = (
                f"Off the scale{{where}}: on whole inputs the score lies between {words.number(low, 1)} and "
                f"{words.number(high, 1)}, the mean curves go from {words.number(lowest, 1)} to {words.number(highest, 1)}. With "
                f"{_units(run, metric)} replaced, the model extrapolates far beyond what it was trained on: these areas say how, "
                "and little of what it uses. Another fill may not."
            )
    return together(texts, run.models)


def _units(run: Run, metric: str) -> str:
    """What is ranked: pixels of an image, columns of a table."""
    scores = next((e.scores[metric] for e in run.explanations if metric in e.scores), None)
    name = str(scores.params.get("modality") or "") if scores is not None else ""
    kinds = {"pixels" if m.spatial else "columns" for m in run.samples.modalities if name in ("", m.name)}
    return kinds.pop() if len(kinds) == 1 else "units"


def _curves(run: Run, metric: str) -> dict[str, list[Array]]:
    """Model → the mean curves of its explainers; models without any left out."""
    found = {
        model: [c[1].mean(axis=0) for e in run.of(model).values() if (c := analysis.mean_curve(e, metric)) is not None]
        for model in run.models
    }
    return {model: curves for model, curves in found.items() if curves}
