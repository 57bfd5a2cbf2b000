"""Case studies: their data, networks, training and commands; the engine works without this folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType


def submodules(package: str, names: tuple[str, ...]) -> Callable[[str], ModuleType]:
    """The `__getattr__` of a package whose modules are imported when they are first named."""

    def get(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return get
