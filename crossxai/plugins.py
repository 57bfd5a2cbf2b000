"""Plug-ins: what other packages, and our own studies, register by entry points; a broken one is named and breaks nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from crossxai.errors import InvalidInput


@dataclass(frozen=True)
class Broken:
    """A plug-in that could not be used: its name, the package it came with, and why."""

    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of package {self.package}: {self.reason}"


def entries(group: str) -> list[EntryPoint]:
    """The entry points of a group, by the alphabet of their packages; reading them imports nothing."""
    return sorted(entry_points(group=group), key=lambda entry: (_package(entry), entry.name))


def load(entry: EntryPoint, problem: Callable[[Any], str]) -> Any:
    """The object of an entry point, or why it cannot be used (`Broken`); problem says what is wrong with one, "" if nothing."""
    try:
        loaded = entry.load()
    except Exception as error:  # whatever another package's module does while it is imported
        return Broken(entry.name, _package(entry), f"cannot be loaded: {type(error).__name__}: {error}")
    reason = problem(loaded)
    return Broken(entry.name, _package(entry), reason) if reason else loaded


def add(group: str, known: dict[str, Any], problem: Callable[[Any], str], by_entry: bool = False) -> tuple[Broken, ...]:
    """Add the objects of an entry-point group to `known`, by their `name`, or their entry's; returns those that cannot be used.

    A name that is taken stays with whom it belongs to: first ours, then plug-ins by the alphabet of their packages.
    """
    broken: list[Broken] = []
    own = set(known)
    for entry in entries(group):
        loaded = load(entry, problem)
        if isinstance(loaded, Broken):
            broken.append(loaded)
            continue
        name = entry.name if by_entry else loaded.name
        if name in known:
            owner = "CrossXAI" if name in own else known[name].__module__
            reason = f"{name!r} is a name that {owner} uses already: choose another"
            broken.append(Broken(entry.name, _package(entry), reason))
        else:
            known[name] = loaded
    return tuple(broken)


def lacks(kind: Any, methods: Sequence[str]) -> str:
    """What a class that is registered under a name lacks, in words; "" if nothing."""
    if not (inspect.isclass(kind) and isinstance(getattr(kind, "name", None), str)):
        return "is no class with a name: name: ClassVar[str] = '…'"
    missing = [method for method in methods if not callable(getattr(kind, method, None))]
    return f"class {kind.__name__} lacks {', '.join(missing)}" if missing else ""


def name_and_params(given: Any, example: str) -> tuple[Any, dict[str, Any]]:
    """The name and parameters of "name", ("name", {…}) or {"name": …, parameter: …}; anything else takes the place of a name."""
    if isinstance(given, Mapping) and "name" in given:
        return given["name"], {key: value for key, value in given.items() if key != "name"}
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Mapping):
        return given[0], dict(given[1])
    if isinstance(given, Mapping | tuple | list):
        raise InvalidInput(
            f'write "{example}", ("{example}", {{"parameter": value}}) or {{"name": "{example}", …}}, got {given!r}'
        )
    return given, {}


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
