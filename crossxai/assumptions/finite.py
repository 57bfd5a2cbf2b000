"""Scores that are no numbers: a gradient may look ordinary where the score it is of is NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossxai.errors import BrokenAssumption
from crossxai.model import Array

SHOWN = 5


def named(ids: Sequence[str], rows: npt.NDArray[np.intp]) -> str:
    """The samples of these rows, each once, by number and id, the first few of many."""
    which = np.unique(rows)
    shown = ", ".join(str(row) if ids[row] == str(row) else f"{row} ({ids[row]!r})" for row in map(int, which[:SHOWN]))
    more = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
    return f"sample{'s' * (len(which) > 1)} {shown}{more}"


def require_finite(model: str, ids: Sequence[str], scores: Array, rows: npt.NDArray[np.intp]) -> None:
    """Raise `BrokenAssumption` that names the samples whose score, or that of a copy of them, is NaN or infinite; rows[j] is the
    sample of scores[j]."""
    bad = ~np.isfinite(scores)
    if bad.any():
        raise BrokenAssumption(
            f"the score of model {model!r} is NaN or infinite for {named(ids, rows[bad])}, or for what an explainer makes of it: "
            "a map of it would look like any other; mend the model (does it divide by a deviation, or take a logarithm, that can "
            'be 0?), or leave these samples out (check="off" answers all the same)'
        )
