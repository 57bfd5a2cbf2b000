"""From an experiment's words to samples, models, explainers and metrics."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from crossxai import evaluation, explainers, plugins
from crossxai.adapters import recognition
from crossxai.attribution import Explainer, Metric
from crossxai.data import sources
from crossxai.data.arrays import as_groups, as_numpy
from crossxai.errors import InvalidInput, ModelFailed
from crossxai.experiment.specification import HANDED_OVER, Data, Experiment, ExplainerSpec, MetricSpec, ModelSpec
from crossxai.files import Samples
from crossxai.files.tasks import fingerprint
from crossxai.loaders import by_name
from crossxai.loaders.loaded import Loaded
from crossxai.model import Array, Model
from crossxai.on_demand import HELD, OnDemand, blocks
from crossxai.outputs import Outputs

NOTHING: Mapping[str, Any] = MappingProxyType({})
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
        who, given = f"data factory {data.factory}", plugins.call_factory(data.factory, experiment.folder, InvalidInput)
    else:
        source: Source = sources.get(data.source)
        who = f"source {data.source!r}"
        given = plugins.guarded(lambda: source.samples(experiment), who, InvalidInput)
    samples, about = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if not isinstance(samples, Samples) or not isinstance(about, Mapping):
        raise InvalidInput(
            f"{who} must return crossxai.files.Samples, alone or with a dict of what the run says of them; got "
            f"{type(given).__name__}"
        )
    if data.groups is not None:
        samples = dataclasses.replace(samples, groups=groups(experiment.folder / data.groups, samples.ids))
    if samples.on_demand <= HELD:
        samples = samples.in_memory()
    known = {"source": data.factory or data.source, "split": "", "n": len(samples.ids), "description": data.description}
    return samples, {**known, **about, "fingerprint": fingerprint(samples)}


def groups(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """The group of each sample by a CSV file with the columns `id` and `group`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"data.groups: {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not all(row.get("id") is not None and row.get("group") for row in rows):
        raise InvalidInput(
            f"data.groups: {path} has two columns with the heads id and group, and a value of each in every row"
        )
    by_id = {row["id"]: row["group"] for row in rows}
    lacking = [x for x in ids if x not in by_id]
    if lacking:
        some = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        raise InvalidInput(f"data.groups: {path} names no group for {len(lacking)} of {len(ids)} samples: {some}")
    return as_groups([by_id[x] for x in ids], len(ids))


def with_controls(experiment: Experiment, samples: Samples) -> Experiment:
    """The experiment with the controls that its explainers lack: those that have an answer for these samples. `controls
    = false` in the experiment leaves them out, all but those that it names."""
    if not experiment.controls:
        return experiment
    # An oracle of a mask, such as a planted shortcut, is not that of the truth.
    known = [spec for spec in experiment.explainers if spec.name != ORACLE or "mask" not in spec.params]
    named = {spec.name for spec in known} | {spec.shown for spec in experiment.explainers}
    spatial = any(m.spatial for m in samples.modalities)
    wanted = ["controls.random", *(("controls.centre", "controls.edges") if spatial else ())]
    wanted += (
        ["controls.oracle"] if any(block.any() for mask in samples.truth.values() for block in blocks(mask)) else []
    )
    added = tuple(ExplainerSpec(name=name) for name in wanted if name not in named)
    return experiment.model_copy(update={"explainers": (*experiment.explainers, *added)})


def explainer(spec: ExplainerSpec, seed: int, samples: Samples | None = None) -> Explainer:
    """The explainer of an entry, with the experiment's seed where it draws and names none; the oracle gets the samples'
    truth, or their `mask`, for those of its `labels`. Without samples, names and parameters alone are checked."""
    kind = explainers.discover().get(spec.name)
    params = dict(spec.params)
    if spec.name == ORACLE and "masks" not in params:
        params = _truth(params, samples)
    if kind is not None and "seed" in kind.__dataclass_fields__:
        params.setdefault("seed", seed)
    return explainers.get(spec.name, profile=spec.profile, **params)


def metric(
    spec: MetricSpec, seed: int, samples: Samples | None = None, mean: Mapping[str, tuple[float, ...]] = NOTHING
) -> Metric:
    """A metric, with what only the data know filled in: the dataset's mean colour, the ground-truth mask. Without
    samples, names and parameters are checked, with stand-ins for what is not known yet."""
    params = dict(spec.params)
    fields = _fields(spec.name)
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
            mask = _mask(f"metric {spec.shown}", samples, name, labels, params.get("modality"))
            params |= {"masks": mask, "ids": samples.ids}
    return seeded_metric(spec.name, params, seed)


def seeded_metric(name: str, params: dict[str, Any], seed: int) -> Metric:
    """A metric by name; the seed is its own where it draws and its parameters name none."""
    return evaluation.get(name, **({"seed": seed} if "seed" in _fields(name) else {}) | params)


def _fields(metric: str) -> dict[str, dataclasses.Field[Any]]:
    """The parameters of a metric by name."""
    return {f.name: f for e in evaluation.discover() if e.name == metric for f in dataclasses.fields(e.metric)}


def _fills(spec: MetricSpec, mean: Mapping[str, tuple[float, ...]], all_modalities: bool) -> dict[str, Any]:
    """The training mean as a metric's fill: of the modality that it measures, or of all that it changes together."""
    about = spec.params.get("modality") or next(iter(mean), "")
    if about not in mean:
        modality = f" of {about!r}" if about else ""
        raise InvalidInput(
            f"metric {spec.shown}: this model names no training mean{modality}; write fill = {{ dataset_mean = [0.7, 0.6, 0.5] }}"
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
    chosen = np.isin(samples.labels, labels).reshape(-1, *[1] * (mask.ndim - 1))
    return mask.changed(lambda read, rows: read & chosen[rows]) if isinstance(mask, OnDemand) else mask & chosen


def _mask(who: str, samples: Samples, name: str | None, labels: list[int] | None, modality: str | None = None) -> Any:
    """A mask of the data by its name; "truth" is what decides in the modality that is measured, the first unless one is named."""
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


GROUP = "crossxai.checkpoints"
"""Entry points of packages whose checkpoints an experiment may name: classes like `Checkpoints`, made without arguments."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be explained, and what the manifest says of it.

    mean, sd: of the training set, by modality, per channel or column, as the model takes them; empty if not known. standard:
    (mean, sd) of the tables that the model takes in standard units. trained_without: the modality that carried no information
    in training. digest: sha256 of the weights; complete: whether it decides the outputs, as a checkpoint's does, while code of
    a user's own may change what is computed with the same weights.
    """

    model: Model
    framework: str
    digest: str
    metrics: Mapping[str, float]
    mean: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sd: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    standard: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    trained_without: str = ""
    complete: bool = True


class Checkpoints(Protocol):
    """What reads the `checkpoint` of an experiment's model."""

    name: ClassVar[str]

    def recognises(self, checkpoint: str) -> bool:
        """Whether this is a name, or a file, of its own."""
        ...

    def load(self, spec: ModelSpec, folder: Path, progress: bool) -> LoadedModel:
        """The model; relative paths are relative to the folder. Raises what is wrong with the file as a `CrossXAIError`."""
        ...


def readers() -> tuple[dict[str, type[Checkpoints]], tuple[plugins.Broken, ...]]:
    """What reads checkpoints, by name, and the plug-ins that cannot be used."""
    return plugins.classes(GROUP, ("recognises", "load"))


def load_model(spec: ModelSpec, folder: Path, progress: bool = True) -> LoadedModel:
    """The model that an experiment names."""
    if spec.checkpoint == HANDED_OVER:
        raise InvalidInput(
            f"model {spec.name!r} was handed over in Python, and no file tells how to make it again: write a function that "
            "returns it, and an experiment file with factory = 'package.module:function'"
        )
    if spec.factory:
        model = plugins.call_factory(spec.factory, folder, ModelFailed)
        if not recognition.is_adapter(model) and not callable(model):
            raise InvalidInput(
                f"model factory {spec.factory} must return a Model (an adapter), a torch module or a Keras model, got "
                f"{type(model).__name__}"
            )
        return _wrapped(spec, Loaded(model, spec.name), f"what factory {spec.factory} returns")
    known, _ = readers()
    for kind in known.values():
        reader = kind()
        if reader.recognises(spec.checkpoint):
            return reader.load(spec, folder, progress)
    return _wrapped(spec, by_name.load(spec.checkpoint, folder, spec.trust), f"model {spec.name!r}")


def _wrapped(spec: ModelSpec, loaded: Loaded, who: str) -> LoadedModel:
    """A network as a model, with what the experiment declares about it."""
    if recognition.is_adapter(loaded.net):
        for key, value in spec.running.items():
            raise InvalidInput(
                f"{who} is an adapter already: say there where and how it runs, not by {key} = {value!r}"
            )
        return declared(loaded.net, spec.outputs, spec.name)
    try:
        model = recognition.wrap(
            loaded, name=spec.name, range=spec.range, size=spec.size, standardise=spec.standardise, window=spec.window,
            overlap=spec.overlap, levels=spec.levels, orientation=spec.orientation or "",
            **spec.running,
        )  # fmt: skip
    except InvalidInput as error:
        raise ModelFailed(f"{who} cannot be wrapped: {error}") from error
    return declared(model, spec.outputs, spec.name)


def declared(model: Any, outputs: Outputs | None = None, name: str = "") -> LoadedModel:
    """A model of a user's own with what it declares: `training_mean` and `training_sd` by modality, else what its adapter
    standardises with; `framework`, else the adapter's; and the fingerprint of its weights."""
    if outputs is not None:
        try:
            model.outputs = outputs
        except AttributeError as error:
            raise InvalidInput(
                f"model {name!r}: outputs = {outputs!r} cannot be set on its {type(model).__name__}: declare it there"
            ) from error
    constants = dict(getattr(model, "standardise", {}))
    mean, sd = (
        {key: tuple(float(v) for v in values) for key, values in given.items()}
        for given in (
            getattr(model, "training_mean", None) or {key: pair[0] for key, pair in constants.items()},
            getattr(model, "training_sd", None) or {key: pair[1] for key, pair in constants.items()},
        )
    )
    return LoadedModel(model, framework_of(model), weights_digest(model), {}, mean, sd, complete=False)


def about_network(model: Any) -> dict[str, Any]:
    """What files say of how a model was recognised: `recognised`, a sentence each, and `random`, whether its weights are."""
    known = getattr(model, "recognised", None)
    return {"recognised": [] if known is None else list(known.lines()), "random": bool(getattr(known, "random", False))}


def framework_of(model: Any) -> str:
    """The framework of a model's adapter; else what its class declares as `framework`; else the name of its module."""
    model = _behind_windows(model)
    for kind in type(model).__mro__:
        if kind.__module__.startswith("crossxai.adapters."):
            return kind.__module__.rpartition(".")[2].partition("_")[0]  # torch_detection is torch
        if isinstance(framework := vars(kind).get("framework"), str):
            return framework
    return type(model).__module__.rpartition(".")[2]


def _behind_windows(model: Any) -> Any:
    """The model that a `SlidingWindow` asks, or the model itself."""
    return model.model if hasattr(model, "explain_windows") else model


def weights_digest(model: Any) -> str:
    """sha256 of the weights of a torch or Keras model, by name and in order; "" for a model that shows none."""
    model = _behind_windows(model)
    if hasattr(model, "module") and hasattr(model.module, "state_dict"):
        weights = list(model.module.state_dict().items())
    elif hasattr(getattr(model, "model", None), "weights"):
        weights = [(weight.path, weight) for weight in model.model.weights]
    else:
        return ""
    digest = hashlib.sha256()
    for name, weight in weights:
        values = as_numpy(weight)
        content = np.ascontiguousarray(values).tobytes() if isinstance(values, np.ndarray) else repr(values).encode()
        digest.update(f"{name} {getattr(values, 'dtype', '')} {np.shape(values)}".encode() + content)
    return digest.hexdigest()
