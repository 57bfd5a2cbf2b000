"""Where the attribution goes: per model, explainer and class, the mean map of shares, its tiles, border, masks and pointing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.attribution import reduce_channels
from crossxai.evaluation.metrics.complexity import border
from crossxai.evaluation.metrics.localisation import pointing
from crossxai.files import Result
from crossxai.model import Modality
from crossxai.report.comparison import ordering
from crossxai.report.run import RunRecord, is_control, ok
from crossxai.report.words import Fact, write

Numbers = npt.NDArray[np.float64]

GRID = 3
NAMES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
CENTRE = NAMES.index("centre")
RIM = 24
"""The border's width is the shorter side over this: 4 pixels of 96."""
PLAIN = 1.5  # a tile that gets less than this many times its area is not where an explainer looks
MOST_CLASSES = 4  # with more, a picture of each would be a page of its own: all samples together


@dataclass(frozen=True)
class Group:
    """Samples that are looked at together: those of one class, or all. rows: their places in the run."""

    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where one explainer's maps of one group put their relevance, whatever its sign; zero and broken maps are left out.

    mean: the mean map of shares (y, x), which sums to 1. tiles: each sample's share of the nine tiles (n, 9), row by row. border:
    the mean share of the rim. masks: by name, the mean share in the data's mask, over samples that have one, and the mask's share
    of the area. points: how often the most relevant pixel is in the centre tile. of: samples in the group.
    """

    model: str
    label: str
    control: bool
    group: Group
    mean: Numbers
    tiles: Numbers
    border: float
    masks: Mapping[str, tuple[float, float]]
    points: float
    of: int

    @property
    def shares(self) -> Numbers:
        """The mean share of each tile (9,)."""
        return np.asarray(self.tiles.mean(axis=0))

    @property
    def first(self) -> Numbers:
        """How often each tile is a sample's largest (9,); ties count for the first."""
        return np.bincount(self.tiles.argmax(axis=1), minlength=GRID * GRID) / len(self.tiles)


@dataclass(frozen=True)
class Places:
    """All of one modality. area: the tiles' shares of the area (9,); rim: the border's width in pixels, and border its share."""

    modality: str
    height: int
    width: int
    groups: tuple[Group, ...]
    area: Numbers
    rim: int
    border: float
    every: tuple[Place, ...]

    @property
    def tile_size(self) -> str:
        """The size of the largest tiles."""
        return f"{-(-self.height // GRID)} × {-(-self.width // GRID)}"

    def of(self, model: str, group: str) -> list[Place]:
        """One model's places of one group, in the run's order: controls last."""
        return [p for p in self.every if p.model == model and p.group.name == group]

    def cards(self, model: str) -> dict[str, list[Place]]:
        """Label → one model's places by group, in the run's order."""
        cards: dict[str, list[Place]] = {}
        for place in (p for p in self.every if p.model == model):
            cards.setdefault(place.label, []).append(place)
        return cards

    def sentences(self, model: str) -> tuple[str, ...]:
        """Per class: which explainers put most into which ninth; those that put clearly more into none, too."""
        leading = {g.name: ninths for g in self.groups if (ninths := self._leading(model, g.name))}
        return write(LeadingNinths(models=(model,), groups=leading)).points

    def _leading(self, model: str, group: str) -> list[Ninth]:
        by: dict[int | None, list[Place]] = {}
        for p in (p for p in self.of(model, group) if not p.control):
            tile = int((p.shares / self.area).argmax())
            by.setdefault(tile if p.shares[tile] >= PLAIN * self.area[tile] else None, []).append(p)
        ninths = []
        for number, members in sorted(by.items(), key=lambda item: (item[0] is None, -len(item[1]))):
            shares = [math.nan] if number is None else [float(p.shares[number]) for p in members]
            name = "" if number is None else NAMES[number]
            ninths.append(Ninth(name, min(shares), max(shares), tuple(p.label for p in members)))
        return ninths


@dataclass(frozen=True)
class Ninth:
    """The explainers that put most into one tile, and the range of their shares; name: "" where no tile leads."""

    name: str
    low: float
    high: float
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LeadingNinths(Fact):
    """Where a model's explainers look most, by group of samples, the tile of most explainers first."""

    groups: Mapping[str, Sequence[Ninth]]


def places(run: RunRecord) -> list[Places]:
    """One per modality that is an image and has maps; nothing for other runs."""
    return [placed for m in run.samples.modalities if m.axes[:-1] == ("y", "x") and (placed := _places(run, m)).every]


def groups(run: RunRecord) -> tuple[Group, ...]:
    """The samples of each class, the last class first (of two classes it is the positive one), or all together."""
    classes, labels = run.samples.classes, np.asarray(run.samples.labels)
    if run.samples.task != "classification" or not 2 <= len(classes) <= MOST_CLASSES:
        return (Group("all", tuple(range(run.n))),)
    rows = {k: tuple(np.flatnonzero(labels == k).tolist()) for k in reversed(range(len(classes)))}
    return tuple(Group(classes[k], members) for k, members in rows.items() if members)


def tiles_of(maps: npt.NDArray[Any]) -> Numbers:
    """Sums of maps (n, y, x) over GRID × GRID tiles, (n, 9), row by row; the first ones are larger if a side does not divide."""
    tops, lefts = ([part[0] for part in np.array_split(np.arange(side), GRID)] for side in maps.shape[1:])
    rows = np.add.reduceat(maps.astype(np.float64), tops, axis=1)
    return np.asarray(np.add.reduceat(rows, lefts, axis=2).reshape(len(maps), -1))


def tile(height: int, width: int, number: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of one of the nine tiles."""
    mask = np.zeros((height, width), bool)
    rows, columns = (np.array_split(np.arange(s), GRID) for s in (height, width))
    mask[np.ix_(rows[number // GRID], columns[number % GRID])] = True
    return mask


def shares(run: RunRecord, explanation: Result, modality: str) -> Numbers:
    """Each sample's absolute relevance as shares (n, y, x) that sum to 1; NaN where it is all zero, or not finite."""
    # Absolute: where nothing, such as black, is no neutral baseline, evidence can come with the other sign.
    sizes = np.abs(relevance(run, explanation, modality))
    top = sizes.max(axis=(1, 2), keepdims=True)
    scaled = sizes / np.where(top > 0, top, np.nan)  # sums of huge values stay finite
    return np.asarray(scaled / scaled.sum(axis=(1, 2), keepdims=True))


def relevance(run: RunRecord, explanation: Result, modality: str) -> Numbers:
    """One number per pixel (n, y, x), channels summed; NaN for a map that is not finite."""
    values = explanation.maps[modality].astype(np.float64)
    whole = np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))
    summed = reduce_channels(np.where(whole[:, None, None, None], values, 0))
    there = np.where(whole[:, None, None], summed, np.nan)
    return np.broadcast_to(there, run.samples.inputs[modality].shape[:-1])


def _places(run: RunRecord, modality: Modality) -> Places:
    height, width = run.samples.inputs[modality.name].shape[1:3]
    rim = max(1, min(height, width) // RIM)
    chosen, listed = groups(run), []
    if min(height, width) >= GRID:
        for model in run.models:
            for e in run.of(model).values():
                if ok(e) and modality.name in e.maps and ordering(e):
                    listed += _of(run, e, modality, chosen, rim)
    area = tiles_of(np.full((1, height, width), 1 / (height * width)))[0] if listed else np.empty(0)
    inside = float(border((height, width), rim).mean())
    return Places(modality.name, height, width, chosen, area, rim, inside, tuple(listed))


def _of(run: RunRecord, explanation: Result, modality: Modality, chosen: Sequence[Group], rim: int) -> list[Place]:
    every, maps = shares(run, explanation, modality.name), relevance(run, explanation, modality.name)
    height, width = every.shape[1:]
    middle = np.broadcast_to(tile(height, width, CENTRE), every.shape)
    points = pointing(maps, middle)
    edge = border((height, width), rim)
    usable = np.asarray(np.isfinite(every).all(axis=(1, 2)))
    listed = []
    for group in chosen:
        rows = np.array([row for row in group.rows if usable[row]], int)
        if not len(rows):
            continue
        part = every[rows]
        masks = {
            name: numbers
            for name, mask in run.samples.masks.items()
            if mask.shape == every.shape and (numbers := _in(part, mask[rows])) is not None
        }
        about = (explanation.model, explanation.label, is_control(explanation), group)
        at_edge, hits = float(part[:, edge].sum(axis=1).mean()), float(points[rows].mean())
        listed.append(Place(*about, part.mean(axis=0), tiles_of(part), at_edge, masks, hits, len(group.rows)))
    return listed


def _in(part: Numbers, masks: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """(mean share, mean share of the area) of masks, over the samples that have one; None if none has."""
    have = np.asarray(masks.any(axis=(1, 2)))
    if not have.any():
        return None
    inside = (part[have] * masks[have]).sum(axis=(1, 2))
    return float(inside.mean()), float(masks[have].mean())


def known(run: RunRecord, modality: str, group: Group) -> Numbers:
    """The tiles' shares (9,) of the pixels that are known to decide these samples' labels; NaN where nothing is known."""
    masks = run.samples.truth.get(modality)
    marked = [masks[row] for row in group.rows if masks[row].any()] if masks is not None and masks.ndim == 3 else []
    return marked_tiles(np.stack(marked)) if marked else np.full(GRID * GRID, math.nan)


def marked_tiles(masks: npt.NDArray[np.bool_]) -> Numbers:
    """The tiles' mean shares (9,) of what masks (n, y, x) mark; every one of them marks something."""
    return np.asarray((tiles_of(masks) / masks.sum(axis=(1, 2))[:, None]).mean(axis=0))
