"""The PatchCamelyon study: reading, drawing and checking patches, and the commands for that."""

from __future__ import annotations

from crossxai.studies import submodules

__getattr__ = submodules(__name__, ("histology", "reading", "source", "synthetic"))
