"""What the page shows of samples: the input, what each model said, and every explainer's map of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossxai.files import Result
from crossxai.model import Array, Modality, value_range
from crossxai.report import words
from crossxai.report.plots import planes, style
from crossxai.report.plots.planes import Cut
from crossxai.report.run import RunRecord, is_control, ok

BUDGET = 6_500_000  # characters of embedded pictures; with the rest, the page stays below 10 MB
BARS = 8


@dataclass(frozen=True)
class Bar:
    """One feature of a table: its width and start as shares of the row, 0.5 being zero for signed maps."""

    name: str
    value: str
    start: float
    width: float
    negative: bool


@dataclass(frozen=True)
class Drawing:
    """One map of one model: a picture, of a volume its slices one below the other, or bars, or the words that stand in for them;
    of volumes also strips with the two other planes and with maximum projections."""

    model: str
    alt: str
    image: str = ""
    bars: tuple[Bar, ...] = ()
    instead: str = ""
    others: str = ""
    maxima: str = ""


@dataclass(frozen=True)
class Stack:
    """A volume among a sample's inputs: how it is cut, and strips of its other planes and maximum projections, whose width over
    height are given for CSS."""

    cut: Cut
    others: str
    maxima: str
    widths: tuple[str, str]


@dataclass(frozen=True)
class Tile:
    """One explainer on one sample: a drawing per model on one colour scale, whose limits `scale` states, and a volume's slice."""

    label: str
    library: str
    control: bool
    modality: str
    scale: str
    signed: bool
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class Sample:
    """One sample: pictures of its inputs by modality, outlines of its masks by name, predictions in words. stacks: of volumes,
    by modality, whose pictures are all slices one below the other; stacked: the outlines that are so, too."""

    number: int
    id: str
    label: str
    inputs: dict[str, str]
    features: tuple[tuple[str, str], ...]
    outlines: dict[str, str]
    predictions: tuple[dict[str, Any], ...]
    tiles: tuple[Tile, ...]
    aspect: str = "1 / 1"
    stacks: Mapping[str, Stack] = field(default_factory=dict)
    stacked: frozenset[str] = frozenset()
    size: int = field(default=0, compare=False)


def samples(run: RunRecord) -> list[Sample]:
    """As many samples as fit in the page, in their order."""
    signs = {key: style.is_signed(values) for key, values in _all_values(run).items()}
    shown: list[Sample] = []
    for i in range(run.n):
        sample = _sample(run, i, signs)
        if shown and sum(s.size for s in shown) + sample.size > BUDGET:
            break
        shown.append(sample)
    return shown


def centre(run: RunRecord) -> tuple[float, float, float, float] | None:
    """(left, top, width, height) of the centre square in percent of the image; None if no metric uses one."""
    for explanation in run.explanations:
        for name, scores in explanation.scores.items():
            size = scores.params.get("size")
            image = next((m for m in run.samples.modalities if len(m.axes) == 3), None)
            if name.startswith("centre") and isinstance(size, int) and image is not None:
                height, width = run.samples.inputs[image.name].shape[1:3]
                # The metric's own rounding: with unlike parities the square lies half a pixel up and left.
                left, top = (width - size) // 2 / width, (height - size) // 2 / height
                return 100 * left, 100 * top, 100 * size / width, 100 * size / height
    return None


def _all_values(run: RunRecord) -> dict[tuple[str, str], Array]:
    """(label, modality) → maps of all models with channels summed, one after the other."""
    parts: dict[tuple[str, str], list[Array]] = {}
    for explanation in filter(ok, run.explanations):
        for modality in run.samples.modalities:
            if modality.name in explanation.maps:
                parts.setdefault((explanation.label, modality.name), []).append(_map(explanation, modality).ravel())
    return {key: np.concatenate(values) for key, values in parts.items()}


def _map(explanation: Result, modality: Modality) -> Array:
    values = explanation.maps[modality.name].astype(np.float64)
    return np.asarray(values.sum(axis=-1)) if modality.spatial else values


def _sample(run: RunRecord, i: int, signs: dict[tuple[str, str], bool]) -> Sample:
    data = run.samples
    cuts = {m.name: _cut(run, m, i) for m in data.modalities if len(m.axes) == 4}
    inputs = {m.name: _input(data.inputs[m.name][i], m, cuts.get(m.name)) for m in data.modalities if m.spatial}
    features = tuple(
        (feature, words.brief(float(value)))
        for m in data.modalities
        if not m.spatial
        for feature, value in zip(m.features, data.inputs[m.name][i], strict=True)
    )
    outlines, stacked = dict[str, str](), set[str]()
    for name, mask in data.masks.items():
        if mask[i].any() and inputs:
            cut = next((c for c in cuts.values() if c.shape == mask[i].shape), None)
            outlines[name] = style.outline(mask[i]) if cut is None else planes.edge_uri(mask[i], cut)
            stacked |= {name} if cut is not None else set()
    tiles = [
        tile
        for label in run.labels
        for modality in data.modalities
        if (tile := _tile(run, label, modality, i, signs.get((label, modality.name), False), cuts)) is not None
    ]
    shape = next((style.plane(data.inputs[m.name][i][..., 0]).shape for m in data.modalities if m.spatial), (1, 1))
    characters = sum(len(text) for text in (*inputs.values(), *outlines.values()))
    characters += sum(len(d.image) + len(d.others) + len(d.maxima) for t in tiles for d in t.drawings)
    stacks = {name: _stack(data.inputs[name][i], m, cuts[name]) for m in data.modalities if (name := m.name) in cuts}
    aspect = next((cut.aspect for cut in cuts.values()), f"{shape[1]} / {shape[0]}")
    predictions = tuple(_prediction(run, model, i) for model in run.models if model in run.predictions)
    about = (i, data.ids[i], _label(run, i), inputs, features, outlines, predictions, tuple(tiles))
    return Sample(*about, aspect=aspect, stacks=stacks, stacked=frozenset(stacked), size=characters)


def _cut(run: RunRecord, modality: Modality, i: int) -> Cut:
    """How sample i's volume is cut: by its mask where it has one."""
    data = run.samples
    shape = data.inputs[modality.name].shape[1:4]
    mask = next((m[i] for m in data.masks.values() if m.shape[1:] == shape and m[i].any()), None)
    known = data.spaces.get(modality.name)
    return planes.cut_of(modality, shape, None if known is None else known[i], mask)


def _input(values: Array, modality: Modality, cut: Cut | None) -> str:
    if cut is None:
        return style.picture(values, modality)
    grey = np.asarray(values.mean(axis=-1))
    return planes.grey_uri(planes.stack(grey, cut), value_range(modality, grey))


def _stack(values: Array, modality: Modality, cut: Cut) -> Stack:
    grey = np.asarray(values.mean(axis=-1))
    limits = value_range(modality, grey)
    strips = [planes.strip(panels, cut) for panels in (planes.through(grey, cut)[1:], planes.maxima(grey, cut))]
    others, maxima = (planes.grey_uri(canvas, limits, there) for canvas, there in strips)
    first, second = (f"{canvas.shape[1]} / {canvas.shape[0]}" for canvas, _ in strips)
    return Stack(cut, others, maxima, (first, second))


def _label(run: RunRecord, i: int) -> str:
    """What is true of a sample, in words."""
    data = run.samples
    if data.task == "regression":
        return f"{_output(run, 0)} {words.number(float(data.labels[i]), 2)}"
    label = int(data.labels[i])
    return data.classes[label] if 0 <= label < len(data.classes) else str(label)


def _output(run: RunRecord, number: int) -> str:
    classes = run.samples.classes
    return classes[number] if number < len(classes) else f"output {number}"


def _prediction(run: RunRecord, model: str, i: int) -> dict[str, Any]:
    """What a model predicted: the class if there is one output per class, and the score that was explained."""
    outputs, classes, task = run.predictions[model].outputs, run.samples.classes, run.samples.task
    predicted, right = "", None
    if task == "classification" and outputs.ndim == 2 and outputs.shape[1] == len(classes) > 1:
        best = int(np.argmax(outputs[i]))
        predicted, right = classes[best], best == int(run.samples.labels[i])
    named = _output(run, 0) if task == "regression" else "score"
    score = f"{named} {words.number(float(run.predictions[model].score[i]), 3)}"
    return {"model": model, "class": predicted, "right": right, "score": score}


def _tile(run: RunRecord, label: str, modality: Modality, i: int, signed: bool, cuts: Mapping[str, Cut]) -> Tile | None:
    explanations = {m: e for m in run.models if (e := run.of(m).get(label)) is not None}
    if not any(ok(e) for e in explanations.values()) or not any(modality.name in e.maps for e in explanations.values()):
        return None
    one = next(iter(explanations.values()))
    maps = {m: _map(e, modality)[i] for m, e in explanations.items() if modality.name in e.maps}
    # One scale for all models, so that equal colours mean equal values.
    low, high = style.limits(np.stack(list(maps.values())) if maps else np.zeros(1), signed)
    cut = cuts.get(modality.name)
    drawings = tuple(_drawing(e, modality, maps.get(m), i, (low, high, signed), cut) for m, e in explanations.items())
    sided = _one_sided(maps) if signed else ""
    ends = f"±{words.brief(high)}{sided}" if signed else f"0 to {words.brief(high)}"
    scale = ends if any(d.alt for d in drawings) else ""
    return Tile(label, one.library, is_control(one), modality.name, scale, signed, drawings)


def _one_sided(maps: dict[str, Array]) -> str:
    """A word for maps of a signed explainer that have one sign on this sample, and so only half of the colours."""
    values = np.concatenate([v.ravel() for v in maps.values()]) if maps else np.zeros(1)
    values = values[np.isfinite(values)]
    if values.size and values.max() < 0:
        return ", all negative"
    return ", all positive" if values.size and values.min() > 0 else ""


def _drawing(
    explanation: Result,
    modality: Modality,
    values: Array | None,
    i: int,
    scale: tuple[float, float, bool],
    cut: Cut | None,
) -> Drawing:
    kind = explanation.degenerate[i] if i < len(explanation.degenerate) else ""
    if not ok(explanation) or values is None:
        why = "Failed" if explanation.status == "failed" else "Unsupported"
        return Drawing(explanation.model, "", instead=f"{why}; the table says why")
    if kind:
        return Drawing(explanation.model, "", instead=f"Degenerate: {words.kind(kind)}")
    alt = f"{explanation.label} on {explanation.model}"
    if cut is not None:
        whole = np.broadcast_to(values, cut.shape)
        strips = [planes.strip(panels, cut) for panels in (planes.through(whole, cut)[1:], planes.maxima(whole, cut))]
        others, maxima = (planes.heat_uri(canvas, scale, there) for canvas, there in strips)
        slices = planes.heat_uri(planes.stack(whole, cut), scale)
        return Drawing(explanation.model, alt, image=slices, others=others, maxima=maxima)
    if modality.spatial:
        return Drawing(explanation.model, alt, image=style.heat(values, *scale))
    return Drawing(explanation.model, alt, bars=_bars(values, modality, scale))


def _bars(values: Array, modality: Modality, scale: tuple[float, float, bool]) -> tuple[Bar, ...]:
    """The features with the largest values, longest bar first."""
    reach = float(np.abs(values).max()) or 1.0
    zero, room = (0.5, 0.5) if scale[2] else (0.0, 1.0)
    bars = []
    for place in np.argsort(-np.abs(values), kind="stable")[:BARS].tolist():
        value = float(values[place])
        width = min(1.0, abs(value) / reach) * room
        start = zero - width if value < 0 and scale[2] else zero
        bars.append(Bar(modality.features[place], words.brief(value), start, width, value < 0))
    return tuple(bars)
