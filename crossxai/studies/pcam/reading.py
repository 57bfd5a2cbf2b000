"""PatchCamelyon: 96 × 96 RGB patches whose label is decided by the centre 32 × 32, read from its HDF5 files (`.h5` or `.h5.gz`).

Keys: x uint8 (N, 96, 96, 3), y uint8 (N, 1, 1, 1), mask uint8 (N, 96, 96, 1), which some splits lack. Source: Veeling et al.,
Rotation equivariant CNNs for digital pathology, MICCAI 2018; Zenodo record 2546921.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt

from crossxai.data.fetching import cache_folder
from crossxai.errors import InvalidFile, InvalidInput, UnknownName, why_of
from crossxai.files.atomic import replacing
from crossxai.files.opening import new_hdf5, rows_of

Split = Literal["train", "valid", "test"]
Part = Literal["x", "y", "mask"]
Indices = Sequence[int] | npt.NDArray[np.integer[Any]]

SIZE = 96
CENTRE = slice(32, 64)
"""Rows and columns of the 32 × 32 centre that decides the label."""

ROWS: dict[Part, tuple[int, ...]] = {"x": (SIZE, SIZE, 3), "y": (1, 1, 1), "mask": (SIZE, SIZE, 1)}
CHUNK = 1024


def file_name(split: Split, part: Part) -> str:
    """The name that the record gives a file, without `.gz`."""
    return f"camelyonpatch_level_2_split_{split}_{part}.h5"


class PCam:
    """One split, read lazily; any number of processes may read it, and pickling it carries no file handle.

    root: the folder of the files. cache: where `.h5.gz` is decompressed if root is not writable (default: the user's
    cache folder). Raises `InvalidFile` if a file is missing, truncated, or not what the format says.
    """

    def __init__(self, root: str | os.PathLike[str], split: Split, cache: str | os.PathLike[str] | None = None) -> None:
        if split not in get_args(Split):
            raise UnknownName("split", split, get_args(Split))
        self.root = Path(root)
        self.split = split
        spare = cache_folder() / "pcam" if cache is None else Path(cache)
        self.paths: dict[Part, Path] = {}  # those that are read: decompressed ones in the place of theirs
        for part in ROWS:
            path = _find(self.root / file_name(split, part), spare, optional=part == "mask")
            if path is not None:
                self.paths[part] = path
        lengths = {part: count_rows(path, part) for part, path in self.paths.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{n} rows in {self.paths[part].name}" for part, n in lengths.items())
            raise InvalidFile(f"{self.root}: {counts}: they must be equal; fetch the files of one release again")
        self._labels = _read_labels(self.paths["y"])
        self._fingerprint = ""
        self._handles: dict[Part, h5py.File] = {}
        self._sizes: dict[Part, int] = {}  # of those, when they were opened
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"PCam({str(self.root)!r}, {self.split!r}): {len(self)} patches"

    @property
    def has_masks(self) -> bool:
        """Whether this split comes with a mask of what the label is about."""
        return "mask" in self.paths

    def images(self, indices: Indices) -> npt.NDArray[np.float32]:
        """Patches (n, 96, 96, 3), RGB in [0, 1], in the order asked for; indices may repeat."""
        return self.pixels(indices).astype(np.float32) / np.float32(255)

    def pixels(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """Patches (n, 96, 96, 3) as the file holds them, 0 … 255."""
        return self._rows("x", indices)

    def labels(self, indices: Indices | None = None) -> npt.NDArray[np.int64]:
        """Labels (n,), 0 or 1; all of them unless indices are given."""
        chosen = self._labels if indices is None else self._labels[self._index(indices)]
        return chosen.astype(np.int64)

    def masks(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Masks (n, 96, 96), true where the tissue that the label asks about is; raises `InvalidFile` if there are none."""
        if not self.has_masks:
            raise InvalidFile(
                f"{self.root}: no {file_name(self.split, 'mask')}: this split has no masks (see `has_masks`)"
            )
        return np.asarray(self._rows("mask", indices)[..., 0] != 0)

    def ids(self, indices: Indices) -> tuple[str, ...]:
        """Stable names such as "test-000012"."""
        return tuple(f"{self.split}-{i:06d}" for i in self._index(indices))

    def fingerprint(self) -> str:
        """sha256 of the arrays (not of the files: compression and HDF5 metadata do not count), streamed."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for part in self.paths:
                data = self._open(part)
                digest.update(f"{part} {data.shape};".encode())
                for start in range(0, len(self), CHUNK):
                    digest.update(self._read(part, slice(start, start + CHUNK)).tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        for handle in self._handles.values():
            handle.close()
        self._handles = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}

    def _index(self, indices: Indices) -> npt.NDArray[np.intp]:
        index = np.asarray(indices)
        if index.size == 0:
            index = index.astype(np.intp)
        if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
            raise InvalidInput(f"indices must be integers of shape (n,), got {index.dtype} of shape {index.shape}")
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise InvalidInput(
                f"indices must lie in 0 … {len(self) - 1} for split {self.split!r}, got {index.min()} … {index.max()}"
            )
        return index.astype(np.intp)

    def _rows(self, part: Part, indices: Indices) -> npt.NDArray[np.uint8]:
        index = self._index(indices)
        return self._read(part, index) if index.size else np.zeros((0, *ROWS[part]), np.uint8)

    def _read(self, part: Part, rows: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        try:
            data = self._open(part)
            values = np.asarray(data[rows] if isinstance(rows, slice) else rows_of(data, rows))
            # Of a file that is cut short while it is open, HDF5 reads zeros.
            if os.fstat(data.file.id.get_vfd_handle()).st_size < self._sizes[part]:
                raise OSError("it has been cut short")
        except OSError as error:
            raise InvalidFile(
                f"{self.paths[part]}: rows cannot be read ({why_of(error)}); fetch the file again"
            ) from error
        return values

    def _open(self, part: Part) -> Any:
        if self._owner != os.getpid():
            # A forked worker must not share file positions with its parent; closing here leaves the parent's open.
            self.close()
            self._owner = os.getpid()
        if part not in self._handles:
            self._handles[part] = file = _open(self.paths[part])
            self._sizes[part] = os.fstat(file.id.get_vfd_handle()).st_size
        return self._handles[part][part]


def write_split(
    root: str | os.PathLike[str],
    split: Split,
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    masks: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a split in this format: images uint8 (n, 96, 96, 3), labels 0/1 (n,), masks bool (n, 96, 96).

    No file appears under its final name before all are complete. Raises `InvalidInput` for anything the reader would
    refuse.
    """
    parts: dict[Part, npt.NDArray[Any]] = {"x": np.asarray(images), "y": np.asarray(labels).reshape(-1, 1, 1, 1)}
    if not np.isin(parts["y"], (0, 1)).all():
        raise InvalidInput(f"labels must be 0 or 1, got {np.unique(parts['y']).tolist()}")
    parts["y"] = parts["y"].astype(np.uint8)
    if masks is not None:
        parts["mask"] = np.asarray(masks, dtype=bool)[..., None].astype(np.uint8)
    for part, values in parts.items():
        expected = (len(parts["y"]), *ROWS[part])
        if values.dtype != np.uint8 or values.shape != expected:
            raise InvalidInput(f"{part}: expected uint8 {expected}, got {values.dtype} {values.shape}")
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for part, values in parts.items():
            temporary = stack.enter_context(replacing(folder / file_name(split, part)))
            with new_hdf5(temporary) as file:
                file.create_dataset(part, data=values)


def _find(path: Path, cache: Path, optional: bool) -> Path | None:
    """The file, decompressed if only `.gz` is there; None if it is missing and optional."""
    if path.is_file():
        return path
    packed = path.with_name(path.name + ".gz")
    if packed.is_file():
        return _decompressed(packed, path, cache)
    if optional:
        return None
    raise InvalidFile(
        f"{path}: no such file, nor {packed.name}; fetch it with: crossxai data pcam download --out {path.parent} (the record "
        "is https://zenodo.org/records/2546921), or write the embedded set: crossxai data pcam embedded --out FOLDER"
    )


def _decompressed(packed: Path, path: Path, cache: Path) -> Path:
    if not os.access(path.parent, os.W_OK | os.X_OK):
        # The folder's name, size and time make the place: another or a newer archive must not find this one's content.
        stat = packed.stat()
        key = f"{packed.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        path = cache / hashlib.sha256(key.encode()).hexdigest()[:16] / path.name
        if path.is_file():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            with gzip.open(packed, "rb") as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidFile(
                f"{packed}: not a whole gzip file ({error}); the download was probably cut short: fetch it again"
            ) from error
        except OSError as error:
            raise InvalidFile(f"{packed}: cannot be decompressed to {path} ({error}); make room there") from error
    return path


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InvalidFile(
            f"{path}: not a whole HDF5 file ({error}); the download was probably cut short: fetch it again"
        ) from error


def count_rows(path: Path, part: Part) -> int:
    """The number of rows of a file, after its key, shape and type have been checked; `InvalidFile` if they are others."""
    expected = f"dataset {part!r}, uint8, shape (N, {', '.join(map(str, ROWS[part]))})"
    with _open(path) as file:
        data = file.get(part)
        if not isinstance(data, h5py.Dataset):
            raise InvalidFile(
                f"{path}: found the keys {sorted(file)}, expected {expected}; is it the file for {part!r}?"
            )
        if data.dtype != np.uint8 or data.ndim != 4 or data.shape[1:] != ROWS[part]:
            raise InvalidFile(
                f"{path}: found {data.dtype} of shape {data.shape}, expected {expected}; "
                "write such files with crossxai.studies.pcam.reading.write_split"
            )
        return int(data.shape[0])


def _read_labels(path: Path) -> npt.NDArray[np.uint8]:
    with _open(path) as file:
        try:
            labels = np.asarray(file["y"]).reshape(-1)
        except OSError as error:
            raise InvalidFile(f"{path}: labels cannot be read ({error}); fetch the file again") from error
    check_labels(path, labels)
    return labels


def check_labels(path: Path, labels: npt.NDArray[Any]) -> None:
    """Raise `InvalidFile` for labels that are neither 0 nor 1."""
    if (strange := np.unique(labels[labels > 1])).size:
        raise InvalidFile(f"{path}: found the labels {strange.tolist()}, expected 0 (no) and 1 (yes) only")


def every_file() -> list[str]:
    """The names of all files of the format, packed ones too."""
    names = [file_name(split, part) for split in get_args(Split) for part in ROWS]
    return [name for unpacked in names for name in (unpacked, f"{unpacked}.gz")]


def holds(folder: Path, split: Split, fingerprint: str) -> bool:
    """Whether the folder holds this very split, whole."""
    try:
        return PCam(folder, split).fingerprint() == fingerprint
    except InvalidFile:
        return False


def best_threshold(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Balanced accuracy of the best rule "1 if the value is above some threshold", chosen on these values and labels (n,)."""
    cuts = np.unique(values)
    hit = 1 - np.searchsorted(np.sort(values[labels == 1]), cuts, side="right") / (labels == 1).sum()
    rejected = np.searchsorted(np.sort(values[labels == 0]), cuts, side="right") / (labels == 0).sum()
    return float(((hit + rejected) / 2).max())
