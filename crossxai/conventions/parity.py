"""Parity: one method in every library and framework that has it, and what each difference comes from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from crossxai.attribution import Explainer, Profile
from crossxai.conventions.agreement import RUNGS, Agreement, Rung, agreement
from crossxai.conventions.convention import CANONICAL, Setting
from crossxai.conventions.floor import Floor, floor
from crossxai.conventions.libraries import explainers_of, setting_of
from crossxai.conventions.models import ModelParity, compare_models
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.search import Finding, between, blind
from crossxai.errors import CrossXAIError, InvalidInput, UnknownName
from crossxai.explainers import discover, get
from crossxai.model import Array
from crossxai.question import Question

DEVIATION_BUDGET = 60
"""How many settings are asked of the model when a library does not do what is documented of it."""
PROFILES: tuple[Profile, ...] = ("native", "canonical")


@dataclass(frozen=True)
class Entry:
    """One library's answer on one model.

    maps: (n, y, x, channels), None where there is none; refusal: why. floor: of the library with itself. finding: what the
    library does other than its documented setting, as the search has it; explained by () where it does what is documented.
    """

    explainer: str
    model: str
    profile: Profile
    maps: Array | None = None
    setting: Setting = field(default_factory=dict)
    floor: Floor | None = None
    finding: Finding | None = None
    refusal: str = ""

    @property
    def label(self) -> str:
        """Explainer and model."""
        return f"{self.explainer} on {self.model}"


@dataclass(frozen=True)
class Pair:
    """Two answers beside each other: their agreement, its rung, and what explains the difference; None where there is none."""

    one: Entry
    other: Entry
    agreement: Agreement
    rung: Rung
    finding: Finding | None


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
    """

    method: str
    models: Mapping[tuple[str, str], ModelParity]
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]

    def worst(self, profile: Profile) -> Rung:
        """The farthest rung of any pair in a profile; "identical" where there is one answer only."""
        return max((pair.rung for pair in self.pairs if pair.one.profile == profile), key=RUNGS.index, default=RUNGS[0])

    @property
    def unexplained(self) -> tuple[Pair, ...]:
        """The pairs that differ and no set of conventions makes equal."""
        return tuple(pair for pair in self.pairs if pair.finding is not None and not pair.finding.explained)


def parity(questions: Mapping[str, Question], method: str, params: Mapping[str, Any] | None = None) -> Parity:
    """One method over all libraries that have it, on one or more models.

    Parameters
    ----------
    questions : mapping of str to Question
        By the model's name; the same samples and targets, one free image each.
    method : str
        A key of `CANONICAL`, such as "integrated_gradients".
    params : mapping, optional
        Parameters given to every explainer that has them, such as {"steps": 20}.

    Returns
    -------
    Parity

    Raises
    ------
    UnknownName
        For a method that is not among those whose conventions are known.
    """
    if method not in CANONICAL:
        raise UnknownName("method with known conventions", method, list(CANONICAL))
    if not questions:
        raise InvalidInput("parity needs at least one model")
    models = {(a, b): compare_models(questions[a], questions[b]) for a, b in itertools.combinations(questions, 2)}
    same = _same_models(list(questions), models)
    renderers = {name: Renderer(questions[name], method, seed=int((params or {}).get("seed", 0))) for name in same}
    kinds = discover()
    entries = tuple(
        _entry(name, explainer, profile, questions[name], params or {}, renderers[name])
        for profile in PROFILES
        for explainer in explainers_of(method)
        for name in same
        if profile in kinds[explainer].profiles
    )
    given = [entry for entry in entries if entry.maps is not None]
    pairs = tuple(
        _pair(one, other, renderers[one.model])
        for one, other in itertools.combinations(given, 2)
        if one.profile == other.profile
    )
    return Parity(method, models, entries, pairs)


def _same_models(names: Sequence[str], models: Mapping[tuple[str, str], ModelParity]) -> list[str]:
    """The first model and those that are the same function: where models part, maps say nothing about libraries."""
    first, *rest = names
    return [first, *(name for name in rest if models[first, name].equal)]


def _entry(
    model: str, name: str, profile: Profile, question: Question, params: Mapping[str, Any], render: Renderer
) -> Entry:
    own = _explainer(name, profile, params)
    try:
        maps = own(question).values[0]
    except CrossXAIError as error:
        return Entry(name, model, profile, refusal=str(error))
    setting = setting_of(own)
    noise = floor(own, question, maps)
    documented = between(render, setting, setting, maps, noise.tolerance)
    if not documented.explained:
        documented = _deviation(render, setting, maps, noise.tolerance)
    return Entry(name, model, profile, maps, setting, noise, documented)


def _deviation(render: Renderer, setting: Setting, maps: Array, tolerance: float) -> Finding:
    """What a library does other than its documented setting; searched on the sample that is farthest from it."""
    row = int(agreement(render(setting), maps).distance.argmax())
    alone = Renderer(render.question[[row]], render.method, render.layer, render.seed)
    return blind(alone, setting, maps[[row]], tolerance, budget=DEVIATION_BUDGET)


def _explainer(name: str, profile: Profile, params: Mapping[str, Any]) -> Explainer:
    known = {f.name for f in fields(get(name))}  # type: ignore[arg-type]
    return get(name, profile=profile, **{key: value for key, value in params.items() if key in known})


def _pair(one: Entry, other: Entry, render: Renderer) -> Pair:
    assert one.maps is not None
    assert other.maps is not None
    assert one.floor is not None
    assert other.floor is not None
    tolerance = max(one.floor.tolerance, other.floor.tolerance)
    measured = agreement(one.maps, other.maps)
    alike = one.maps.shape == other.maps.shape
    rung = measured.rung(tolerance)
    if alike and RUNGS.index(rung) <= 1:
        return Pair(one, other, measured, rung, None)
    return Pair(one, other, measured, rung, between(render, one.setting, other.setting, other.maps, tolerance))
