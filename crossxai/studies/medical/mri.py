"""T1 and T2 slices of one brain whose lesions grow with a score like the EDSS, which is 10 × Beta(2, 5).

T1 holds a dark lesion above the ventricles (upper centre of the image), T2 a bright one below them. Area and contrast of both
grow with the score; the lowest score has a small, faint lesion, so the truth is never empty.
"""

from __future__ import annotations

import numpy as np

from crossxai.studies.medical.brain import TISSUES, Outline, outline, scan, show, tissues
from crossxai.studies.medical.noise import Field, grid, polar, smallest, smooth, wobble
from crossxai.studies.medical.samples import Array, Mask, stream

T1 = {"air": 0.02, "scalp": 0.58, "skull": 0.10, "csf": 0.14, "grey": 0.52, "white": 0.76, "deep": 0.60}
T2 = {"air": 0.02, "scalp": 0.34, "skull": 0.08, "csf": 0.58, "grey": 0.39, "white": 0.30, "deep": 0.33}
LEVEL = {"t1": 0.20, "t2": 0.97}
"""What a lesion of full contrast looks like: nearly as dark as fluid in T1, brighter than anything else in T2."""
PLACE = {"t1": (-35.0, 0.0), "t2": (43.0, 0.0)}
"""Where it lies, (down, right) of the brain's centre."""


def score(seed: int, number: int) -> float:
    """One sample's score, in [0, 10]."""
    return float(10 * stream(seed, "regression", number, "score").beta(2, 5))


def area(value: float) -> float:
    """Square units (pixels at full size) of the lesion of a score."""
    return 70 + 180 * value


def contrast(value: float) -> float:
    """How far the lesion of a score is from the tissue (0) to its full level (1)."""
    return 0.6 + 0.04 * value


def pair(seed: int, number: int, size: int, planted: bool = True) -> tuple[Field, Field, Mask, Mask]:
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
    mask = smallest(distance, allowed, area(value))
    rim = distance[mask].max()
    return np.asarray(np.where(mask, np.clip((rim - distance) / 2.0 + 0.3, 0, 1), 0.0))
