"""Files that are whole under their final name, or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from crossxai.errors import InvalidFile


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name if the block succeeds and vanishes if it fails.

    What killed processes left of earlier attempts goes first.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, InvalidFile):
            raise
        reason = f"{path.parent} is a file, no folder" if path.parent.is_file() else error.strerror or error
        raise InvalidFile(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):  # the folder may be what could not be made
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what processes that were killed inside `replacing(path)` left beside it; living ones are left alone."""
    for stray in path.parent.glob(f".{escape(path.name)}.*.*.part"):
        owner = stray.name.removeprefix(f".{path.name}.").split(".")[0]
        if owner.isdigit() and not _runs(int(owner)):
            stray.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and somebody else's
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
