"""One default training per test run, in a cache of its own: the model that `crossxai demo` explains."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Workers share the cores; set before NumPy or a framework reads it.
if "PYTEST_XDIST_WORKER" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, str(threads))

import numpy as np
import pytest
from pcam_server import get, published, server  # noqa: F401 - fixtures of the tests of PatchCamelyon's files

import crossxai  # noqa: F401 - before any framework: makes their import order safe


def pytest_configure(config: pytest.Config) -> None:
    # The Keras side loads what NumPy 2.4 deprecates; one warning of a library must not end a run.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint of the embedded set, trained here; commands run by the tests find it in XDG_CACHE_HOME."""
    from crossxai.studies.networks.checkpoints import embedded_checkpoint

    own = tmp_path_factory.getbasetemp()
    # The first worker trains, the others wait for it.
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch, (shared / "training.lock").open("w") as lock:
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        checkpoint = embedded_checkpoint(progress=False)
        fcntl.flock(lock, fcntl.LOCK_UN)
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
