"""The folder of caches."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Where files are that can be made again: `crossxai` in $XDG_CACHE_HOME, or else in the system's folder for caches.
    Until 0.5 it was ~/.cache/crossxai on every system; a folder that is there is used on."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "crossxai"
    if os.environ.get("XDG_CACHE_HOME") or folder.is_dir():
        return folder
    return user_cache_path("crossxai", appauthor=False)
