"""Keeps one process safe for PyTorch and TensorFlow together; `import crossxai` runs `guard()` and loads neither.

Measured with torch 2.14 and TensorFlow 2.20 on Linux: loading TensorFlow before triton (which torch's CUDA wheels carry, and
torchvision and torch.optim import) makes triton's later import crash the interpreter, because both export the same
symbols. Loading triton first is fine. Two spinning OpenMP pools on few cores make torch up to 58 times slower.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np

from crossxai.errors import FOREIGN, MissingDependency

ALONE = threading.RLock()
"""Held while something of the whole process is exchanged: generators, names of libraries. No model may want it."""


class _TritonBeforeTensorFlow(MetaPathFinder):
    """Finds nothing; sees that TensorFlow is about to be loaded, and loads triton just before it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "tensorflow":
            _settle_triton()
        return None


def _settle_triton() -> None:
    if "triton" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    if "tensorflow" in sys.modules:
        # Too late to load it first. A blocked triton is an ImportError, which torch and torchvision handle on a CPU.
        sys.modules["triton"] = None  # type: ignore[assignment]
    else:
        importlib.import_module("triton")


def guard() -> None:
    """Make the import order of frameworks safe from here on; idempotent, loads no framework."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters of its start is raised, too
    # Xplique's graphs call Python, which runs a Keras graph: with one thread for both, each waits for the other for ever.
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(max(4, os.cpu_count() or 1)))
    if "tensorflow" in sys.modules:
        _settle_triton()
    elif not any(isinstance(finder, _TritonBeforeTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TritonBeforeTensorFlow())


@contextmanager
def streams_kept() -> Iterator[None]:
    """Python's, NumPy's and, if it is loaded, torch's global generators go on afterwards as if nothing had been drawn
    in between, one thread at a time; TensorFlow has no state that can be put back this way."""
    torch = sys.modules.get("torch")
    with ALONE:
        states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the generator that libraries draw from
        tensors = None if torch is None else torch.get_rng_state()
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            if torch is not None:
                torch.set_rng_state(tensors)


@contextmanager
def differentiating() -> Iterator[None]:
    """torch, if loaded, records gradients inside, whatever mode (no_grad, inference_mode) the caller is in."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch computes with so many threads inside, in the whole process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def foreign() -> tuple[type[Exception], ...]:
    """What the code of models and libraries raises, TensorFlow's own errors among it once TensorFlow is loaded.
    `CrossXAIError`s are often one of these, too: let them pass first."""
    tensorflow = sys.modules.get("tensorflow")
    return FOREIGN if tensorflow is None else (*FOREIGN, tensorflow.errors.OpError)


def require(package: str, extra: str, purpose: str) -> ModuleType:
    """Import a library that an extra brings, or raise `MissingDependency` naming that extra."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise
        raise MissingDependency(package.partition(".")[0], extra, purpose) from error


def cores() -> int:
    """Cores that this process may use; the machine's where the system does not tell, as on macOS and Windows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
