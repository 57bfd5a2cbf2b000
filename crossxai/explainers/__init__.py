"""Explainers: one folder per library; `get` makes one by name, `discover` lists them, and neither loads any library."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from functools import cache
from typing import Any

from crossxai import plugins
from crossxai.attribution import Explainer
from crossxai.errors import InvalidInput, UnknownName
from crossxai.explainers.method import Method

__all__ = ["Method", "broken", "discover", "get"]

GROUP = "crossxai.explainers"


@cache
def _catalogue() -> tuple[dict[str, type[Method]], tuple[plugins.Broken, ...]]:
    found: dict[str, type[Method]] = {}
    modules = [importlib.import_module(info.name) for info in pkgutil.walk_packages(__path__, f"{__name__}.")]
    classes = [
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and issubclass(member, Method) and "name" in vars(member)
    ]
    for kind in classes:
        if kind.name in found:
            raise InvalidInput(f"two explainers are called {kind.name!r}: {found[kind.name]} and {kind}")
        found[kind.name] = kind
    unusable = plugins.add(GROUP, found, _problem)
    return dict(sorted(found.items())), unusable


def _problem(kind: Any) -> str:
    if not (inspect.isclass(kind) and issubclass(kind, Method) and dataclasses.is_dataclass(kind)):
        return f"is {kind!r}, not a dataclass that derives from crossxai.explainers.Method"
    lacking = [
        name for name in ("name", "library", "summary", "needs") if not isinstance(getattr(kind, name, None), str)
    ]
    return f"{kind.__name__} does not say its {', '.join(lacking)}" if lacking else ""


def discover() -> dict[str, type[Method]]:
    """Name → class of every explainer, installed plug-ins (entry-point group `crossxai.explainers`) included."""
    return dict(_catalogue()[0])


def broken() -> tuple[plugins.Broken, ...]:
    """The plug-ins that could not be used, with the reasons."""
    return _catalogue()[1]


def get(name: str, /, **params: Any) -> Explainer:
    """An explainer by name ("captum.saliency") with its parameters; raises `UnknownName` or `InvalidInput`."""
    catalogue, unusable = _catalogue()
    if name not in catalogue:
        raise UnknownName("explainer", name, catalogue, [str(plugin) for plugin in unusable])
    kind = catalogue[name]
    known = {f.name for f in dataclasses.fields(kind)}
    for param in params:
        if param not in known:
            raise UnknownName(f"parameter of {name}", param, known)
    return kind(**params)
