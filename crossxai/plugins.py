"""Plug-ins: what other packages, and our own studies, register by entry points; a broken one is named and breaks nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any


@dataclass(frozen=True)
class Broken:
    """A plug-in that could not be used: its name, the package it came with, and why."""

    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of package {self.package}: {self.reason}"


def add(group: str, found: dict[str, Any], problem: Callable[[Any], str], by_entry: bool = False) -> tuple[Broken, ...]:
    """Add the objects of an entry-point group to `found`, by their `name`, or their entry's; returns those that cannot be used.

    problem: what is wrong with a loaded object, "" if nothing. A name that is taken stays with whom it belongs to: first
    ours, then plug-ins by the alphabet of their packages.
    """
    broken: list[Broken] = []
    own = set(found)
    for entry in sorted(entry_points(group=group), key=lambda e: (_package(e), e.name)):
        package = _package(entry)
        try:
            kind = entry.load()
        except Exception as error:  # whatever another package's module does while it is imported
            broken.append(Broken(entry.name, package, f"cannot be loaded: {type(error).__name__}: {error}"))
            continue
        reason = problem(kind)
        name = "" if reason else entry.name if by_entry else kind.name
        if not reason and name in found:
            whose = "CrossXAI" if name in own else found[name].__module__
            reason = f"{name!r} is a name that {whose} uses already: choose another"
        if reason:
            broken.append(Broken(entry.name, package, reason))
        else:
            found[name] = kind
    return tuple(broken)


def lacks(kind: Any, methods: Sequence[str]) -> str:
    """What a class that is registered under a name lacks, in words; "" if nothing."""
    if not (inspect.isclass(kind) and isinstance(getattr(kind, "name", None), str)):
        return "is no class with a name: name: ClassVar[str] = '…'"
    missing = [method for method in methods if not callable(getattr(kind, method, None))]
    return f"class {kind.__name__} lacks {', '.join(missing)}" if missing else ""


def commands(group: str) -> tuple[dict[str, Any], tuple[Broken, ...]]:
    """The functions and Typer applications of an entry-point group, by the entries' names; and those that cannot be used."""
    found: dict[str, Any] = {}
    return found, add(group, found, lambda command: "" if callable(command) else "is no function", by_entry=True)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
