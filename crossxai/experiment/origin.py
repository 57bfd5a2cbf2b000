"""The model and samples that maps were made of, and whether another model is the same function of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput
from crossxai.experiment.computing import precision
from crossxai.experiment.loading import about_network, framework_of, weights_digest
from crossxai.experiment.questions import predicted
from crossxai.files import Origin
from crossxai.files.tasks import versions
from crossxai.model import Array, Inputs, Model, equal
from crossxai.question import Question

VARIATION, ROUNDING = 1e-3, 2e-5
"""Outputs of one function in two frameworks differ by at most these shares of how far they vary and of how large they are."""
REDUCED = 2**-5
"""Of the same weights in bfloat16, by this share of how large they are: rounding to 2^-8 on the way, which batches change."""
PACKAGES = ("crossxai", "torch", "tensorflow", "keras", "captum", "grad-cam", "lime", "xplique")


def with_origin(
    attribution: Attribution, question: Question, outputs: Array, notes: tuple[str, ...], recipe: Mapping[str, Any]
) -> Attribution:
    """Maps with all that another program needs to evaluate them, and to make them again; outputs: the model's on all samples;
    notes come before the explainer's own."""
    made = origin_of(question, outputs, recipe)
    explained = tuple(made.by_name[m.name] for m in attribution.modalities)
    notes = (*notes, *attribution.notes)
    return replace(attribution, notes=notes, inputs=explained, target=question.target, origin=made)


def origin_of(question: Question, outputs: Array, recipe: Mapping[str, Any]) -> Origin:
    """The model and the samples of a question, and its outputs on them."""
    model = question.model
    constants = {name: [list(map(float, values)) for values in pair] for name, pair in _standardise(model).items()}
    return Origin(
        model=model.name,
        framework=framework_of(model),
        weights=weights_digest(model),
        outputs=outputs,
        modalities=model.modalities,
        inputs=question.inputs,
        preprocessing={**about_network(model), "standardise": constants, **precision(model)},
        versions=versions(PACKAGES),
        recipe=recipe,
    )


def stored_inputs(maps: Mapping[str, Attribution]) -> dict[str, Array]:
    """The samples that came with maps, by modality; raises `InvalidInput` where there are none, or several kinds."""
    known: list[dict[str, Array]] = [
        a.origin.by_name for a in maps.values() if a.origin is not None and a.origin.inputs
    ]
    if not known:
        raise InvalidInput("these maps came without the samples that they explain: hand the inputs over, too")
    if any(not equal(other, known[0]) for other in known[1:]):
        raise InvalidInput("these maps explain different samples: evaluate those of the same samples together")
    return known[0]


def check_match(model: Model, inputs: Inputs, maps: Mapping[str, Attribution]) -> tuple[str, ...]:
    """Raise `InvalidInput`, with both numbers, unless the model gives the outputs that were written down with the maps; returns
    a sentence for each other model that was found to be the same function."""
    known = {label: a for label, a in maps.items() if a.origin is not None}
    if not known:
        return ()
    digest, outputs = weights_digest(model), predicted(model, inputs, declared_batch_size(model))
    sentences = []
    for label, attribution in known.items():
        origin: Origin = attribution.origin
        same = bool(digest) and digest == origin.weights
        gap = _require_equal(label, attribution.ids, origin, model, inputs, outputs, same)
        if not same:
            sentences.append(
                f"model {model.name!r} gives the outputs of {origin.model!r} ({origin.framework}), which was explained: "
                f"largest difference {gap:.1e}"
            )
    return tuple(dict.fromkeys(sentences))


def _require_equal(
    label: str, ids: tuple[str, ...], origin: Origin, model: Model, inputs: Inputs, outputs: Array, same: bool
) -> float:
    """The largest difference of outputs; raises `InvalidInput` where it is no rounding. same: whether the weights are."""
    made = f"{label} was made on model {origin.model!r} ({origin.framework})"
    if outputs.shape != origin.outputs.shape:
        raise InvalidInput(
            f"{made}, whose outputs have shape {origin.outputs.shape}; those of model {model.name!r} on these inputs have "
            f"{outputs.shape}"
        )
    stored = origin.outputs.astype(np.float64)
    centre = stored.mean(axis=0) if len(stored) > 1 else stored.mean()  # one sample varies over its outputs alone
    spread, size = np.abs(stored - centre).max(), np.abs(stored).max()
    then, now = origin.preprocessing.get("precision"), precision(model).get("precision")
    limit = VARIATION * spread + (REDUCED if same and then and then == now else ROUNDING) * size
    gaps = np.abs(outputs - stored)
    if (gaps <= limit).all():
        return float(gaps.max())
    row, *place = np.unravel_index(int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps))), gaps.shape)
    where = (row, *place)
    others = bool(origin.inputs) and not equal(tuple(inputs), tuple(origin.inputs))
    reason = "these inputs are not those that were explained" if others else f"model {model.name!r} is another function"
    if then != now and not others:
        reason = f"that computed in {then or 'float32'}, while model {model.name!r} computes in {now or 'float32'}"
    raise InvalidInput(
        f"{made}, and {reason}: of sample {ids[row]!r}, output {', '.join(map(str, place))} is {outputs[where]:.6g} and was "
        f"{stored[where]:.6g}, further apart than rounding explains ({limit:.1e}); "
        "other_model=True measures it anyway"
    )


def declared_batch_size(model: Model) -> int | None:
    """What `wrap` was told, None if nothing."""
    return getattr(getattr(model, "recognised", None), "batch_size", None)


def _standardise(model: Model) -> Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    return getattr(model, "standardise", None) or {}
