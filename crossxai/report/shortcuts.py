"""Does a model look at one place off the centre, the same in sample after sample? And what the model's score says to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from crossxai.files import Explanation
from crossxai.report import places, words
from crossxai.report.comparison import method
from crossxai.report.places import CENTRE, NAMES, Group, Numbers, Place, Places
from crossxai.report.run import ORACLE, RANDOM, Run, is_control, ok
from crossxai.report.wording import Finding, code, tally

Rows = npt.NDArray[np.int64]

TIMES = 2.0
"""How many times its area's share a tile must get on average: maps of deep networks are spread out, and a mark of 1% of a patch
gets a fourth of the Grad-CAM of a ResNet-18 that goes by nothing else."""
FIRST = 2 / 3
"""In which share of the samples it must be the largest of the nine tiles."""
FEWEST = 4
"""Samples below which nothing is said: two of three in one tile is no pattern."""
WINDOW = 8
"""The side of the window that narrows a place down is the image's over this: 12 pixels of 96."""


@dataclass(frozen=True)
class Suspect:
    """A tile that most explainers of a model point at in most samples of a group.

    agreeing: the places that do; asked: those of all explainers that were looked at.
    """

    model: str
    group: Group
    tile: int
    agreeing: tuple[Place, ...]
    asked: tuple[Place, ...]

    @property
    def share(self) -> float:
        """The mean share of the tile among those that agree."""
        return _mean(self.agreeing, self.tile)

    @property
    def centre(self) -> float:
        """Likewise of the centre."""
        return _mean(self.agreeing, CENTRE)


def suspects(run: Run, where: Places) -> list[Suspect]:
    """Tiles off the centre that half of a model's explainers or more, and two methods if there are so many, put first: each gives
    `TIMES` its area's share on average, and more than to any other tile in `FIRST` of the samples. Left out: a tile where
    the evidence is known to lie, and one that a control gives as much, which never looks at the model."""
    found = []
    for model in run.models:
        for group in where.groups:
            here = where.of(model, group.name)
            asked = tuple(p for p in here if not p.control and len(p.tiles) >= FEWEST)
            blind = [p for p in here if p.control and _explainer(run, p) != ORACLE]
            truth = places.known(run, where.modality, group)
            for number in range(len(NAMES)):
                agreeing = tuple(
                    p for p in asked if p.shares[number] >= TIMES * where.area[number] and p.first[number] >= FIRST
                )
                # One method in two libraries is one witness: a bias of where it looks would count twice.
                enough = 2 * len(agreeing) >= len(asked) and _methods(run, agreeing) >= min(2, _methods(run, asked))
                if number == CENTRE or not agreeing or not enough or truth[number] >= TIMES * where.area[number]:
                    continue
                suspect = Suspect(model, group, number, agreeing, asked)
                if all(p.shares[number] < suspect.share for p in blind):
                    found.append(suspect)
    return found


def shortcuts(run: Run, found: Sequence[Places]) -> list[Finding]:
    """One finding per model and place; nothing where explanations look where they should, or anywhere else by turns."""
    said = []
    for where in found:
        # A place that several classes share is told of the first, the positives; the others are a point of it.
        once = {(s.model, s.tile): s for s in reversed(suspects(run, where))}
        said += [_finding(run, where, suspect) for suspect in reversed(once.values())]
    return said


def _finding(run: Run, where: Places, suspect: Suspect) -> Finding:
    name, area = NAMES[suspect.tile], words.percent(where.area[suspect.tile])
    samples = "samples" if suspect.group.name == "all" else f"{suspect.group.name} samples"
    who = f"On {suspect.model}, explanations" if len(run.models) > 1 else "Explanations"
    image = f" of {where.modality}" if len(run.samples.modalities) > 1 else ""
    text = (
        f"{who} of {samples} put {words.percent(suspect.share)} of their relevance into the {name} ninth{image} ({area} of the "
        f"area) and {words.percent(suspect.centre)} into the centre ({words.percent(where.area[CENTRE])}): look there. A mark, a "
        "caption, an artefact?"
    )
    ordered = sorted(suspect.agreeing, key=lambda p: -p.shares[suspect.tile])
    each = words.listing([f"{code(p.label)} {words.percent(p.shares[suspect.tile])}" for p in ordered])
    few = min(ordered, key=lambda p: p.first[suspect.tile])
    often, of = round(few.first[suspect.tile] * len(few.tiles)), words.count(len(few.tiles), "sample")
    agree = f"{words.capital(tally(len(suspect.agreeing), len(suspect.asked)))} agree"
    alone = "One explainer alone says so (ask others before believing it)"
    least = "at least " if len(ordered) > 1 else ""
    how_often = f"all {of}" if often == len(few.tiles) else f"{least}{often} of {of}"
    points = [
        f"{agree if len(suspect.asked) > 1 else alone}: {each}, and in {how_often} more than into any other ninth."
    ]
    points += [_narrowed(where, suspect), *_masks(suspect), *_elsewhere(run, where, suspect)]
    points += _confirmed(run, where, suspect)
    return Finding("Shortcut?", text, tuple(points), 96, "warning")


def _narrowed(where: Places, suspect: Suspect) -> str:
    """The window in the tile that all the explainers together give most: where to look in the images.

    Together, because each coarse map spreads over what is beside the place in its own way.
    """
    side = max(2, min(where.height, where.width) // WINDOW)
    together = np.mean([p.mean for p in suspect.asked], axis=0)
    inside = together * places.tile(where.height, where.width, suspect.tile)
    held = uniform_filter(inside, side, mode="constant", origin=-(side // 2)) * side * side
    held = held[: where.height - side + 1, : where.width - side + 1]
    top, left = divmod(int(held.argmax()), held.shape[1])
    share, area = float(together[top : top + side, left : left + side].sum()), side * side / together.size
    who = "all explainers together put" if len(suspect.asked) > 1 else "the explainer puts"
    return (
        f"There, {who} most into rows {top}–{top + side - 1} and columns {left}–{left + side - 1}: {words.percent(share)}, "
        f"{words.number(share / area, 1)} times its share of the area."
    )


def _masks(suspect: Suspect) -> list[str]:
    """What the data's own masks get of those that agree, beside their area."""
    said = []
    for name in {name for p in suspect.agreeing for name in p.masks}:
        shares = {p.label: p.masks[name][0] for p in suspect.agreeing if name in p.masks}
        area = next(p.masks[name][1] for p in suspect.agreeing if name in p.masks)
        listed = words.listing([f"{code(label)} {words.percent(share)}" for label, share in shares.items()])
        said.append(f"In the {name} mask of the data ({words.percent(area, 1)} of the area): {listed}.")
    return sorted(said)


def _elsewhere(run: Run, where: Places, suspect: Suspect) -> list[str]:
    """What the same explainers say of the other models on the same samples, and what they say of the other classes."""
    labels, said = {p.label for p in suspect.agreeing}, []
    for model in run.models:
        if model != suspect.model:
            same = [p for p in where.of(model, suspect.group.name) if p.label in labels]
            if same:
                said.append(
                    f"On {model}, the same explainers put {words.percent(_mean(same, suspect.tile))} there and "
                    f"{words.percent(_mean(same, CENTRE))} into the centre."
                )
    for group in where.groups:
        if group != suspect.group:
            same = [p for p in where.of(suspect.model, group.name) if p.label in labels]
            if same:
                said.append(f"Of {group.name} samples, they put {words.percent(_mean(same, suspect.tile))} there.")
    return said


def _confirmed(run: Run, where: Places, suspect: Suspect) -> list[str]:
    """What the model's own score does when the place goes, from the deletion curves that the run holds."""
    metric = next(
        (m for m in run.curves if run.kinds[m] == "deletion" and run.modality(m) in ("", where.modality)),
        "",
    )
    explanations = run.of(suspect.model)
    rows = np.array(suspect.group.rows)
    said = []
    # A control that marks the place itself deletes it and nothing else; the known truth of the label, what should decide.
    for e in explanations.values():
        if is_control(e) and e.explainer == ORACLE and ok(e) and metric in e.scores:
            at = _after(run, where, e, metric, rows)
            if at is None:
                continue
            before, after, inside = at
            if inside[suspect.tile] > 0.5:
                said.append(
                    f"The model confirms it: with exactly what {code(e.label)} marks there deleted, the mean score falls from "
                    f"{words.number(before, 2)} to {words.number(after, 2)}."
                    if before - after > 0.05
                    else f"The model does not confirm it: with exactly what {code(e.label)} marks there deleted, the mean "
                    f"score goes from {words.number(before, 2)} to {words.number(after, 2)}."
                )
            else:
                stays = abs(before - after) < 0.05
                moves = "hardly moves, from" if stays else "goes from"
                said.append(
                    f"With all that should decide deleted ({code(e.label)}), the mean score {moves} {words.number(before, 2)} to "
                    f"{words.number(after, 2)}."
                )
    best = _steepest(run, where, suspect, metric)
    return sorted(said, key=lambda text: not text.startswith("The model")) + ([best] if best else [])


def _after(
    run: Run, where: Places, explanation: Explanation, metric: str, rows: Rows
) -> tuple[float, float, Numbers] | None:
    """Of an oracle, means over rows: score before, score once all that it marks is deleted, tiles' shares of what it marks."""
    scores = explanation.scores[metric]
    if scores.curve is None or scores.fractions is None:
        return None
    modality = next(m for m in run.samples.modalities if m.name == where.modality)
    if modality.name not in explanation.values:
        return None
    marked = places.relevance(run, explanation, modality)[rows] > 0
    usable = np.isfinite(scores.curve[rows]).all(axis=1) & marked.any(axis=(1, 2))
    if usable.sum() < FEWEST:
        return None
    chosen, marked = rows[usable], marked[usable]
    fractions = np.broadcast_to(scores.fractions, scores.curve.shape)[chosen]
    step = (fractions >= marked.mean(axis=(1, 2))[:, None] - 1e-9).argmax(axis=1)
    curve = scores.curve[chosen]
    inside = (places.tiles_of(marked) / marked.sum(axis=(1, 2))[:, None]).mean(axis=0)
    return float(curve[:, 0].mean()), float(curve[np.arange(len(chosen)), step].mean()), np.asarray(inside)


def _steepest(run: Run, where: Places, suspect: Suspect, metric: str) -> str:
    """The agreeing explainer whose first deleted pixels, most of which lie in the place, cost the score most; beside random."""
    explanations = run.of(suspect.model)
    random = explanations.get(RANDOM)
    if random is None or metric not in random.scores:
        return ""
    modality = next(m for m in run.samples.modalities if m.name == where.modality)
    window, rows = 1 / WINDOW**2, np.array(suspect.group.rows)
    inside = places.tile(where.height, where.width, suspect.tile).reshape(-1)
    best: tuple[float, str] | None = None
    for place in suspect.agreeing:
        e = explanations[place.label]
        here, noise = (_curve_at(x, metric, rows, window) for x in (e, random))
        if here is None or noise is None:
            continue
        maps = places.relevance(run, e, modality)[rows].reshape(len(rows), -1)
        maps = maps[np.isfinite(maps).all(axis=1)]
        top = np.argsort(-maps, axis=1, kind="stable")[:, : max(1, round(here[0] * maps.shape[1]))]
        there = float(inside[top].mean())
        if there >= 0.5 and (best is None or here[2] < best[0]):
            text = (
                f"Deleting the {words.percent(here[0], 1)} of pixels that {code(place.label)} finds most relevant, "
                f"{words.percent(there)} of them there, takes the mean score from {words.number(here[1], 2)} to "
                f"{words.number(here[2], 2)}; as many at random, to {words.number(noise[2], 2)}."
            )
            best = (here[2], text)
    return best[1] if best else ""


def _curve_at(explanation: Explanation, metric: str, rows: Rows, share: float) -> tuple[float, float, float] | None:
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


def _mean(found: Sequence[Place], number: int) -> float:
    return float(np.mean([p.shares[number] for p in found])) if found else math.nan


def _methods(run: Run, found: Sequence[Place]) -> int:
    return len({method(_explainer(run, p)) for p in found})


def _explainer(run: Run, place: Place) -> str:
    return run.of(place.model)[place.label].explainer
