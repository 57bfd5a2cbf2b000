"""The models of an experiment: made by factories of a user's own, or read from checkpoints by whoever knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

from crossxai import plugins
from crossxai.errors import InvalidInput, ModelFailed
from crossxai.experiment import factories
from crossxai.experiment.specification import ModelSpec
from crossxai.model import Array, Model

GROUP = "crossxai.checkpoints"
"""Entry points of packages whose checkpoints an experiment may name: classes like `Checkpoints`, made without arguments."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be explained, and what the manifest says of it.

    mean, sd: of the training set, by modality, per channel or column, as the model takes them; empty if not known. standard:
    (mean, sd) of the tables that the model takes in standard units. trained_without: the modality that told it nothing.
    """

    model: Model
    framework: str
    digest: str
    metrics: Mapping[str, float]
    mean: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sd: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    standard: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    trained_without: str = ""


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
    if spec.factory:
        model = factories.call(spec.factory, folder, ModelFailed)
        if not (hasattr(model, "predict") and hasattr(model, "modalities")):
            raise InvalidInput(
                f"model factory {spec.factory} must return a Model (an adapter), got {type(model).__name__}"
            )
        _declare(model, spec)
        mean, sd = _declared_statistics(model)
        return LoadedModel(model, type(model).__module__.rpartition(".")[2], "", {}, mean, sd)
    known, _ = readers()
    for kind in known.values():
        reader = kind()
        if reader.recognises(spec.checkpoint):
            return reader.load(spec, folder, progress)
    raise InvalidInput(
        f"model {spec.name!r}: nothing reads the checkpoint {spec.checkpoint!r}, only files of {', '.join(known) or 'nobody'}; "
        "name a function of yours that returns the model: factory = 'package.module:function'"
    )


def _declared_statistics(model: Any) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """(mean, sd) by modality, which a model's adapter standardises with: those of its training set, as far as anyone knows."""
    declared = dict(getattr(model, "standardise", {}))
    mean, sd = ({name: tuple(float(v) for v in pair[i]) for name, pair in declared.items()} for i in (0, 1))
    return mean, sd


def _declare(model: Any, spec: ModelSpec) -> None:
    """What the experiment says of the model's outputs, kept where adapters keep it."""
    if spec.outputs is None:
        return
    try:
        model.outputs = spec.outputs
    except AttributeError as error:
        raise InvalidInput(
            f"model {spec.name!r}: outputs = {spec.outputs!r} cannot be set on its {type(model).__name__}: declare it there"
        ) from error
