"""The result of a parity: every answer, every pair of them, and what parts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossxai.attribution import Profile
from crossxai.conventions.agreement import RUNGS, Agreement, Rung
from crossxai.conventions.axioms import AxiomCheck
from crossxai.conventions.convention import Setting
from crossxai.conventions.floor import Floor
from crossxai.conventions.models import ModelParity
from crossxai.conventions.sanity import Sanity
from crossxai.conventions.search import Finding, switched
from crossxai.errors import UnknownName
from crossxai.model import Array

if TYPE_CHECKING:
    import pandas

PROFILES: tuple[Profile, ...] = ("native", "canonical")


@dataclass(frozen=True)
class Entry:
    """One library's answer on one model.

    explainer: its name, or the name that the user gave a map from outside. profile: "native" for maps from outside. maps: (n, y,
    x, channels), None where there is none; refusal: why. setting: what is documented of it, or said. floor: of the library with
    itself. finding: what it does other than its setting, as the search has it; closed by () where it does what is documented.
    deletion: the area under each sample's deletion curve (n,), lower being better; None where it was not measured. axioms: which
    of those that the method promises it keeps, measured on the first model.
    """

    explainer: str
    model: str
    profile: Profile
    maps: Array | None = None
    setting: Setting = field(default_factory=dict)
    floor: Floor | None = None
    finding: Finding | None = None
    refusal: str = ""
    outside: bool = False
    deletion: Array | None = None
    axioms: tuple[AxiomCheck, ...] = ()

    @property
    def found(self) -> Setting:
        """The setting that gives these maps: the documented one, with what the search found switched."""
        closing = self.finding.closing if self.finding is not None else ()
        return switched(self.setting, closing[0]) if closing else self.setting

    @property
    def within_noise(self) -> bool:
        """Whether the maps are no farther from what they should be than two seeds are apart."""
        return self.finding is not None and self.floor is not None and self.finding.gap <= self.floor.seeds

    @property
    def label(self) -> str:
        """Explainer and model."""
        return f"{self.explainer} on {self.model}"

    def __repr__(self) -> str:
        given = self.refusal or ("no map" if self.maps is None else f"maps {self.maps.shape}")
        return f"Entry({self.label}, {self.profile}: {given})"


@dataclass(frozen=True)
class Pair:
    """Two answers beside each other: their agreement, its rung, and what explains the difference; None where there is none.

    row: the sample that is farthest apart. image: its input. steps: its map of the first, as one convention after the other is
    switched: what was switched, and the map (y, x, channels).
    """

    one: Entry
    other: Entry
    agreement: Agreement
    rung: Rung
    finding: Finding | None
    row: int = 0
    image: Array | None = None
    steps: tuple[tuple[str, Array], ...] = ()

    def __repr__(self) -> str:
        causes = f"; {self.causes}" if self.causes else ""
        return f"Pair({self.one.label} | {self.other.label}, {self.one.profile}: {self.rung}{causes})"

    @property
    def causes(self) -> str:
        """The conventions that make both equal, in a line; "" where they are, "unexplained" where none does."""
        if self.finding is None:
            return ""
        if not self.finding.explained and self.within_noise:
            return f"two seeds ({self.seeds:.2g} apart)"
        return self.finding.causes

    @property
    def seeds(self) -> float:
        """How far two seeds of one of the libraries lie apart, at most; 0 where both use the same draws."""
        one, other = self.one, self.other
        if not one.outside and not other.outside and one.found.get("draws") == other.found.get("draws"):
            return 0.0
        return max((e.floor.seeds for e in (one, other) if e.floor is not None), default=0.0)

    @property
    def within_noise(self) -> bool:
        """Whether the maps differ by no more than two seeds of one library do."""
        return float(self.agreement.distance.max()) <= self.seeds


@dataclass(frozen=True)
class Parity:
    """The result of `parity`.

    Attributes
    ----------
    method : str
        The method that was compared.
    models : mapping
        (one, other) -> `ModelParity` for every two models.
    entries : tuple of Entry
        Every library on every model, in both profiles.
    pairs : tuple of Pair
        Every two answers of one profile.
    layers : mapping
        Model -> the layer that activation maps are drawn at, one whose activation all have; empty for other methods, and where
        the layer was given.
    sanity : mapping
        Model -> `Sanity`, the randomisation tests, where they were asked for.
    """

    method: str
    models: Mapping[tuple[str, str], ModelParity]
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    layers: Mapping[str, str] = field(default_factory=dict)
    sanity: Mapping[str, Sanity] = field(default_factory=dict)

    @property
    def summary(self) -> pandas.DataFrame:
        """One row per two answers: who on which model, how far apart, and the conventions that make them equal.

        Columns: profile, one, other, rung, distance (the largest relative L2 of a sample), causes (each convention, the option of
        the other and its share of the gap; "" where there is no gap, "unexplained" where none closes it) and left (the distance
        with them switched).
        """
        import pandas  # heavy, and not needed for a report

        rows = [
            {
                "profile": pair.one.profile, "one": pair.one.label, "other": pair.other.label, "rung": pair.rung,
                "distance": float(pair.agreement.distance.max()), "causes": pair.causes,
                "left": float("nan") if pair.finding is None else pair.finding.left,
            }
            for pair in self.pairs
        ]  # fmt: skip
        return pandas.DataFrame(rows, columns=["profile", "one", "other", "rung", "distance", "causes", "left"])

    @property
    def axioms(self) -> pandas.DataFrame:
        """One row per answer and axiom that its method promises: whether it keeps it, and by how much it misses.

        Columns: profile, explainer, axiom, beside (of implementation invariance, the other network), kept (None where it was not
        asked), error (a share, of what `crossxai.conventions.axioms.AXIOMS` says), tolerance (up to which it is kept), cause
        (the convention that breaks completeness, in words) and refusal (why it was not asked).
        """
        import pandas  # heavy, and not needed for a report

        columns = ["profile", "explainer", "axiom", "beside", "kept", "error", "tolerance", "cause", "refusal"]
        rows = [
            (e.profile, e.explainer, c.axiom, c.beside, c.kept, c.error, c.tolerance, c.cause, c.refusal)
            for e in self.entries
            for c in e.axioms
        ]
        return pandas.DataFrame(rows, columns=columns)

    def worst(self, profile: Profile) -> Rung:
        """The farthest rung of any pair in a profile; "identical" where there is one answer only."""
        return max((pair.rung for pair in self.pairs if pair.one.profile == profile), key=RUNGS.index, default=RUNGS[0])

    def compared(self, profile: Profile) -> int:
        """How many pairs of answers of a profile there are; 0 where fewer than two libraries or models answered."""
        return sum(pair.one.profile == profile for pair in self.pairs)

    @property
    def rungs(self) -> str:
        """The worst rung of each profile, in a line."""
        return ", ".join(f"{p} {self.worst(p) if self.compared(p) else 'nothing compared'}" for p in PROFILES)

    def meets(self, rung: str, profile: Profile = "canonical") -> bool:
        """Whether all answers of a profile agree at least as closely as a rung says, and all models are one function.

        False where nothing was compared, or where maps from outside are not what they are said to be.
        """
        return not self.shortfalls(rung, profile)

    def shortfalls(self, rung: str, profile: Profile = "canonical") -> tuple[str, ...]:
        """Why a rung is not met, a sentence per reason; of two libraries that part on several models, the worst pair."""
        if rung not in RUNGS:
            raise UnknownName("rung", rung, RUNGS)
        below = [p for p in self.pairs if p.one.profile == profile and RUNGS.index(p.rung) > RUNGS.index(rung)]
        worst: dict[tuple[str, str], Pair] = {}
        for pair in sorted(below, key=lambda p: (-RUNGS.index(p.rung), p.one.model != p.other.model)):
            worst.setdefault((pair.one.explainer, pair.other.explainer), pair)
        reasons = [f"{one} and {other} are not one function" for (one, other), m in self.models.items() if not m.equal]
        reasons += [
            f"{e.label} is not what it is said to be: {e.refusal if e.finding is None else e.finding.causes}"
            for e in self.strangers
        ]
        reasons += [
            f'{p.one.label} and {p.other.label} reach "{p.rung}", expected "{rung}"; what parts them: {p.causes or "rounding"}'
            for p in worst.values()
        ]
        if not self.compared(profile):
            refusals = dict.fromkeys(e.refusal for e in self.entries if e.refusal)
            reasons.append("; ".join(["nothing was compared", *refusals]))
        return tuple(f"{self.method} ({profile}): {reason}" for reason in reasons)

    @property
    def strangers(self) -> tuple[Entry, ...]:
        """Maps from outside that are not what they are said to be, by more than seeds differ."""
        return tuple(
            e
            for e in self.entries
            if e.outside and (e.finding is None or e.finding.closing[:1] != ((),)) and not e.within_noise
        )

    def __repr__(self) -> str:
        parted = sum(not m.equal for m in self.models.values())
        others = f", {parted} pairs of models differ" if parted else ""
        return f"Parity({self.method}: {self.rungs}, {len(self.unexplained)} unexplained{others})"

    @property
    def unexplained(self) -> tuple[Pair, ...]:
        """The pairs that differ by more than seeds do, and that no set of conventions makes equal."""
        return tuple(
            pair
            for pair in self.pairs
            if pair.finding is not None and not pair.finding.explained and not pair.within_noise
        )
