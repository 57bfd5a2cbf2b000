"""Buckets and other stores of files that fsspec knows: what they hold, files to and from them, and their errors in our words."""

from __future__ import annotations

import errno
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from crossxai.errors import InvalidInput, MissingDependency, StorageFailed, in_words
from crossxai.files.atomic import replacing
from crossxai.process import require

IN_ONE_STEP = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"}
"""Where a file that is put is there whole or not at all; elsewhere it is put under another name, which is changed."""
PAUSES = (1.0, 4.0, 16.0, 60.0)
"""Seconds before a transfer that failed is tried again; that the libraries of the stores try again, too, goes before."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What another attempt does not change."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
AT_ONCE = 256
"""Files that are asked for together."""
STAMP = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""What stores say of a file by which one that has changed is known."""
T = TypeVar("T")


def is_url(place: object) -> bool:
    """Whether a place is the URL of a store rather than a path."""
    return isinstance(place, str) and bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place))


class Store:
    """The files below a URL, by their names relative to it. Whatever fails is `StorageFailed` with the store's own words."""

    def __init__(self, url: str) -> None:
        """Raises `MissingDependency` where fsspec, or what it needs for this URL, is not installed, and `InvalidInput`."""
        if not url.partition("://")[2].strip("/"):
            raise InvalidInput(f"{url}: write the bucket and the folder, such as s3://bucket/run")
        fsspec: Any = require("fsspec", "remote", url)
        self.url = url.rstrip("/")
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or self.url.partition("://")[0]
            raise MissingDependency(missing.partition(".")[0], "", url) from error
        except Exception as error:  # what the libraries of stores say of a URL, or of what they are set to
            raise InvalidInput(f"{url}: {in_words(error)}") from error
        self._root = root.rstrip("/")
        protocol = self._fs.protocol
        self._in_one_step = bool(IN_ONE_STEP & {protocol, *([] if isinstance(protocol, str) else protocol)})

    def names(self, below: str = "", patterns: Iterable[str] = ()) -> dict[str, str]:
        """The files below a folder, and a stamp of each that changes with it; "" names the store's own URL, where that is a file.
        Of patterns, such as `explanations/*/*.h5`, those that match one. Hidden files, and names that lead out of the folder, are
        left out."""
        root = self._place(below)

        def list_files() -> dict[str, dict[str, Any]]:
            files = dict(self._fs.find(root, detail=True))
            return {path: about or self._fs.info(path) for path, about in files.items()}

        listed = self._trying(f"cannot look into {self._url(below)}", list_files, ())
        files = {
            path.removeprefix(root).strip("/"): "|".join(str(about.get(key, "")) for key in STAMP)
            for path, about in listed.items()
            if about.get("type", "file") == "file" and (path == root or path.startswith(f"{root}/"))
        }
        wanted = [PurePosixPath(pattern).parts for pattern in patterns]
        return {name: files[name] for name in sorted(files) if _taken(name.split("/"), wanted)}

    def is_file(self, name: str = "") -> bool:
        """Whether there is a file of this name; the store's own URL if none is given."""
        return self._trying(f"cannot look into {self._url(name)}", lambda: bool(self._fs.isfile(self._place(name))), ())

    def get(self, files: Mapping[str, Path]) -> None:
        """Copy files, by their names, to paths, whose folders are made."""
        for some in _split([*files.items()]):
            with ExitStack() as stack:
                paths = [str(stack.enter_context(replacing(path))) for _, path in some]
                places = [self._place(name) for name, _ in some]
                more = f" and {len(some) - 1} others" if len(some) > 1 else ""
                self._trying(f"cannot fetch {self._url(some[0][0])}{more}", partial(self._fs.get, places, paths))

    def put(self, path: Path, name: str) -> None:
        """Copy a file there, in place of an earlier one, which stays if that fails."""
        self._trying(f"cannot write {self._url(name)}", lambda: self._put(str(path), self._place(name)))

    def _put(self, path: str, place: str) -> None:
        if self._in_one_step:
            self._fs.put_file(path, place)
            return
        folder, _, name = place.rpartition("/")
        self._fs.makedirs(folder, exist_ok=True)
        passing = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
        try:
            self._fs.put_file(path, passing)
            self._fs.mv(passing, place)
        except BaseException:
            with suppress(Exception):  # the first error is the one that counts
                self._fs.rm_file(passing)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            if self._fs.exists(self._place(name)):
                self._fs.rm_file(self._place(name))

        self._trying(f"cannot remove {self._url(name)}", remove)

    def prove_writable(self, below: str) -> None:
        """Raise `StorageFailed` where no file can be written, or removed."""

        def probe() -> None:
            place = self._place(f"{below}/.writable-{secrets.token_hex(4)}")
            if not self._in_one_step:
                self._fs.makedirs(self._place(below), exist_ok=True)
            self._fs.pipe_file(place, b"crossxai")
            self._fs.rm_file(place)

        self._trying(f"cannot write in {self._url(below)}", probe, ())

    def open(self, name: str) -> Any:
        """A file to read parts of."""
        return self._trying(f"cannot read {self._url(name)}", lambda: self._fs.open(self._place(name), "rb"))

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}".rstrip("/")

    def _trying(self, doing: str, act: Callable[[], T], pauses: Iterable[float] | None = None) -> T:
        """What `act` gives; tried again where that may help."""
        for pause in (*(PAUSES if pauses is None else pauses), None):
            try:
                self._fs.invalidate_cache()  # of listings: others write there, too
                return act()
            except Exception as error:  # botocore's, aiohttp's and Google's have no kind in common
                if pause is None or _final(error):
                    full = isinstance(error, OSError) and error.errno in FULL
                    more = "; XDG_CACHE_HOME names another place for what is fetched" if full else ""
                    raise StorageFailed(f"{doing}: {in_words(error)}{more}") from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _final(error: Exception) -> bool:
    """Whether another attempt would fail, too."""
    return isinstance(error, FINAL) or (isinstance(error, OSError) and error.errno in FULL)


def _split(items: list[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _taken(parts: list[str], patterns: list[tuple[str, ...]]) -> bool:
    """Whether a name is safe to use here, and matches a pattern, if there are any."""
    if any(part.startswith(".") or "\\" in part for part in parts):
        return False
    return not patterns or any(len(parts) == len(p) and all(map(fnmatchcase, parts, p)) for p in patterns)
