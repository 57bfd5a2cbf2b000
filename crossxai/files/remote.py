"""Runs in a bucket: a run whose folder is a URL works in a local copy of it. What an operation needs is fetched, every file
goes to the store when it is finished, and what is removed is removed there; so the store always holds what a run's folder
would, and whoever goes on with the run begins from there."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from crossxai.errors import CrossXAIError, InvalidFile
from crossxai.files.atomic import elsewhere, refuse_url
from crossxai.files.cache import cache_folder
from crossxai.files.stores import Store, is_url

RUN = ("manifest.json", "plan.json", "left_out.csv", "samples.h5", "predictions/*.h5", "explanations/*/*.h5",
       "failures/*/*.txt")  # fmt: skip
"""What a report, an evaluation or a merge reads of a run."""
KEEP = "CROSSXAI_CACHE"
"""In the environment: a folder for the copies, which then stay."""

_copies: dict[Path, _Copy] = {}


class _Copy:
    """The local copy of a run's folder in a store, of which it holds what was asked for or made."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.root, self._lock = _new_folder(self.store.url.rpartition("/")[2])
        self._held: dict[str, str | None] = {}
        """The stamps of files as they were fetched; None of those that were made here."""
        _copies[self.root] = self
        elsewhere[self.root] = self._changed

    def name(self, path: Path) -> str:
        """A file's name in the store."""
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else name

    def fetch(self, folder: Path, patterns: tuple[str, ...]) -> None:
        """Bring here what matches, but for what is here."""
        below = self.name(folder)
        there = {f"{below}/{name}".lstrip("/"): stamp for name, stamp in self.store.names(below, patterns).items()}
        missing = {n: s for n, s in there.items() if n not in self._held or self._held[n] not in (None, s)}
        tell = elsewhere.pop(self.root)  # what comes from there need not go there
        try:
            self.store.get({name: self.root / name for name in missing})
        finally:
            elsewhere[self.root] = tell
        self._held |= missing

    def _changed(self, path: Path) -> None:
        name = self.name(path)
        if any(part.startswith(".") for part in name.split("/")):
            return  # it is not finished
        if path.exists():
            self.store.put(path, name)
            self._held[name] = None
        else:
            self.store.remove(name)
            self._held.pop(name, None)

    def close(self) -> None:
        """Forget the copy, and remove it unless it is to stay."""
        elsewhere.pop(self.root, None)
        if _copies.pop(self.root, None) and not os.environ.get(KEEP):
            shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def in_words(self, error: CrossXAIError) -> None:
        """Let an error name the URL in place of the copy; what cannot be written here names both."""
        text = str(error)
        if text.startswith(("cannot write ", "cannot write in ")) and str(self.root) in text:
            text += f" (in the copy here of {self.store.url}; XDG_CACHE_HOME or {KEEP} names another place for it)"
        else:
            text = text.replace(str(self.root), self.store.url)
        error.args = (text,)


def _new_folder(name: str) -> tuple[Path, IO[str] | None]:
    """A folder for a copy, and what is open as long as it is used; those of processes that were killed are removed."""
    keep = os.environ.get(KEEP)
    place = Path(keep) if keep else cache_folder() / "remote"
    token = secrets.token_hex(4)
    try:
        place.mkdir(parents=True, exist_ok=True)
        place = place.resolve()
        if keep:
            (made := place / f"{name}-{token}").mkdir()
            return made, None
        for stray in place.glob("*.copy"):
            if (lock := _lock(stray)) is not None:
                shutil.rmtree(stray, ignore_errors=True)
                lock.close()
        (new := place / f"{token}.new").mkdir()
        lock = _lock(new)
        return new.rename(place / f"{token}.copy"), lock  # only now may others see it
    except OSError as error:
        raise InvalidFile(
            f"cannot write in {place}: {error.strerror or error}; XDG_CACHE_HOME or {KEEP} names another place for copies"
        ) from error


def _lock(folder: Path) -> IO[str] | None:
    """A file that this process has locked until it is closed, or the process ends; None where another has, or nobody can."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        file = (folder / ".lock").open("w")
    except OSError:  # it is gone
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def folder(place: str | Path, lasting: bool = False) -> Iterator[Path]:
    """The folder of a run, given a path or a URL; of a URL a copy, which goes with the block or, if `lasting`, the process."""
    if not is_url(place):
        refuse_url(Path(place))
        yield Path(place)
        return
    copy = _Copy(str(place))
    try:
        yield copy.root
    except CrossXAIError as error:
        copy.in_words(error)
        lasting = False
        raise
    finally:
        if lasting:
            atexit.register(copy.close)
        else:
            copy.close()


def _copy_of(path: Path) -> _Copy | None:
    return next((copy for root, copy in _copies.items() if path.is_relative_to(root)), None)


def fetched(folder: Path, *patterns: str) -> list[Path]:
    """The files of a folder that match patterns such as `explanations/*/*.h5`, here."""
    if copy := _copy_of(folder):
        copy.fetch(folder, patterns)
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def listed(folder: Path, *patterns: str) -> list[Path]:
    """The same, of which some may be in the store only."""
    here = {path for pattern in patterns for path in folder.glob(pattern)}
    if copy := _copy_of(folder):
        here |= {folder / name for name in copy.store.names(copy.name(folder), patterns)}
    return sorted(here)


def remove_folder(folder: Path) -> None:
    """Remove a folder, in the store, too."""
    if copy := _copy_of(folder):
        below = copy.name(folder)
        for name in copy.store.names(below):
            copy.store.remove(f"{below}/{name}")
    shutil.rmtree(folder, ignore_errors=True)


def exists(path: Path) -> bool:
    """Whether a file is here, or in the store."""
    copy = _copy_of(path)
    return path.exists() or (copy is not None and copy.store.is_file(copy.name(path)))


@contextmanager
def readable(path: Path) -> Iterator[Any]:
    """A path, or a file in the store that is not here, to read parts of."""
    copy = _copy_of(path)
    if copy is None or path.exists() or not copy.store.is_file(copy.name(path)):
        yield path
        return
    with copy.store.open(copy.name(path)) as file:
        yield file


def prove_writable(folder: Path) -> None:
    """Raise `InvalidFile` where nothing can be written in the store."""
    if copy := _copy_of(folder):
        copy.store.prove_writable(copy.name(folder))


def shown(path: Path) -> str:
    """Where others find a file: its path, or its URL."""
    copy = _copy_of(path)
    return str(path) if copy is None else f"{copy.store.url}/{copy.name(path)}".rstrip("/")
