"""Checkpoints of `crossxai train` in an experiment, and "embedded": the ResNet-18 that is trained on the embedded patches."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.specification import ModelSpec
from crossxai.process import require, torch_threads
from crossxai.studies.networks import loading


class Trained:
    """The networks of `crossxai train`."""

    name: ClassVar[str] = "crossxai train"

    def recognises(self, checkpoint: str) -> bool:
        """ "embedded", and files (.npz)."""
        return checkpoint == "embedded" or Path(checkpoint).suffix == ".npz"

    def load(self, spec: ModelSpec, folder: Path, progress: bool) -> LoadedModel:
        """The model; trains the embedded one first if it is not in the cache."""
        require(spec.framework, spec.framework, f"model {spec.name!r}")
        path = folder / spec.checkpoint if spec.checkpoint != "embedded" else embedded_checkpoint(progress)
        loaded = loading.load(path, spec.framework, spec.name, standard_tables=True, **spec.running)
        mean = {name: tuple(mean) for name, (mean, _) in loaded.statistics.items()}
        sd = {name: tuple(sd) for name, (_, sd) in loaded.statistics.items()}
        about = (loaded.metrics, mean, sd, loaded.standard, loaded.trained_without)
        return LoadedModel(loaded.model, spec.framework, loaded.checkpoint.digest, *about)


THREADS = 2
"""torch sums in another order with another number: the demo's network should not depend on the machine's cores."""


def embedded_checkpoint(progress: bool = True) -> Path:
    """The ResNet-18 of the embedded set: from the cache, else trained now (a minute or two); in Keras without torch."""
    from crossxai.data.fetching import cache_folder
    from crossxai.studies.pcam import histology
    from crossxai.studies.training import TrainSettings, fit

    root = histology.build(cache_folder() / "histology")
    torch = all(importlib.util.find_spec(package) for package in ("torch", "torchvision"))
    settings = TrainSettings(framework="torch" if torch else "tensorflow")
    with torch_threads(THREADS) if torch else nullcontext():
        return fit(root, settings, cache_folder() / "models", progress)
