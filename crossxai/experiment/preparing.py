"""From what a program hands over (models, arrays, explainers, metrics) to questions, and to the experiment of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossxai import explainers, plugins
from crossxai.adapters import recognition
from crossxai.attribution import Attribution, Explainer, Metric, Scores, apply_metric, needs_explainer
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.data import arrays
from crossxai.data.arrays import Batch
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.evaluation import curves
from crossxai.experiment import specification as experiments
from crossxai.experiment.computing import stated
from crossxai.experiment.dense import gives_boxes
from crossxai.experiment.loading import declared, seeded_metric
from crossxai.experiment.origin import declared_batch_size
from crossxai.experiment.questions import predicted
from crossxai.experiment.reading import check_ranges, samples_of
from crossxai.experiment.run import Prepared
from crossxai.experiment.scoring import split_by_question
from crossxai.experiment.specification import HANDED_OVER, Experiment
from crossxai.files.tasks import fingerprint, plain
from crossxai.measures import predicted_region
from crossxai.measures.detection import Box
from crossxai.model import Array, Model, equal
from crossxai.outputs import kind, probability_link
from crossxai.question import Question
from crossxai.target import Target


def question_of(model: Model, batch: Batch, target: Any, outputs: Array | None = None) -> tuple[Question, str]:
    """The question that explainers answer, and in words what is explained. target: None for the predicted class, a
    class or one per sample, or a measure as it is. outputs: the model's on all samples, where they are known. Raises
    `InvalidInput`."""
    batch_size = declared_batch_size(model) or DEFAULT_BATCH_SIZE
    if hasattr(target, "cotangent"):
        words = "explains the target that was given"
        return Question(model, batch.inputs, target, batch.ids, batch_size=batch_size), words
    boxes = gives_boxes(model)
    if outputs is None:
        shown = slice(None if target is None or boxes else 1)  # one sample tells the shape
        outputs = predicted(model, tuple(v[shown] for v in batch.inputs), batch_size)
    if boxes:
        box = Box.strongest(outputs, target)
        words = (
            "explains how well the strongest detection"
            + (" of the given class" if target is not None else "")
            + " is found"
        )
        return Question(model, batch.inputs, box, batch.ids, batch_size=batch_size), words
    if outputs.ndim != 2 and isinstance(target, int | np.integer):
        if len(outputs) < len(batch):  # one told the shape
            outputs = predicted(model, batch.inputs, batch_size)
        known, label, n = kind(model, batch.inputs, outputs), int(target), outputs.shape[-1]
        region = Target.regions(predicted_region(outputs, label, known.kind), label, n)
        words = f"explains the mean raw output of class {label} over the region where it is predicted"
        return Question(model, batch.inputs, region, batch.ids, batch_size=batch_size), words
    if outputs.ndim != 2:
        raise InvalidInput(
            f"model {model.name!r} gives outputs of shape {outputs.shape}, maps of scores: write target=1, class 1 where it is "
            f"predicted, or target=xai.Target.regions(masks, label=0, n_classes={outputs.shape[-1]}), the mean of an output over "
            "a region"
        )
    n = outputs.shape[1]
    if target is None and n == 1:
        chosen, words = np.zeros(len(batch), int), "explains the only output"
    elif target is None:
        chosen, words = outputs.argmax(axis=1), "explains the raw output of the predicted class"
    elif isinstance(target, int | np.integer):
        chosen, words = np.full(len(batch), int(target)), f"explains the raw output of class {int(target)}"
    else:
        chosen, words = np.asarray(target), "explains the raw output of each sample's given class"
    if chosen.shape != (len(batch),):
        raise InvalidInput(f"target is a class, or one for each of the {len(batch)} samples, got shape {chosen.shape}")
    return Question(model, batch.inputs, Target.classes(chosen, n), batch.ids, batch_size=batch_size), words


def labelled_batch(
    model: Model, given: Any, explained: Batch, samples: int, layout: Literal["NHWC", "NCHW"] | None
) -> Batch:
    """The samples that copies are trained on: of (inputs, labels), or the first ones of a loader; those explained if None. Raises
    `InvalidInput`."""
    if given is None:
        return explained
    by_hand = isinstance(given, tuple)
    if by_hand and len(given) != 2:
        raise InvalidInput(f"training is (inputs, labels) or a loader of them, got a tuple of {len(given)}")
    batch = arrays.read(model, given[0] if by_hand else given, samples=samples, layout=layout)
    if by_hand:
        batch.require_whole(labels=given[1])
        batch = replace(batch, labels=arrays.as_labels(given[1]))
    if batch.labels is not None and len(batch.labels) != len(batch):
        raise InvalidInput(f"training has {len(batch)} samples and {len(batch.labels)} labels: give each sample one")
    return batch


def measured_of(question: Question) -> tuple[Question, str]:
    """What metrics measure of what is explained, and in words: the probability of a class; else the score as it is."""
    target = question.target
    if not isinstance(target, Target) or target.link != "identity" or target.out == (1,) or len(target.out) > 1:
        return question, "measures what is explained"
    known = kind(question.model, question.inputs)
    link = probability_link(known, target.out[-1], question.model.name)
    return replace(question, target=replace(target, link=link)), (
        f"measures the probability of the class that is explained (outputs are {known.kind}: {known.how})"
    )


def as_metric(given: Any, seed: int) -> Metric:
    """A metric of a name, a name with parameters, or one as it is."""
    name, params = plugins.name_and_params(given, "deletion")
    if isinstance(name, str):
        return seeded_metric(name, params, seed)
    if callable(given) and isinstance(getattr(given, "name", None), str):
        metric: Metric = given
        return metric
    raise InvalidInput(f"a metric is a name, (name, parameters) or a metric; got {type(given).__name__}")


def measure(
    question: Question, maps: Mapping[str, Attribution], metrics: Sequence[Any], seed: int
) -> tuple[dict[str, dict[str, Scores]], str]:
    """Scores by explainer and metric, in one stream where metrics allow it, and in words what is measured."""
    listed = [as_metric(given, seed) for given in metrics]
    chosen = dict(zip(_labels([metric.name for metric in listed]), listed, strict=True))
    measured, words = measured_of(question)
    together, alone = split_by_question(chosen)
    rows = curves.evaluate(measured, [*maps.values()], [*together.values()])
    scores = {name: dict(zip(together, row, strict=True)) for name, row in zip(maps, rows, strict=True)}
    for label, metric in alone.items():
        for name, one in maps.items():
            scores[name][label] = apply_metric(metric, question, one, _again(one, metric))
    return {name: {label: row[label] for label in chosen} for name, row in scores.items()}, words


def _again(attribution: Attribution, metric: Metric) -> Explainer:
    """The explainer of a map, for metrics that run it again."""
    try:
        return explainers.get(attribution.explainer, **{**attribution.params, "profile": attribution.profile})
    except (UnknownName, InvalidInput) as error:
        if not needs_explainer(metric):
            return explainers.get("controls.random")  # it is not run
        raise Unsupported(
            f"{metric.name} has maps made again, and {attribution.explainer!r} cannot be made from its name: compare asks the "
            "explainer itself, xai.compare(…)"
        ) from error


def prepare(
    models: Mapping[str, Model],
    batch: Batch,
    explainers_given: Sequence[Any] | None,
    metrics: Sequence[Any] | None,
    *,
    target: Any,
    classes: Sequence[str],
    groups: Sequence[Any],
    **settings: Any,
) -> tuple[Experiment, Prepared]:
    """The experiment that a program describes, and its parts ready-made; settings: title, seed, controls, check."""
    loaded = {name: declared(model) for name, model in models.items()}
    first = next(iter(models.values()))
    check_ranges(models)
    samples, description, labelled = samples_of(first, batch, declared_batch_size(first), classes, groups)
    specs, explainer_objects = _specified_explainers(explainers_given)
    metric_specs, metric_objects = _specified_metrics(metrics)
    experiment = experiments.check(
        {
            "data": {"source": HANDED_OVER, "n": len(batch), "description": description},
            "target": {"of": target},
            "models": [{"name": name, "checkpoint": HANDED_OVER, **stated(model)} for name, model in models.items()],
            "explainers": specs,
            "metrics": metric_specs,
            "batch_size": declared_batch_size(first),
            **settings,
        },
        "compare",
    )
    about = {
        "source": HANDED_OVER,
        "split": "",
        "labels": labelled,
        "n": len(batch),
        "fingerprint": fingerprint(samples),
    }
    return experiment, Prepared(
        samples, {**about, "description": description}, loaded, explainer_objects, metric_objects
    )


def _specified_explainers(entries: Sequence[Any] | None) -> tuple[list[dict[str, Any]], dict[str, Explainer]]:
    """Entries of an experiment, none where none are named, and the explainers that are objects, by label."""
    if entries is None:
        return [], {}
    if isinstance(entries, str) or not entries:
        raise InvalidInput(f'explainers is a list, such as ["captum.saliency", "gradcam.gradcam"]; got {entries!r}')
    specs: list[dict[str, Any]] = []
    objects: dict[int, Explainer] = {}
    for place, given in enumerate(entries):
        explainer = explainers.as_explainer(given)
        name, params = plugins.name_and_params(given, "captum.saliency")
        if not isinstance(name, str):
            name, params = explainer.name, plain(getattr(explainer, "parameters", dict)())
            objects[place] = explainer
        params.pop("profile", None)
        specs.append({"name": name, "profile": explainer.profile, "params": params})
    shown = [s["name"] if s["profile"] == "native" else f"{s['name']}@{s['profile']}" for s in specs]
    labels = _labels([re.sub(r"[^\w .@+-]+", " ", name) for name in shown])
    specs = [{**spec, "label": label} for spec, label in zip(specs, labels, strict=True)]
    return specs, {labels[place]: explainer for place, explainer in objects.items()}


def _specified_metrics(entries: Sequence[Any] | None) -> tuple[list[dict[str, Any]], dict[str, Metric]]:
    """Entries of an experiment, none where none are named, and the metrics that are objects, by label."""
    if entries is None:
        return [], {}
    if isinstance(entries, str) or not entries:
        raise InvalidInput(f'metrics is a list, such as ["deletion", "insertion"]; got {entries!r}')
    named = [plugins.name_and_params(given, "deletion") for given in entries]
    objects = {
        place: as_metric(entries[place], 0) for place, (name, _) in enumerate(named) if not isinstance(name, str)
    }
    names = [objects[place].name if place in objects else name for place, (name, _) in enumerate(named)]
    labels = _labels(names)
    specs = [
        {"name": name, "params": params, "label": "" if label == name else label}
        for name, (_, params), label in zip(names, named, labels, strict=True)
    ]
    return specs, {labels[place]: metric for place, metric in objects.items()}


def _labels(names: Sequence[str]) -> list[str]:
    """Names, numbered from the second on where one comes again, also in other capitals, which some file systems do not tell."""
    folded = [name.casefold() for name in names]
    before = [folded[:place].count(name) for place, name in enumerate(folded)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def wrapped(models: Mapping[str, Any] | Sequence[Any]) -> dict[str, Model]:
    """Models by name: a mapping's own, else each model's, numbered where one comes twice."""
    if not models:
        raise InvalidInput("there is no model to compare explainers on")
    if isinstance(models, Mapping):
        return {name: recognition.wrap(model) for name, model in models.items()}
    adapters = [recognition.wrap(model) for model in models]
    return dict(zip(numbered([model.name for model in adapters]), adapters, strict=True))


def listed_maps(given: Any) -> dict[str, Attribution]:
    """Maps by name, read where they are the paths of files; raises `InvalidInput` where there are none."""
    by_name = given if isinstance(given, Mapping) else None
    values = (
        [given] if isinstance(given, Attribution | str | Path) else list(given if by_name is None else by_name.values())
    )
    if not values:
        raise InvalidInput("there are no maps to evaluate: attributions is what explain returned, or a file of it")
    wrong = [type(v).__name__ for v in values if not isinstance(v, Attribution | str | Path)]
    if wrong:
        raise InvalidInput(
            f"maps are what explain returned, or a file of it; got {wrong[0]}: of plain arrays write "
            'xai.Attribution.of_array(values, layout="NCHW", explainer="…")'
        )
    maps = [v if isinstance(v, Attribution) else Attribution.load(v) for v in values]
    return labelled(maps) if by_name is None else dict(zip(by_name, maps, strict=True))


def question_of_maps(
    model: Model, batch: Batch, maps: Mapping[str, Attribution], target: Any
) -> tuple[Question, tuple[str, ...]]:
    """The question that these maps answer, and a sentence where none of them says what it explains. Raises `InvalidInput` where
    they explain different things."""
    known = [a.target for a in maps.values() if a.target is not None]
    asked = [question_of(model, batch, given)[0] for given in (known if target is None else [target]) or [None]]
    if any(not equal(other.target, asked[0].target) for other in asked[1:]):
        raise InvalidInput("these maps explain different targets: evaluate each alone, or write target=…")
    unknown = (
        () if known or target is not None else ("the maps do not say what they explain: taken is the predicted class",)
    )
    return replace(asked[0], ids=next(iter(maps.values())).ids), unknown


def labelled(maps: Sequence[Attribution]) -> dict[str, Attribution]:
    """Maps by their explainers' names, numbered where one comes twice."""
    return dict(zip(numbered([a.explainer for a in maps]), maps, strict=True))


def numbered(names: list[str]) -> list[str]:
    """Names, numbered where one comes again."""
    return [name if names.count(name) == 1 else f"{name}-{names[:i].count(name) + 1}" for i, name in enumerate(names)]
