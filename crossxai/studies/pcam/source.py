"""The patches of an experiment: `source = "embedded"`, which needs no download, and `"pcam"`, files in PatchCamelyon's format."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from crossxai.data.balanced import balanced
from crossxai.experiment.specification import Data, Experiment
from crossxai.files import Samples
from crossxai.files.fingerprints import fingerprint
from crossxai.studies.pcam import histology
from crossxai.studies.pcam import samples as patches
from crossxai.studies.pcam.reading import PCam, cache_folder


class Embedded:
    """The histology patches that scikit-image carries."""

    name: ClassVar[str] = "embedded"

    def problem(self, data: Data) -> str:
        """Nothing is needed."""
        return _without_task(data)

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The patches, built in the cache if they are not there."""
        return _of_folder(experiment, histology.build(cache_folder() / "histology"))


class PatchCamelyon:
    """PatchCamelyon's files, or a set in their format, in `root`."""

    name: ClassVar[str] = "pcam"

    def problem(self, data: Data) -> str:
        """The folder is needed."""
        return _without_task(data) or ("" if data.root else "source = 'pcam' needs root = 'folder of the .h5 files'")

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The patches of a split."""
        return _of_folder(experiment, experiment.folder / (experiment.data.root or ""))


def _without_task(data: Data) -> str:
    return "task belongs to source = 'medical'; Samples of your own name theirs" if data.task else ""


def _of_folder(experiment: Experiment, root: Path) -> tuple[Samples, dict[str, Any]]:
    data = experiment.data
    split, kind = PCam(root, data.split), patches.kind(root)
    rows = balanced(split.labels(), data.n, experiment.seed)
    found = patches.samples(split, rows, kind)
    return found, {
        "source": kind.source,
        "split": data.split,
        "n": len(rows),
        "of": len(split),
        "fingerprint": fingerprint(found),
        "description": data.description or kind.description,
    }


def embedded_checkpoint(progress: bool = True) -> Path:
    """The ResNet-18 of the embedded set: from the cache, else trained now (a minute or two); in Keras without torch."""
    from crossxai.studies.training import TrainSettings, fit

    root = histology.build(cache_folder() / "histology")
    torch = all(importlib.util.find_spec(package) for package in ("torch", "torchvision"))
    settings = TrainSettings(framework="torch" if torch else "tensorflow")
    return fit(root, settings, cache_folder() / "models", progress)
