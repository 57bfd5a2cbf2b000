"""A procedural set in PatchCamelyon's format: H&E-like patches whose tumour nuclei are known; see docs/pcam.md."""

from __future__ import annotations

from crossxai.studies.pcam.synthetic.patches import Patches, Shortcut, generate
from crossxai.studies.pcam.synthetic.writing import write

__all__ = ["Patches", "Shortcut", "generate", "write"]
