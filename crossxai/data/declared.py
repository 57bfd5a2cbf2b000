"""What a user says about samples in files: where they are, and where in them are images, labels, masks and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidInput

RULES = ("mean", "median", "drop")


@dataclass(frozen=True)
class Files:
    """Samples in files, with what their names do not tell. `[data]` of an experiment file takes the same keys, and the command
    line `--set data.key=value`.

    Parameters
    ----------
    files : path
        A folder, a pattern, one picture, a CSV file, `.npy`, `.npz` or HDF5.
    images : str or mapping of str to str
        The column of a CSV file that names pictures, "file" if not given; of .npz and HDF5 the array of the inputs. By modality
        where the model takes several.
    labels : str
        The column, or the array, of the labels: "label" and "labels" if not given. A CSV file is a `table` with a column "label".
    masks : str
        A folder of masks with the names of their pictures, a path with {} in place of such a name, or the column or array that
        holds them: true regions, of a segmentation, or of the pixels that decide a sample's label.
    table : path
        A CSV file with the columns of the model's table, or with labels, joined to the files by `key`.
    key : str
        The column that joins: of both CSV files, or of the table alone where it holds the names of files; "file" or "id" if not
        given.
    missing : {"mean", "median", "drop"} or float, optional
        What becomes of missing values of a table: the column's mean or median, or this number, takes their place, or their
        samples are left out. If not given they are an error.
    missing_values : sequence of float or str
        What stands for a missing value beside empty cells and NaN, such as -999.
    indices : sequence of int, or str
        Of .npy, .npz and HDF5: the rows to take, or the array that holds them.
    root : path
        The folder that the files of a CSV file are relative to, its own if not given. Files outside of it are left out.
    folder : path
        What paths are relative to; the working directory if not given.

    Raises
    ------
    InvalidInput: where the words do not fit together
    """

    files: str | Path
    images: str | Mapping[str, str] = ""
    labels: str = ""
    masks: str | Path = ""
    table: str | Path = ""
    key: str = ""
    missing: str | float | None = None
    missing_values: Sequence[float | str] | float | str = ()
    indices: Sequence[int] | str = ()
    root: str | Path = ""
    folder: str | Path = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not str(self.files):
            raise InvalidInput("files names a folder, a pattern or a file of samples; got nothing")
        if isinstance(self.missing, str) and self.missing not in RULES:
            raise InvalidInput(f"missing is one of {', '.join(RULES)}, or a number; got {self.missing!r}")
        if isinstance(self.missing, bool) or (isinstance(self.missing, float) and not math.isfinite(self.missing)):
            raise InvalidInput(
                f"missing is a finite number that takes the place of what is missing; got {self.missing!r}"
            )
        if self.labels.lower().endswith((".csv", ".tsv")) and not str(self.table):
            object.__setattr__(self, "table", self.labels)
            object.__setattr__(self, "labels", "")
        if self.key and not str(self.table):
            raise InvalidInput(f'key = {self.key!r} joins files to a table: write table = "….csv", too')
        given = [self.missing_values] if isinstance(self.missing_values, str | float | int) else self.missing_values
        object.__setattr__(self, "missing_values", tuple(given))

    def path(self, name: str | Path) -> Path:
        """A path that the user gave, relative to the folder."""
        return Path(self.folder) / name

    @property
    def place(self) -> Path:
        """Where the files are."""
        return self.path(self.files)

    @property
    def absent(self) -> tuple[str, ...]:
        """What stands for a missing value, as text; numbers also as they are written when read."""
        given = tuple(map(str, tuple(self.missing_values)))  # type: ignore[arg-type]
        return (*given, *(str(number) for text in given if (number := _number(text)) is not None))

    @property
    def declared(self) -> tuple[str, ...]:
        """The keys that say something, beside `files`."""
        return tuple(f.name for f in fields(self) if f.name not in ("files", "folder") and _says(getattr(self, f.name)))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _says(value: Any) -> bool:
    return value is not None and (isinstance(value, int | float) or (bool(str(value)) and value != ()))
