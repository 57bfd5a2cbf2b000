"""A folder that this package fills with files in PatchCamelyon's format: what in it is ours, and what must not be lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

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
