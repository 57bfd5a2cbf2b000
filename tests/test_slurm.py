"""Runs on Slurm, as far as a machine without Slurm can tell: submitit runs the same jobs as processes."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from test_ray import made, place  # noqa: F401
from test_shards import assert_same

from crossxai.experiment.on_slurm import _settings
from crossxai.experiment.workers import Engine


@pytest.mark.process
def test_the_run_of_one_process_though_a_job_dies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), *sys.path]))
    assert made(place, "whole").exit_code == 0
    (place / "fatal.txt").write_text("1")
    done = made(place, "slurm", "--engine", "slurm", "--workers", "2", "--shards", "3", "--slurm", "partition=gpu")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.count("died; another goes on.") == 1
    assert_same(place / "whole", place / "slurm")
    assert list((place / "slurm" / "slurm").glob("*.err"))


def test_options_of_slurm_s_own() -> None:
    engine = Engine(gpus=2.0, slurm={"partition": "gpu", "time": "120"})
    asked: dict[str, Any] = {"gpus_per_node": 2}
    assert _settings(engine, here=True) == asked
    assert _settings(engine, here=False) == asked | {"slurm_partition": "gpu", "slurm_time": "120"}


def test_handlers_of_logging_stay_open(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in [name for name in sys.modules if name.partition(".")[0] == "submitit"]:
        monkeypatch.delitem(sys.modules, name)  # it closes them when it is imported
    closed: list[bool] = []
    handler = logging.StreamHandler()
    monkeypatch.setattr(handler, "close", lambda: closed.append(True))
    done = made(place, "out", "--engine", "slurm", "--gpus-per-worker", "0.5")
    assert "Slurm gives whole GPUs" in done.output
    assert not closed


def test_what_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "submitit", None)
    done = made(place, "out", "--engine", "slurm")
    assert done.exit_code == 2
    assert "--engine slurm needs submitit, which is not installed: " in done.output
