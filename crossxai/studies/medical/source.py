"""The explanation sets of the medical tasks in an experiment: `source = "medical"`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from crossxai.data.balanced import balanced
from crossxai.errors import InvalidInput
from crossxai.experiment.specification import Data, Experiment
from crossxai.files import Samples
from crossxai.files.fingerprints import fingerprint
from crossxai.studies import medical
from crossxai.studies.medical import declared


class Medical:
    """The explanation set of a `task` in `root`, as `crossxai data medical` writes it; it has no splits."""

    name: ClassVar[str] = "medical"

    def problem(self, data: Data) -> str:
        """The folder and the task are needed."""
        if data.root is not None and data.task:
            return ""
        return (
            "source = 'medical' needs root = 'folder that crossxai data medical wrote' and "
            "task = 'classification', 'regression' or 'segmentation'"
        )

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The explanation set of one of the medical tasks."""
        data = experiment.data
        assert data.root is not None  # the experiment's own check
        assert data.task
        root = experiment.folder / data.root
        whole = medical.read(root, data.task, xai=True)
        planted = declared.planted(root)
        said = declared.DESCRIPTIONS[data.task] + ("" if planted else declared.WITHOUT_SIGNAL)
        if data.n > len(whole.ids):
            raise InvalidInput(f"data.n = {data.n} samples asked for, the explanation set holds {len(whole.ids)}")
        classes = data.task == "classification"
        rows = balanced(whole.labels, data.n, experiment.seed) if classes else np.arange(data.n)
        found = Samples(
            ids=tuple(whole.ids[row] for row in rows),
            modalities=declared.DECLARED[data.task],
            inputs={name: values[rows] for name, values in whole.inputs.items()},
            labels=whole.labels[rows],
            classes=declared.CLASSES[data.task],
            masks={name: mask[rows] for name, mask in whole.masks.items()},
            # Of a control set the masks say where the signal would lie; nothing decides there.
            truth={name: mask[rows] & planted for name, mask in whole.truth.items()},
            task=data.task,
        )
        return found, {
            "source": f"procedural medical set, {data.task}",
            "split": "explanation set",
            "n": len(rows),
            "of": len(whole.ids),
            "structure": declared.structure(root, data.task),
            "fingerprint": fingerprint(found),
            "description": data.description or said + declared.PROCEDURAL,
        }
