"""Explainers: one file per library; `get` makes one by name, `discover` lists them, and neither loads any library."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from crossxai.attribution import Explainer
from crossxai.errors import InvalidInput, UnknownName
from crossxai.explainers.method import Method

__all__ = ["Method", "discover", "get"]


@cache
def _catalogue() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    classes = [
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and issubclass(member, Method) and "name" in vars(member)
    ]
    for kind in [*classes, *(entry.load() for entry in entry_points(group="crossxai.explainers"))]:
        if kind.name in found:
            raise InvalidInput(f"two explainers are called {kind.name!r}: {found[kind.name]} and {kind}")
        found[kind.name] = kind
    return dict(sorted(found.items()))


def discover() -> dict[str, type[Method]]:
    """Name → class of every explainer, installed plug-ins (entry-point group `crossxai.explainers`) included."""
    return dict(_catalogue())


def get(name: str, /, **params: Any) -> Explainer:
    """An explainer by name ("captum.saliency") with its parameters; raises `UnknownName` or `InvalidInput`."""
    catalogue = _catalogue()
    if name not in catalogue:
        raise UnknownName("explainer", name, catalogue)
    kind = catalogue[name]
    known = {f.name for f in dataclasses.fields(kind)}
    for param in params:
        if param not in known:
            raise UnknownName(f"parameter of {name}", param, known)
    return kind(**params)
