"""Parity: one method in every library and framework that has it, and what each difference comes from."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from crossxai.attribution import Profile
from crossxai.conventions.agreement import ROUNDING, RUNGS, agreement, distance
from crossxai.conventions.answers import Outside, entry_of, entry_of_outside, explainer_of
from crossxai.conventions.axiom_checks import with_checks
from crossxai.conventions.convention import CANONICAL, Setting
from crossxai.conventions.floor import SUSPECT, Floor
from crossxai.conventions.libraries import explainers_of
from crossxai.conventions.models import ModelParity, common_layers, compare_models
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import PROFILES, Entry, Pair, Parity
from crossxai.conventions.retraining import Retrained
from crossxai.conventions.sanity import Sanity, sanity_of
from crossxai.conventions.search import Finding, between, switched
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.explainers import discover, get
from crossxai.model import Array
from crossxai.question import Question


def parity(
    questions: Mapping[str, Question],
    method: str,
    params: Mapping[str, Any] | None = None,
    maps: Mapping[str, Outside] | None = None,
    sanity: bool = False,
    axioms: bool = False,
    retrained: Callable[[str], Retrained] | None = None,
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
    axioms : bool
        Whether to measure those axioms, too, that cost explanations, on two samples of the first model; without it completeness
        and, of several models, implementation invariance.
    retrained : function, optional
        Gives a model's copies that were trained on labels and on shuffled ones, by its name (`crossxai.conventions.retraining`);
        with them `sanity` says what maps have to do with labels, too.

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
        raise UnknownName("method with known conventions", str(method), list(CANONICAL))
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
    first = same[0]
    layer = str(given.get("layer", ""))
    renderers = {
        name: Renderer(questions[name], method, layers.get(name, layer), layers.get(first, "")) for name in same
    }
    kinds = discover()
    wrong = _refusing(method, given)
    entries: tuple[Entry, ...] = ()
    for explainer in explainers_of(method):
        like: Floor | None = None
        for profile, name in itertools.product(PROFILES, same):
            like = like if name != first else None
            if profile not in kinds[explainer].profiles:
                continue
            if (explainer, profile) in wrong:
                entries += (Entry(explainer, name, profile, refusal=wrong[explainer, profile]),)
                continue
            if layers and name not in layers:
                entries += (Entry(explainer, name, profile, refusal=_no_common_layer(name, layers)),)
                continue
            own = {**given, "layer": layers[name]} if layers else given
            entries += (entry_of(name, explainer, profile, questions[name], own, renderers[name], like),)
            like = like or entries[-1].floor
    entries = tuple(sorted(entries, key=lambda entry: PROFILES.index(entry.profile)))
    entries += tuple(
        entry_of_outside(first, name, outside, method, given, renderers[first])
        for name, outside in (maps or {}).items()
    )
    again = ({**given, "layer": layers[first]} if layers else given) if axioms else None
    entries = with_checks(entries, renderers[first], first, again)
    answered = [entry for entry in entries if entry.maps is not None]
    pairs: list[Pair] = []
    causes: dict[tuple[str, str, Profile], Finding] = {}
    for one, other in itertools.combinations(answered, 2):
        if one.profile == other.profile:
            key = (one.explainer, other.explainer, one.profile)
            # the layers of maps from outside are the first model's
            render = renderers[other.model if other.outside else one.model]
            pairs.append(_pair(one, other, render, causes.get(key)))
            finding = pairs[-1].finding
            if finding is not None and finding.explained:
                causes.setdefault(key, finding)
    checks: dict[str, Sanity] = {}
    if sanity:  # of the definition, on which the libraries agree: the referee where there is one
        stands_for_all = [n for n in explainers_of(method) if "canonical" in kinds[n].profiles][-1]
        for name in same:
            own = {**given, "layer": layers[name]} if name in layers else given
            checks[name] = sanity_of(
                explainer_of(stands_for_all, "canonical", own), questions[name], retrained and retrained(name)
            )
    return Parity(method, models, entries, tuple(pairs), layers, checks)


def _refusing(method: str, params: Mapping[str, Any]) -> dict[tuple[str, Profile], str]:
    """The libraries that do not take these parameters, with the reason; raises `InvalidInput` where none does."""
    kinds, wrong, errors = discover(), dict[tuple[str, Profile], str](), []
    every = [(name, profile) for name in explainers_of(method) for profile in kinds[name].profiles]
    for name, profile in every:
        try:
            explainer_of(name, profile, params)
        except InvalidInput as error:
            wrong[name, profile] = str(error)
            errors.append(error)
    if len(wrong) == len(every):
        raise errors[0]
    return wrong


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
        left = distance(render(switched(one.found, known.closing[0])), other.maps)
        if left <= _tolerance(one, other, left):
            return Pair(one, other, measured, rung, replace(known, left=left), row)
    finding = between(render, one.found, other.found, other.maps, tolerance)
    if not finding.explained:
        left = distance(render(other.found), other.maps)
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
