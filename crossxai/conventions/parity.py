"""Parity: one method in every library and framework that has it, and what each difference comes from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from crossxai.attribution import Attribution, Explainer, Profile
from crossxai.conventions.agreement import ROUNDING, RUNGS, agreement, distance
from crossxai.conventions.convention import CANONICAL, Setting
from crossxai.conventions.floor import SEEDS, Floor, floor
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.conventions.models import ModelParity, compare_models
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import PROFILES, Entry, Pair, Parity
from crossxai.conventions.search import Finding, between, blind, switched
from crossxai.errors import CrossXAIError, InvalidInput, UnknownName
from crossxai.evaluation.curves import Deletion
from crossxai.explainers import discover, get
from crossxai.model import Array
from crossxai.outputs import kind
from crossxai.question import Question
from crossxai.target import Link, Target

DEVIATION_BUDGET = 60
"""How many settings are asked of the model when a library does not do what is documented of it."""
DELETION_STEPS = 8


@dataclass(frozen=True)
class Outside:
    """Maps that somebody else made.

    Parameters
    ----------
    values : array (n, y, x, channels or 1)
        One map per sample, in their order.
    said : str or mapping
        What they are said to be: an explainer's name ("captum.saliency") for its native conventions, or a setting; the canonical
        one by default.
    """

    values: Array
    said: str | Setting = ""


def parity(
    questions: Mapping[str, Question],
    method: str,
    params: Mapping[str, Any] | None = None,
    maps: Mapping[str, Outside] | None = None,
) -> Parity:
    """One method over all libraries that have it, on one or more models.

    Parameters
    ----------
    questions : mapping of str to Question
        By the model's name; the same samples and targets, one free image each.
    method : str
        A key of `CANONICAL`, such as "integrated_gradients".
    params : mapping, optional
        Parameters given to every explainer that has them, such as {"steps": 20}.
    maps : mapping, optional
        Maps from outside by a name, of the first model; they are compared with the libraries' own defaults.

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
    first = next(iter(same))
    entries += tuple(
        _outside(first, name, outside, method, params or {}, renderers[first]) for name, outside in (maps or {}).items()
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
        attribution = own(question)
    except CrossXAIError as error:
        return Entry(name, model, profile, refusal=str(error))
    (maps,) = attribution.values
    setting = setting_of(own)
    noise = floor(own, question, maps)
    documented = between(render, setting, setting, maps, noise.tolerance)
    if not documented.explained:
        documented = _deviation(render, setting, maps, noise.tolerance)
    return Entry(name, model, profile, maps, setting, noise, documented, deletion=_deletion(question, attribution))


def _deletion(question: Question, attribution: Attribution) -> Array:
    """The area under each sample's deletion curve, of the probability of the class where outputs are logits of classes."""
    target = question.target
    if isinstance(target, Target) and target.link == "identity" and len(target.out) == 1 and target.out[0] > 1:
        link: Link = "softmax" if kind(question.model, question.inputs).kind == "logits" else "identity"
        question = replace(question, target=replace(target, link=link))
    return Deletion(steps=DELETION_STEPS)(question, attribution).value


def _deviation(render: Renderer, setting: Setting, maps: Array, tolerance: float) -> Finding:
    """What a library does other than its documented setting; searched on the sample that is farthest from it."""
    row = int(agreement(render(setting), maps).distance.argmax())
    alone = Renderer(render.question[[row]], render.method, render.layer, render.seed)
    return blind(alone, setting, maps[[row]], tolerance, budget=DEVIATION_BUDGET)


def _outside(
    model: str, name: str, outside: Outside, method: str, params: Mapping[str, Any], render: Renderer
) -> Entry:
    """Maps from outside: which conventions make them."""
    values = np.asarray(outside.values)
    (own,) = render.question.values
    if values.ndim != 4 or values.shape[:1] != own.shape[:1] or not np.isfinite(values).all():
        raise InvalidInput(
            f"maps {name!r} have shape {values.shape}: "
            f"write finite values of shape (n, y, x, channels or 1) for {len(own)} samples"
        )
    said = outside.said
    if isinstance(said, str) and said:
        setting = setting_of(_explainer(said, "native", params))
    else:
        known = {key: value for key, value in params.items() if key in CANONICAL[method]}
        setting = {**CANONICAL[method], **known, **(said if isinstance(said, Mapping) else {})}
    apart = agreement(render(setting), values).distance
    noise = Floor(_seed_floor(render, setting), 0, 0)
    if ROUNDING < apart.max() <= noise.seeds:  # another seed: nothing to look for
        finding = Finding((), float(apart.max()), float(apart.max()), {}, 1)
        return Entry(name, model, "native", values, setting, noise, finding, outside=True)
    row = int(apart.argmax())
    alone = Renderer(render.question[[row]], render.method, render.layer, render.seed)
    finding = blind(alone, setting, values[[row]], ROUNDING)
    closing = tuple(some for some in finding.closing if _all_close(render(switched(setting, some)), values))
    drawn = Attribution((values,), render.question.modalities, render.question.ids, name)
    areas = _deletion(render.question, drawn)
    finding = replace(finding, closing=closing)
    return Entry(name, model, "native", values, setting, noise, finding, outside=True, deletion=areas)


def _seed_floor(render: Renderer, setting: Setting) -> float:
    """How far two seeds are apart in a setting, the largest of all pairs; 0 for a method that draws nothing."""
    if "draws" not in setting:
        return 0.0
    drawn = [Renderer(render.question, render.method, render.layer, 1000 + seed)(setting) for seed in range(SEEDS)]
    return max(distance(a, b) for a, b in itertools.combinations(drawn, 2))


def _all_close(maps: Array, values: Array) -> bool:
    return maps.shape == values.shape and distance(maps, values) <= ROUNDING


def _explainer(name: str, profile: Profile, params: Mapping[str, Any]) -> Explainer:
    """An explainer with the parameters that it has; a canonical one with the numbers of the definition."""
    known = {f.name for f in fields(get(name))}  # type: ignore[arg-type]
    definition = CANONICAL[USAGES[name].method] if profile == "canonical" else {}
    chosen = {**{key: value for key, value in definition.items() if not isinstance(value, str)}, **params}
    return get(name, profile=profile, **{key: value for key, value in chosen.items() if key in known})


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
    finding = between(render, one.found, other.found, other.maps, tolerance)
    row = int(measured.distance.argmax())
    some = sorted(finding.closing[0], key=lambda s: -finding.shares.get(str(s), 1.0)) if finding.closing else []
    steps = tuple(
        (str(switch), render(switched(one.found, some[: place + 1]))[row]) for place, switch in enumerate(some)
    )
    return Pair(one, other, measured, rung, finding, row, render.question.values[0][row], steps)
