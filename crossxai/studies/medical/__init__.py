"""Three procedural two-modality data sets whose truth is known: CT + table, T1 + T2, FLAIR + T1ce; see docs/medical.md."""

from __future__ import annotations

from crossxai.studies import submodules
from crossxai.studies.medical.ct import FEATURES, table
from crossxai.studies.medical.drawing import TASKS
from crossxai.studies.medical.samples import MedicalSet, generate, split
from crossxai.studies.medical.source import read, write

__all__ = ["FEATURES", "TASKS", "MedicalSet", "generate", "read", "split", "table", "write"]

__getattr__ = submodules(__name__, ("data_card", "exploratory"))
