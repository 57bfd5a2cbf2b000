"""An axial slice of a head: scalp, skull, folded cortex, white matter, ventricles; drawn once, shown by any sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from crossxai.studies.medical.noise import UNIT, Field, band, blur, ellipse, grid, smallest, smooth, wobble
from crossxai.studies.medical.samples import Array, Mask

FOLDED = 0.17
"""The share of the outer brain that sulci take."""

TISSUES = ("air", "scalp", "skull", "csf", "grey", "white", "deep")


@dataclass(frozen=True)
class Outline:
    """Where the head is. share: distance from the centre as a share of the brain's edge (size, size). y, x: its centre."""

    share: Field
    y: float
    x: float

    @property
    def inside(self) -> Mask:
        return self.share < 1


def outline(rng: np.random.Generator, size: int) -> Outline:
    """A brain 2 × 86 units long and 2 × 69 wide, give or take half a percent."""
    cy, cx = 112 + rng.normal(0, 1.2), 112 + rng.normal(0, 1.2)
    y, x = grid(size)
    angle = np.arctan2((y - cy) / 86, (x - cx) / 69)
    shape = wobble(rng, angle, 0.006, range(2, 6)) * (1 - 0.02 * np.sin(angle))  # narrower in front
    share = ellipse(size, cy, cx, 86 * rng.normal(1, 0.004), 69 * rng.normal(1, 0.004)) / shape
    return Outline(share, cy, cx)


def tissues(rng: np.random.Generator, edge: Outline) -> Array:
    """(size, size) int8: the number of each pixel's tissue in TISSUES."""
    size = edge.share.shape[0]
    unit = UNIT / size
    y, x = grid(size)
    depth = (1 - edge.share) * 77
    label = np.zeros((size, size), dtype=np.int8)
    label[edge.share < 1.135] = TISSUES.index("scalp")
    label[edge.share < 1.09] = TISSUES.index("skull")
    label[edge.share < 1.02] = TISSUES.index("csf")
    # Sulci are the zero lines of band-pass noise: winding, never crossing, about as deep everywhere.
    folds = band(rng, size, 11)
    slope = np.hypot(*np.gradient(folds)) / unit + 1e-6
    reach = 21 + 5 * smooth(rng, size, 24)
    # The same share of every cortex: what folds differently from brain to brain is the place, not the amount of fluid.
    cortical = (depth < reach) & edge.inside
    sulci = smallest(np.abs(folds) / slope, cortical, FOLDED * cortical.sum() * unit**2)
    lean = edge.x + 1.5 * smooth(rng, size, 60)[:, :1]
    fissure = (np.abs(x - lean) < 1.3) & ((y < edge.y - 48) | (y > edge.y + 50))
    sulci |= fissure
    fluid = sulci | ~edge.inside
    distance = distance_transform_edt(~fluid) * unit
    thickness = 4.2 + 0.5 * smooth(rng, size, 20)
    cortex = (distance < thickness) & edge.inside
    label[edge.inside] = TISSUES.index("white")
    label[cortex] = TISSUES.index("grey")
    label[sulci & edge.inside] = TISSUES.index("csf")
    for side in (-1, 1):
        label[ellipse(size, edge.y + 8, edge.x + side * 17, 15, 9, side * -0.35) < 1] = TISSUES.index("deep")
        label[ellipse(size, edge.y - 1, edge.x + side * 29, 17, 6.5, side * 0.30) < 1] = TISSUES.index("deep")
    for mask in _ventricles(rng, edge):
        label[mask] = TISSUES.index("csf")
    return label


def _ventricles(rng: np.random.Generator, edge: Outline) -> list[Mask]:
    size = edge.share.shape[0]
    wide = rng.normal(1, 0.04)
    masks = []
    for side in (-1, 1):
        front = ellipse(size, edge.y - 16, edge.x + side * 9.5, 13, 4.6 * wide, side * 0.42)
        back = ellipse(size, edge.y + 26, edge.x + side * 17, 15, 4.4 * wide, side * -0.42)
        masks += [front < 1, back < 1]
    masks.append(ellipse(size, edge.y + 7, edge.x, 9, 1.6 * wide) < 1)  # the third ventricle
    return masks


def show(label: Array, levels: Mapping[str, float]) -> Field:
    """Each tissue at a sequence's level, with the partial volumes of a scanner."""
    return blur(np.array([levels[tissue] for tissue in TISSUES])[label], 0.7)


def scan(rng: np.random.Generator, inside: Mask, texture: float = 0.014, bias: float = 0.04) -> tuple[Field, Field]:
    """What the scanner adds: (a smooth gradient to multiply, mean 1 over the brain; band-pass texture and noise to add)."""
    size = inside.shape[0]
    gradient = 1 + bias * smooth(rng, size, 120)
    gradient /= gradient[inside].mean()
    grain = band(rng, size, 4) * texture * inside
    return gradient, grain + rng.standard_normal((size, size)) * 0.012
