"""Parity: one method in every library and framework that has it, and what each difference comes from."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from crossxai.attribution import Attribution, Explainer, Profile
from crossxai.conventions.agreement import ROUNDING, RUNGS, agreement, distance
from crossxai.conventions.convention import CANONICAL, CONVENTIONS, Setting
from crossxai.conventions.floor import SUSPECT, Floor, floor
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.conventions.models import ModelParity, common_layers, compare_models
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import PROFILES, Entry, Pair, Parity
from crossxai.conventions.sanity import Sanity, sanity_of
from crossxai.conventions.search import Finding, between, blind, switched
from crossxai.errors import CrossXAIError, InvalidInput, UnknownName, Unsupported
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
    sanity: bool = False,
) -> Parity:
    """One method over all libraries that have it, on one or more models.

    Parameters
    ----------
    questions : mapping of str to Question
        By the model's name; the same samples and targets, one free modality each.
    method : str
        A key of `CANONICAL`, such as "integrated_gradients".
    params : mapping, optional
        Parameters given to every explainer that has them, such as {"steps": 20}.
    maps : mapping, optional
        Maps from outside by a name, of the first model; they are compared with the libraries' own defaults.
    sanity : bool
        Whether to draw each model's weights anew as well, and see what the maps have to do with them.

    Returns
    -------
    Parity

    Raises
    ------
    UnknownName
        For a method that is not among those whose conventions are known, or a parameter that no library has.
    InvalidInput
        Where several modalities are free.
    Unsupported
        Where the method's conventions are known on images alone and the modality is none.
    """
    if method not in CANONICAL:
        raise UnknownName("method with known conventions", method, list(CANONICAL))
    if not questions:
        raise InvalidInput("parity needs at least one model")
    if taken := set(maps or {}) & set(discover()):
        raise InvalidInput(
            f"maps from outside are called {', '.join(sorted(taken))} like explainers: write names of their own"
        )
    free = next(iter(questions.values())).free
    if len(free) > 1:
        raise InvalidInput(
            f"parity compares the maps of one input, {' and '.join(free)} are free: name one as modality"
        )
    if "channels" not in CANONICAL[method] and next(iter(questions.values())).values[0].ndim != 4:
        raise Unsupported(f"parity knows the conventions of {method} on images alone; {free[0]} is none")
    named = {f.name for name in explainers_of(method) for f in fields(get(name))} - {"profile"}  # type: ignore[arg-type]
    for name in params or {}:
        if name not in named:
            raise UnknownName(f"parameter of {method}", name, sorted(named))
    models = {(a, b): compare_models(questions[a], questions[b]) for a, b in itertools.combinations(questions, 2)}
    same = _same_models(list(questions), models)
    given = dict(params or {})
    layers: dict[str, str] = {}
    if "resize" in CANONICAL[method] and "layer" not in given:
        layers = common_layers({name: questions[name] for name in same})
    renderers = {
        name: Renderer(
            questions[name], method, layers.get(name, str(given.get("layer", ""))), int(given.get("seed", 0))
        )
        for name in same
    }
    kinds = discover()
    entries: tuple[Entry, ...] = ()
    for explainer in explainers_of(method):
        like: Floor | None = None
        for profile, name in itertools.product(PROFILES, same):
            like = like if name != same[0] else None
            if profile not in kinds[explainer].profiles:
                continue
            if layers and name not in layers:
                entries += (Entry(explainer, name, profile, refusal=_no_common_layer(name, layers)),)
                continue
            own = {**given, "layer": layers[name]} if layers else given
            entries += (_entry(name, explainer, profile, questions[name], own, renderers[name], like),)
            like = like or entries[-1].floor
    entries = tuple(sorted(entries, key=lambda entry: PROFILES.index(entry.profile)))
    first = next(iter(same))
    entries += tuple(
        _outside(first, name, outside, method, given, renderers[first]) for name, outside in (maps or {}).items()
    )
    answered = [entry for entry in entries if entry.maps is not None]
    pairs: list[Pair] = []
    causes: dict[tuple[str, str, Profile], Finding] = {}
    for one, other in itertools.combinations(answered, 2):
        if one.profile == other.profile:
            key = (one.explainer, other.explainer, one.profile)
            pairs.append(_pair(one, other, renderers[one.model], causes.get(key)))
            finding = pairs[-1].finding
            if finding is not None and finding.explained:
                causes.setdefault(key, finding)
    checks: dict[str, Sanity] = {}
    if sanity:  # of the definition, on which the libraries agree: the referee where there is one
        stands_for_all = [n for n in explainers_of(method) if "canonical" in kinds[n].profiles][-1]
        for name in same:
            own = {**given, "layer": layers[name]} if name in layers else given
            checks[name] = sanity_of(_explainer(stands_for_all, "canonical", own), questions[name])
    return Parity(method, models, entries, tuple(pairs), layers, checks)


def _no_common_layer(name: str, layers: Mapping[str, str]) -> str:
    (first, layer), *_ = layers.items()
    return (
        f"no layer of {name} gives the activation of layer {layer!r} of {first}, nor of one before it: maps of other layers "
        "would differ by the layer, not by the library"
    )


def _same_models(names: Sequence[str], models: Mapping[tuple[str, str], ModelParity]) -> list[str]:
    """The first model and those that are the same function: where models part, maps say nothing about libraries."""
    first, *rest = names
    return [first, *(name for name in rest if models[first, name].equal)]


def _entry(
    model: str,
    name: str,
    profile: Profile,
    question: Question,
    params: Mapping[str, Any],
    render: Renderer,
    like: Floor | None,
) -> Entry:
    own = _explainer(name, profile, params)
    try:
        attribution = own(question)
    except CrossXAIError as error:
        return Entry(name, model, profile, refusal=str(error))
    (maps,) = attribution.values
    setting, noise = setting_of(own), floor(own, question, maps, like)
    tolerance = noise.tolerance_for(agreement(render(setting), maps).distance.max())
    documented = between(render, setting, setting, maps, tolerance)
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
    (own,) = render.question.values
    values = _laid_out(name, np.asarray(outside.values), own)
    setting = _said(outside.said, method, params)
    try:
        said_maps = render(setting)
    except Unsupported as error:
        return Entry(
            name, model, "native", refusal=f"what it is said to be cannot be computed here: {error}", outside=True
        )
    apart = agreement(said_maps, values).distance

    def draw(question: Question, step: int) -> Array:
        return Renderer(question, method, render.layer, render.seed + step)(setting)

    noise = Floor(render.question, said_maps, draw, "draws" in setting)
    drawn = Attribution((values,), render.question.modalities, render.question.ids, name)
    areas = _deletion(render.question, drawn) if values.shape[1:-1] == own.shape[1:-1] else None
    if ROUNDING < apart.max() <= noise.seeds:  # another seed: nothing to look for
        finding = Finding((), float(apart.max()), float(apart.max()), {}, 1)
        return Entry(name, model, "native", values, setting, noise, finding, outside=True, deletion=areas)
    row = int(apart.argmax())
    alone = Renderer(render.question[[row]], render.method, render.layer, render.seed)
    finding = blind(alone, setting, values[[row]], ROUNDING, holds=lambda some: _all_close(render(some), values))
    return Entry(name, model, "native", values, setting, noise, finding, outside=True, deletion=areas)


def _laid_out(name: str, values: Array, own: Array) -> Array:
    """Maps from outside as ours lie: (n, y, x, channels or 1), on a grid as fine as the input's or coarser, or (n, features)."""
    if own.ndim == 4 and values.ndim == 3:
        values = values[..., None]
    fits = values.ndim == own.ndim and len(values) == len(own) and values.dtype.kind in "fiu"
    if fits and own.ndim == 4:
        fits = values.shape[-1] in (1, own.shape[-1]) and all(
            a <= b for a, b in zip(values.shape, own.shape, strict=True)
        )
    elif fits:
        fits = values.shape == own.shape
    if not fits or not np.isfinite(values).all():
        wanted = f"({len(own)}, y, x, {own.shape[-1]} or 1), channels last" if own.ndim == 4 else str(own.shape)
        raise InvalidInput(
            f"maps {name!r} are {values.dtype} of shape {values.shape}: write finite numbers of shape {wanted}"
        )
    return values.astype(own.dtype)


def _said(said: str | Setting, method: str, params: Mapping[str, Any]) -> Setting:
    """The setting that a map from outside is said to have."""
    if isinstance(said, str) and said:
        if get(said).name not in explainers_of(method):
            raise InvalidInput(
                f"{said} is no {method}: write one of {', '.join(explainers_of(method))}, or conventions"
            )
        return setting_of(_explainer(said, "native", params))
    if not isinstance(said, str | Mapping):
        raise InvalidInput(f"what maps are said to be is an explainer's name or a mapping of conventions, got {said!r}")
    options = said if isinstance(said, Mapping) else {}
    for name, option in options.items():
        if name not in CANONICAL[method]:
            raise UnknownName(f"convention of {method}", name, list(CANONICAL[method]))
        if name in CONVENTIONS and CONVENTIONS[name].options and option not in CONVENTIONS[name].options:
            raise UnknownName(f"option of {name}", str(option), [str(o) for o in CONVENTIONS[name].options])
        usual = CANONICAL[method][name]
        if not isinstance(usual, str):
            least = {"steps": 2, "samples": 1, "patch": 1, "stride": 1, "grid": 1}.get(name, -np.inf)
            if isinstance(option, bool) or not isinstance(option, int | float) or not option >= least:
                raise InvalidInput(
                    f"{name} must be a number{f' of at least {least}' if least > 0 else ''}, got {option!r}"
                )
    known = {key: value for key, value in params.items() if key in CANONICAL[method]}
    return {**CANONICAL[method], **known, **options}


def _all_close(maps: Array, values: Array) -> bool:
    return maps.shape == values.shape and distance(maps, values) <= ROUNDING


def _explainer(name: str, profile: Profile, params: Mapping[str, Any]) -> Explainer:
    """An explainer with the parameters that it has; a canonical one with the numbers of the definition."""
    known = {f.name for f in fields(get(name))}  # type: ignore[arg-type]
    definition = CANONICAL[USAGES[name].method] if profile == "canonical" else {}
    chosen = {**{key: value for key, value in definition.items() if not isinstance(value, str)}, **params}
    return get(name, profile=profile, **{key: value for key, value in chosen.items() if key in known})


def _pair(one: Entry, other: Entry, render: Renderer, known: Finding | None) -> Pair:
    """Two answers compared; known: what explains the difference of the same libraries on another model, tried first."""
    assert one.maps is not None
    assert other.maps is not None
    measured = agreement(one.maps, other.maps)
    tolerance = _tolerance(one, other, measured.distance.max())
    rung = measured.rung(tolerance)
    if one.maps.shape == other.maps.shape and RUNGS.index(rung) <= 1:
        return Pair(one, other, measured, rung, None)
    row = int(measured.distance.argmax())
    if known is not None:
        left = agreement(render(switched(one.found, known.closing[0])), other.maps).distance.max()
        if left <= _tolerance(one, other, left):
            return Pair(one, other, measured, rung, replace(known, left=float(left)), row)
    finding = between(render, one.found, other.found, other.maps, tolerance)
    if not finding.explained:
        left = agreement(render(other.found), other.maps).distance.max()
        finding = between(render, one.found, other.found, other.maps, _tolerance(one, other, left))
    steps = _steps(render, one.found, finding, row)
    return Pair(one, other, measured, rung, finding, row, render.question.values[0][row], steps)


def _steps(render: Renderer, start: Setting, finding: Finding, row: int) -> tuple[tuple[str, Array], ...]:
    """A sample's map as one convention after the other is switched, the largest share first; those that can be rendered."""
    some = sorted(finding.closing[0], key=lambda s: -finding.shares.get(str(s), 1.0)) if finding.closing else []
    steps: list[tuple[str, Array]] = []
    for place, switch in enumerate(some):
        with contextlib.suppress(Unsupported):
            steps.append((str(switch), render(switched(start, some[: place + 1]))[row]))
    return tuple(steps)


def _tolerance(one: Entry, other: Entry, gap: float) -> float:
    """The distance up to which both count as equal: both floors are measured only for a gap that rounding may make."""
    if gap > SUSPECT:
        return ROUNDING
    assert one.floor is not None
    assert other.floor is not None
    known = one.floor.tolerance_for(gap)
    return known if gap <= known else max(known, other.floor.tolerance_for(gap))
