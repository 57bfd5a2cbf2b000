"""From amounts of stain to colour: Beer–Lambert with the vectors of Ruifrok & Johnston, and what stainers and scanners vary.

Source: Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, Analytical and Quantitative
Cytology and Histology 23 (2001), 291–299; the vectors are those of scikit-image's `rgb_from_hed`. Per-patch changes of the
vectors and amounts are the stain variation of Tellez et al., Whole-slide mitosis detection in H&E breast histology using PHH3
as a reference to train distilled stain-invariant convolutional networks, IEEE TMI 37 (2018), 2126–2136.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.studies.pcam.synthetic.noise import Floats

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
    vectors = -vectors[..., None, None]  # colours first until the end: three long rows are faster than many of three
    light = np.exp(haematoxylin * vectors[0] + eosin * vectors[1])
    light *= lamp
    _blur(light, np.float32(rng.uniform(0.10, 0.22)))
    light += rng.integers(-4, 5, light.shape, np.int8)
    light += rng.integers(-3, 4, light.shape[1:], np.int8)
    light += np.float32(0.5)
    return np.ascontiguousarray(np.clip(light, 0, 255, out=light).astype(np.uint8).transpose(1, 2, 0))


def _blur(light: Floats, weight: np.float32) -> None:
    """Three taps along both axes of (3, size, size), in place: (weight, 1 - 2 weight, weight), the edge repeated."""
    down = (light[:, 1:] - light[:, :-1]) * weight
    light[:, :-1] += down
    light[:, 1:] -= down
    right = (light[:, :, 1:] - light[:, :, :-1]) * weight
    light[:, :, :-1] += right
    light[:, :, 1:] -= right
