"""What each library answers on a model, and what maps are that somebody else made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np

from crossxai.attribution import Attribution, Explainer, Profile
from crossxai.conventions.agreement import ROUNDING, distance, distances
from crossxai.conventions.convention import CANONICAL, CONVENTIONS, Setting
from crossxai.conventions.floor import SUSPECT, Floor, floor
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import Entry
from crossxai.conventions.search import MOST, Finding, between, blind
from crossxai.errors import CrossXAIError, InvalidInput, UnknownName, Unsupported
from crossxai.evaluation.curves import Deletion
from crossxai.explainers import get
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
        What they are said to be: an explainer's name ("captum.saliency") for its native conventions, with "@canonical" after it
        for those of its canonical profile; or a setting. The canonical one by default.
    """

    values: Array
    said: str | Setting = ""

    def __repr__(self) -> str:
        return f"Outside(maps {np.shape(self.values)}, said to be {self.said or 'canonical'})"


def entry_of(
    model: str,
    name: str,
    profile: Profile,
    question: Question,
    params: Mapping[str, Any],
    render: Renderer,
    like: Floor | None,
) -> Entry:
    """A library's answer, held against what is documented of it; like: the floor of the same explainer on an equal model."""
    own = explainer_of(name, profile, params)
    try:
        attribution = own(question)
    except CrossXAIError as error:
        return Entry(name, model, profile, refusal=str(error))
    (maps,) = attribution.values
    setting, noise = render.named(setting_of(own)), floor(own, question, maps, like)
    tolerance = noise.tolerance_for(distance(render(setting), maps))
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
    row = int(distances(render(setting), maps).argmax())
    alone = render.of(render.question[[row]])

    def holds(some: Setting) -> bool:
        return all_close(render(some), maps, tolerance)

    return blind(alone, setting, maps[[row]], tolerance, budget=DEVIATION_BUDGET, holds=holds)


def entry_of_outside(
    model: str, name: str, outside: Outside, method: str, params: Mapping[str, Any], render: Renderer
) -> Entry:
    """Maps from outside: which conventions make them."""
    (own,) = render.question.values
    values = _laid_out(name, np.asarray(outside.values), own)
    setting = render.named(_said(outside.said, method, params))
    try:
        said_maps = render(setting)
    except Unsupported as error:
        return Entry(
            name, model, "native", refusal=f"what it is said to be cannot be computed here: {error}", outside=True
        )
    apart = distances(said_maps, values)

    def draw(question: Question, step: int) -> Array:
        moved = {"seed": int(setting["seed"]) + step} if "seed" in setting else {}
        return render.of(question)({**setting, **moved})

    noise = Floor(render.question, said_maps, draw, "draws" in setting)
    drawn = Attribution((values,), render.question.modalities, render.question.ids, name)
    areas = _deletion(render.question, drawn) if values.shape[1:-1] == own.shape[1:-1] else None
    tolerance = noise.tolerance_for(apart.max()) if apart.max() <= SUSPECT else ROUNDING
    row = int(apart.argmax())
    # unchecked, as the model is the same: every layer's gradient would be measured anew
    alone, shown = render.of(replace(render.question[[row]], check="off")), values[[row]]
    most = 1 if tolerance < apart.max() <= noise.seeds else MOST  # as far as another seed of another generator may be
    searched = "layer" in setting and apart.max() > tolerance and shown.any()  # an empty map is one of any layer
    layers = alone.layers(setting, shown.shape[1:3]) if searched else ()

    def holds(some: Setting) -> bool:
        return all_close(render(some), values, tolerance)

    finding = blind(alone, setting, shown, tolerance, most, holds=holds, layers=layers)
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
        name, _, profile = said.partition("@")
        if get(name).name not in explainers_of(method):
            raise InvalidInput(
                f"{name} is no {method}: write one of {', '.join(explainers_of(method))}, or conventions"
            )
        return setting_of(explainer_of(name, cast(Profile, profile or "native"), params))
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
            least = {"steps": 2, "samples": 1, "patch": 1, "stride": 1, "grid": 1, "seed": 0}.get(name, -np.inf)
            fits = int if isinstance(usual, int) else int | float
            if isinstance(option, bool) or not isinstance(option, fits) or not option >= least:
                kind = "whole number" if fits is int else "number"
                raise InvalidInput(
                    f"{name} must be a {kind}{f' of at least {least}' if least >= 0 else ''}, got {option!r}"
                )
    known = {key: value for key, value in params.items() if key in CANONICAL[method]}
    return {**CANONICAL[method], **known, **options}


def all_close(maps: Array, values: Array, tolerance: float) -> bool:
    """Whether maps of one shape are equal in every sample."""
    return maps.shape == values.shape and distance(maps, values) <= tolerance


def explainer_of(name: str, profile: Profile, params: Mapping[str, Any]) -> Explainer:
    """An explainer with the parameters that it has; a canonical one with the numbers of the definition."""
    known = {f.name for f in fields(get(name))}  # type: ignore[arg-type]
    definition = CANONICAL[USAGES[name].method] if profile == "canonical" else {}
    chosen = {**{key: value for key, value in definition.items() if not isinstance(value, str)}, **params}
    return get(name, profile=profile, **{key: value for key, value in chosen.items() if key in known})
