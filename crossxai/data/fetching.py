"""One file over HTTP, resumed where an earlier attempt stopped, and the folder of caches. Beside the growing `part`,
`part.tag` keeps the server's validator, so that a file that has changed is fetched anew (RFC 9110, sections 13.1.5 and
14); the caller verifies what came."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from crossxai.errors import InvalidFile
from crossxai.files.atomic import sweep, write_text
from crossxai.files.cache import cache_folder as cache_folder
from crossxai.version import __version__

BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
"""What every gzip file begins with (RFC 1952); a page that says "try later" with status 200 does not."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that another attempt may change; any other error is final."""


@dataclass(frozen=True)
class Retries:
    """How patient to be; all times in seconds. attempts: how many in a row may bring nothing that was not there before.
    wait: before the next, doubled after each that brought nothing; a server's Retry-After goes before it; both up to
    `longest`. timeout: without a byte."""

    attempts: int = 6
    wait: float = 1.0
    longest: float = 120.0
    timeout: float = 60.0

    def pause(self, failures: int, retry_after: float | None) -> float:
        """Seconds to wait after so many failures in a row, of which the server may have asked for some."""
        return min(self.longest, self.wait * 2 ** (failures - 1) if retry_after is None else retry_after)


class _Failed(Exception):
    """One attempt failed in a way that another may not. after: seconds that the server asks to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def fetch(
    url: str,
    part: Path,
    size: int,
    retries: Retries,
    report: Callable[[int], None],
    say: Callable[[str], None],
) -> None:
    """Bring `part` to `size` bytes of the gzip file at `url`, asking only for those that are missing; it starts over
    where a server ignores ranges or its file has changed. report gets the bytes that are there, say why an attempt
    failed. Raises `InvalidFile` when attempts run out, or at once where another would not help."""
    sweep(_tag(part))
    best = length(part)
    failures = 0
    while True:
        try:
            _attempt(url, part, size, retries.timeout, report)
        except _Failed as failure:
            have = length(part)
            failures = 0 if have > best else failures + 1
            best = max(best, have)
            if failures >= retries.attempts:
                raise InvalidFile(
                    f"{url}: {failure}; given up after {failures} attempts that brought nothing; {have} of {size} bytes are "
                    "kept: start again to go on from there, or give another address with --mirror URL"
                ) from failure
            pause = retries.pause(max(1, failures), failure.after)
            say(f"{failure}; next attempt in {pause:.0f} s")
            time.sleep(pause)
        else:
            _tag(part).unlink(missing_ok=True)
            return


def length(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def forget(part: Path) -> None:
    """Remove an unfinished file and its validator."""
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _attempt(url: str, part: Path, size: int, timeout: float, report: Callable[[int], None]) -> None:
    if length(part) > size:
        forget(part)
    have = length(part)
    report(have)
    if have == size:
        return
    tag = _tag(part).read_text(encoding="utf-8") if have and _tag(part).is_file() else ""
    headers = {"User-Agent": f"crossxai/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag and not tag.startswith("W/"):  # a weak validator may not be sent; it is compared below
            headers["If-Range"] = tag
    with _opened(Request(url, headers=headers), timeout) as response:
        start = _start(response, have, size)
        new = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if start and tag and new and new != tag:
            forget(part)
            raise _Failed("the file on the server has changed since the first attempt: starting over")
        block = _read(response, min(BLOCK, size - start))
        if not start:
            # Looked at before anything on disk is given up: old bytes are worth more than nothing, or an error page.
            if not block:
                raise _Failed("the connection ended before the first byte")
            if not GZIP.startswith(block[:2]):
                raise _Failed(f"what comes is no gzip file (it begins with {block[:16]!r})")
            forget(part)
            if new:
                write_text(_tag(part), new)
        _append(response, part, start, size, block, report)


def _append(response: Any, part: Path, start: int, size: int, block: bytes, report: Callable[[int], None]) -> None:
    done = start
    try:
        with open(part, "ab") as file:
            while block:
                file.write(block)
                file.flush()  # what has come is on disk, should this process be killed while it waits for more
                done += len(block)
                report(done)
                block = _read(response, min(BLOCK, size - done))
    except OSError as error:
        raise InvalidFile(f"cannot write {part}: {error.strerror or error}") from error
    if done < size:
        raise _Failed(f"the connection ended after {done} of {size} bytes")


def _opened(request: Request, timeout: float) -> AbstractContextManager[Any]:
    url = request.full_url
    try:
        response: AbstractContextManager[Any] = urlopen(request, timeout=timeout)
    except HTTPError as error:
        with error:
            problem = f"the server answers {error.code} ({error.reason})"
            if error.code in PASSING:
                raise _Failed(problem, _after(error.headers.get("Retry-After"))) from error
            if error.code == 416:
                raise _Failed(f"{problem}: its file is shorter than what has come already") from error
            raise InvalidFile(f"{url}: {problem}; give another address of the files with --mirror URL") from error
    except URLError as error:
        if isinstance(error.reason, FileNotFoundError):
            raise InvalidFile(f"{url}: no such file; give another address of the files with --mirror URL") from error
        raise _Failed(f"no connection ({error.reason})") from error
    except (UnicodeError, InvalidURL) as error:
        raise InvalidFile(
            f"{url}: no address ({error}); write --mirror URL in ASCII, other characters as %XX"
        ) from error
    except (OSError, HTTPException) as error:
        raise _Failed(f"no connection ({error or type(error).__name__})") from error
    return response


def _start(response: Any, have: int, size: int) -> int:
    """The place of the answer's first byte in the file: `have`, or 0 if the server sends all of it."""
    if response.status == 206:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not have or content_range is None or int(content_range[1]) != have:
            raise _Failed(
                f"asked for the bytes from {have} on, the server sends {response.headers.get('Content-Range')}"
            )
        offered = content_range[2]
    elif response.status in (200, None):  # None: a file:// address
        offered = response.headers.get("Content-Length") or "*"
        have = 0
    else:
        raise _Failed(f"the server answers {response.status}")
    if offered not in ("*", str(size)):
        raise _Failed(f"the server offers {offered} bytes, the published file has {size}")
    return have


def _read(response: Any, most: int) -> bytes:
    """What has arrived, `most` bytes at most; b"" at the end, or if none is wanted."""
    if not most:
        return b""
    try:
        return bytes(response.read1(most))
    except (OSError, HTTPException) as error:
        raise _Failed(f"the connection broke ({error or type(error).__name__})") from error


def _after(value: str | None) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
