"""Which modality? Every explainer's shares by two conventions beside what ablation of the model says, per model of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossxai.attribution import reduce_channels
from crossxai.evaluation import statistics
from crossxai.evaluation.metrics import modality
from crossxai.evaluation.metrics.modality import DROP, Numbers
from crossxai.evaluation.statistics import Summary
from crossxai.files import Explanation
from crossxai.model import Array
from crossxai.report import words
from crossxai.report.run import Run, is_control, ok
from crossxai.report.wording import code, tally

UNLIKE = (
    "The mean divides by the number of units: {units}. A modality of few units then needs little to get a large share.",
    "The sum counts every unit, the noise of many pixels included, so a large image gets a share for its size alone.",
)
ALIKE = (
    "Mean and sum are the same here, of equally many units: {units}. Noise on every pixel draws all shares together.",
)
WHY = (
    "Ablation asks the model: it replaces a whole modality{baseline} and looks what the score loses. Of two modalities that "
    "say the same, each can be replaced while the other still speaks, so both lose little and their shares say little; where "
    "only both together decide, the score falls as far with either gone.",
    "All of them depend on what stands for “nothing”, the baseline: another one can give other shares.",
)


@dataclass(frozen=True)
class Shares:
    """One answer's shares: modality → mean over samples with its interval; per_sample (n, modalities); net: the signed sums of
    maps that add up, likewise."""

    shares: Mapping[str, Summary]
    per_sample: Numbers
    net: Mapping[str, Summary]

    @property
    def leader(self) -> str:
        """The modality whose mean share is the largest, its interval above all others'; "" if there is none such."""
        known = {m: s for m, s in self.shares.items() if math.isfinite(s.mean)}
        if not known:
            return ""
        first = max(known, key=lambda m: known[m].mean)
        low = known[first].low if math.isfinite(known[first].low) else known[first].mean
        return first if all(low > s.high for m, s in known.items() if m != first and math.isfinite(s.high)) else ""


@dataclass(frozen=True)
class Row:
    """One explainer: its answers by the mean and by the sum, or by ablation alone; or the reason why it has none."""

    label: str
    library: str
    control: bool
    answers: Mapping[str, Shares]
    missing: str = ""

    @property
    def ablation(self) -> bool:
        """Whether it is what the model does, not a map."""
        return "ablation" in self.answers


@dataclass(frozen=True)
class Table:
    """One model's rows, ablation first, controls last, what they say in words, and why they need not agree."""

    model: str
    modalities: tuple[str, ...]
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    why: str = ""

    @property
    def has_net(self) -> bool:
        """Whether any row has signed sums."""
        return any(s.net for r in self.rows for s in r.answers.values())

    @property
    def ablation(self) -> Shares | None:
        """What the model does; None if the run has no ablation of whole modalities."""
        return next((r.answers["ablation"] for r in self.rows if r.ablation), None)


def tables(run: Run) -> list[Table]:
    """One per model of a run of several modalities with maps; none for a run of one."""
    names = tuple(m.name for m in run.samples.modalities)
    if len(names) < 2:
        return []
    found = []
    for model in run.models:
        rows = [_row(run, e) for e in run.of(model).values() if ok(e)]
        rows.sort(key=lambda r: (not r.ablation, r.control))
        if any(r.answers for r in rows):
            found.append(Table(model, names, tuple(rows), tuple(_sentences(run, model, rows)), why(run, model)))
    return found


def units(run: Run, explanation: Explanation) -> list[Array]:
    """A map's relevance per unit (n, *units), of each modality in the run's order; all of them must be there."""
    found = []
    for m in run.samples.modalities:
        values, given = explanation.values[m.name], run.samples.inputs[m.name]
        one = reduce_channels(values.astype(np.float64)) if m.spatial else values.astype(np.float64)
        found.append(np.broadcast_to(one, given.shape[:-1] if m.spatial else given.shape))
    return found


def _row(run: Run, explanation: Explanation) -> Row:
    names = [m.name for m in run.samples.modalities]
    about = (explanation.label, explanation.library, is_control(explanation))
    drops = explanation.extras.get(DROP)
    if drops is not None and np.shape(drops) == (run.n, len(names)):
        return Row(*about, {"ablation": _shares(names, modality.drop_shares(drops))})
    lacking = [name for name in names if name not in explanation.values]
    if lacking:
        return Row(*about, {}, f"no map of {words.listing(lacking)}")
    maps = units(run, explanation)
    complete = any(key.partition(".")[0] == "completeness_gap" for key in explanation.extras)
    parts = modality.net(maps) if complete else None
    return Row(
        *about,
        {
            "mean": _shares(names, modality.shares(maps, "mean"), parts),
            "sum": _shares(names, modality.shares(maps, "sum"), parts),
        },
    )


def _shares(names: Sequence[str], found: Numbers, parts: Numbers | None = None) -> Shares:
    def summaries(columns: Numbers) -> dict[str, Summary]:
        finite = np.where(np.isfinite(columns), columns, np.nan)
        return {name: statistics.summarise(finite[:, i]) for i, name in enumerate(names)}

    return Shares(summaries(found), found, {} if parts is None else summaries(parts))


def why(run: Run, model: str) -> str:
    """Why the answers need not agree, with this run's numbers of units and its baseline."""
    sizes = [
        math.prod(run.samples.inputs[m.name].shape[1:-1]) if m.spatial else len(m.features)
        for m in run.samples.modalities
    ]
    kinds = ["pixels" if m.spatial else "columns" for m in run.samples.modalities]
    counts = [f"{n:,} {kind} of {m.name}" for n, kind, m in zip(sizes, kinds, run.samples.modalities, strict=True)]
    ablated = next((e for e in run.of(model).values() if ok(e) and DROP in e.extras), None)
    params = ablated.params if ablated is not None else {}
    others = params.get("baselines")
    own = dict(others) if isinstance(others, Mapping) else {}
    fills = [f"{words.value(params['baseline'])}"] if "baseline" in params and len(own) < len(sizes) else []
    fills += [
        f"{name} by {'numbers of its own' if isinstance(v, list | tuple) else words.value(v)}"
        for name, v in own.items()
    ]
    entries = [m for m in run.manifest.get("models", []) if m.get("name") == model]
    tables = [name for m in entries for name in m.get("standard_units", [])]
    units = f"the training mean, for {words.listing(tables)}, which is in standard units" if tables else "in raw units"
    baseline = f" by {words.listing(fills)}{' (' if tables else ', '}{units}{')' if tables else ','}" if fills else ""
    first = ALIKE if len(set(sizes)) == 1 else UNLIKE
    return " ".join((*first, *WHY)).format(units=words.listing(counts), baseline=baseline)


def disagreeing(table: Table) -> dict[str, dict[str, str]]:
    """Explainer → convention → its leading modality, where that is not the one that ablation finds; controls left out."""
    truth = table.ablation
    if truth is None or not truth.leader:
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if not row.control and not row.ablation:
            other = {of: s.leader for of, s in row.answers.items() if s.leader and s.leader != truth.leader}
            if other:
                found[row.label] = other
    return found


def _sentences(run: Run, model: str, rows: Sequence[Row]) -> list[str]:
    """What the table says: who leads by ablation, who else leads by another convention, and why they need not agree."""
    table = Table(model, tuple(m.name for m in run.samples.modalities), tuple(rows), ())
    truth, said = table.ablation, []
    if truth is None:
        said.append("This run has no ablation of whole modalities (`captum.modality_ablation`): only maps answer here.")
    elif not truth.leader:
        each = [f"{name} {small(share.mean)}{_between(share)}" for name, share in truth.shares.items()]
        said.append(f"By ablation no modality clearly comes first: {words.listing(each)}.")
    else:
        share = truth.shares[truth.leader]
        said.append(
            f"By ablation the model goes by {truth.leader} most: {small(share.mean)} of the drops{_between(share)}."
        )
        asked = [r for r in rows if r.answers and not r.control and not r.ablation]
        leading = {r.label: {of: s.leader for of, s in r.answers.items()} for r in asked}
        for label, by in leading.items():
            if set(by.values()) != {truth.leader}:
                said.append(f"{code(label)} puts {_first(by)}.")
        if leading and all(set(by.values()) == {truth.leader} for by in leading.values()):
            all_of = words.capital(tally(len(asked), len(asked)))
            said.append(f"{all_of} {'put' if len(asked) > 1 else 'puts'} it first, too, by mean and by sum.")
    return said


def _first(by: Mapping[str, str]) -> str:
    """Which modality is first by which convention: `table first by the mean and by the sum`."""
    if len(set(by.values())) == 1:
        return f"{next(iter(by.values())) or 'none clearly'} first by the {' and by the '.join(by)}"
    return words.listing([f"{led or 'none clearly'} first by the {of}" for of, led in by.items()])


def small(share: float) -> str:
    """A share in percent, with a decimal below 1% and above 99%, so that little is not written as nothing."""
    if 0 < share < 0.0005 or 0.9995 < share < 1:
        return "<0.1%" if share < 1 / 2 else ">99.9%"
    return words.percent(share, 0 if 0.01 <= share <= 0.99 or share in (0, 1) else 1)


def _between(share: Summary) -> str:
    between = words.interval(share.low * 100, share.high * 100, 0 if 0.01 <= share.mean <= 0.99 else 1)
    return f" (95% interval {between})" if between else ""
