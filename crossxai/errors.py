"""The exceptions of CrossXAI: all derive from `CrossXAIError`, each also from the built-in a caller would expect."""

from __future__ import annotations

import difflib
import errno
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from importlib import metadata
from urllib.parse import unquote, urlparse

DAMAGED_NPZ = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for an .npz that is cut short or has a wrong byte, found by changing each; never shown to users."""


class CrossXAIError(Exception):
    """Anything that CrossXAI reports about its use; the message says what was given and what to write instead."""


class InvalidInput(CrossXAIError, ValueError):
    """An argument has the wrong type, shape, layout, range or value."""


class InvalidFile(CrossXAIError, OSError):
    """A file is missing, truncated, of the wrong shape, or cannot be written."""


class StorageFailed(InvalidFile):
    """A disk is full, read-only or gone: no failure of what was being computed, which no row records. Once the disk is back, the
    same run goes on."""


class OutOfMemory(CrossXAIError, MemoryError):
    """A batch does not fit into memory; questions then go on by halves, down to one sample."""


class Unsupported(CrossXAIError):
    """This explainer or metric does not work for this question; the message is the reason that reports print."""


class ModelFailed(Unsupported):
    """The model's own code raised; the message says what, and on which inputs."""


class LibraryFailed(CrossXAIError, RuntimeError):
    """An explainer's library raised; the message says what and where."""


class BrokenAssumption(Unsupported):
    """A model was measured not to do what a result relies on; the message says what was found and what to write."""


FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)
"""What the code of models and libraries raises. Of these, `CrossXAIError`s pass as they are; memory, files and Ctrl-C are not
among them."""


def install_command(extra: str) -> str:
    """The command that installs an extra of this package, however the package was installed: from an index, a folder (editable
    or not), an archive or a repository."""
    try:
        told = json.loads(metadata.distribution("crossxai").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError, OSError):
        told = {}
    url = str(told.get("url", ""))
    if "dir_info" in told:
        editable = "-e " if told["dir_info"].get("editable") else ""
        return f"pip install {editable}'{unquote(urlparse(url).path)}[{extra}]'"
    if "vcs_info" in told:
        about = told["vcs_info"]
        url = f"{about.get('vcs', 'git')}+{url}@{about.get('commit_id', '')}".rstrip("@")
    return f"pip install 'crossxai[{extra}]{f' @ {url}' if url else ''}'"


class MissingDependency(CrossXAIError, ImportError):
    """A library is not installed; the message names the extra that brings it, if there is one."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        command = install_command(extra) if extra else f"pip install {package}"
        super().__init__(f"{purpose} needs {package}, which is not installed: {command}")
        self.package = package
        self.extra = extra


class UnknownName(CrossXAIError, LookupError):
    """A name is not in the list it should come from; the message suggests the nearest ones, and adds the notes."""

    def __init__(self, kind: str, name: str, known: Iterable[str], notes: Iterable[str] = ()) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__("; ".join([f"no {kind} is called {name!r}", hint, *notes]))


GONE = (
    errno.ENOENT,
    errno.ESTALE,
    errno.EIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
)
"""What a file system says that is no longer there."""
TO_DO = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys(GONE, "see whether its disk is still there"),
}
"""What mends it, by the operating system's number of an error."""
KEPT = "what is done is kept"


def why_of(error: OSError) -> str:
    """The operating system's words; without what HDF5 adds to them."""
    return os.strerror(error.errno) if error.errno else error.strerror or str(error)


def storage_failed(what: str, error: OSError) -> StorageFailed:
    """An error in words: `cannot write out/samples.h5`, why, and what to do."""
    to_do = TO_DO.get(error.errno or 0)
    return StorageFailed(f"{what}: {why_of(error)}" + (f"; {to_do} and run this again: {KEPT}" if to_do else ""))


LONGEST = 400
"""Characters of another library's message that are shown."""


def in_words(error: BaseException) -> str:
    """Our own messages as they are; another library's after its kind, on one line and not too long."""
    if isinstance(error, CrossXAIError):
        return str(error)
    text = " ".join(str(error).split())
    text = f"{text[:LONGEST]} …" if len(text) > LONGEST else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
