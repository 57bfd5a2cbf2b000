"""Whether the package that an explainer asks is installed, found out without importing it."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = {"gradcam": "pytorch_grad_cam", "captum": "captum", "lime": "lime", "xplique": "xplique"}
"""By what the names of explainers begin with; the extra of crossxai that brings it is called so, too."""


def installed(library: str) -> bool:
    """Whether a library is there; our own explainers always are, and those of plug-ins came with them."""
    package = PACKAGES.get(library)
    return package is None or find_spec(package) is not None
