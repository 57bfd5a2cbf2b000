"""Plug-ins: explainers and metrics of other packages, found by entry points; a broken one is named and breaks nothing else."""

from __future__ import annotations

from collections.abc import Callable
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


def add(group: str, found: dict[str, Any], problem: Callable[[Any], str]) -> tuple[Broken, ...]:
    """Add the classes of an entry-point group to `found`, by their `name`; returns those that cannot be used.

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
        if not reason and kind.name in found:
            whose = "CrossXAI" if kind.name in own else found[kind.name].__module__
            reason = f"{kind.name!r} is a name that {whose} uses already: choose another"
        if reason:
            broken.append(Broken(entry.name, package, reason))
        else:
            found[kind.name] = kind
    return tuple(broken)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
