"""What decides maps and scores, as hashes, by which a run knows the files that it can take as they are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossxai.attribution import Explainer, Metric
from crossxai.errors import CrossXAIError
from crossxai.experiment import computing, sharding
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import predicted
from crossxai.experiment.specification import ExplainerSpec, MetricSpec
from crossxai.files import Samples, read_predictions
from crossxai.files.tasks import content, digest, version
from crossxai.plugins import code_of

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
SESSION = secrets.token_hex(8)
"""Of this process: maps of explainers that only it holds are none of another's."""
FEW = 8
"""Samples of which a model is asked whether it answers as it did."""


def of_maps(spec: ExplainerSpec, explainer: Explainer, on: str = "") -> str:
    """The hash of what decides an explainer's maps. on: that of the model and the samples."""
    library = {"gradcam": "grad-cam", "controls": "numpy"}.get(explainer.library, explainer.library)
    params = repr(explainer)
    # No file tells the code of a user's own object: another process makes its maps again.
    params += SESSION if ADDRESS.search(params) else ""
    return _digest(explainer, {"on": on, "name": spec.name, "params": params, "version": version(library)})


def of_scores(metric: Metric, link: str = "") -> str:
    """The hash of what decides a metric's scores of maps. link: what it sees outputs through."""
    return _digest(metric, {"metric": content(metric), "link": link})


def of_run(
    models: Mapping[str, LoadedModel],
    explainers: Sequence[tuple[ExplainerSpec, Explainer]],
    metrics: Mapping[str, Sequence[tuple[MetricSpec, Metric]]],
) -> str:
    """The hash of what decides a run beside its settings and the fingerprint of its samples: weights, masks, and code of somebody
    else's."""
    return digest(
        {
            "models": {name: [own.framework, own.digest, computing.stated(own.model)] for name, own in models.items()},
            "explainers": {spec.shown: of_maps(spec, explainer) for spec, explainer in explainers},
            "metrics": {name: {spec.shown: of_scores(m) for spec, m in pairs} for name, pairs in metrics.items()},
        }
    )


def answers_as_before(loaded: LoadedModel, samples: Samples, predictions: Path, first: int) -> bool:
    """Whether a model gives the first samples of a file of predictions the outputs that are there, of which no hash tells where
    they are computed by a user's own code. first: the place of the first one among all samples."""
    if loaded.complete:
        return True
    try:
        before = read_predictions(predictions).outputs[:FEW]
        rows = slice(first, first + len(before))
        inputs = tuple(samples.inputs[m.name][rows] for m in loaded.model.modalities)
        return sharding.agree(before, predicted(loaded.model, inputs, None))
    except CrossXAIError:  # the run says what is wrong with the model, and writes the file again
        return False


def _digest(used: Explainer | Metric, decides: dict[str, Any]) -> str:
    """The hash of what decides maps or scores; of somebody else's explainer or metric, with its code."""
    code = code_of(type(used))
    return digest({**decides, "code": code} if code else decides)
