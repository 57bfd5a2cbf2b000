"""Small splits in PatchCamelyon's format to train on within seconds: noise whose centre is red where the label is 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossxai.studies.pcam.reading import CENTRE, write_split

SIZES = {"train": 32, "valid": 12, "test": 12}


def patches(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, its centre red where the label is 1."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 160, (n, 96, 96, 3), np.uint8), rng.permutation(n) % 2
    images[labels == 1, CENTRE, CENTRE, 0] += 90
    return images, labels


def written(root: Path) -> Path:
    """All three splits, in a folder."""
    for seed, (split, n) in enumerate(SIZES.items()):
        write_split(root, split, *patches(n, seed))  # type: ignore[arg-type]
    return root
