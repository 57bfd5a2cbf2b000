"""The HDF5 files that join explaining, evaluating and reporting; the format is specified in docs/file-format.md.

Every file is written under a temporary name and renamed, so that under its final name it is always whole.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt

from crossxai.assumptions.inputs import missing_values
from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.files.atomic import replacing
from crossxai.model import Array, Modality
from crossxai.target import as_mask

FORMAT = "crossxai"
VERSION = 1
Task = Literal["classification", "regression", "segmentation"]


@dataclass(frozen=True)
class Samples:
    """What was explained: inputs by modality (n, *axes), labels (n,), ground-truth masks (n, *space) by name.

    task "classification": labels are numbers of `classes`. "regression": they are the true values, and `classes` names the
    outputs. "segmentation": they are numbers of the segmented class among `classes`, and the first of the masks is its true
    region.
    truth: by modality, masks (n, *space) of the pixels that decide each sample's label, where that is known by construction;
    empty for a sample of which it is not. `controls.oracle` is made of it.
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

    def __post_init__(self) -> None:
        for name in ("ids", "modalities", "classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        n = len(self.ids)
        columns: dict[str, Any] = {"labels": self.labels, **self.inputs, **self.masks}
        columns |= {f"truth of {name}": values for name, values in self.truth.items()}
        for name, values in columns.items():
            if len(values) != n:
                raise InvalidInput(f"samples: {name} holds {len(values)} rows for {n} ids")
        for modality in self.modalities:
            if modality.name not in self.inputs:
                raise InvalidInput(f"samples: no inputs for modality {modality.name!r}, only {', '.join(self.inputs)}")
            _check_inputs(modality, self.inputs[modality.name])
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

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {np.shape(values)}" for name, values in self.inputs.items())
        return f"Samples({self.task}, {len(self.ids)} samples: {inputs}; classes: {', '.join(self.classes)})"


def _check_inputs(modality: Modality, values: Any) -> None:
    """Raise `InvalidInput` unless the values are what the modality declares; missing ones of a table are named by column."""
    _check_sizes(modality.name, values)
    if not modality.spatial and isinstance(values, np.ndarray) and values.shape[1:] == (len(modality.features),):
        absent = [m for m in missing_values(values, modality) if np.isnan(m.value)]
        if absent:
            raise InvalidInput(
                f"samples: modality {modality.name!r} lacks values: " + "; ".join(m.words for m in absent[:5])
            )
    modality.check(values, "samples: ")


def _check_sizes(name: str, values: Any) -> None:
    """Raise `InvalidInput` for samples of different sizes, which no file can hold and no model can take together."""
    if isinstance(values, np.ndarray) and values.dtype != object:
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


@dataclass(frozen=True)
class Predictions:
    """What one model said: outputs (n, *out) and the score (n,) that was explained, by the samples' order."""

    model: str
    framework: str
    outputs: Array
    score: Array
    target: str
    info: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Predictions({self.model}: outputs {self.outputs.shape}, {self.target})"


@dataclass(frozen=True)
class Explanation:
    """One explainer's maps on one model, and every metric's scores for them.

    status "ok" or "unsupported"; in the second case `reason` says why and there are no values and no scores.
    label: the name in this experiment, unique per model (an explainer may appear with several settings). task: hash of
    what decides the maps; judged: metric → hash of what decides its scores; a run reuses what has its own hashes. extras:
    what else the explainer learnt, per sample (n, …), such as the completeness gap. scores: by the metric's label in the
    experiment, which is its name unless one metric appears with several settings. notes: the explainer's sentences about its
    maps, for the reader. check: "off" where nobody measured that the model does what explainers rely on.
    """

    model: str
    framework: str
    label: str
    explainer: str
    library: str
    profile: str
    params: Mapping[str, Any]
    ids: tuple[str, ...]
    values: Mapping[str, Array] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)
    degenerate: tuple[str, ...] = ()
    seconds: float = float("nan")
    status: str = "ok"
    reason: str = ""
    task: str = ""
    judged: Mapping[str, str] = field(default_factory=dict)
    convention: str = ""
    extras: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    check: str = "on"

    def __repr__(self) -> str:
        maps = ", ".join(f"{name} {values.shape}" for name, values in self.values.items())
        scores = f"; scores: {', '.join(self.scores)}" if self.scores else ""
        said = f"{maps}{scores}" if self.status == "ok" else f"{self.status}: {self.reason}"
        return f"Explanation({self.label} on {self.model}: {said})"


def write_samples(path: Path, samples: Samples) -> None:
    """Write `samples` to an HDF5 file, atomically."""
    with _writing(path, "samples") as file:
        _write_strings(file, "ids", samples.ids)
        file["labels"] = samples.labels
        file.attrs["task"] = samples.task
        _write_strings(file, "classes", samples.classes)
        for modality in samples.modalities:
            data = file.create_dataset(
                f"inputs/{modality.name}", data=samples.inputs[modality.name], compression="gzip"
            )
            _write_modality(data, modality)
        file.attrs["modalities"] = json.dumps([m.name for m in samples.modalities])
        file.attrs["masks"] = json.dumps(
            list(samples.masks)
        )  # HDF5 sorts by name; the first of a segmentation is its region
        for name, mask in samples.masks.items():
            file.create_dataset(f"masks/{name}", data=mask.astype(np.uint8), compression="gzip")
        for name, truth in samples.truth.items():
            file.create_dataset(f"truth/{name}", data=truth.astype(np.uint8), compression="gzip")


def read_samples(path: Path) -> Samples:
    """Read what `write_samples` wrote; raises `InvalidFile`, or `InvalidInput` for samples that are none."""
    with _reading(path, "samples") as file:
        modalities = [_read_modality(file[f"inputs/{name}"], name) for name in json.loads(file.attrs["modalities"])]
        contents: dict[str, Any] = {
            "ids": _strings(file, "ids"),
            "inputs": {m.name: file[f"inputs/{m.name}"][()] for m in modalities},
            "labels": file["labels"][()],
            "classes": _strings(file, "classes"),
            "masks": {name: file[f"masks/{name}"][()] for name in _mask_names(file)},
            "truth": {name: data[()] for name, data in file.get("truth", {}).items()},
            "task": file.attrs.get("task", "classification"),
        }
    try:
        return Samples(modalities=tuple(modalities), **contents)
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error}") from error


def _mask_names(file: Any) -> list[str]:
    """In the order of the samples that were written; by name in files older than the attribute."""
    given = file.attrs.get("masks")
    return list(file.get("masks", {})) if given is None else [str(name) for name in json.loads(given)]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one model's outputs to an HDF5 file, atomically."""
    with _writing(path, "predictions") as file:
        for key in ("model", "framework", "target"):
            file.attrs[key] = getattr(predictions, key)
        file.attrs["info"] = json.dumps(predictions.info)
        file["outputs"] = predictions.outputs
        file["score"] = predictions.score


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote; raises `InvalidFile`."""
    with _reading(path, "predictions") as file:
        return Predictions(
            model=file.attrs["model"],
            framework=file.attrs["framework"],
            outputs=file["outputs"][()],
            score=file["score"][()],
            target=file.attrs["target"],
            info=json.loads(file.attrs["info"]),
        )


_TEXT = ("model", "framework", "label", "explainer", "library", "profile", "status", "reason", "task", "convention")


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write maps, scores and curves of one explainer on one model to an HDF5 file, atomically."""
    with _writing(path, "explanation") as file:
        for key in _TEXT:
            file.attrs[key] = getattr(explanation, key)
        file.attrs["params"] = json.dumps(explanation.params)
        file.attrs["judged"] = json.dumps(dict(explanation.judged))
        file.attrs["seconds"] = explanation.seconds
        file.attrs["notes"] = json.dumps(explanation.notes)
        file.attrs["check"] = explanation.check
        _write_strings(file, "ids", explanation.ids)
        _write_strings(file, "degenerate", explanation.degenerate)
        for name, values in explanation.values.items():
            file.create_dataset(f"values/{name}", data=values.astype(np.float32), compression="gzip", shuffle=True)
        for name, extra in explanation.extras.items():
            file[f"extras/{name}"] = extra
        for name, scores in explanation.scores.items():
            group = file.create_group(f"scores/{name}")
            group.attrs["metric"] = scores.metric
            group.attrs["higher_is_better"] = scores.higher_is_better
            group.attrs["params"] = json.dumps(scores.params)
            group["value"] = scores.value
            if scores.curve is not None:
                group["curve"] = scores.curve
                group["fractions"] = scores.fractions
            for key, per_sample in scores.extras.items():
                group[f"extras/{key}"] = per_sample


def read_explanation(path: Path) -> Explanation:
    """Read what `write_explanation` wrote; raises `InvalidFile`."""
    with _reading(path, "explanation") as file:
        ids = _strings(file, "ids")
        values = {name: data[()] for name, data in file.get("values", {}).items()}
        for name, data in values.items():
            if len(data) != len(ids) or not np.issubdtype(data.dtype, np.floating):
                raise InvalidFile(f"{path}: values/{name} is {data.dtype} {data.shape} for {len(ids)} samples")
        text: dict[str, Any] = {key: str(file.attrs[key]) for key in _TEXT}
        return Explanation(
            **text,
            params=json.loads(file.attrs["params"]),
            judged=json.loads(file.attrs["judged"]),
            ids=ids,
            values=values,
            scores={name: _read_scores(name, group) for name, group in file.get("scores", {}).items()},
            degenerate=_strings(file, "degenerate"),
            seconds=float(file.attrs["seconds"]),
            extras={name: data[()] for name, data in file.get("extras", {}).items()},
            notes=tuple(map(str, json.loads(file.attrs.get("notes", "[]")))),  # older files have neither
            check=str(file.attrs.get("check", "on")),
        )


def write_attribution(path: Path, attribution: Attribution) -> Path:
    """Write an attribution to an HDF5 file, atomically; returns the path."""
    with _writing(path, "attribution") as file:
        file.attrs["explainer"], file.attrs["profile"] = attribution.explainer, attribution.profile
        file.attrs["params"] = json.dumps(attribution.params, default=repr)
        file.attrs["seconds"], file.attrs["notes"] = attribution.seconds, json.dumps(attribution.notes)
        _write_strings(file, "ids", attribution.ids)
        file.attrs["modalities"] = json.dumps([m.name for m in attribution.modalities])
        for modality, values in zip(attribution.modalities, attribution.values, strict=True):
            data = file.create_dataset(f"values/{modality.name}", data=values, compression="gzip", shuffle=True)
            _write_modality(data, modality)
        for name, extra in attribution.extras.items():
            file[f"extras/{name}"] = extra
    return path


def read_attribution(path: Path) -> Attribution:
    """Read what `write_attribution` wrote; raises `InvalidFile`."""
    with _reading(path, "attribution") as file:
        names = json.loads(file.attrs["modalities"])
        contents: dict[str, Any] = {
            "values": tuple(file[f"values/{name}"][()] for name in names),
            "modalities": tuple(_read_modality(file[f"values/{name}"], name) for name in names),
            "ids": _strings(file, "ids"),
            "explainer": str(file.attrs["explainer"]),
            "profile": str(file.attrs["profile"]),
            "params": json.loads(file.attrs["params"]),
            "extras": {name: data[()] for name, data in file.get("extras", {}).items()},
            "seconds": float(file.attrs["seconds"]),
            "notes": tuple(map(str, json.loads(file.attrs["notes"]))),
        }
    return Attribution(**contents)


def _write_modality(data: Any, modality: Modality) -> None:
    data.attrs["axes"] = json.dumps(modality.axes)
    data.attrs["features"] = json.dumps(modality.features)
    data.attrs["range"] = json.dumps(modality.range)


def _read_modality(data: Any, name: str) -> Modality:
    limits = json.loads(data.attrs["range"])
    axes, features = (tuple(json.loads(data.attrs[key])) for key in ("axes", "features"))
    return Modality(name, axes, features, tuple(limits) if limits else None)


def _read_scores(name: str, group: Any) -> Scores:
    return Scores(
        metric=group.attrs.get("metric", name),
        value=group["value"][()],
        higher_is_better=bool(group.attrs["higher_is_better"]),
        curve=group["curve"][()] if "curve" in group else None,
        fractions=group["fractions"][()] if "fractions" in group else None,
        extras={key: data[()] for key, data in group.get("extras", {}).items()},
        params=json.loads(group.attrs["params"]),
    )


def ours(path: Path) -> bool:
    """Whether a file is one of these, so that a run may replace or remove it."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except OSError:
        return False


def writable_folder(path: Path) -> Path:
    """Make a folder, and prove that a file can be written in it; raises `InvalidFile`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvalidFile(
            f"cannot write in {path}: {error.strerror or error}; choose another folder with --out"
        ) from error
    return path


@contextmanager
def _writing(path: Path, kind: str) -> Iterator[Any]:
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["kind"] = kind
        yield file


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[Any]:
    if not path.is_file():
        raise InvalidFile(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            found = (file.attrs.get("format"), file.attrs.get("kind"))
            if found != (FORMAT, kind):
                raise InvalidFile(
                    f"{path} is not a CrossXAI {kind} file: it says format {found[0]!r}, kind {found[1]!r}"
                )
            if file.attrs["version"] > VERSION:
                raise InvalidFile(
                    f"{path} has format version {file.attrs['version']}; this CrossXAI reads up to {VERSION}"
                )
            yield file
    except InvalidFile:
        raise
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read as HDF5 (truncated or damaged?): {error}") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise InvalidFile(f"{path} lacks what a CrossXAI {kind} file holds: {error}") from error
    except (RuntimeError, TypeError, AttributeError, UnicodeDecodeError) as error:  # what h5py makes of flipped bytes
        raise InvalidFile(f"{path} is damaged: {error}") from error


def _write_strings(file: Any, name: str, values: tuple[str, ...]) -> None:
    file.create_dataset(name, data=list(values), dtype=h5py.string_dtype(), shape=(len(values),))


def _strings(file: Any, name: str) -> tuple[str, ...]:
    return tuple(text.decode() for text in file[name][()])
