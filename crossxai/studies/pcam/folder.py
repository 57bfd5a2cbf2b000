"""A folder that this package fills with files in PatchCamelyon's format: its note, its own files, its control figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile
from crossxai.studies.pcam.reading import ROWS, PCam, Split, file_name


def read_note(path: Path, maker: str) -> dict[str, Any] | None:
    """What a set's own JSON file says; None where there is none. Raises `InvalidFile` if the maker did not write it."""
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidFile(f"{path}: not JSON ({error}); delete the folder to build the set again") from error
    if not isinstance(note, dict) or "made_from" not in note:
        raise InvalidFile(f"{path}: not written by {maker}; choose another folder")
    return note


def refuse_foreign(folder: Path, ours: Callable[[Path], bool] = lambda path: False) -> None:
    """Raise `InvalidFile` if the folder holds a file of PatchCamelyon's, packed or not, that is not ours."""
    for split in get_args(Split):
        for part in ROWS:
            for name in (file_name(split, part), file_name(split, part) + ".gz"):
                if (folder / name).exists() and not ours(folder / name):
                    raise InvalidFile(f"{folder}: holds {name}, which this set would overwrite; choose another folder")


def holds(folder: Path, split: Split, fingerprint: str) -> bool:
    """Whether the folder holds this very split, whole."""
    try:
        return PCam(folder, split).fingerprint() == fingerprint
    except InvalidFile:
        return False


def best_threshold(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Balanced accuracy of the best rule "1 if the value is above some threshold"; values, labels (n,).

    The threshold is chosen on the same data: by chance alone it is a little above 0.5, the more so the fewer there are.
    """
    cuts = np.unique(values)
    hit = 1 - np.searchsorted(np.sort(values[labels == 1]), cuts, side="right") / (labels == 1).sum()
    rejected = np.searchsorted(np.sort(values[labels == 0]), cuts, side="right") / (labels == 0).sum()
    return float(((hit + rejected) / 2).max())
