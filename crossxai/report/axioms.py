"""Which libraries keep the axioms that a method promises, for the page of a parity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossxai.conventions.axioms import AXIOMS, PROMISES, AxiomCheck
from crossxai.conventions.result import Entry, Parity


@dataclass(frozen=True)
class Answer:
    """One answer and one axiom, by its worst check: kept is None where none could be asked, for the reason in refusal."""

    explainer: str
    profile: str
    definition: bool
    kept: bool | None
    error: float
    tolerance: float
    cause: str
    refusal: str


@dataclass(frozen=True)
class AxiomFacts:
    """One axiom of a method: what it says, why the definition keeps it, and who does.

    share: what errors are a share of. beside: of implementation invariance, the other networks.
    """

    name: str
    about: str
    source: str
    measured: str
    share: str
    beside: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def shown(self) -> list[Answer]:
        """The answers that a reader chooses among: the libraries' own defaults, maps from outside, and the definition."""
        return [a for a in self.answers if a.kept is not None and (a.profile == "native" or a.definition)]

    @property
    def broken(self) -> list[Answer]:
        """Those of them that break it, the farthest first."""
        return sorted((a for a in self.shown if not a.kept), key=lambda a: -a.error)

    @property
    def keeping(self) -> list[Answer]:
        """Those of them that keep it, the closest first."""
        return sorted((a for a in self.shown if a.kept), key=lambda a: a.error)


def axiom_facts(result: Parity) -> list[AxiomFacts]:
    """The axioms that were measured of a method."""
    promised = PROMISES[result.method]
    canonical = [e.explainer for e in result.entries if e.profile == "canonical" and e.axioms]
    facts = []
    for name in promised:
        checked = [(e, [c for c in e.axioms if c.axiom == name]) for e in result.entries]
        answers = tuple(_answer(e, checks, e.explainer in canonical[-1:]) for e, checks in checked if checks)
        if answers:
            beside = tuple(
                dict.fromkeys(c.beside for _, checks in checked for c in checks if c.beside and not c.refusal)
            )
            axiom = AXIOMS[name]
            facts.append(AxiomFacts(name, axiom.about, promised[name], axiom.measured, axiom.share, beside, answers))
    return facts


def _answer(entry: Entry, checks: list[AxiomCheck], stands_for_all: bool) -> Answer:
    """The check that is farthest beyond its tolerance."""
    definition = stands_for_all and entry.profile == "canonical"
    asked = [c for c in checks if not c.refusal]
    if not asked:
        return Answer(entry.explainer, entry.profile, definition, None, np.nan, np.nan, "", checks[0].refusal)
    worst = max(asked, key=lambda c: (not c.kept, c.error))
    return Answer(entry.explainer, entry.profile, definition, worst.kept, worst.error, worst.tolerance, worst.cause, "")
