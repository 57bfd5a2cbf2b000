"""The truth that the oracle needs to be told, on images of 16 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

MIDDLE = np.zeros((16, 16))
MIDDLE[4:12, 4:12] = 1
CHEAP: dict[str, dict[str, Any]] = {"controls.oracle": {"masks": MIDDLE}}
