"""The model that `crossxai demo` explains, in a cache of its own: trained once per test run, or as its training begins."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Workers share the cores; set before NumPy or a framework reads it.
if "PYTEST_XDIST_WORKER" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, str(threads))

import numpy as np
import pytest
from experiments import BOTH, toml
from pcam_server import get, published, server  # noqa: F401 - fixtures of the tests of PatchCamelyon's files

import crossxai  # noqa: F401 - before any framework: makes their import order safe


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all is imported: none of a million objects goes
    # The Keras side loads what NumPy 2.4 deprecates; one warning of a library must not end a run.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


def pytest_collection_finish() -> None:
    gc.freeze()  # what the imports made stays, and looking through it takes half a second each time
    gc.enable()


@contextmanager
def embedded_in(tmp_path_factory: pytest.TempPathFactory, cache: str) -> Iterator[Path]:
    """The checkpoint of the embedded set, made once for all workers; commands run inside find it in XDG_CACHE_HOME."""
    from crossxai.studies.networks.checkpoints import embedded_checkpoint

    own = tmp_path_factory.getbasetemp()
    # The first worker makes it, the others wait for it.
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch, (shared / f"{cache}.lock").open("w") as lock:
        patch.setenv("XDG_CACHE_HOME", str(shared / cache))
        fcntl.flock(lock, fcntl.LOCK_EX)
        checkpoint = embedded_checkpoint(progress=False)
        fcntl.flock(lock, fcntl.LOCK_UN)
        yield checkpoint


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint of the embedded set, trained here: a minute and a half, so not for the quick tests."""
    with embedded_in(tmp_path_factory, "cache") as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint of the embedded set as its training begins, for tests that take any network."""
    from crossxai.studies.training import patch_loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_loop, "train", lambda learner, *_: (learner.weights(), patch_loop.Status()))
        with embedded_in(tmp_path_factory, "untrained") as checkpoint:
            yield checkpoint


@pytest.fixture
def quantus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library, leaving the global generators that it seeds as they were."""
    import quantus as library
    import torch

    # Quantus 0.6 calls numpy.trapz, which NumPy 2.4 no longer has; it is trapezoid under its old name.
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    legacy, torch_state = np.random.get_state(), torch.get_rng_state()
    yield library
    np.random.set_state(legacy)
    torch.set_rng_state(torch_state)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """An experiment of three samples, which needs no framework."""
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data"},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [{"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}}, {"name": "controls.random"}],
        "metrics": [{"name": "deletion", "params": {"steps": 4, "modality": "image"}}],
        "controls": False,
    }
    (tmp_path / "e.toml").write_text(toml(content))
    return tmp_path
