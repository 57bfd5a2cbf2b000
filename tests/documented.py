"""The console commands that a page of the documentation prints."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commands(page: str, heading: str = "") -> list[str]:
    """The `crossxai …` lines of a page in docs/, in order; of the section under a heading alone if one is given."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert text, f"docs/{page} has no section {heading!r}"
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ crossxai")]
