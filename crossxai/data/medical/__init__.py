"""Three procedural two-modality data sets whose truth is known: CT + table, T1 + T2, FLAIR + T1ce; see docs/medical.md."""

from __future__ import annotations

from crossxai.data.medical.generating import generate
from crossxai.data.medical.reading import read
from crossxai.data.medical.samples import TASKS, MedicalSet
from crossxai.data.medical.splitting import split
from crossxai.data.medical.table import FEATURES, table
from crossxai.data.medical.writing import write

__all__ = ["FEATURES", "TASKS", "MedicalSet", "generate", "read", "split", "table", "write"]
