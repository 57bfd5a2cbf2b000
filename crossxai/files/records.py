"""What the files of a run hold: samples, a model's predictions, and one explainer's maps with their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.inputs import missing_values
from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidInput
from crossxai.files.spaces import Space
from crossxai.model import Array, Inputs, Modality
from crossxai.on_demand import AT_ONCE, OnDemand
from crossxai.target import as_mask

Task = Literal["classification", "regression", "segmentation", "detection"]


@dataclass(frozen=True)
class Samples:
    """What was explained: inputs by modality (n, *axes), labels (n,), ground-truth masks (n, *space) by name.

    task "classification": labels are numbers of `classes`. "regression": they are the true values, and `classes` names the
    outputs. "segmentation": they are numbers of the segmented class among `classes`, and the first of the masks is its true
    region. "detection": they are the classes of boxes.
    truth: by modality, masks (n, *space) of the pixels that decide each sample's label, where that is known by construction;
    empty for a sample of which it is not. `controls.oracle` is made of it.
    Inputs, masks and truth may be `crossxai.OnDemand`, of samples that do not fit into memory together.
    groups: the label of each sample's group (n), such as its patient, where samples belong together; () where each stands for
    itself. Intervals and tests go by group.
    left_out: the files, or rows of them, that could not be read and are no samples, each with its reason.
    spaces: by modality, where the voxels of each scan lie, of those that were read from scans.
    Raises `InvalidInput` for inputs that are not as their modalities declare (axes, range, NaN), for labels that are no numbers
    of `classes`, and for masks that hold anything but booleans, or 0 and 1.
    """

    ids: tuple[str, ...]
    modalities: tuple[Modality, ...]
    inputs: Mapping[str, Array]
    labels: npt.NDArray[Any]
    classes: tuple[str, ...]
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    truth: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    task: Task = "classification"
    groups: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    spaces: Mapping[str, tuple[Space, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("ids", "modalities", "classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "left_out", tuple((str(name), str(reason)) for name, reason in self.left_out))
        object.__setattr__(self, "groups", labels_of_groups(self.groups))
        n = len(self.ids)
        columns: dict[str, Any] = {"labels": self.labels, **self.inputs, **self.masks}
        columns |= {"groups": self.groups} if self.groups else {}
        columns |= {f"spaces of {name}": each for name, each in self.spaces.items()}
        columns |= {f"truth of {name}": values for name, values in self.truth.items()}
        for name, values in columns.items():
            if len(values) != n:
                raise InvalidInput(f"samples: {name} holds {len(values)} rows for {n} ids")
        for modality in self.modalities:
            if modality.name not in self.inputs:
                raise InvalidInput(f"samples: no inputs for modality {modality.name!r}, only {', '.join(self.inputs)}")
            _check_inputs(modality, self.inputs[modality.name])
        object.__setattr__(self, "inputs", {name: _checking(self, name, v) for name, v in self.inputs.items()})
        for field_, held in (("masks", self.masks), ("truth", self.truth)):
            for name, values in held.items():
                _check_sizes(name, values)
            checked = {name: as_mask(values, f"samples: {field_} {name!r}") for name, values in held.items()}
            object.__setattr__(self, field_, checked)
        spaces = {m.name: self.inputs[m.name].shape[:-1] for m in self.modalities if m.spatial}
        for name, values in self.truth.items():
            if np.shape(values) != spaces.get(name):
                given = ", ".join(f"{modality} {shape}" for modality, shape in spaces.items()) or "no image"
                raise InvalidInput(f"samples: truth of {name!r} has shape {np.shape(values)}; there is {given}")
        if self.task not in get_args(Task):
            raise InvalidInput(f"samples: unknown task {self.task!r}: write one of {', '.join(get_args(Task))}")
        kind = np.asarray(self.labels).dtype
        if self.task == "regression":
            if not np.issubdtype(kind, np.floating) or not np.isfinite(self.labels).all():
                raise InvalidInput(f"samples: the labels of a regression are finite float values, got {kind}")
        elif not np.issubdtype(kind, np.integer):
            raise InvalidInput(f"samples: labels must be whole numbers, got {kind}")
        elif n:
            _check_labels(np.asarray(self.labels), self.classes)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Samples:
        """Some of the samples, by their places."""
        places = range(len(self.ids))[rows] if isinstance(rows, slice) else rows.tolist()
        return replace(
            self,
            ids=tuple(self.ids[i] for i in places),
            inputs={name: values[rows] for name, values in self.inputs.items()},
            labels=self.labels[rows],
            masks={name: values[rows] for name, values in self.masks.items()},
            truth={name: values[rows] for name, values in self.truth.items()},
            groups=tuple(self.groups[i] for i in places) if self.groups else (),
            spaces={name: tuple(each[i] for i in places) for name, each in self.spaces.items()},
        )

    @property
    def on_demand(self) -> int:
        """Bytes of the inputs whose rows are read when they are asked for; 0 of samples in memory."""
        return sum(values.nbytes for values in self.inputs.values() if isinstance(values, OnDemand))

    def in_memory(self) -> Samples:
        """The same samples, all of them in memory; raises `InvalidInput` where they take too much of it."""
        if self.on_demand > AT_ONCE:
            raise InvalidInput(
                f"{len(self.ids)} samples take {self.on_demand / 1e9:.1f} GB, and all of them are needed at once: take fewer"
            )
        read: dict[str, Any] = {
            part: {name: np.asarray(values) for name, values in getattr(self, part).items()}
            for part in ("inputs", "masks", "truth")
        }
        return replace(self, **read)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {np.shape(values)}" for name, values in self.inputs.items())
        return f"Samples({self.task}, {len(self.ids)} samples: {inputs}; classes: {', '.join(self.classes)})"


def _checking(samples: Samples, name: str, values: Any) -> Any:
    """Inputs of which rows on demand are checked when they are read."""
    modality = next((m for m in samples.modalities if m.name == name), None)
    if modality is None or not isinstance(values, OnDemand):
        return values

    def checked(read: Array, rows: npt.NDArray[np.intp]) -> Array:
        modality.check(read, "samples: ")
        return read

    return values.changed(checked)


def labels_of_groups(given: Any) -> tuple[str, ...]:
    """Labels of groups as text; raises `InvalidInput` where one is missing."""
    labels = tuple(given)
    if any(label is None or label != label or str(label) == "" for label in labels):  # NaN differs from itself
        raise InvalidInput("samples: a sample has no group: give it a label of its own")
    return tuple(map(str, labels))


def _check_inputs(modality: Modality, values: Any) -> None:
    """Raise `InvalidInput` unless the values are what the modality declares; missing ones of a table are named by column."""
    _check_sizes(modality.name, values)
    if not modality.spatial and isinstance(values, np.ndarray) and values.shape[1:] == (len(modality.features),):
        absent = [m for m in missing_values(values, modality) if np.isnan(m.value)]
        if absent:
            listed = "; ".join(m.words for m in absent[:5])
            raise InvalidInput(f"samples: modality {modality.name!r} lacks values: {listed}")
    modality.check(values, "samples: ")


def _check_sizes(name: str, values: Any) -> None:
    """Raise `InvalidInput` for samples of different sizes, which no file can hold and no model can take together."""
    if isinstance(values, OnDemand) or (isinstance(values, np.ndarray) and values.dtype != object):
        return
    shapes = list(dict.fromkeys(np.shape(value) for value in values))
    if len(shapes) > 1:
        listed = ", ".join(map(str, shapes[:3])) + (", …" if len(shapes) > 3 else "")
        raise InvalidInput(
            f"samples: those of {name!r} have different shapes ({listed}), and a model takes them together: resize, crop or pad "
            "them to one, and write np.stack(values).astype(np.float32)"
        )


def _check_labels(labels: npt.NDArray[Any], classes: tuple[str, ...]) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes and high >= len(classes)):
        some = ", ".join(classes[:5]) + (" …" if len(classes) > 5 else "")
        raise InvalidInput(
            f"samples: labels are numbers 0 … {max(len(classes) - 1, 0)} of the {len(classes)} classes ({some}); got labels from "
            f"{low} to {high}: name every class in its order, or renumber the labels"
        )


def extras_of(extras: Mapping[str, Any], rows: npt.NDArray[np.intp], n: int) -> dict[str, Any]:
    """Extras of some of n samples; those that are not per sample stay as they are."""
    return {name: values[rows] if np.shape(values)[:1] == (n,) else values for name, values in extras.items()}


@dataclass(frozen=True)
class Predictions:
    """One model's outputs (n, *out) and the scores (n,) that were explained, in the order of the samples."""

    model: str
    framework: str
    outputs: Array
    score: Array
    target: str
    info: Mapping[str, Any] = field(default_factory=dict)

    def part(self, rows: npt.NDArray[np.intp]) -> Predictions:
        """Those of some samples, by their places."""
        info = {**self.info, **({"classes": [self.info["classes"][i] for i in rows]} if "classes" in self.info else {})}
        return replace(self, outputs=self.outputs[rows], score=self.score[rows], info=info)

    def __repr__(self) -> str:
        return f"Predictions({self.model}: outputs {self.outputs.shape}, {self.target})"


@dataclass(frozen=True)
class Origin:
    """The model and the samples that maps were made of, by which another model is told to be the same function.

    modalities, inputs: all that the model took, raw values, channels last; () where the samples were left out. outputs: what it
    gave (n, *out). weights: their sha256, "" where none is known. preprocessing: what the model was taken for and does to its
    inputs. versions: of the packages at work. recipe: how the maps were made, as TOML has it; {} where TOML cannot say it.
    """

    model: str
    framework: str
    weights: str
    outputs: Array
    modalities: tuple[Modality, ...] = ()
    inputs: Inputs = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Array]:
        """The inputs by the names of their modalities."""
        return {m.name: values for m, values in zip(self.modalities, self.inputs, strict=True)}

    def __repr__(self) -> str:
        return f"Origin({self.model!r}, {self.framework}, {len(self.outputs)} samples)"


@dataclass(frozen=True)
class Result:
    """One row of a run: an explainer's attribution on one model, and every metric's scores of it.

    status "ok", "unsupported" or "failed"; of the latter two `reason` says why, and there are no maps and no scores.
    label: the name in this experiment, unique per model (an explainer may appear with several settings). task: hash of
    what decides the maps; score_hashes: metric → hash of what decides its scores; a run reuses what has its own hashes.
    scores: by the metric's label in the experiment, which is its name unless one metric appears with several settings.
    check: "off" where nobody measured that the model does what explainers rely on.
    keep_maps: what was kept of the maps once they were measured, "all" of them or as the experiment says. Of "sample:200" and
    "none", `rows` are the places of the samples whose maps are there, `attribution` holds those alone, with the extras of all
    samples, and `samples` names all. evaluated: hash of all metrics that measured what was not kept; refused: those that could
    not, with reasons.
    """

    model: str
    framework: str
    label: str
    library: str
    attribution: Attribution
    scores: Mapping[str, Scores] = field(default_factory=dict)
    degenerate: tuple[str, ...] = ()
    status: str = "ok"
    reason: str = ""
    task: str = ""
    score_hashes: Mapping[str, str] = field(default_factory=dict)
    convention: str = ""
    check: str = "on"
    keep_maps: str = "all"
    rows: npt.NDArray[np.intp] | None = None
    samples: tuple[str, ...] = ()
    evaluated: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of all samples."""
        return self.attribution.ids if self.rows is None else self.samples

    @property
    def whole(self) -> bool:
        """Whether all maps are there as they were made."""
        return self.keep_maps == "all"

    def part(self, rows: npt.NDArray[np.intp]) -> Result:
        """The result of some samples, by their places, all of which have maps."""
        own, n = self.attribution, len(self.ids)
        ids = tuple(self.ids[row] for row in rows)
        places = rows if self.rows is None else np.searchsorted(self.rows, rows)
        values = tuple(v[places] for v in own.values)
        maps = replace(own, values=values, ids=ids, extras=extras_of(own.extras, rows, n))
        scores = {name: one.part(rows) for name, one in self.scores.items()}
        degenerate = tuple(self.degenerate[row] for row in rows) if self.degenerate else ()
        return replace(self, attribution=maps, scores=scores, degenerate=degenerate, rows=None, samples=())

    @property
    def maps(self) -> dict[str, Array]:
        """The maps by the names of their modalities; none where the explainer gave none."""
        return self.attribution.maps

    @property
    def labelled(self) -> Attribution:
        """The attribution under its label in the run, as metrics and users get it."""
        return replace(self.attribution, explainer=self.label)

    def __repr__(self) -> str:
        maps = ", ".join(f"{name} {values.shape}" for name, values in self.maps.items())
        scores = f"; scores: {', '.join(self.scores)}" if self.scores else ""
        result = f"{maps}{scores}" if self.status == "ok" else f"{self.status}: {self.reason}"
        return f"Result({self.label} on {self.model}: {result})"
