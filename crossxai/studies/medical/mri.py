"""MRI slices of a brain, drawn once and shown by any sequence, with lesions or with a tumour.

T1 holds a dark lesion above the ventricles (upper centre of the image), T2 a bright one below them; area and contrast of both
grow with a score like the EDSS, and the lowest has a small, faint lesion. A tumour has a necrotic core, an enhancing ring,
bright in T1ce, and an oedema halo, which FLAIR alone shows; its mask holds exactly as many pixels as `TUMOUR_AREA`'s beta
distribution gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

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
    smallest,
    smooth,
    stream,
    wobble,
)

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


T1 = {"air": 0.02, "scalp": 0.58, "skull": 0.10, "csf": 0.14, "grey": 0.52, "white": 0.76, "deep": 0.60}
T2 = {"air": 0.02, "scalp": 0.34, "skull": 0.08, "csf": 0.58, "grey": 0.39, "white": 0.30, "deep": 0.33}
LEVEL = {"t1": 0.20, "t2": 0.97}
"""What a lesion of full contrast looks like: nearly as dark as fluid in T1, brighter than anything else in T2."""
PLACE = {"t1": (-35.0, 0.0), "t2": (43.0, 0.0)}
"""Where it lies, (down, right) of the brain's centre."""


def score(seed: int, number: int) -> float:
    """One sample's score, in [0, 10]."""
    return float(10 * stream(seed, "regression", number, "score").beta(2, 5))


def lesion_area(value: float) -> float:
    """Square units (pixels at full size) of the lesion of a score."""
    return 70 + 180 * value


def contrast(value: float) -> float:
    """How far the lesion of a score is from the tissue (0) to its full level (1)."""
    return 0.6 + 0.04 * value


def lesion_pair(seed: int, number: int, size: int, planted: bool = True) -> tuple[Field, Field, Mask, Mask]:
    """(T1, T2, T1's lesion, T2's lesion), each (size, size); images in [0, 1]."""
    value = score(seed, number)
    rng = stream(seed, "regression", number, "anatomy")
    edge = outline(rng, size)
    label = tissues(rng, edge)
    images, masks = [], []
    for name, levels in (("t1", T1), ("t2", T2)):
        share = _lesion(stream(seed, "regression", number, f"{name} signal"), edge, label, name, value)
        image = show(label, levels)
        if planted:
            image = image + share * contrast(value) * (LEVEL[name] - image)
        gradient, noise = scan(stream(seed, "regression", number, f"{name} noise"), edge.inside)
        images.append(np.clip(image * gradient + noise, 0, 1))
        masks.append(share > 0)
    return images[0], images[1], masks[0], masks[1]


def _lesion(rng: np.random.Generator, edge: Outline, label: Array, name: str, value: float) -> Field:
    """The share of the lesion in every pixel; parenchyma only, so it hugs the ventricles."""
    size = label.shape[0]
    down, right = PLACE[name]
    y, x = edge.y + down + rng.normal(0, 2.0), edge.x + right + rng.normal(0, 4.0)
    rows, columns = grid(size)
    _, angle = polar(size, y, x)
    # Wider than high, as bands along the ventricles are.
    distance = np.hypot((rows - y) * 1.25, columns - x) / wobble(rng, angle, 0.10, range(2, 7))
    distance = distance + 1.2 * smooth(rng, size, 7)
    allowed = edge.inside & (label != TISSUES.index("csf"))
    mask = smallest(distance, allowed, lesion_area(value))
    rim = distance[mask].max()
    return np.asarray(np.where(mask, np.clip((rim - distance) / 2.0 + 0.3, 0, 1), 0.0))


FLAIR = {"air": 0.02, "scalp": 0.42, "skull": 0.08, "csf": 0.09, "grey": 0.50, "white": 0.39, "deep": 0.45}
T1CE = {"air": 0.02, "scalp": 0.55, "skull": 0.10, "csf": 0.13, "grey": 0.43, "white": 0.58, "deep": 0.48}
TUMOUR_LEVELS = {"flair": {"core": 0.22, "ring": 0.74, "oedema": 0.88}, "t1ce": {"core": 0.16, "ring": 0.96}}
TUMOUR_AREA = (676.0, 260.0, 150.0, 2000.0)
"""Mean, standard deviation, least and largest area of the whole tumour, in pixels at full size."""
BRIGHTEST = 0.85
"""Of the range: a ring that is cut off at 1 is flat, and in a flat patch rounding decides which pixel a max-pool takes."""


def tumour_masks(seed: int, number: int, size: int) -> dict[str, Mask]:
    """The masks alone, without images: tumour, core, ring, oedema, each (size, size)."""
    return _compartments(seed, number, outline(stream(seed, "segmentation", number, "outline"), size))


def tumour_pair(seed: int, number: int, size: int, planted: bool = True) -> tuple[Field, Field, dict[str, Mask]]:
    """(FLAIR, T1ce, masks by name); images (size, size) in [0, 1]."""
    edge = outline(stream(seed, "segmentation", number, "outline"), size)
    label = tissues(stream(seed, "segmentation", number, "anatomy"), edge)
    parts = _compartments(seed, number, edge)
    images = []
    for name, levels in (("flair", FLAIR), ("t1ce", T1CE)):
        image = show(label, levels)
        rng = stream(seed, "segmentation", number, f"{name} signal")
        if planted:
            for compartment, level in TUMOUR_LEVELS[name].items():
                uneven = level * (1 + 0.05 * smooth(rng, size, 6))
                image = np.where(parts[compartment], uneven, image)
        gradient, noise = scan(stream(seed, "segmentation", number, f"{name} noise"), edge.inside)
        images.append(np.clip(BRIGHTEST * image * gradient + noise, 0, 1))
    return images[0], images[1], parts


def _compartments(seed: int, number: int, edge: Outline) -> dict[str, Mask]:
    rng = stream(seed, "segmentation", number, "tumour")
    size = edge.share.shape[0]
    whole = bounded(rng, *TUMOUR_AREA)
    reach = 0.66 - np.sqrt(whole) / 150  # large ones lie nearer to the centre, so that all of them fits
    heading, far = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.uniform(0.05, 1))
    y, x = edge.y + 86 * far * np.sin(heading), edge.x + 69 * far * np.cos(heading)
    r, angle = polar(size, y, x)
    radius = np.sqrt(whole / np.pi)
    inner = r / wobble(rng, angle, 0.07, range(2, 6)) + 0.6 * smooth(rng, size, 6)
    # The halo spreads in fingers along the white matter, the core stays compact.
    fingers = 0.16 * wobble(rng, angle, 1.0, range(3, 9)) - 0.16
    outer = inner / (1 + fingers * np.clip(r / radius - 0.4, 0, 1)) + 0.9 * smooth(rng, size, 9)
    tumour = smallest(outer, edge.inside, whole)
    solid = smallest(inner, tumour, whole * rng.uniform(0.38, 0.50))
    core = smallest(inner, solid, whole * rng.uniform(0.12, 0.18))
    return {"tumour": tumour, "core": core, "ring": solid & ~core, "oedema": tumour & ~solid}
