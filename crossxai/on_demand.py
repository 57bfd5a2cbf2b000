"""Arrays of more samples than memory holds: rows are read when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import KEPT, CrossXAIError, InvalidInput, StorageFailed, why_of

Rows = npt.NDArray[np.intp]
BLOCK = 2**24
"""Bytes that are read at once where all rows are gone through."""
HELD = 2**30
"""Bytes of samples that are taken into memory together; of more, rows are read when they are asked for."""
AT_ONCE = 2**31
"""The same where something needs all samples at once."""
PART = 2**27
"""Bytes of samples that are explained and evaluated together, where memory does not hold all; and of masks that are held."""
HEAD = 64
"""Rows on which a model is measured."""


class OnDemand:
    """An array (n, *shape) in a file, say, whose rows are read when they are asked for.

    It has the shape, type and length of an array. `values[rows]` gives an array of those rows, for a slice, an array of places or
    a place. Whatever takes it for an array as a whole gets all of it, which memory must hold.

    Parameters
    ----------
    shape : tuple of int, the number of rows first
    dtype : their type
    read : function
        Given places (m,), in any order and maybe repeated, it returns an array (m, *shape[1:]) of its own.

    Raises
    ------
    InvalidInput: by reading, if `read` gives another shape or type
    StorageFailed: by reading, if `read` raises an OSError
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, read: Callable[[Rows], npt.NDArray[Any]]) -> None:
        self.shape, self.dtype, self._read = tuple(shape), np.dtype(dtype), read

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: prod(self.shape))
    nbytes = property(lambda self: prod(self.shape) * self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        places = np.arange(len(self))[rows]
        try:
            values = np.asarray(self._read(np.atleast_1d(places)))
        except StorageFailed:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            said = str(error) if isinstance(error, CrossXAIError) else f"{where}{why_of(error)}"
            raise StorageFailed(
                f"samples can no longer be read: {said}; bring them back and run this again: {KEPT}"
            ) from error
        if values.shape != (places.size, *self.shape[1:]) or values.dtype != self.dtype:
            raise InvalidInput(
                f"samples: {places.size} rows of {self.dtype} {self.shape[1:]} were asked for, read were {values.dtype} "
                f"{values.shape}: a file has changed since it was opened, or `read` has to be corrected"
            )
        return values if places.ndim else np.asarray(values[0])

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (row for block in blocks(self) for row in block)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    @cached_property
    def head(self) -> npt.NDArray[Any]:
        """The first rows, which are held once they were read."""
        return self[:HEAD]

    @cached_property
    def sha256(self) -> str:
        """Of the bytes of all rows, which are read for it once."""
        return _sha256(self)

    def __repr__(self) -> str:
        return f"OnDemand({self.shape}, {self.dtype})"

    def changed(
        self,
        change: Callable[[npt.NDArray[Any], Rows], npt.NDArray[Any]],
        dtype: npt.DTypeLike | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> OnDemand:
        """The same rows after `change(values, places)`, which gives this type and shape, or keeps theirs."""
        return OnDemand(shape or self.shape, dtype or self.dtype, lambda rows: change(self._read(rows), rows))


def some(values: Any, rows: Rows) -> Any:
    """These rows of an array; of one on demand, on demand."""
    if not isinstance(values, OnDemand):
        return values[rows]
    return OnDemand((len(rows), *values.shape[1:]), values.dtype, lambda places: values[rows[places]])


def blocks(values: npt.NDArray[Any] | OnDemand) -> Iterator[npt.NDArray[Any]]:
    """All rows, in order, some at a time where they are on demand."""
    if not isinstance(values, OnDemand):
        yield values
        return
    step = max(1, BLOCK // max(1, prod(values.shape[1:]) * values.dtype.itemsize))
    for start in range(0, len(values), step):
        yield values[start : start + step]


def sha256(values: npt.NDArray[Any] | OnDemand) -> str:
    """Of the bytes of all rows."""
    return values.sha256 if isinstance(values, OnDemand) else _sha256(values)


def _sha256(values: npt.NDArray[Any] | OnDemand) -> str:
    digest = hashlib.sha256()
    for block in blocks(values):
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()
