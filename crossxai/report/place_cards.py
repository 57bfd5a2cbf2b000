"""What the page shows of places: a card per explainer with its mean maps, and what they say together in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossxai.report import words
from crossxai.report.places import CENTRE, GRID, NAMES, Numbers, Place, Places
from crossxai.report.plots import pictures, style
from crossxai.report.run import Run
from crossxai.report.wording import names

SMALLEST = 48  # mean maps are shown small, and need no more pixels
PLAIN = 1.5  # a tile that gets less than this many times its area is not where an explainer looks


@dataclass(frozen=True)
class Picture:
    """One class of one explainer. tiles: nine percentages, row by row; lines: (what, share, share of the area or "")."""

    group: str
    image: str
    alt: str
    tiles: tuple[str, ...]
    lines: tuple[tuple[str, str, str], ...]
    note: str


@dataclass(frozen=True)
class Card:
    """One explainer on one model."""

    label: str
    control: bool
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Model:
    """One model's cards, controls last. sentences: where explainers look most, per class."""

    name: str
    sentences: tuple[str, ...]
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Section:
    """All that is shown of one modality. rim: the border's width in pixels; aspect: of the pictures."""

    modality: str
    rim: int
    tile: str
    aspect: str
    models: tuple[Model, ...]


def sections(run: Run, places: Sequence[Places]) -> list[Section]:
    """One per modality with places."""
    return [_section(run, where) for where in places]


def _section(run: Run, where: Places) -> Section:
    models = []
    for model in run.models:
        labels = dict.fromkeys(p.label for p in where.found if p.model == model)
        cards = tuple(_card(where, [p for p in where.found if (p.model, p.label) == (model, x)]) for x in labels)
        if cards:
            models.append(Model(model, tuple(_sentences(where, model)), cards))
    height, width = -(-where.height // GRID), -(-where.width // GRID)
    return Section(where.modality, where.rim, f"{height} × {width}", f"{where.width} / {where.height}", tuple(models))


def _card(where: Places, places: Sequence[Place]) -> Card:
    return Card(places[0].label, places[0].control, tuple(_picture(where, p) for p in places))


def _picture(where: Places, place: Place) -> Picture:
    shares, small = place.shares, _small(place.mean)
    low, high = style.limits(small, False)
    lines = [("centre", words.percent(shares[CENTRE]), words.percent(where.area[CENTRE]))]
    lines += [("peak in the centre", words.percent(place.points), words.percent(where.area[CENTRE]))]
    lines += [("border", words.percent(place.border), words.percent(where.border))]
    lines += [(f"{name} mask", words.percent(s), words.percent(area, 1)) for name, (s, area) in place.masks.items()]
    few = f"{len(place.tiles)} of {place.of} maps: the rest are zero or not finite"
    return Picture(
        place.group.name,
        pictures.heat(small, low, high, False),
        f"mean share of the relevance of {place.label} on {place.model}, {place.group.name} samples",
        tuple(words.percent(share) for share in shares),
        tuple(lines),
        few if len(place.tiles) < place.of else "",
    )


def _small(mean: Numbers) -> Numbers:
    """A mean map of at most about SMALLEST pixels a side, by averaging."""
    step = max(1, min(mean.shape) // SMALLEST)
    height, width = (side // step * step for side in mean.shape)
    cut = mean[:height, :width]
    return np.asarray(cut.reshape(height // step, step, width // step, step).mean(axis=(1, 3)))


def _sentences(where: Places, model: str) -> list[str]:
    """Per class: which explainers put most into which ninth; those that put clearly more into none, too."""
    sentences = []
    for group in where.groups:
        places = [p for p in where.of(model, group.name) if not p.control]
        by: dict[str, list[Place]] = {}
        for p in places:
            tile = int((p.shares / where.area).argmax())
            clear = p.shares[tile] >= PLAIN * where.area[tile]
            by.setdefault(NAMES[tile] if clear else "", []).append(p)
        parts = []
        for tile_name, group_of_tile in sorted(by.items(), key=lambda item: (item[0] == "", -len(item[1]))):
            listed = names([p.label for p in group_of_tile], most=6)
            if not tile_name:
                parts.append(f"into no ninth clearly more than its area: {listed}")
                continue
            shares = [p.shares[NAMES.index(tile_name)] for p in group_of_tile]
            span = words.percent(min(shares))
            span += f"–{words.percent(max(shares))}" if words.percent(max(shares)) != span else ""
            parts.append(f"most into the {tile_name} ({span}): {listed}")
        if parts:
            samples = "All samples" if group.name == "all" else f"{words.capital(group.name)} samples"
            sentences.append(f"{samples}: {'; '.join(parts)}.")
    return sentences
