"""Where cells lie: the same tissue around the centre whatever the label, and in the centre tumour cells or as much of normal ones.

The centre 32 × 32 has one to three places. In a positive patch a tumour cell lies in each of them; in a negative patch small
normal cells that hold about as much haematoxylin. All else is drawn before the label is looked at: tumour cells around
the centre (none, or a nest of them) that do not reach into it, lymphocytes, spindle-shaped cells, fibres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossxai.data.pcam import CENTRE, SIZE
from crossxai.data.pcam_synthetic.noise import Floats, smooth

HARMONICS = (0.16, 0.09, 0.05, 0.04)
"""The largest amplitude of harmonics 2 … 5 of a tumour nucleus's outline, as shares of its radius."""

RADIUS = (5.5, 8.0)
SMALL = (3.0, 3.7)
"""Radii in pixels (of about 1 µm, as PatchCamelyon's): of tumour nuclei, of lymphocytes."""

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
    """Small nuclei, ellipses: place (n, 2), long and short half axis (n, 2), tilt (n,), dark (n,)."""

    place: Floats
    axes: Floats
    tilt: Floats
    dark: Floats


@dataclass(frozen=True)
class Texture:
    """eosin, haematoxylin: amounts in the stroma (size, size). chromatin: noise of variance 1."""

    eosin: Floats
    haematoxylin: Floats
    chromatin: Floats


def scene(rng: np.random.Generator, positive: bool) -> tuple[tuple[Tumour, Small], Texture]:
    """The cells of a patch, and what they lie in; every draw is made in either case, so that the rest is the same."""
    direction = rng.uniform(0, np.pi)
    texture = _stroma(rng, direction)
    tumour, inside = _tumour(rng)
    filling = _filling(rng, tumour, inside)
    small = _small(rng, tumour, direction)
    if positive:
        return (tumour, small), texture
    keep = slice(inside, None)
    rest = Tumour(tumour.place[keep], tumour.radius[keep], tumour.wave[keep], tumour.nucleolus[keep], tumour.dark[keep])
    both = [np.concatenate(pair) for pair in zip(vars(small).values(), vars(filling).values(), strict=True)]
    return (rest, Small(*both)), texture


def _stroma(rng: np.random.Generator, direction: float) -> Texture:
    """Wavy fibres in one direction, thicker and thinner tissue, and pale clefts."""
    line = np.arange(SIZE, dtype=np.float32)
    across = np.float32(np.cos(direction)) * line[:, None] - np.float32(np.sin(direction)) * line[None, :]
    bend, thick = smooth(rng, 24), smooth(rng, 16)
    wave = np.sin(across * np.float32(2 * np.pi / rng.uniform(6, 10)) + 2.5 * bend)
    fine = smooth(rng, 4)
    eosin = 0.50 + 0.10 * thick + 0.09 * wave * (1 + 0.5 * thick) + 0.05 * fine
    cleft = np.clip((wave * 0.5 + bend + thick - np.float32(rng.uniform(1.4, 2.6))) * 1.5, 0, 1)
    eosin = np.maximum(eosin, 0.12) * (1 - 0.85 * cleft)
    haematoxylin = (np.float32(rng.uniform(0.08, 0.18)) + 0.03 * smooth(rng, 12)) * (1 - 0.8 * cleft)
    return Texture(eosin.astype(np.float32), np.maximum(haematoxylin, 0).astype(np.float32), fine)


def _tumour(rng: np.random.Generator) -> tuple[Tumour, int]:
    """Tumour nuclei, and how many of them, the first ones, are those of the centre's places."""
    tries = 48
    radius = rng.uniform(*RADIUS, tries)
    size = rng.uniform(0.2, 1, (tries, 4)) * HARMONICS
    phase = rng.uniform(0, 2 * np.pi, (tries, 4))
    reach = radius * (1 + size.sum(axis=1))
    inside = int(rng.choice(3, p=(0.45, 0.35, 0.2))) + 1
    around = int(rng.integers(1, 9)) if rng.random() < 0.65 else 0
    nest = rng.uniform(0, SIZE, 2)
    place = np.clip(rng.normal(nest, 26, (tries, 2)), -MARGIN, SIZE + MARGIN)
    room = 12
    middle, half = (CENTRE.start + CENTRE.stop) / 2, (CENTRE.stop - CENTRE.start) / 2
    # Wholly inside: a nucleus across the border would tell the label by what it leaves outside.
    place[:room] = middle + rng.uniform(-1, 1, (room, 2)) * (half - 0.5 - reach[:room, None])
    outside = np.maximum(np.abs(place - middle) - half, 0)
    free = np.hypot(outside[:, 0], outside[:, 1]) > reach + 1.5
    chosen: list[int] = []
    found = 0
    spots, radii = place.tolist(), radius.tolist()
    for i, (y, x) in enumerate(spots):
        if i < room:
            if found == inside:
                continue
        elif len(chosen) - found == around:
            break
        elif not free[i]:
            continue
        if all((y - spots[j][0]) ** 2 + (x - spots[j][1]) ** 2 > (1.05 * (radii[i] + radii[j])) ** 2 for j in chosen):
            chosen.append(i)
            found += i < room
    wave = np.stack([size * np.cos(phase), size * np.sin(phase)], axis=1)[chosen]
    nucleolus = rng.normal(0, 0.22, (tries, 2))[chosen]
    dark = rng.uniform(0.85, 1.15, tries)[chosen]
    kinds = (place[chosen], radius[chosen], wave, nucleolus, dark)
    return Tumour(*(values.astype(np.float32) for values in kinds)), found


def _filling(rng: np.random.Generator, tumour: Tumour, inside: int) -> Small:
    """Two or three lymphocytes in each of the centre's places: what is there when no tumour cell is."""
    count = 3
    turn = rng.uniform(0, 2 * np.pi, (inside, 1)) + np.arange(count) * (2 * np.pi / count)
    turn = turn + rng.normal(0, 0.3, turn.shape)
    apart = (tumour.radius[:inside, None] * rng.uniform(0.5, 0.8, turn.shape))[..., None]
    place = tumour.place[:inside, None] + apart * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    keep = rng.random((inside, count)) < 0.5 * (tumour.radius[:inside, None] / 6.75) ** 2 * (np.arange(count) > 0) + (
        np.arange(count) == 0
    )
    return _lymphocytes(rng, place.reshape(-1, 2)[keep.ravel()])


def _lymphocytes(rng: np.random.Generator, place: Floats) -> Small:
    n = len(place)
    long = rng.uniform(*SMALL, n)
    axes = np.stack([long, long * rng.uniform(0.82, 1, n)], axis=1)
    kinds = (place, axes, rng.uniform(0, np.pi, n), rng.uniform(0.8, 1.15, n))
    return Small(*(values.astype(np.float32) for values in kinds))


def _small(rng: np.random.Generator, tumour: Tumour, direction: float) -> Small:
    """Lymphocytes on a jittered, turned lattice, more here and fewer there, and spindle cells along the fibres."""
    steps = np.arange(-9, 10) * SPACING
    y, x = np.meshgrid(steps, steps, indexing="ij")
    turn = rng.uniform(0, np.pi / 2)
    c, s = np.cos(turn), np.sin(turn)
    place = np.stack([c * y - s * x, s * y + c * x], axis=-1).reshape(-1, 2)
    place += SIZE / 2 + rng.uniform(-SPACING / 2, SPACING / 2, 2) + rng.normal(0, 1.7, place.shape)
    dense = rng.uniform(0.1, 0.75) + 0.2 * smooth(rng, 24)
    chance = dense[tuple(np.clip(place, 0, SIZE - 1).astype(int).T)]
    keep = (rng.random(len(place)) < chance) & ((place > -4) & (place < SIZE + 4)).all(axis=1)
    gap = np.linalg.norm(place[:, None] - tumour.place[None], axis=-1) - tumour.radius
    keep &= (gap > SMALL[0]).all(axis=1)
    found = _lymphocytes(rng, place[keep])
    spindle = rng.random(len(found.tilt)) < rng.uniform(0.02, 0.4)
    thin = np.stack([rng.uniform(4.5, 6.5, len(spindle)), rng.uniform(1.2, 1.8, len(spindle))], axis=1)
    tilt = direction + rng.normal(0, 0.25, len(spindle))
    return Small(
        found.place,
        np.where(spindle[:, None], thin, found.axes).astype(np.float32),
        np.where(spindle, tilt, found.tilt).astype(np.float32),
        found.dark,
    )
