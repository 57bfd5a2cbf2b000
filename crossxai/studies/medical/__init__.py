"""Three procedural two-modality data sets whose truth is known: CT + table, T1 + T2, FLAIR + T1ce; see docs/medical.md."""

from __future__ import annotations

from crossxai.studies.medical.files import read, write
from crossxai.studies.medical.generating import generate
from crossxai.studies.medical.samples import TASKS, MedicalSet, split
from crossxai.studies.medical.table import FEATURES, table

__all__ = ["FEATURES", "TASKS", "MedicalSet", "generate", "read", "split", "table", "write"]
