"""Samples in a bucket: what a URL names is fetched into the folder of caches, once, and again only where it has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from crossxai.data.csv_files import ENDINGS
from crossxai.data.declared import Files
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.files.atomic import write_text
from crossxai.files.cache import cache_folder
from crossxai.files.stores import Store, is_url

SIGNS = "*?[{"
"""Of patterns, and of the names of masks."""


def here(given: Any) -> Any:
    """What names samples, with paths in place of URLs, whose files are fetched; anything else as it is. Raises `InvalidFile`."""
    if isinstance(given, Files):
        urls = {key: value for key in ("files", "masks", "table") if is_url(value := getattr(given, key))}
        paths: dict[str, Any] = {key: _fetched(url, key == "files") for key, url in urls.items()}
        return replace(given, **paths) if paths else given
    if isinstance(given, list) and any(map(is_url, given)):
        return [here(item) for item in given]
    return _fetched(given, True) if is_url(given) else given


@cache
def _fetched(url: str, beside: bool) -> Path:
    """The path of what a URL names: a file, a folder, or a pattern. beside: whether what lies beside a CSV file comes along."""
    scheme, _, rest = url.rstrip("/").partition("://")
    names = rest.split("/")
    fixed = next((n for n, name in enumerate(names) if any(sign in name for sign in SIGNS)), len(names))
    if beside and names[-1].lower().endswith(ENDINGS):
        fixed = min(fixed, len(names) - 1)
    # Of user:password@host the host is enough; of file:///folder the first name is empty.
    local = [name for name in (names[0].rpartition("@")[2], *names[1:]) if name]
    if not any(names[:fixed]) or any(name in (".", "..") or "\\" in name for name in local):
        raise InvalidInput(f"{url}: write the URL of a folder or a file of samples, such as s3://bucket/photos")
    root = cache_folder() / "remote-data" / scheme
    kept = root.joinpath(*local[: len(local) - (len(names) - fixed)])
    _mirror(f"{scheme}://{'/'.join(names[:fixed])}", kept)
    return root.joinpath(*local)


def _mirror(url: str, place: Path) -> None:
    """Make a file or folder what it is in a store; what was fetched before, and has not changed, is not fetched again."""
    store = Store(url)
    there = store.names()
    if not there:
        raise InvalidFile(f"{url}: there are no files")
    known = place.with_name(f".{place.name}.fetched.json")
    try:
        before = dict(json.loads(known.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        before = {}
    paths = {name: place / name if name else place for name in there}
    store.get({name: path for name, path in paths.items() if not path.is_file() or before.get(name) != there[name]})
    for path in [*place.rglob("*")]:
        if path.is_file() and path.relative_to(place).as_posix() not in there and not path.name.startswith("."):
            path.unlink(missing_ok=True)
    write_text(known, json.dumps(there))
