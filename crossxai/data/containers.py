"""Arrays in .npy, .npz and HDF5: shapes and types are read first, then only the rows that are asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.data.odd import BYTES, gigabytes
from crossxai.data.pictures import check_file
from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
ENDINGS = (".npy", ".npz", *HDF5)
DAMAGED = (*DAMAGED_NPZ, KeyError, TypeError, AttributeError, SyntaxError, TokenError)
"""What NumPy and h5py raise for damaged files."""
CODELESS = "is no NumPy file that can be read without running code"


@dataclass(frozen=True)
class Stored:
    """An array in a file, by its key there. take: reads rows, in ascending order."""

    key: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    take: Callable[[npt.NDArray[np.intp]], npt.NDArray[Any]]

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self, chosen: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """These rows, in their own order; raises `InvalidInput` where they are no numbers, or too large for memory."""
        if self.dtype.kind not in "biuf" and self.dtype.kind not in "SUO":
            raise InvalidInput(f"{self.where} holds {self.dtype}: samples are real numbers")
        if (size := len(chosen) * prod(self.shape[1:]) * self.dtype.itemsize) > BYTES:
            raise InvalidInput(
                f"{len(chosen)} samples of {self.where}, of shape {self.shape} and {self.dtype}, take {gigabytes(size)}: "
                "ask for fewer, or bring them to a smaller size first"
            )
        ascending = np.unique(chosen)
        values = np.asarray(self.take(ascending)) if len(chosen) else np.zeros((0, *self.shape[1:]), self.dtype)
        native = values.dtype.newbyteorder("=") if values.dtype.kind in "biuf" else values.dtype
        return values[np.searchsorted(ascending, chosen)].astype(native, copy=False)


@contextmanager
def opened(path: Path) -> Iterator[Mapping[str, Stored]]:
    """The arrays of a file by name, "" for that of an .npy; raises `InvalidFile`, also of what is read inside."""
    check_file(path)
    hdf5 = path.suffix.lower() in HDF5
    try:
        with ExitStack() as stack:
            yield stack.enter_context(_hdf5(path) if hdf5 else _npy(path) if _is_npy(path) else _npz(path))
    except (InvalidFile, InvalidInput):
        raise
    except DAMAGED as error:
        wrong = "cannot be read as HDF5 (truncated or damaged?)" if hdf5 else CODELESS
        raise InvalidFile(f"{path} {wrong}: {error}") from error


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY" or path.suffix.lower() == ".npy"


@contextmanager
def _npy(path: Path) -> Iterator[Mapping[str, Stored]]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    yield {"": Stored("", path.name, array.shape, array.dtype, lambda rows: np.array(array[rows]))}


@contextmanager
def _npz(path: Path) -> Iterator[Mapping[str, Stored]]:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        names = [info.filename.removesuffix(".npy") for info in members]
        yield {name: _member(archive, info, f"{path.name}:{name}") for name, info in zip(names, members, strict=True)}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Stored:
    """An array of an .npz, whose rows are read as a stream: what is behind them is never unpacked."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in headers:
            raise InvalidFile(f"{where} has the format {version}, which names structured fields: give plain numbers")
        shape, by_column, dtype = headers[version](file)
        start = file.tell()
    if dtype.hasobject:
        raise InvalidFile(f"{where} {CODELESS}: it holds Python objects (pickles), not numbers")
    size = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0:
        raise InvalidFile(f"{where} is damaged: its header says the shape {shape}")
    if info.file_size - start < size:
        raise InvalidFile(f"{where} is cut off: its header says {size} bytes, there are {info.file_size - start}")

    def take(rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        with archive.open(info) as file:
            if by_column and len(shape) > 1:
                if size > BYTES:
                    raise InvalidInput(f"{where} takes {gigabytes(size)} and is stored by columns: store it by rows")
                file.seek(start)
                return np.frombuffer(_exactly(file, size, where), dtype).reshape(shape, order="F")[rows]
            width = prod(shape[1:]) * dtype.itemsize
            parts = []
            for row in rows.tolist():
                if file.tell() != (place := start + row * width):
                    file.seek(place)
                parts.append(_exactly(file, width, where))
            file.read(1)  # at the end this checks the sum of the member
            return np.frombuffer(b"".join(parts), dtype).reshape(len(rows), *shape[1:])

    return Stored(info.filename.removesuffix(".npy"), where, tuple(shape), dtype, take)


def _exactly(file: Any, size: int, where: str) -> bytes:
    content: bytes = file.read(size)
    if len(content) < size:
        raise InvalidFile(f"{where} is cut off: {size} bytes were to be read, there are {len(content)}")
    return content


@contextmanager
def _hdf5(path: Path) -> Iterator[Mapping[str, Stored]]:
    import h5py

    with h5py.File(path, "r") as file:
        yield _DataSets(file, path.name)


class _DataSets(Mapping[str, Stored]):
    """The data sets of an HDF5 file by their paths; those that lead out of the file are not followed."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name = file, name
        self.paths = list(_paths(file))

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, key: object) -> bool:
        return key in self.paths

    def __getitem__(self, key: str) -> Stored:
        import h5py

        where = f"{self.name}:{key}"
        found = _follow(self.file, key, where)
        if not isinstance(found, h5py.Dataset):
            inside = f"a group of {', '.join(found)}" if isinstance(found, h5py.Group) else "no data set"
            raise InvalidInput(f"{where} is {inside}: name a data set")
        if found.external or found.is_virtual:
            raise InvalidInput(f"{where} keeps its data in other files, which are not opened: copy them into this one")
        chunk = prod(found.chunks or (0,)) * found.dtype.itemsize
        if chunk > BYTES:
            raise InvalidInput(f"{where} is stored in chunks of {gigabytes(chunk)}: store it in smaller ones")
        if found.dtype.hasobject and h5py.check_string_dtype(found.dtype) is None:
            raise InvalidInput(f"{where} holds {found.dtype}: samples are real numbers")
        if found.size and not found.id.get_storage_size():
            raise InvalidInput(f"{where} is empty: it declares the shape {found.shape}, and nothing was ever written")
        return Stored(key, where, found.shape or (), found.dtype, lambda rows: _rows(found, rows))


def _rows(found: Any, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Rows of a data set, which are read at once where they follow each other."""
    import h5py

    together = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    chosen = slice(int(rows[0]), int(rows[-1]) + 1) if together else rows
    text = h5py.check_string_dtype(found.dtype) is not None
    return np.asarray(found.asstr()[chosen], str) if text else np.asarray(found[chosen])


TOP = PurePosixPath()


def _paths(group: Any, inside: PurePosixPath = TOP, known: tuple[int, ...] = ()) -> Iterator[str]:
    """The paths of all data sets that are in this file; links that lead elsewhere, or round in circles, are passed over."""
    import h5py

    known = (*known, h5py.h5o.get_info(group.id).addr)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        found = group[name]
        if isinstance(found, h5py.Dataset):
            yield str(inside / name)
        elif isinstance(found, h5py.Group) and h5py.h5o.get_info(found.id).addr not in known:
            yield from _paths(found, inside / name, known)


def _follow(file: Any, key: str, where: str) -> Any:
    """What a path leads to, step by step."""
    import h5py

    found = file
    for step in PurePosixPath(key.strip("/")).parts:
        link = found.get(step, getlink=True) if isinstance(found, h5py.Group) and step in list(found) else None
        if link is None:
            raise InvalidInput(f"{where} is not there; the file holds {listed(file)}")
        if not isinstance(link, h5py.HardLink):
            to = getattr(link, "filename", "") or getattr(link, "path", "")
            raise InvalidInput(f"{where} is a link to {to}, which is not followed: name the data set itself")
        found = found[step]
    return found


def listed(arrays: Any) -> str:
    """The arrays of a file, in words."""
    names = list(arrays) if isinstance(arrays, Mapping) and not hasattr(arrays, "attrs") else list(_paths(arrays))
    return ", ".join(name or "one array" for name in names[:10]) + (", …" if len(names) > 10 else "") or "no array"
