"""The models of an experiment: made by factories of a user's own, read from checkpoints, or handed over from Python."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from crossxai import plugins
from crossxai.adapters import recognition
from crossxai.data.arrays import as_numpy
from crossxai.errors import CrossXAIError, InvalidInput, ModelFailed
from crossxai.experiment.failures import in_words
from crossxai.experiment.specification import HANDED_OVER, ModelSpec
from crossxai.model import Array, Model
from crossxai.outputs import Outputs

GROUP = "crossxai.checkpoints"
"""Entry points of packages whose checkpoints an experiment may name: classes like `Checkpoints`, made without arguments."""


RAISED = (Exception, SystemExit)
"""What a user's own code may raise, exceptions of its own and `sys.exit` among it: one model's end, not the run's. Ctrl-C is not
among it."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be explained, and what the manifest says of it.

    mean, sd: of the training set, by modality, per channel or column, as the model takes them; empty if not known. standard:
    (mean, sd) of the tables that the model takes in standard units. trained_without: the modality that told it nothing.
    digest: sha256 of the weights; complete: whether it decides the outputs, as a checkpoint's does, while code of a user's own
    may change what is computed with the same weights.
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


@cache
def readers() -> tuple[dict[str, type[Checkpoints]], tuple[plugins.Broken, ...]]:
    """What reads checkpoints, by name, and the plug-ins that cannot be used."""
    found: dict[str, type[Checkpoints]] = {}
    return found, plugins.add(GROUP, found, lambda kind: plugins.lacks(kind, ("recognises", "load")))


def load_model(spec: ModelSpec, folder: Path, progress: bool = True) -> LoadedModel:
    """The model that an experiment names."""
    if spec.checkpoint == HANDED_OVER:
        raise InvalidInput(
            f"model {spec.name!r} was handed over in Python, and no file tells how to make it again: write a function that "
            "returns it, and an experiment file with factory = 'package.module:function'"
        )
    if spec.factory:
        model = call_factory(spec.factory, folder, ModelFailed)
        if not recognition.is_adapter(model):
            if not callable(model):
                raise InvalidInput(
                    f"model factory {spec.factory} must return a Model (an adapter), a torch module or a Keras model, got "
                    f"{type(model).__name__}"
                )
            try:
                model = recognition.wrap(model, name=spec.name)
            except InvalidInput as error:
                raise ModelFailed(f"what factory {spec.factory} returns cannot be wrapped: {error}") from error
        return declared(model, spec.outputs, spec.name)
    known, _ = readers()
    for kind in known.values():
        reader = kind()
        if reader.recognises(spec.checkpoint):
            return reader.load(spec, folder, progress)
    raise InvalidInput(
        f"model {spec.name!r}: nothing reads the checkpoint {spec.checkpoint!r}, only files of {', '.join(known) or 'nobody'}; "
        "name a function of yours that returns the model: factory = 'package.module:function'"
    )


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


def framework_of(model: Any) -> str:
    """The framework of a model's adapter; else what its class declares as `framework`; else the name of its module."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith("crossxai.adapters."):
            return kind.__module__.rpartition(".")[2]
        if isinstance(own := vars(kind).get("framework"), str):
            return own
    return type(model).__module__.rpartition(".")[2]


def weights_digest(model: Any) -> str:
    """sha256 of the weights of a torch or Keras model, by name and in order; "" for a model that shows none."""
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


def call_factory(factory: str, folder: Path, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; its module is looked for beside the experiment file first.

    What its own code raises becomes an error of this kind, which says where.
    """
    module, _, name = factory.partition(":")
    if not module or not name:
        raise InvalidInput(f"a factory is written 'package.module:function', got {factory!r}")
    sys.path.insert(0, str(folder.resolve()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InvalidInput(
            f"factory {factory!r} cannot be imported from {folder} or the environment: {error}"
        ) from error
    except RAISED as error:
        raise InvalidInput(f"factory {factory!r} cannot be imported: its module raises {_where(error)}") from error
    finally:
        sys.path.remove(str(folder.resolve()))
    if not callable(function):
        raise InvalidInput(f"factory {factory!r} is {type(function).__name__}, not a function")
    try:
        return guarded(function, f"factory {factory!r}", kind)
    except CrossXAIError as error:
        if isinstance(error, kind) or kind is not ModelFailed:
            raise
        raise kind(f"factory {factory!r}: {error}") from error  # of one model: the others go on


def guarded(function: Callable[[], Any], name: str, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; what its own code raises becomes an error of this kind, which says where."""
    try:
        return function()
    except CrossXAIError:
        raise
    except RAISED as error:
        raise kind(f"{name} raises {_where(error)}") from error


def _where(error: BaseException) -> str:
    """An error in words, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{in_words(error)}{place}"
