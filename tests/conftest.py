"""One default training per test run, in a cache of its own: the model that `crossxai demo` explains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import crossxai  # noqa: F401 - before any framework: makes their import order safe


def pytest_configure(config: pytest.Config) -> None:
    # The Keras side loads what NumPy 2.4 deprecates; one warning of a library must not end a run.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint of the embedded set, trained here; commands run by the tests find it in XDG_CACHE_HOME."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    from crossxai.sources import embedded_checkpoint

    yield embedded_checkpoint(progress=False)
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
