"""Three procedural two-modality data sets whose truth is known: CT + table, T1 + T2, FLAIR + T1ce; see docs/medical.md."""

from __future__ import annotations

import importlib
from types import ModuleType

from crossxai.studies.medical.ct import FEATURES, table
from crossxai.studies.medical.drawing import TASKS
from crossxai.studies.medical.samples import MedicalSet, generate, split
from crossxai.studies.medical.source import read, write

__all__ = ["FEATURES", "TASKS", "MedicalSet", "generate", "read", "split", "table", "write"]

_MODULES = ("data_card", "exploratory")


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, imported when it is first named."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
