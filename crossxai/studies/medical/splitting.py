"""Rows of the training, validation and test sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput

Rows = npt.NDArray[np.intp]
SHARES = {"valid": 0.15, "test": 0.15}


def split(n: int, seed: int = 0, labels: npt.ArrayLike | None = None) -> dict[str, Rows]:
    """Disjoint rows of all n samples: "train" 70 %, "valid" 15 %, "test" 15 %; with classes as labels, of each class.

    Rows are sorted. Raises `InvalidInput` where a part would be empty: below 4 samples, or 4 of one class.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 4:
        raise InvalidInput(f"n is {n!r}; three parts need at least 4 samples")
    classes = np.zeros(n, dtype=int) if labels is None else np.asarray(labels)
    if classes.shape != (n,):
        raise InvalidInput(f"labels have the shape {classes.shape}; write one of each of the {n} samples")
    if not np.issubdtype(classes.dtype, np.integer):
        raise InvalidInput(
            f"labels are {classes.dtype}; only whole-number classes can be spread evenly: leave labels out"
        )
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Rows]] = {"train": [], "valid": [], "test": []}
    for value in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == value))
        if len(rows) < 4:
            raise InvalidInput(f"class {value} has {len(rows)} samples; three parts need at least 4 of each class")
        start = 0
        for name, share in SHARES.items():
            count = max(1, round(share * len(rows)))
            parts[name].append(rows[start : start + count])
            start += count
        parts["train"].append(rows[start:])
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
