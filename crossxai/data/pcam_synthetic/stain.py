"""From amounts of stain to colour: Beer–Lambert with the vectors of Ruifrok & Johnston, and what stainers and scanners vary.

Source: Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, Analytical and Quantitative
Cytology and Histology 23 (2001), 291–299; the vectors are those of scikit-image's `rgb_from_hed`. Per-patch changes of the
vectors and amounts are the stain variation of Tellez et al., Whole-slide mitosis detection in H&E breast histology using PHH3
as a reference to train distilled stain-invariant convolutional networks, IEEE TMI 37 (2018), 2126–2136.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.data.pcam_synthetic.noise import Floats

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
RESIDUAL = (0.27, 0.57, 0.78)
"""Optical density in red, green and blue per amount of stain; the third, brown, makes eosin warm."""


def stained(rng: np.random.Generator, haematoxylin: Floats, eosin: Floats) -> npt.NDArray[np.uint8]:
    """RGB uint8 (size, size, 3) of two amounts (size, size): light through stains, optics, sensor."""
    warm = rng.uniform(0.05, 0.22)
    vectors = np.array([HAEMATOXYLIN, np.add(EOSIN, np.multiply(warm, RESIDUAL))])
    vectors = vectors * rng.normal(1, (0.03, 0.04), (3, 2)).T
    amounts = rng.lognormal(0, (0.10, 0.13))
    vectors = (vectors * amounts[:, None]).astype(np.float32)
    lamp = np.float32(rng.uniform(236, 250))
    density = haematoxylin[..., None] * vectors[0] + eosin[..., None] * vectors[1]
    light = lamp * np.exp(-density)
    light = _blurred(light, np.float32(rng.uniform(0.10, 0.22)))
    size = len(light)
    grain = rng.integers(-4, 5, (size, size, 3), np.int8) + rng.integers(-3, 4, (size, size, 1), np.int8)
    return np.clip(light + grain + np.float32(0.5), 0, 255).astype(np.uint8)


def _blurred(light: Floats, weight: np.float32) -> Floats:
    """Three taps along each axis: (weight, 1 - 2 weight, weight), the edge repeated."""
    for axis in (0, 1):
        moved = np.moveaxis(light, axis, 0)
        step = (moved[1:] - moved[:-1]) * weight
        moved = moved.copy()
        moved[:-1] += step
        moved[1:] -= step
        light = np.moveaxis(moved, 0, axis)
    return light
