"""A fact about a model: what was found, how, what it breaks and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "broken", "note", "unknown"]


@dataclass(frozen=True)
class Fact:
    """One row of a check.

    name: what is asked, such as "deterministic". verdict: "holds"; "broken", where answers that rely on it would be wrong;
    "note", where they are right and something should be known; "unknown", where it could not be told. found: what was seen, with
    numbers. how: the measurement. breaks: what answers wrongly because of it. write: what to do or to declare instead.
    """

    name: str
    verdict: Verdict
    found: str
    how: str
    breaks: str = ""
    write: str = ""

    def sentence(self) -> str:
        """The fact as a message: what was found, what it breaks, what to write."""
        parts = [self.found, self.breaks, self.write and f"write {self.write}"]
        return "; ".join(part for part in parts if part)
