"""Parameters that make explainers fast and meaningful on images of 16 pixels, for the tests that run them all."""

from __future__ import annotations

from typing import Any

# Natively rounding decides a component's sign, and on one of the networks the two frameworks do not agree on it.
CHEAP: dict[str, dict[str, Any]] = {
    "gradcam.eigengradcam": {"profile": "canonical"},
    "gradcam.sess": {"sizes": 3},
    "lime.image": {"samples": 40, "segmentation": "grid", "patch": 4},
    "lime.tabular": {"samples": 60},
}
