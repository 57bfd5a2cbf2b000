"""Opening the HDF5 files of this package: written under a temporary name and renamed; what is damaged is an error in words."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile
from crossxai.files.atomic import replacing
from crossxai.files.remote import readable

FORMAT = "crossxai"
VERSION = 1


def ours(path: Path) -> bool:
    """Whether a file is one of these, so that a run may replace or remove it."""
    try:
        with readable(path) as stored, h5py.File(stored, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except InvalidFile:  # it is in a store that cannot be asked
        raise
    except OSError:
        return False


class Disk(io.FileIO):
    """A file that keeps the first error of writing, and from then on all that is written, in memory. HDF5 must not be told: if it
    cannot write what it holds, closing the file may end the process with a segmentation fault; so may reading what it wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self.rest: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """All of it; of what does not fit, a disk takes a part at first."""
        view, place, done = memoryview(data).cast("B"), self.tell(), 0
        while self.error is None and done < len(view):
            try:
                done += os.write(self.fileno(), view[done:])
            except OSError as error:
                self.error = error
        if self.error is not None:
            self.rest.append((place, bytes(view)))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """What was written here, zeros where nothing was."""
        view, place = memoryview(buffer).cast("B"), self.tell()
        read = super().readinto(view) or 0
        view[read:] = bytes(len(view) - read)
        for start, content in self.rest:
            first, end = max(start, place), min(start + len(content), place + len(view))
            if first < end:
                view[first - place : end - place] = content[first - start : end - start]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """As for writing."""
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0

    def check(self) -> None:
        """Raise the error that is kept."""
        if self.error is not None:
            raise self.error


@contextmanager
def new_hdf5(path: Path) -> Iterator[Any]:
    """A new HDF5 file; raises `OSError` of a disk that does not take it at the end, or when `file.disk.check()` is called."""
    with Disk(path) as disk:
        try:
            with h5py.File(disk, "w") as file:
                file.disk = disk
                yield file
        finally:
            disk.check()  # whatever HDF5 says of it


@contextmanager
def writing(path: Path, kind: str) -> Iterator[Any]:
    """A new file of a kind; raises `StorageFailed`."""
    with replacing(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["kind"] = kind
        yield file


@contextmanager
def reading(path: Path, kind: str, *others: str) -> Iterator[Any]:
    """A file of a kind, or of one of others; raises `InvalidFile`, also of what is read inside."""
    if not os.path.isfile(path):
        raise InvalidFile(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            header = (file.attrs.get("format"), file.attrs.get("kind"))
            if header not in [(FORMAT, known) for known in (kind, *others)]:
                raise InvalidFile(
                    f"{path} is no CrossXAI {kind} file: it says format {header[0]!r}, kind {header[1]!r}"
                )
            if file.attrs["version"] > VERSION:
                newer = file.attrs["version"]
                raise InvalidFile(f"{path} has format version {newer}; this CrossXAI reads up to {VERSION}")
            yield file
    except InvalidFile:
        raise
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read as HDF5 (truncated or damaged?): {error}") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise InvalidFile(f"{path} lacks what a CrossXAI {kind} file holds: {error}") from error
    except (RuntimeError, TypeError, AttributeError, UnicodeDecodeError) as error:  # what h5py makes of flipped bytes
        raise InvalidFile(f"{path} is damaged: {error}") from error


def write_strings(file: Any, name: str, values: tuple[str, ...]) -> Any:
    """Write text, one per row; returns the data set."""
    return file.create_dataset(name, data=list(values), dtype=h5py.string_dtype(), shape=(len(values),))


def strings(file: Any, name: str) -> tuple[str, ...]:
    """What `write_strings` wrote."""
    return tuple(text.decode() for text in file[name][()])


def rows_of(data: Any, rows: npt.NDArray[np.intp]) -> Any:
    """These rows (m,) of a data set, in any order, maybe repeated, which HDF5 takes in neither way."""
    unique, places = np.unique(rows, return_inverse=True)
    if not len(unique):
        return data[:0]
    if unique[-1] - unique[0] + 1 == len(unique):
        return data[int(unique[0]) : int(unique[-1]) + 1][places]
    # One by one is 12 to 200 times faster than h5py's selection of scattered rows, slowest in chunked files.
    return np.stack([data[int(row)] for row in unique])[places]
