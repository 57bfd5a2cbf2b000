"""Files that are whole under their final name, or not there at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from crossxai.errors import InvalidFile, StorageFailed, storage_failed

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""In the names of temporary files: the number of a process says nothing to another machine, or another container, on one disk."""
STALE = 24 * 3600
"""Seconds without a change after which another machine's file is taken for a killed process's."""

SCHEME = re.compile(r"(s3a?|gc?s|az|abfss?|oss|https?|file|memory|sftp|hdfs):")
"""What the URL of a store becomes as a part of a path, so that no folder of this name is made."""

elsewhere: dict[Path, Callable[[Path], None]] = {}
"""Of folders whose files are kept elsewhere, too (`crossxai.files.remote`): what is told of each file that is new or gone."""
_open: set[str] = set()  # this process's own; a container's every start may have the number of the one that was killed


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise `StorageFailed` for errors of the operating system inside. what: that could not be done."""
    try:
        yield
    except InvalidFile:
        raise
    except OSError as error:
        raise storage_failed(what, error) from error


def require_written(*paths: Path) -> None:
    """Raise `StorageFailed` where a file that was written is gone: if its disk was unmounted, the next one would be written into
    another folder of the same name."""
    for path in paths:
        if not os.path.isfile(path):  # Path's own raises what a network's disk says
            raise StorageFailed(
                f"{path}, which was written before, is gone; see whether its disk is still there and run this again"
            )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name if the block succeeds and vanishes if it fails.

    What killed processes left of earlier attempts goes first.
    """
    refuse_url(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{HOST}-{secrets.token_hex(4)}.part")
    _open.add(temporary.name)
    try:
        with disk_errors(f"cannot write {path}"):
            if path.parent.is_file():
                raise InvalidFile(f"cannot write {path}: {path.parent} is a file, no folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path)
            yield temporary
            os.replace(temporary, path)
            _tell(path)
    finally:
        with suppress(OSError):  # the folder may be what could not be made
            temporary.unlink(missing_ok=True)
        _open.discard(temporary.name)


def refuse_url(path: Path) -> None:
    """Raise `InvalidFile` for what was a URL before it became a path."""
    if any(SCHEME.fullmatch(part) for part in path.parts):
        raise InvalidFile(f'{path} was a URL, which the folder of a run alone may be, as text: out="s3://bucket/run"')


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with disk_errors(f"cannot remove {path}"):
        path.unlink(missing_ok=True)
        _tell(path)


def move(source: Path, path: Path) -> None:
    """Put a finished file under another name, whose folder is made."""
    with disk_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        source.replace(path)
        _tell(path)


def _tell(path: Path) -> None:
    for folder, tell in elsewhere.items():
        if path.is_relative_to(folder):
            tell(path)


def sweep(path: Path) -> None:
    """Remove what processes that were killed inside `replacing(path)` left beside it; living ones are left alone."""
    for stray in path.parent.glob(f".{escape(path.name)}.*.*.part"):
        owner, _, token = stray.name.removeprefix(f".{path.name}.").partition(".")
        host, dash, _ = token.partition("-")
        if owner.isdigit() and not (_runs(int(owner), stray.name) if host == HOST or not dash else _fresh(stray)):
            stray.unlink(missing_ok=True)


def _runs(process: int, name: str) -> bool:
    """Whether the process that writes the file of this name, on this machine, is still at it."""
    if process == os.getpid():
        return name in _open
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and somebody else's
    return True


def _fresh(stray: Path) -> bool:
    try:
        return time.time() - stray.stat().st_mtime < STALE
    except OSError:
        return True  # gone already


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
