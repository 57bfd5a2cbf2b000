"""A checkpoint of any of our networks as a model of either framework, standardisation included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossxai.adapters.checks import require_torch
from crossxai.errors import InvalidInput
from crossxai.model import Array, Inputs, Modality, Model, standardise
from crossxai.process import require
from crossxai.studies.networks import weight_files
from crossxai.studies.networks.weight_files import Checkpoint

Framework = Literal["torch", "tensorflow"]

OUTPUT_AXES = {"segmentation": ("y", "x", "class")}


@dataclass(frozen=True)
class Loaded:
    """model: the adapter around the network, raw inputs to outputs. checkpoint: the one that it came from. tables: names of
    those that the model takes in standard units. framework: the network's."""

    model: Model
    checkpoint: Checkpoint
    tables: tuple[str, ...] = ()
    framework: Framework = "torch"

    @property
    def task(self) -> str:
        """ "classification", "regression" or "segmentation"."""
        return str(self.checkpoint.meta.get("task", "classification"))

    @property
    def trained_without(self) -> str:
        """The modality whose values were shuffled among samples in training, or ""."""
        return str(self.checkpoint.meta.get("trained_without", ""))

    @property
    def metrics(self) -> dict[str, float]:
        """On the held-out test split, in this framework; {} where nobody measured it. A ResNet-18's are, in both, of
        the one that it was trained in."""
        of_keras = self.framework == "tensorflow" and self.checkpoint.meta["architecture"] != "resnet18"
        splits = self.checkpoint.meta.get("keras" if of_keras else "metrics", {})
        return dict(splits.get("test", {}))

    @property
    def standard(self) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """table → (mean, sd) that make standard units of its raw ones; of `tables`."""
        return {name: self.checkpoint.standardise[name] for name in self.tables}

    @property
    def standardise(self) -> dict[str, tuple[list[float], list[float]]]:
        """modality → (mean, sd) of the training split, one number per channel or feature."""
        return {name: (mean.tolist(), sd.tolist()) for name, (mean, sd) in self.checkpoint.standardise.items()}

    @property
    def statistics(self) -> dict[str, tuple[list[float], list[float]]]:
        """modality → (mean, sd) of the training split as the model takes it: 0 and 1 in standard units."""
        constants = self.standardise
        return constants | {
            name: ([0.0] * len(constants[name][0]), [1.0] * len(constants[name][1])) for name in self.tables
        }

    def inputs(self, given: Mapping[str, Array]) -> Inputs:
        """Raw arrays (n, *axes) by modality as questions about this model take them: in its order, `tables` in standard units."""
        if lacking := [m.name for m in self.model.modalities if m.name not in given]:
            raise InvalidInput(f"the model needs {', '.join(lacking)}; given are {', '.join(given) or 'none'}")
        return tuple(
            standardise(given[m.name], *self.checkpoint.standardise[m.name]) if m.name in self.tables else given[m.name]
            for m in self.model.modalities
        )


def load(
    path: str | os.PathLike[str],
    framework: Framework,
    name: str = "",
    *,
    size: int | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    standard_tables: bool = False,
    **running: Any,
) -> Loaded:
    """The model of a checkpoint, in evaluation mode, behind its adapter.

    framework: "torch" or "tensorflow". name: the model's; "pytorch" or "keras" without. size: height and width that a Keras
    network is built for; as trained, without. standard_tables: the model takes tables in standard units, so that zero, the
    baseline of every library, is the training mean, and a noise of 0.01 is as small for an age as for a share. running:
    device, precision and compile of a torch network, as `crossxai.wrap` takes them. Raises `InvalidFile` if the file holds
    none of our networks.
    """
    if framework not in ("torch", "tensorflow"):
        raise InvalidInput(f"framework is 'torch' or 'tensorflow', got {framework!r}")
    checkpoint = weight_files.read(path, None)
    require(framework, framework, f"the model of {path}")
    inputs = modalities(checkpoint)
    tables = tuple(m.name for m in inputs if standard_tables and not m.spatial and m.name in checkpoint.standardise)
    options: dict[str, Any] = {
        "standardise": {
            name: (mean.tolist(), sd.tolist())
            for name, (mean, sd) in checkpoint.standardise.items()
            if name not in tables
        },
        "output_axes": OUTPUT_AXES.get(checkpoint.meta.get("task", ""), ("class",)),
        "outputs": "values" if checkpoint.meta.get("task") == "regression" else "logits",
    }
    if framework == "torch":
        from crossxai.adapters.torch import TorchModel
        from crossxai.studies.networks import torch_networks

        module = torch_networks.load(path, checkpoint, dtype)
        return Loaded(
            TorchModel(module, inputs, name=name or "pytorch", **options, **running), checkpoint, tables, framework
        )
    require_torch(running, "a Keras network")
    from crossxai.adapters.tensorflow import KerasModel
    from crossxai.studies.networks import keras_networks

    network = keras_networks.load(path, checkpoint, size, dtype)
    return Loaded(KerasModel(network, inputs, name=name or "keras", **options), checkpoint, tables, framework)


def modalities(checkpoint: Checkpoint) -> tuple[Modality, ...]:
    """The modalities of a checkpoint's model, in its order; an RGB image if it names none."""
    given = checkpoint.meta.get("modalities")
    if given is None:
        return (Modality.image(),)
    return tuple(
        Modality(m["name"], tuple(m["axes"]), tuple(m["features"]), m["range"] and (m["range"][0], m["range"][1]))
        for m in given
    )
