"""Does a model look at one place off the centre, the same in sample after sample? And what the model's score says to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from crossxai.files import Result
from crossxai.report import places
from crossxai.report.comparison import method
from crossxai.report.places import CENTRE, NAMES, Group, Numbers, Place, Places
from crossxai.report.run import ORACLE, RANDOM, RunRecord, is_control, ok
from crossxai.report.words import Fact

Rows = npt.NDArray[np.int64]

TIMES = 2.0
"""How many times its area's share a tile must get on average: maps of deep networks are spread out, and a mark of 1% of a patch
gets a fourth of the Grad-CAM of a ResNet-18 that goes by nothing else."""
FIRST = 2 / 3
"""In which share of the samples it must be the largest of the nine tiles."""
FEWEST = 4
"""Samples below which there is no finding: two of three in one tile is no pattern."""
WINDOW = 8
"""The side of the window that narrows a place down is the image's over this: 12 pixels of 96."""
MOVES = 0.05
"""By how much a mean score must change to count."""


@dataclass(frozen=True)
class Suspect:
    """A tile that most explainers of a model point at in most samples of a group. agreeing: the places that do; explainers: those
    of all explainers."""

    model: str
    group: Group
    tile: int
    agreeing: tuple[Place, ...]
    explainers: tuple[Place, ...]

    @property
    def share(self) -> float:
        """The mean share of the tile among those that agree."""
        return _mean(self.agreeing, self.tile)

    @property
    def centre(self) -> float:
        """Likewise of the centre."""
        return _mean(self.agreeing, CENTRE)


@dataclass(frozen=True)
class Pointer:
    """An explainer that points at a place: its mean share there, and in how many of n samples the tile is its largest."""

    label: str
    share: float
    first: int
    n: int


@dataclass(frozen=True)
class Window:
    """Rows top–bottom and columns left–right: their share of the relevance, and that over their share of the area."""

    top: int
    bottom: int
    left: int
    right: int
    share: float
    times: float


@dataclass(frozen=True)
class MaskShare:
    """What a mask of the data gets by explainer, and its share of the area."""

    mask: str
    area: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Elsewhere:
    """What the same explainers give the tile and the centre on another model, or for another group of samples."""

    name: str
    share: float
    centre: float


@dataclass(frozen=True)
class Deleted:
    """The mean score before and after everything that a control marks is deleted. inside: it marks the place itself."""

    label: str
    before: float
    after: float
    inside: bool


@dataclass(frozen=True)
class Steepest:
    """The first step of a deletion by one explainer: the fraction deleted, how much of that lies in the place, the mean score
    before and after, and after as many units at random."""

    label: str
    fraction: float
    inside: float
    before: float
    after: float
    random: float


@dataclass(frozen=True)
class Shortcut(Fact):
    """A place off the centre that most explainers of a model point at in most samples of a group.

    tile: its name; area: its share of the area; share, centre: mean shares of those that agree; explainers: how many there are.
    modality: "" if there is only one. group: "" for all samples. window: narrows the place down. elsewhere, groups: the same
    explainers on the other models, and for the other groups. deleted, steepest: what the model's score says.
    """

    moves: ClassVar[float] = MOVES
    model: str
    group: str
    modality: str
    tile: str
    area: float
    share: float
    centre: float
    centre_area: float
    agreeing: tuple[Pointer, ...]
    explainers: int
    window: Window
    masks: tuple[MaskShare, ...]
    elsewhere: tuple[Elsewhere, ...]
    groups: tuple[Elsewhere, ...]
    deleted: tuple[Deleted, ...]
    steepest: Steepest | None

    @property
    def rarest(self) -> Pointer:
        """The one that agrees in the fewest samples."""
        return min(self.agreeing, key=lambda p: p.first / p.n)


def suspects(run: RunRecord, where: Places) -> list[Suspect]:
    """Tiles off the centre that half of a model's explainers or more, and two methods if there are so many, put first: each gives
    `TIMES` its area's share on average, and more than to any other tile in `FIRST` of the samples. Left out: a tile where
    the evidence is known to lie, and one that a control gives as much, which never looks at the model."""
    suspected = []
    for model in run.models:
        for group in where.groups:
            here = where.of(model, group.name)
            explainers = tuple(p for p in here if not p.control and len(p.tiles) >= FEWEST)
            blind = [p for p in here if p.control and _explainer(run, p) != ORACLE]
            truth = places.known(run, where.modality, group)
            for number in range(len(NAMES)):
                agreeing = tuple(
                    p for p in explainers if p.shares[number] >= TIMES * where.area[number] and p.first[number] >= FIRST
                )
                # One method in two libraries is one witness: a bias of where it looks would count twice.
                methods = min(2, _methods(run, explainers))
                enough = 2 * len(agreeing) >= len(explainers) and _methods(run, agreeing) >= methods
                if number == CENTRE or not agreeing or not enough or truth[number] >= TIMES * where.area[number]:
                    continue
                suspect = Suspect(model, group, number, agreeing, explainers)
                if all(p.shares[number] < suspect.share for p in blind):
                    suspected.append(suspect)
    return suspected


def facts(run: RunRecord, everywhere: Sequence[Places]) -> list[Fact]:
    """One fact per model and place; nothing where explanations look where they should, or anywhere else by turns."""
    collected: list[Fact] = []
    for where in everywhere:
        # A place that several classes share is told of the first, the positives; the others are a point of it.
        once = {(s.model, s.tile): s for s in reversed(suspects(run, where))}
        collected += [_shortcut(run, where, suspect) for suspect in reversed(once.values())]
    return collected


def _shortcut(run: RunRecord, where: Places, suspect: Suspect) -> Shortcut:
    tile, labels = suspect.tile, {p.label for p in suspect.agreeing}
    ordered = sorted(suspect.agreeing, key=lambda p: -p.shares[tile])
    metric = next((m for m in run.curves if run.kinds[m] == "deletion" and run.modality(m) in ("", where.modality)), "")

    def elsewhere(name: str, model: str, group: str) -> list[Elsewhere]:
        same = [p for p in where.of(model, group) if p.label in labels]
        return [Elsewhere(name, _mean(same, tile), _mean(same, CENTRE))] if same else []

    return Shortcut(
        models=run.models,
        model=suspect.model,
        group="" if suspect.group.name == "all" else suspect.group.name,
        modality=where.modality if len(run.samples.modalities) > 1 else "",
        tile=NAMES[tile],
        area=float(where.area[tile]),
        share=suspect.share,
        centre=suspect.centre,
        centre_area=float(where.area[CENTRE]),
        agreeing=tuple(
            Pointer(p.label, float(p.shares[tile]), round(p.first[tile] * len(p.tiles)), len(p.tiles)) for p in ordered
        ),
        explainers=len(suspect.explainers),
        window=_window(where, suspect),
        masks=_masks(suspect),
        elsewhere=tuple(x for m in run.models if m != suspect.model for x in elsewhere(m, m, suspect.group.name)),
        groups=tuple(x for g in where.groups if g != suspect.group for x in elsewhere(g.name, suspect.model, g.name)),
        deleted=_deleted(run, where, suspect, metric),
        steepest=_steepest(run, where, suspect, metric),
    )


def _window(where: Places, suspect: Suspect) -> Window:
    """The window in the tile that all the explainers together give most: where to look in the images."""
    # Together, because each coarse map spreads over what is beside the place in its own way.
    side = max(2, min(where.height, where.width) // WINDOW)
    together = np.mean([p.mean for p in suspect.explainers], axis=0)
    inside = together * places.tile(where.height, where.width, suspect.tile)
    held = uniform_filter(inside, side, mode="constant", origin=-(side // 2)) * side * side
    held = held[: where.height - side + 1, : where.width - side + 1]
    top, left = (int(x) for x in divmod(int(held.argmax()), held.shape[1]))
    share, area = float(together[top : top + side, left : left + side].sum()), side * side / together.size
    return Window(top, top + side - 1, left, left + side - 1, share, share / area)


def _masks(suspect: Suspect) -> tuple[MaskShare, ...]:
    """What the data's own masks get of those that agree, beside their area."""
    shares = []
    for name in sorted({name for p in suspect.agreeing for name in p.masks}):
        held = {p.label: p.masks[name] for p in suspect.agreeing if name in p.masks}
        area = next(iter(held.values()))[1]
        shares.append(MaskShare(name, area, {label: share for label, (share, _) in held.items()}))
    return tuple(shares)


def _deleted(run: RunRecord, where: Places, suspect: Suspect, metric: str) -> tuple[Deleted, ...]:
    """What the model's own score does when the place goes, or what should decide, from the deletion curves that the run holds."""
    rows, deletions = np.array(suspect.group.rows), []
    # A control that marks the place itself deletes it and nothing else; the known truth of the label, what should decide.
    for e in run.of(suspect.model).values():
        if is_control(e) and e.attribution.explainer == ORACLE and ok(e) and metric in e.scores:
            after = _after(run, where, e, metric, rows)
            if after is not None:
                deletions.append(Deleted(e.label, after[0], after[1], bool(after[2][suspect.tile] > 0.5)))
    return tuple(sorted(deletions, key=lambda d: not d.inside))


def _after(
    run: RunRecord, where: Places, explanation: Result, metric: str, rows: Rows
) -> tuple[float, float, Numbers] | None:
    """Of an oracle, means over rows: score before, score once all that it marks is deleted, tiles' shares of what it marks."""
    scores = explanation.scores[metric]
    if scores.curve is None or scores.fractions is None:
        return None
    if where.modality not in explanation.maps:
        return None
    marked = places.relevance(run, explanation, where.modality)[rows] > 0
    usable = np.isfinite(scores.curve[rows]).all(axis=1) & marked.any(axis=(1, 2))
    if usable.sum() < FEWEST:
        return None
    chosen, marked = rows[usable], marked[usable]
    fractions = np.broadcast_to(scores.fractions, scores.curve.shape)[chosen]
    step = (fractions >= marked.mean(axis=(1, 2))[:, None] - 1e-9).argmax(axis=1)
    curve = scores.curve[chosen]
    before, after = float(curve[:, 0].mean()), float(curve[np.arange(len(chosen)), step].mean())
    return before, after, places.marked_tiles(marked)


def _steepest(run: RunRecord, where: Places, suspect: Suspect, metric: str) -> Steepest | None:
    """The agreeing explainer whose first deleted pixels, most of which lie in the place, cost the score most; beside random."""
    explanations = run.of(suspect.model)
    random = explanations.get(RANDOM)
    if random is None or metric not in random.scores:
        return None
    window, rows = 1 / WINDOW**2, np.array(suspect.group.rows)
    inside = places.tile(where.height, where.width, suspect.tile).reshape(-1)
    steps: list[Steepest] = []
    for place in suspect.agreeing:
        e = explanations[place.label]
        here, noise = (_curve_at(x, metric, rows, window) for x in (e, random))
        if here is None or noise is None:
            continue
        maps = places.relevance(run, e, where.modality)[rows].reshape(len(rows), -1)
        maps = maps[np.isfinite(maps).all(axis=1)]
        top = np.argsort(-maps, axis=1, kind="stable")[:, : max(1, round(here[0] * maps.shape[1]))]
        there = float(inside[top].mean())
        if there >= 0.5:
            steps.append(Steepest(place.label, here[0], there, here[1], here[2], noise[2]))
    return min(steps, key=lambda x: x.after, default=None)


def _curve_at(explanation: Result, metric: str, rows: Rows, share: float) -> tuple[float, float, float] | None:
    """(fraction, score at the start, score there) of the mean curve at the first step that removes at least that share."""
    scores = explanation.scores.get(metric)
    if scores is None or scores.curve is None or scores.fractions is None or scores.fractions.ndim != 1:
        return None
    curve = scores.curve[rows]
    curve = curve[np.isfinite(curve).all(axis=1)]
    step = int((scores.fractions >= share - 1e-9).argmax())
    if not len(curve):
        return None
    return float(scores.fractions[step]), float(curve[:, 0].mean()), float(curve[:, step].mean())


def _mean(chosen: Sequence[Place], number: int) -> float:
    return float(np.mean([p.shares[number] for p in chosen])) if chosen else math.nan


def _methods(run: RunRecord, chosen: Sequence[Place]) -> int:
    return len({method(_explainer(run, p)) for p in chosen})


def _explainer(run: RunRecord, place: Place) -> str:
    return run.of(place.model)[place.label].attribution.explainer
