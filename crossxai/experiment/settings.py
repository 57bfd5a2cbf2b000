"""Single entries of an experiment changed by `key=value`; a key is a path such as `explainers.captum.saliency.params.steps`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from crossxai.errors import InvalidInput, UnknownName

WRITE = "write key=value, such as data.n=20, models.0.size=224 or explainers.captum.saliency.params.seed=1"


def with_settings(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The content of an experiment file with these entries changed or added.

    settings: `key=value` each. A key is a path with dots; an entry of a list goes by its number, or by its label or name. A value
    is TOML, such as 3, true, [0, 1] or { blur = 3 }, else a text. Raises `InvalidInput` or `UnknownName` with the key.
    """
    changed: dict[str, Any] = _copy(content)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not all(part.strip() for part in key.split(".")):
            raise InvalidInput(f"--set {setting}: {WRITE}")
        _set(changed, key.strip(), key.strip(), _value(value.strip()))
    return changed


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(place: Any, path: str, key: str, value: Any) -> None:
    """Go down the path; what is missing on the way is made."""
    head, dot, rest = path.partition(".")
    if isinstance(place, list):
        head, rest = _entry(place, path, key)
        if not rest:
            place[int(head)] = value
            return
        _set(place[int(head)], rest, key, value)
        return
    if not isinstance(place, dict):
        raise InvalidInput(f"--set {key}: {place!r} has no parts; set the entry above it")
    if not dot:
        place[head] = value
        return
    if not isinstance(place.get(head), dict | list):
        place[head] = {}
    _set(place[head], rest, key, value)


def _entry(entries: list[Any], path: str, key: str) -> tuple[str, str]:
    """The number of an entry as text, and the rest of the path; names may have dots, so the longest that fits counts."""
    number, _, rest = path.partition(".")
    if number.isdecimal() and int(number) < len(entries):
        return number, rest
    names: dict[str, int] = {}
    for place, entry in enumerate(entries):
        for name in ("label", "name"):
            if isinstance(entry, dict) and entry.get(name):
                names.setdefault(str(entry[name]), place)
    for name in sorted(names, key=len, reverse=True):
        if path == name or path.startswith(f"{name}."):
            return str(names[name]), path[len(name) + 1 :]
    raise UnknownName(f"entry that --set {key} could change", number, [*names, *map(str, range(len(entries)))])


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
