"""What the shell's completion offers where an option takes names, or folders that may be URLs."""

from __future__ import annotations

import glob
from collections.abc import Iterable


def explainers(incomplete: str) -> list[str]:
    """Names of explainers, after a comma the next one."""
    from crossxai.explainers import discover

    return _next(incomplete, discover())


def metrics(incomplete: str) -> list[str]:
    """Names of metrics, after a comma the next one."""
    from crossxai.evaluation import discover

    return _next(incomplete, (entry.name for entry in discover()))


def folders(incomplete: str) -> list[str]:
    """Paths, where a URL may stand, too."""
    return sorted(glob.glob(f"{glob.escape(incomplete)}*"))


def _next(incomplete: str, known: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in known if name.startswith(last)]
