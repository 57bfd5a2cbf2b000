"""From an experiment's words to samples, explainers and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from crossxai import evaluation, explainers
from crossxai.attribution import Explainer, Metric
from crossxai.data import sources
from crossxai.errors import InvalidInput
from crossxai.experiment.models import call_factory, guarded
from crossxai.experiment.specification import HANDED_OVER, Data, Experiment, ExplainerSpec, MetricSpec
from crossxai.files import Samples
from crossxai.files.tasks import fingerprint

ORACLE = "controls.oracle"
TRUTH = "truth"


class Source(Protocol):
    """A data set that an experiment may name as `source` in `[data]`."""

    name: ClassVar[str]

    def problem(self, data: Data) -> str:
        """What is wrong with an experiment's `[data]` for this source, and what to write; "" if nothing."""
        ...

    def samples(self, experiment: Experiment) -> Samples | tuple[Samples, dict[str, Any]]:
        """`data.n` samples, alone or with what the run says of them beyond its defaults: source, split, of, description."""
        ...


def samples(experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
    """The samples of an experiment and the manifest's entry about them."""
    data = experiment.data
    if data.source == HANDED_OVER:
        raise InvalidInput("the samples were handed over in Python: write a function that returns them, data.factory")
    if data.factory:
        made = call_factory(data.factory, experiment.folder, InvalidInput)
        if not isinstance(made, Samples):
            raise InvalidInput(
                f"data factory {data.factory} must return crossxai.files.Samples, got {type(made).__name__}"
            )
        about = {"source": data.factory, "split": "", "description": data.description}
        return made, {**about, "n": len(made.ids), "fingerprint": fingerprint(made)}
    source: Source = sources.get(data.source)
    given = guarded(lambda: source.samples(experiment), f"source {data.source!r}", InvalidInput)
    found, about = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if not isinstance(found, Samples) or not isinstance(about, Mapping):
        raise InvalidInput(
            f"source {data.source!r}: samples() must return crossxai.files.Samples, alone or with a dict of what the run says of "
            f"them; got {type(given).__name__}"
        )
    known = {"source": data.source, "split": "", "n": len(found.ids), "description": data.description}
    return found, {**known, **about, "fingerprint": fingerprint(found)}


def with_controls(experiment: Experiment, samples: Samples) -> Experiment:
    """The experiment with the controls that its explainers lack: those that have an answer for these samples.

    `controls = false` in the experiment leaves them out, all but those that it names.
    """
    if not experiment.controls:
        return experiment
    # An oracle of a mask, such as a planted shortcut, is not that of the truth.
    known = [spec for spec in experiment.explainers if spec.name != ORACLE or "mask" not in spec.params]
    named = {spec.name for spec in known} | {spec.shown for spec in experiment.explainers}
    spatial = any(m.spatial for m in samples.modalities)
    wanted = ["controls.random", *(("controls.centre", "controls.edges") if spatial else ())]
    wanted += ["controls.oracle"] if any(mask.any() for mask in samples.truth.values()) else []
    added = tuple(ExplainerSpec(name=name) for name in wanted if name not in named)
    return experiment.model_copy(update={"explainers": (*experiment.explainers, *added)})


def explainer(spec: ExplainerSpec, seed: int, samples: Samples | None = None) -> Explainer:
    """The explainer of an entry; the experiment's seed is its own where it draws and names none.

    The oracle is told the truth that the samples know, or their `mask` of its params, for the samples of its `labels`; without
    samples, names and parameters alone are checked.
    """
    kind = explainers.discover().get(spec.name)
    params = dict(spec.params)
    if spec.name == ORACLE and "masks" not in params:
        params = _truth(params, samples)
    if kind is not None and "seed" in kind.__dataclass_fields__:
        params.setdefault("seed", seed)
    return explainers.get(spec.name, profile=spec.profile, **params)


def metric(
    spec: MetricSpec, experiment: Experiment, samples: Samples | None, mean: Mapping[str, tuple[float, ...]]
) -> tuple[MetricSpec, Metric]:
    """A metric, with what only the data know filled in: the dataset's mean colour, the ground-truth mask.

    Without samples, names and parameters are checked, with stand-ins for what is not known yet.
    """
    params = dict(spec.params)
    fields = {f.name: f for e in evaluation.discover() if e.name == spec.name for f in dataclasses.fields(e.metric)}
    if params.get("fill") == "dataset_mean":
        del params["fill"]
        params |= {} if samples is None else _fills(spec, mean, all_modalities="fills" in fields)
    if "labels" in params and "mask" not in params and "size" in fields:
        params["ids"] = _named(f"metric {spec.shown}", samples, params.pop("labels"))
    elif "mask" in params or ("masks" in fields and fields["masks"].default is dataclasses.MISSING):
        name, labels = params.pop("mask", None), params.pop("labels", None)
        if samples is None:
            params |= {"masks": np.ones((1, 1)), "ids": ()}
        else:
            params |= {
                "masks": _mask(f"metric {spec.shown}", samples, name, labels, params.get("modality")),
                "ids": samples.ids,
            }
    if "seed" in fields:
        params.setdefault("seed", experiment.seed)
    return spec, evaluation.get(spec.name, **params)


def _fills(spec: MetricSpec, mean: Mapping[str, tuple[float, ...]], all_modalities: bool) -> dict[str, Any]:
    """The training mean as a metric's fill: of the modality that it judges, or of all that it changes together."""
    about = spec.params.get("modality") or next(iter(mean), "")
    if about not in mean:
        what = f" of {about!r}" if about else ""
        raise InvalidInput(
            f"metric {spec.shown}: this model names no training mean{what}; write fill = {{ dataset_mean = [0.7, 0.6, 0.5] }}"
        )
    if all_modalities:
        return {"fills": {name: {"dataset_mean": list(values)} for name, values in mean.items()}}
    return {"fill": {"dataset_mean": list(mean[about])}}


def _truth(params: dict[str, Any], samples: Samples | None) -> dict[str, Any]:
    """What the oracle is made with: masks by modality, and the samples' names."""
    name, labels = params.pop("mask", None), params.pop("labels", None)
    if samples is None:
        return params
    masks: dict[str, Any] = dict(samples.truth)
    if name is not None:
        first = next((m.name for m in samples.modalities if m.spatial), "")
        masks = {first: _mask(ORACLE, samples, name, None)}
    if labels is not None:
        masks = {key: _of_labels(values, samples, labels) for key, values in masks.items()}
    return {**params, "masks": masks, "ids": samples.ids} if masks else params


def _named(who: str, samples: Samples | None, labels: list[int]) -> tuple[str, ...]:
    """The names of the samples of these labels; a metric of the centre has no value for the others."""
    if samples is None:
        return ()
    chosen = tuple(np.array(samples.ids)[np.isin(samples.labels, labels)].tolist())
    if not chosen:
        raise InvalidInput(
            f"{who}: no sample has a label in {labels!r}; there are {np.unique(samples.labels).tolist()}"
        )
    return chosen


def _of_labels(mask: Any, samples: Samples, labels: list[int]) -> Any:
    """An empty mask makes a sample undefined, which is what other labels should be."""
    return mask & np.isin(samples.labels, labels).reshape(-1, *[1] * (mask.ndim - 1))


def _mask(who: str, samples: Samples, name: str | None, labels: list[int] | None, modality: str | None = None) -> Any:
    """A mask of the data by its name; "truth" is what decides in the modality that is judged, the first unless one is named."""
    known = dict(samples.masks)
    about = modality or next((m.name for m in samples.modalities if m.spatial), "")
    if about in samples.truth:
        known[TRUTH] = samples.truth[about]
    if name is None and known:
        name = next(iter(known))
    if not isinstance(name, str) or name not in known:
        raise InvalidInput(f"{who}: no mask {name!r} in the data; there is {', '.join(known) or 'none'}")
    mask = known[name]
    return mask if labels is None else _of_labels(mask, samples, labels)
