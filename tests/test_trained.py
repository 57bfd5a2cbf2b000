"""Slow checks on the trained network itself, and on what its training depends on; `make test-all` runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from crossxai import Modality, Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.studies.networks import keras_networks, torch_networks, weight_files
from crossxai.studies.pcam.reading import PCam
from crossxai.studies.training import TrainSettings, fit

pytestmark = pytest.mark.deep


@pytest.mark.parametrize("seed", [1, 2])
def test_other_seeds_are_right_too(seed: int, embedded: Path, tmp_path: Path) -> None:
    path = fit(embedded.parents[1] / "histology", TrainSettings(seed=seed), tmp_path, progress=False)
    assert weight_files.read(path).meta["metrics"]["test"]["balanced_accuracy"] >= 0.85


@pytest.fixture(scope="module")
def twins(embedded: Path) -> tuple[Question, Question]:
    held = weight_files.read(embedded)
    standardise = {"image": (held.mean.tolist(), held.sd.tolist())}
    images = PCam(embedded.parents[1] / "histology", "test").images(range(0, 400, 100))
    models: list[Any] = [
        TorchModel(torch_networks.load(embedded, held), (Modality.image(),), standardise=standardise),
        KerasModel(keras_networks.load(embedded, held), (Modality.image(),), standardise=standardise),
    ]
    labels = models[0].predict((images,)).argmax(axis=1)
    first, second = (Question(model, (images,), Target.classes(labels, 2)) for model in models)
    return first, second


FEWER: dict[str, dict[str, Any]] = {
    "captum.shapley_value_sampling": {"samples": 3},
    "gradcam.sess": {"sizes": 3},
    "lime.image": {"samples": 200},
    "reference.rise": {"samples": 200},
    "xplique.occlusion": {"patch": 16, "stride": 8},
    "xplique.rise": {"samples": 200},
    "xplique.sobol": {"designs": 4},
}


# One number for the whole image has no ranks to compare: modality ablation.
COMPARED = [
    name
    for name, kind in discover().items()
    if kind.needs not in ("nothing", "attention") and "image" in kind.kinds and name != "captum.modality_ablation"
]


@pytest.mark.parametrize("name", COMPARED)
def test_every_explainer_agrees_between_the_frameworks(twins: tuple[Question, Question], name: str) -> None:
    """On trained weights and real patches, with the default parameters except where they ask thousands of times."""
    here, there = (get(name, **FEWER.get(name, {}))(question).values[0] for question in twins)
    assert np.linalg.norm(here - there) <= 5e-3 * np.linalg.norm(here)
    for a, b in zip(here, there, strict=True):
        assert spearmanr(a.ravel(), b.ravel()).statistic >= 0.999


def test_the_demo_runs_on_one_core(embedded: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"sys.argv = ['crossxai', 'demo', '-n', '1', '--out', {str(tmp_path)!r}]\n"
        "from crossxai.cli import app; app()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "report.html").is_file()
    assert os.environ["XDG_CACHE_HOME"] in str(embedded)
