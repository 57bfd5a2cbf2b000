"""FLAIR and T1ce slices of one brain with a tumour: a necrotic core, an enhancing ring, an oedema halo.

The ring is bright in T1ce, halo and ring are bright in FLAIR, the core is dark in both. T1ce does not show the halo: its truth
is core and ring, FLAIR's is the whole tumour. The whole tumour's area is drawn from a beta distribution over 150 … 2000 pixels
with mean 676 and standard deviation 260, and the mask holds exactly as many pixels.
"""

from __future__ import annotations

import numpy as np

from crossxai.studies.medical.brain import Outline, outline, scan, show, tissues
from crossxai.studies.medical.noise import Field, polar, smallest, smooth, wobble
from crossxai.studies.medical.samples import Mask, stream

FLAIR = {"air": 0.02, "scalp": 0.42, "skull": 0.08, "csf": 0.09, "grey": 0.50, "white": 0.39, "deep": 0.45}
T1CE = {"air": 0.02, "scalp": 0.55, "skull": 0.10, "csf": 0.13, "grey": 0.43, "white": 0.58, "deep": 0.48}
LESION = {
    "flair": {"core": 0.22, "ring": 0.74, "oedema": 0.88},
    "t1ce": {"core": 0.16, "ring": 0.96},
}
AREA = (676.0, 260.0, 150.0, 2000.0)
"""Mean, standard deviation, least and largest area of the whole tumour, in pixels at full size."""
BRIGHTEST = 0.85
"""Of the range: a ring that is cut off at 1 is flat, and in a flat patch rounding decides which pixel a max-pool takes."""


def area(rng: np.random.Generator) -> float:
    """The whole tumour's area, in square units."""
    mean, sd, low, high = AREA
    centre, variance = (mean - low) / (high - low), (sd / (high - low)) ** 2
    total = centre * (1 - centre) / variance - 1
    return float(low + (high - low) * rng.beta(centre * total, (1 - centre) * total))


def masks(seed: int, number: int, size: int) -> dict[str, Mask]:
    """The masks alone, without images: tumour, core, ring, oedema, each (size, size)."""
    return _compartments(seed, number, outline(stream(seed, "segmentation", number, "outline"), size))


def pair(seed: int, number: int, size: int, planted: bool = True) -> tuple[Field, Field, dict[str, Mask]]:
    """(FLAIR, T1ce, masks by name); images (size, size) in [0, 1]."""
    edge = outline(stream(seed, "segmentation", number, "outline"), size)
    label = tissues(stream(seed, "segmentation", number, "anatomy"), edge)
    found = _compartments(seed, number, edge)
    images = []
    for name, levels in (("flair", FLAIR), ("t1ce", T1CE)):
        image = show(label, levels)
        rng = stream(seed, "segmentation", number, f"{name} signal")
        if planted:
            for part, level in LESION[name].items():
                uneven = level * (1 + 0.05 * smooth(rng, size, 6))
                image = np.where(found[part], uneven, image)
        gradient, noise = scan(stream(seed, "segmentation", number, f"{name} noise"), edge.inside)
        images.append(np.clip(BRIGHTEST * image * gradient + noise, 0, 1))
    return images[0], images[1], found


def _compartments(seed: int, number: int, edge: Outline) -> dict[str, Mask]:
    rng = stream(seed, "segmentation", number, "tumour")
    size = edge.share.shape[0]
    whole = area(rng)
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
