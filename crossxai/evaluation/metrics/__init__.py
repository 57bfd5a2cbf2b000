"""Metrics other than deletion and insertion: one file per axis, or per part of an axis."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("completeness", "localisation", "modality", "overlap", "similarity", "stability")


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, imported when it is first named."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
