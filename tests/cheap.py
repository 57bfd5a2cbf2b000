"""Small parameters for tests that run every explainer: those of all files `cheap_*.py` together."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

CHEAP: dict[str, dict[str, Any]] = {}
for path in sorted(Path(__file__).parent.glob("cheap_*.py")):
    CHEAP |= importlib.import_module(path.stem).CHEAP
