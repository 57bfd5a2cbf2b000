"""Files that are left out: which, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crossxai.errors import InvalidFile, InvalidInput

SHOWN = 3
"""How many are named in a sentence; tables name all."""
BYTES = 2**31
"""The most memory that samples of one array, or one file, may take: what a header declares is looked at before it is read."""


class LeftOut(NamedTuple):
    """A file, or a row of one, that is no sample of a run, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Odd(InvalidFile):
    """One file cannot be used. Where it is one of several it is left out; the message is its path and the reason."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{readable(path)} {reason}")
        self.reason = reason


def readable(name: object) -> str:
    """A file's name as text that any file and page can hold: line breaks and bytes that are no text are written as escapes."""
    if (text := str(name)).isprintable():
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def note_of(left_out: Sequence[LeftOut], n: int) -> tuple[str, ...]:
    """A sentence on what was left out beside n samples; none where nothing was."""
    if not left_out:
        return ()
    were = "1 was" if len(left_out) == 1 else f"{len(left_out)} were"
    return (f"of {n + len(left_out)} files or rows {were} left out ({_some(left_out)})",)


def require_some(left_out: Sequence[LeftOut], n: int, where: str) -> None:
    """Raise `InvalidInput` where nothing is left."""
    if left_out and not n:
        raise InvalidInput(f"no sample is left of {where}: {_some(left_out)}")


def lines(left_out: Sequence[tuple[str, str]], most: int = 10) -> list[str]:
    """A warning for the terminal, a line for each file."""
    if not left_out:
        return []
    more = len(left_out) - most
    listed = [f"  {name}: {reason}" for name, reason in left_out[:most]]
    return ["Left out, since they cannot be used:", *listed, *([f"  … and {more} more"] if more > 0 else [])]


def _some(left_out: Sequence[LeftOut]) -> str:
    more = len(left_out) - SHOWN
    return "; ".join(map(str, left_out[:SHOWN])) + (f"; and {more} more" if more > 0 else "")


def gigabytes(size: float) -> str:
    """A number of bytes in words."""
    return f"{size / 1e9:,.1f} GB"
