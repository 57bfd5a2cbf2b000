"""The console commands that a page of the documentation prints, and following them."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from experiments import crossxai

ROOT = Path(__file__).parents[1]


def commands(page: str, heading: str = "") -> list[str]:
    """The `crossxai …` lines of a page in docs/, in order; of the section under a heading alone if one is given."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert text, f"docs/{page} has no section {heading!r}"
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ crossxai")]


def followed(
    place: Path, lines: Sequence[str], more: Callable[[list[str]], list[str]] = lambda words: []
) -> dict[str, float]:
    """Run command lines in a folder, each with what `more` adds to its words; seconds by line."""
    seconds = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in lines:
            words = shlex.split(line)[1:]
            start = time.perf_counter()
            done = crossxai(*words, *more(words))
            seconds[line] = time.perf_counter() - start
            assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    return seconds
