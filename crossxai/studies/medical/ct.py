"""The classification's two modalities: a CT slice of the thorax, with a nodule that the sample's row of a table describes.

The slice is drawn in Hounsfield units, and windowed. Nodules are drawn three times too large and denser than life, so that a
network of two convolutions can see them. Benign nodules lie in the lobe on the left side of the image, malignant ones on the
right side. Given the class, features are independent, and none is clipped, so that their moments are exactly those of `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from crossxai.errors import InvalidInput
from crossxai.studies.medical.drawing import (
    UNIT,
    Array,
    Field,
    Mask,
    band,
    blur,
    bounded,
    ellipse,
    grid,
    polar,
    smooth,
    stream,
    wobble,
)


@dataclass(frozen=True)
class Feature:
    """One column. moments: (mean, sd) of benign and of malignant; sd 0 means yes or no with that probability."""

    name: str
    unit: str
    kind: str  # "beta" over the bounds, "gamma", "lognormal" or "bernoulli"
    moments: tuple[tuple[float, float], tuple[float, float]]
    bounds: tuple[float, float] = (0.0, 1.0)

    def draw(self, rng: np.random.Generator, label: int) -> float:
        """One value for a class."""
        mean, sd = self.moments[label]
        if self.kind == "bernoulli":
            return float(rng.random() < mean)
        if self.kind == "gamma":
            return float(rng.gamma((mean / sd) ** 2, sd**2 / mean))
        if self.kind == "lognormal":
            spread = np.log1p((sd / mean) ** 2)
            return float(rng.lognormal(np.log(mean) - spread / 2, np.sqrt(spread)))
        return bounded(rng, mean, sd, *self.bounds)

    def sd(self, label: int) -> float:
        """The standard deviation of the distribution."""
        mean, sd = self.moments[label]
        return float(np.sqrt(mean * (1 - mean))) if self.kind == "bernoulli" else sd


COLUMNS = (
    Feature("Age", "years", "beta", ((54.9, 8.0), (65.0, 8.1)), (20, 95)),
    Feature("PackYears", "pack years", "gamma", ((20.4, 10.0), (39.8, 12.3))),
    Feature("SUVmax", "", "gamma", ((2.50, 0.82), (6.42, 1.47))),
    Feature("NoduleDiam_mm", "mm", "beta", ((7.1, 2.3), (14.8, 4.9)), (3, 30)),  # above 30 mm it is called a mass
    Feature("SpiculationIdx", "", "beta", ((0.18, 0.13), (0.72, 0.16))),
    Feature("PleuraTether", "0 no, 1 yes", "bernoulli", ((0.09, 0), (0.40, 0))),
    Feature("FEV1_pct", "% of predicted", "beta", ((82.2, 12.2), (67.1, 13.7)), (20, 130)),
    Feature("BMI", "kg/m²", "lognormal", ((26.4, 4.1), (24.0, 4.0))),
    Feature("CRP_mgL", "mg/l", "gamma", ((2.9, 2.9), (7.6, 7.7))),
    Feature("FamilyHx", "0 no, 1 yes", "bernoulli", ((0.15, 0), (0.25, 0))),
    Feature("SmokingStatus", "0 former, 1 current", "bernoulli", ((0.40, 0), (0.50, 0))),
    Feature("Gender", "0 female, 1 male", "bernoulli", ((0.50, 0), (0.50, 0))),
)
FEATURES: tuple[str, ...] = tuple(column.name for column in COLUMNS)


def label_of(number: int) -> int:
    """The classes alternate, so any even number of samples is balanced exactly: 0 benign, 1 malignant."""
    return number % 2


def row(seed: int, number: int, planted: bool = True) -> npt.NDArray[np.float32]:
    """One sample's features (12,). Without the signal, the row of a class that a coin chose: it knows nothing of the label."""
    rng = stream(seed, "classification", number, "table" if planted else "coin")
    label = label_of(number) if planted else int(rng.integers(2))
    return np.array([column.draw(rng, label) for column in COLUMNS], dtype=np.float32)


def table(n: int, seed: int, planted: bool = True) -> tuple[Array, Array]:
    """(values (n, 12) float32 in the features' units, labels (n,) int64): the same rows that `generate` gives."""
    if n < 1:
        raise InvalidInput(f"n is {n}; write at least 1")
    rows: Sequence[Array] = [row(seed, number, planted) for number in range(n)]
    return np.stack(rows), np.array([label_of(number) for number in range(n)], dtype=np.int64)


MM_PER_PIXEL = 1.6
MAGNIFICATION = 3.0
WINDOW = (-1000.0, 1000.0)
"""Hounsfield units shown as 0 and as 1."""

AIR, LUNG, FAT, MUSCLE, BLOOD, ORGAN, SPONGE, BONE = -1000.0, -860.0, -100.0, 55.0, 45.0, 35.0, 170.0, 330.0

DENSITY = 880.0
"""Hounsfield units of a nodule: denser than bone here, as a calcified one is; real ones are softer (20 … 100)."""


def slice_of(seed: int, number: int, size: int, planted: bool = True) -> tuple[Field, Mask]:
    """(image (size, size) in [0, 1], the nodule's pixels); without the signal the mask stays and the nodule does not."""
    hounsfield, lobes = _thorax(stream(seed, "classification", number, "anatomy"), size)
    # Quantum noise, correlated as after a reconstruction filter: 14 HU.
    noise = blur(stream(seed, "classification", number, "noise").standard_normal((size, size)), 0.7) * 32
    share, density = _nodule(stream(seed, "classification", number, "signal"), lobes[label_of(number)], number, seed)
    if planted:
        hounsfield = hounsfield * (1 - share) + density * share
    low, high = WINDOW
    return np.clip((hounsfield + noise - low) / (high - low), 0, 1), share > 0


def _thorax(rng: np.random.Generator, size: int) -> tuple[Field, list[Mask]]:
    """The slice in Hounsfield units (size, size), without nodule, and the two lobes: left and right of the image."""
    y, x = grid(size)
    cy, cx = 112 + rng.normal(0, 1.5), 112 + rng.normal(0, 1.5)
    height, width = 76 * rng.normal(1, 0.02), 101 * rng.normal(1, 0.02)
    angle = np.arctan2((y - cy) / height, (x - cx) / width)
    # A flattened back and a slight hollow at the breastbone: what tells a chest from an ellipse.
    outline = wobble(rng, angle, 0.008, range(2, 6)) * (1 - 0.035 * np.exp(-(((angle + np.pi / 2) / 0.35) ** 2)))
    body = ellipse(size, cy, cx, height, width) / outline
    depth = (1 - body) * 0.5 * (height + width)  # about units below the skin
    fat, wall = 6 * rng.normal(1, 0.12), 11 * rng.normal(1, 0.05)
    marbling = smooth(rng, size, 9)

    hu = np.full((size, size), AIR)
    hu[depth > 0] = MUSCLE  # skin
    hu[depth > 1.2] = FAT
    hu[depth > fat] = MUSCLE + 12 * marbling[depth > fat]
    hu[(depth > fat + 3.2) & (depth < fat + 4.6)] = FAT  # between the muscles of the wall
    cavity = depth > fat + wall
    hu[cavity] = FAT + 40  # mediastinal fat, where no organ follows

    lobes = []
    for side in (-1, 1):
        lobe_width = (41 if side < 0 else 39) * rng.normal(1, 0.02)
        lobe = ellipse(size, cy - 2, cx + side * 46, 58 * rng.normal(1, 0.02), lobe_width, side * 0.10)
        lobes.append((lobe / wobble(rng, angle, 0.012, range(3, 8)) < 1) & cavity)
    # The heart leans to the patient's left, which a radiologist's display shows on the right.
    heart = ellipse(size, cy + 2, cx + 9, 31 * rng.normal(1, 0.04), 25 * rng.normal(1, 0.04), -0.5)
    spine_y = cy + height - fat - wall - 17
    middle = (heart < 1) | (np.abs(x - cx) < 11) | (ellipse(size, spine_y, cx, 22, 21) < 1)
    lobes = [lobe & ~middle for lobe in lobes]
    lung = lobes[0] | lobes[1]
    hu[lung] = LUNG + (18 * smooth(rng, size, 20) + 10 * band(rng, size, 3))[lung]
    hu[lung] += (y + 0 * x)[lung] * 0.25  # gravity: the back, below, is a little denser
    _vessels(rng, hu, lobes, cy, cx)

    hu[heart < 1] = ORGAN + 6 * smooth(rng, size, 14)[heart < 1]
    hu[(heart < 1.06) & (heart >= 1) & ~lung] = FAT
    # Ascending aorta, upper vena cava, descending aorta.
    for dy, dx, radius in ((-34, 3, 9.5), (-30, -9, 6), (12, 14, 7.5)):
        vessel = ellipse(size, cy + dy if dy < 0 else spine_y - dy, cx + dx, radius, radius * rng.normal(1, 0.06))
        hu[(vessel < 1) & cavity] = BLOOD
    for dx in (-7, 8):  # main bronchi
        hu[ellipse(size, cy - 16, cx + dx, 3.4, 4.0) < 1] = AIR + 30
    _bones(rng, hu, depth, angle, fat, spine_y, cx, cy, height)
    return blur(hu, 0.75), lobes


def _vessels(rng: np.random.Generator, hu: Field, lobes: list[Mask], cy: float, cx: float) -> None:
    """Vessels that leave the hilum, fork and thin out; drawn as chains of discs."""
    size = hu.shape[0]
    unit = UNIT / size
    for side, lobe in zip((-1, 1), lobes, strict=True):
        tree = [(cy - 8.0 + 6 * i, cx + side * 17.0, a + (0 if side > 0 else np.pi), 2.3)
                for i, a in enumerate(rng.normal(0, 0.25, 4) * 1.0 + np.linspace(-0.9, 0.9, 4) * side)]  # fmt: skip
        while tree:
            y, x, heading, radius = tree.pop()
            for _ in range(int(rng.integers(9, 16))):
                y, x = y + 1.3 * np.sin(heading), x + 1.3 * np.cos(heading)
                heading += rng.normal(0, 0.10)
                radius *= 0.985
                top, left = int((y - 3) / unit), int((x - 3) / unit)
                rows = slice(max(0, top), max(0, top + int(6 / unit) + 2))
                columns = slice(max(0, left), max(0, left + int(6 / unit) + 2))
                i, j = np.ogrid[rows, columns]
                i, j = i[i < size][:, None], j[j < size][None, :]
                if not (i.size and j.size):
                    break
                disc = np.clip(radius - np.hypot((i + 0.5) * unit - y, (j + 0.5) * unit - x) + 0.5, 0, 1)
                part = hu[i, j]
                hu[i, j] = np.where(lobe[i, j], np.maximum(part, LUNG + disc * 620 * min(1.0, radius / 1.6)), part)
            if radius > 0.75:
                tree += [
                    (y, x, heading + turn, radius * 0.74) for turn in (rng.uniform(0.3, 0.7), -rng.uniform(0.3, 0.7))
                ]


def _bones(
    rng: np.random.Generator,
    hu: Field,
    depth: Field,
    angle: Field,
    fat: float,
    spine_y: float,
    cx: float,
    cy: float,
    height: float,
) -> None:
    size = hu.shape[0]
    middle = fat + 7.6
    phase = rng.uniform(0, 2 * np.pi)
    ribs = (np.cos(angle * 11 + phase) > 0.15) & (np.abs(np.sin(angle / 2 + np.pi / 4)) > 0.2)
    band_ = np.abs(depth - middle)
    hu[(band_ < 2.9) & ribs] = BONE
    hu[(band_ < 1.5) & ribs] = SPONGE
    body = ellipse(size, spine_y, cx, 12, 14)  # the vertebra's body, its canal and its arch
    hu[body < 1] = BONE
    hu[body < 0.86] = SPONGE + 25 * smooth(rng, size, 4)[body < 0.86]
    arch = ellipse(size, spine_y + 16, cx, 8.5, 10)
    hu[arch < 1] = BONE
    hu[arch < 0.66] = 25.0
    for side in (-1, 1):
        hu[ellipse(size, spine_y + 15, cx + side * 15, 2.6, 8, side * 0.25) < 1] = BONE * 0.8
    sternum = ellipse(size, cy - height * 0.965 + fat + 7, cx, 3.6, 11)
    hu[sternum < 1] = BONE * 0.8
    hu[sternum < 0.6] = SPONGE


def _nodule(rng: np.random.Generator, lobe: Mask, number: int, seed: int) -> tuple[Field, Field]:
    """(share of the nodule in every pixel, its Hounsfield units): diameter, spicules and tether as the table row says."""
    size = lobe.shape[0]
    values = dict(zip(FEATURES, row(seed, number), strict=True))
    radius = float(values["NoduleDiam_mm"]) / 2 * MAGNIFICATION / MM_PER_PIXEL
    spicules = float(values["SpiculationIdx"])
    inner = distance_transform_edt(lobe) * UNIT / size
    # Deep enough for the body of the nodule; where none is, the deepest tenth of the lobe.
    roomy = inner >= min(radius + 3, float(np.quantile(inner[inner > 0], 0.9)))
    places = np.argwhere(roomy)
    py, px = places[rng.integers(len(places))]
    y, x = (py + 0.5) * UNIT / size, (px + 0.5) * UNIT / size
    r, angle = polar(size, float(y), float(x))
    body = radius * wobble(rng, angle, 0.03, range(2, 5))
    spikes = np.zeros_like(angle)
    count = int(rng.integers(9, 14))
    for k in range(count):
        direction = 2 * np.pi * (k + rng.uniform(-0.3, 0.3)) / count
        turn = np.angle(np.exp(1j * (angle - direction)))
        spikes = np.maximum(spikes, rng.uniform(0.6, 1.0) * np.exp(-np.abs(turn) / 0.085))
    reach = 0.97 * body + 0.8 * spicules * (radius + 5) * spikes
    share = np.clip((reach - r) / 1.4, 0, 1)
    if values["PleuraTether"]:
        share = np.maximum(share, _tether(inner, r, angle, lobe))
    texture = smooth(rng, size, 5)
    density = DENSITY + float(rng.normal(0, 20)) + 20 * texture
    return share, np.asarray(density)


def _tether(inner: Field, r: Field, angle: Field, lobe: Mask) -> Field:
    """A strand from the nodule to the nearest edge of the lobe."""
    edge = (inner > 0) & (inner <= 2.0 * UNIT / inner.shape[0])
    nearest = np.argmin(np.where(edge, r, np.inf))
    length, heading = float(r.flat[nearest]), float(angle.flat[nearest])
    along, across = r * np.cos(angle - heading), np.abs(r * np.sin(angle - heading))
    strand = np.clip(1.9 - across, 0, 1) * ((along > 0) & (along < length + 1))
    return np.asarray(np.where(lobe, strand, 0.0) * 0.8)
