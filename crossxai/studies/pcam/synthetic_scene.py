"""Where cells lie: one tissue around the centre whatever the label, and in the centre tumour cells or as much of normal ones.

The centre 32 × 32 holds one to three places, wholly: of tumour cells in a positive patch, of groups of normal ones in a negative.
Around it are none, or a nest of either kind that does not reach into it; all of them are drawn before the label is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from crossxai.studies.pcam.reading import CENTRE, SIZE

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=16)
def _spline(scale: int) -> Floats:
    """(size, knots): the weight of every knot, `scale` pixels apart, at every pixel; cubic B-splines, rows of length 1."""
    knots = -(-SIZE // scale) + 3
    t = np.abs((np.arange(SIZE) + 0.5)[:, None] / scale + 1 - np.arange(knots)[None, :])
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), np.float32)


def smooth(rng: np.random.Generator, scale: int) -> Floats:
    """(size, size) noise with mean 0 and variance 1 at every pixel, that changes over `scale` pixels."""
    weights = _spline(scale)
    knots = rng.standard_normal((weights.shape[1],) * 2, np.float32)
    # Small enough a product (below 2^18 multiplications) that no BLAS starts threads for it.
    return np.asarray(weights @ knots @ weights.T)


HARMONICS = (0.16, 0.09, 0.05, 0.04)
"""The largest amplitude of harmonics 2 … 5 of a tumour nucleus's outline, as shares of its radius."""

RADIUS = (5.5, 8.0)
"""Of tumour nuclei, in pixels; one is about 1 µm, as PatchCamelyon's."""

NORMAL = {"round": ((3.0, 3.7), (2.6, 3.4)), "oval": ((4.2, 5.2), (3.0, 3.8)), "thin": ((4.5, 6.5), (1.2, 1.8))}
"""Long and short half axes of normal nuclei, each from … to."""

MATCHED = 0.0145
"""Chance of each of the four cells that a group may have, per squared pixel of the radius of the tumour nucleus in its stead.

Chosen so that neither the mean colour of the centre nor its number of nuclei nor its dark share tells much of the label: with
fewer cells negatives are brighter, with more of them they are busier.
"""

SPACING = 9.5
MARGIN = 8
"""Pixels around the patch in which cells are drawn, too, so that the edge cuts some."""


@dataclass(frozen=True)
class Tumour:
    """Tumour nuclei, one row each. place: (y, x) of the centre. wave: cosine and sine amplitudes (n, 2, 4) of harmonics 2 … 5.
    nucleolus: its place relative to the nucleus's, in radii."""

    place: Floats
    radius: Floats
    wave: Floats
    nucleolus: Floats
    dark: Floats


@dataclass(frozen=True)
class Small:
    """Normal nuclei, ellipses: place (n, 2), long and short half axis (n, 2), tilt (n,), dark (n,), pale: 1 for an open nucleus
    with a thin rim, 0 for a dense one."""

    place: Floats
    axes: Floats
    tilt: Floats
    dark: Floats
    pale: Floats


Stains = tuple[Floats, Floats, Floats]
"""Of the stroma, each (size, size): amounts of haematoxylin and of eosin, and chromatin, noise of variance 1."""


def scene(rng: np.random.Generator, positive: bool) -> tuple[tuple[Tumour, Small], Stains]:
    """The cells of a patch, and what they lie in; every draw is made in either case, so that the rest is the same."""
    direction = rng.uniform(0, np.pi)
    stroma = _stroma(rng, direction)
    places, inside = _places(rng)
    small = _small(rng, places, direction)
    group, groups = _groups(rng, places)
    central = np.arange(len(places.radius)) < inside
    is_tumour = np.where(central, positive, rng.random(len(central)) < 0.7)
    chosen = ~is_tumour[group]
    normal = [
        np.concatenate((one, other[chosen]))
        for one, other in zip(vars(small).values(), vars(groups).values(), strict=True)
    ]
    return (Tumour(*(values[is_tumour] for values in vars(places).values())), Small(*normal)), stroma


def _stroma(rng: np.random.Generator, direction: float) -> Stains:
    """Wavy fibres in one direction, thicker and thinner tissue, and pale clefts."""
    line = np.arange(SIZE, dtype=np.float32)
    across = np.float32(np.cos(direction)) * line[:, None] - np.float32(np.sin(direction)) * line[None, :]
    bend, thick = smooth(rng, 24), smooth(rng, 16)
    wave = np.sin(across * np.float32(2 * np.pi / rng.uniform(5, 11)) + 3 * bend)
    fine = np.clip(smooth(rng, 4), -2, 2)
    eosin = 0.50 + 0.12 * thick + 0.07 * wave * (1 + thick) + 0.06 * fine
    cleft = np.clip((bend - thick + 0.25 * wave + 0.15 * fine - np.float32(rng.uniform(1.6, 3.2))) * 2, 0, 1)
    eosin = np.maximum(eosin, 0.12) * (1 - 0.9 * cleft)
    haematoxylin = (np.float32(rng.uniform(0.08, 0.18)) + 0.03 * smooth(rng, 12)) * (1 - 0.85 * cleft)
    return np.maximum(haematoxylin, 0).astype(np.float32), eosin.astype(np.float32), fine


def _places(rng: np.random.Generator) -> tuple[Tumour, int]:
    """The places, as the tumour nuclei that may lie there; and how many of them, the first, are the centre's."""
    tries = 48
    radius = rng.uniform(*RADIUS, tries)
    size = rng.uniform(0.2, 1, (tries, 4)) * HARMONICS
    phase = rng.uniform(0, 2 * np.pi, (tries, 4))
    reach = radius * (1 + size.sum(axis=1))
    inside = int(rng.choice(3, p=(0.45, 0.35, 0.2))) + 1
    around = int(rng.integers(1, 11)) if rng.random() < 0.8 else 0
    nest = rng.uniform(0, SIZE, 2)
    place = np.clip(rng.normal(nest, 26, (tries, 2)), -MARGIN, SIZE + MARGIN)
    room = 12  # tries for the centre's places
    middle, half = (CENTRE.start + CENTRE.stop) / 2, (CENTRE.stop - CENTRE.start) / 2
    # Wholly inside: a nucleus across the border would tell the label by what it leaves outside.
    place[:room] = middle + rng.uniform(-1, 1, (room, 2)) * (half - 0.5 - reach[:room, None])
    outside = np.maximum(np.abs(place - middle) - half, 0)
    free = np.hypot(outside[:, 0], outside[:, 1]) > reach + 1.5
    chosen: list[int] = []
    in_centre = 0
    spots, radii = place.tolist(), radius.tolist()
    for i, (y, x) in enumerate(spots):
        if i < room:
            if in_centre == inside:
                continue
        elif len(chosen) - in_centre == around:
            break
        elif not free[i]:
            continue
        if all((y - spots[j][0]) ** 2 + (x - spots[j][1]) ** 2 > (1.05 * (radii[i] + radii[j])) ** 2 for j in chosen):
            chosen.append(i)
            in_centre += i < room
    wave = np.stack([size * np.cos(phase), size * np.sin(phase)], axis=1)[chosen]
    nucleolus = rng.normal(0, 0.22, (tries, 2))[chosen]
    dark = rng.uniform(0.85, 1.15, tries)[chosen]
    kinds = (place[chosen], radius[chosen], wave, nucleolus, dark)
    return Tumour(*(values.astype(np.float32) for values in kinds)), in_centre


def _groups(rng: np.random.Generator, places: Tumour) -> tuple[npt.NDArray[np.intp], Small]:
    """(the place of each, normal cells): up to four in every place, the more the larger it is."""
    shape = (len(places.radius), 4)
    turn = rng.uniform(0, 2 * np.pi, (shape[0], 1)) + np.arange(4) * (np.pi / 2) + rng.normal(0, 0.35, shape)
    radius = places.radius[:, None]
    apart = (radius * rng.uniform(0.5, 1.15, shape))[..., None]
    place = places.place[:, None] + apart * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    keep = rng.random(shape) < MATCHED * radius**2
    keep[:, 0] = True
    cells = place[keep]
    return np.nonzero(keep)[0], _normal(rng, cells, np.where(rng.random(len(cells)) < 0.45, "oval", "round"), 0)


def _normal(rng: np.random.Generator, place: Floats, kind: npt.NDArray[np.str_], direction: float) -> Small:
    """Normal nuclei of given kinds: round (lymphocytes), oval (histiocytes), thin (fibroblasts, along the fibres)."""
    n = len(place)
    axes = np.empty((n, 2))
    for name, (long, short) in NORMAL.items():
        drawn = np.stack([rng.uniform(*long, n), rng.uniform(*short, n)], axis=1)
        axes[kind == name] = drawn[kind == name]
    tilt = np.where(kind == "thin", direction + rng.normal(0, 0.25, n), rng.uniform(0, np.pi, n))
    fields = (place, axes, tilt, rng.uniform(0.8, 1.15, n), kind == "oval")
    return Small(*(np.asarray(values, np.float32) for values in fields))


def _small(rng: np.random.Generator, places: Tumour, direction: float) -> Small:
    """Normal cells on a jittered, turned lattice, here more, there fewer: lymphocytes, thin ones along the fibres, oval ones."""
    steps = np.arange(-9, 10) * SPACING
    y, x = np.meshgrid(steps, steps, indexing="ij")
    turn = rng.uniform(0, np.pi / 2)
    c, s = np.cos(turn), np.sin(turn)
    place = np.stack([c * y - s * x, s * y + c * x], axis=-1).reshape(-1, 2)
    place += SIZE / 2 + rng.uniform(-SPACING / 2, SPACING / 2, 2) + rng.normal(0, 1.7, place.shape)
    dense = rng.uniform(0.1, 0.75) + 0.2 * smooth(rng, 24)
    chance = dense[tuple(np.clip(place, 0, SIZE - 1).astype(int).T)]
    place = place[(rng.random(len(place)) < chance) & ((place > -4) & (place < SIZE + 4)).all(axis=1)]
    apart = place[:, None] - places.place[None]
    gap = np.hypot(apart[..., 0], apart[..., 1]) - places.radius
    place = place[(gap > NORMAL["round"][0][0]).all(axis=1)]
    share = rng.random(len(place))
    kind = np.where(share < rng.uniform(0.02, 0.4), "thin", "round")
    kind[share > 1 - rng.uniform(0, 0.25)] = "oval"
    return _normal(rng, place, kind, direction)
