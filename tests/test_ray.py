"""Runs on Ray: the same files as one process makes, whoever made which shard, and though workers die."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiments import crossxai, toml
from rich.console import Console
from test_shards import assert_same

from crossxai.errors import InvalidInput
from crossxai.experiment import on_ray, specification
from crossxai.experiment.run import run
from crossxai.experiment.workers import Engine, count_of
from crossxai.files import read_result
from crossxai.report import write_report

TOLD = """
import os
from pathlib import Path
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

PLACE = Path(__file__).parent
IMAGE = (Modality.image(),)

def data():
    images = np.random.default_rng(0).random((10, 16, 16, 3), np.float32)
    return Samples(tuple('abcdefghij'), IMAGE, {'image': images}, np.arange(10) % 2, ('no', 'yes'))

def model():
    if (PLACE / 'never.txt').exists():
        os._exit(9)
    if (PLACE / 'once.txt').exists():
        (PLACE / 'once.txt').unlink()
        os._exit(9)
    with (PLACE / 'models.txt').open('a') as file:
        file.write(f'{os.getpid()}\\n')
    def f(x):
        fatal = PLACE / 'fatal.txt'
        deaths = int(fatal.read_text()) if fatal.exists() else 0
        if deaths and len(x) < 10 and os.getpid() != int((PLACE / 'driver.txt').read_text()):
            fatal.write_text(str(deaths - 1))
            os._exit(9)
        s = 4 * x[:, :8, :8].mean(axis=(1, 2, 3))
        return np.stack([-s, s], axis=1)
    return FunctionModel(f, IMAGE)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return experiment_in(tmp_path)


def experiment_in(folder: Path) -> Path:
    """The folder, with an experiment and what it names."""
    (folder / "told.py").write_text(TOLD)
    (folder / "driver.txt").write_text(str(os.getpid()))
    content = {
        "data": {"factory": "told:data"},
        "models": [{"name": "f", "factory": "told:model"}],
        "explainers": [{"name": "reference.rise", "profile": "canonical", "params": {"samples": 40}}],
        "metrics": [{"name": "deletion", "params": {"steps": 4}}],
    }
    (folder / "e.toml").write_text(toml(content))
    return folder


def made(place: Path, out: str, *words: str) -> Any:
    return crossxai("compare", str(place / "e.toml"), "--out", str(place / out), *words)


@pytest.mark.process
def test_two_workers_make_the_run_of_one_process(place: Path) -> None:
    """Each worker makes its model once, for all of its shards; the same command again makes nothing anew."""
    assert made(place, "whole").exit_code == 0
    (place / "models.txt").unlink()
    words = ("--engine", "ray", "--workers", "2", "--shards", "5")
    done = made(place, "ray", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "5 of 5 shards" in done.output
    assert_same(place / "whole", place / "ray")
    processes = (place / "models.txt").read_text().split()
    assert len(processes) == len(set(processes)) == 2
    shards = sorted((place / "ray" / "shards").glob("*/manifest.json"))
    before = [path.stat().st_mtime_ns for path in shards]
    manifest = json.loads(shards[0].read_text())
    assert manifest["shard"]["command"] == f"crossxai compare {place / 'e.toml'}"
    assert made(place, "ray", *words).exit_code == 0
    assert [path.stat().st_mtime_ns for path in shards] == before


@pytest.mark.process
def test_a_shard_whose_worker_dies_goes_on_in_another_and_one_that_kills_three_is_given_up(place: Path) -> None:
    assert made(place, "whole").exit_code == 0
    (place / "fatal.txt").write_text("2")
    (place / "once.txt").touch()
    words = ("--engine", "ray", "--workers", "1", "--shards", "2")
    done = made(place, "ray", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.count("A worker died while it loaded models and samples; another one does.") == 1
    assert done.output.count("A worker died; shard 1/2 goes on in another.") == 2
    assert_same(place / "whole", place / "ray")
    (place / "fatal.txt").write_text("9")
    done = made(place, "other", *words)
    assert done.exit_code == 2
    assert "shard 1/2 ended 3 workers" in done.output
    assert not (place / "other" / "manifest.json").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    ("engine", "words"), [("ray", "3 workers, one after the other, ended while they"), ("slurm", "ended while it")]
)
def test_a_worker_that_dies_as_it_loads_is_told_in_words(
    place: Path, engine: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), *sys.path]))
    (place / "never.txt").touch()
    done = made(place, "out", "--engine", engine, "--workers", "1")
    assert done.exit_code == 2, (done.output, done.exception)
    assert f"{words} loaded models and samples" in done.output


def killed(out: Path, moments: random.Random, kills: int, going: threading.Thread) -> tuple[int, dict[Path, float]]:
    """Kill workers −9 at random moments of a run; how many were, and of files that were there, how long their maps took."""
    done, kept = 0, dict[Path, float]()
    while going.is_alive() and done < kills:
        going.join(moments.uniform(2.0, 14.0))
        workers = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and _is_worker(p)]
        if not workers or not going.is_alive():
            continue
        for path in out.glob("shards/*/explanations/*/*.h5"):
            kept.setdefault(path, read_result(path).attribution.seconds)
        os.kill(moments.choice(workers), signal.SIGKILL)
        done += 1
    going.join()
    return done, kept


def _is_worker(process: Path) -> bool:
    """Whether it is a worker of the Ray that this process started."""
    try:
        if not (process / "cmdline").read_bytes().startswith(b"ray::Worker"):
            return False
        while (parent := int((process / "stat").read_text().rpartition(")")[2].split()[1])) not in (0, os.getpid()):
            process = process.parent / str(parent)
    except OSError:  # it has ended
        return False
    return parent == os.getpid()


@pytest.mark.deep
def test_ten_workers_killed_at_random_moments(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run after the other, until ten are. No map that was on disk is computed twice: each keeps the time that it took."""
    monkeypatch.setattr(on_ray, "TRIES", 20)
    told, slow = (place / "told.py").read_text(), "        __import__('time').sleep(0.15)\n"
    (place / "told.py").write_text(told.replace("        s = 4", f"{slow}        s = 4"))
    content = specification.read_toml(place / "e.toml", "experiment file")
    content["explainers"].append({"name": "lime.image", "params": {"samples": 40}})
    experiment = specification.check({**content, "folder": place}, "a test")
    run(experiment, place / "whole", Console(quiet=True))
    write_report(place / "whole")
    moments, left, kept = random.Random(0), 10, 0
    while left:
        out, errors = place / str(left), list[BaseException]()

        def work(out: Path = out, errors: list[BaseException] = errors) -> None:
            try:
                on_ray.run_on_ray(experiment, out, Engine(workers=2, shards=5), console=Console(quiet=True))
            except BaseException as error:
                errors.append(error)

        going = threading.Thread(target=work)
        going.start()
        done, explained = killed(out, moments, left, going)
        assert not errors
        write_report(out)
        assert_same(place / "whole", out)
        assert {path: read_result(path).attribution.seconds for path in explained} == explained
        left, kept = left - done, kept + len(explained)
    assert kept > 20


def test_workers_share_what_there_is() -> None:
    assert on_ray._shares({"CPU": 16}, Engine()) == (4, {"num_cpus": 4.0, "num_gpus": 0.0})
    assert on_ray._shares({"CPU": 2}, Engine()) == (1, {"num_cpus": 2.0, "num_gpus": 0.0})
    assert on_ray._shares({"CPU": 2}, Engine(workers=4))[1]["num_cpus"] < 0.5
    assert on_ray._shares({"CPU": 32, "GPU": 8}, Engine(gpus=1)) == (8, {"num_cpus": 4.0, "num_gpus": 1})
    assert on_ray._shares({"CPU": 32, "GPU": 1}, Engine(gpus=0.25))[0] == 4
    for engine in (Engine(gpus=1), Engine(workers=3, gpus=0.5)):
        with pytest.raises(InvalidInput, match="GPUs"):
            on_ray._shares({"CPU": 2, "GPU": 0.0 if engine.gpus == 1 else 1.0}, engine)


def test_shards_are_a_few_for_each_worker_or_those_that_are_there(tmp_path: Path) -> None:
    assert count_of(Engine(), 3, 100, 1, tmp_path) == 12
    assert count_of(Engine(), 3, 5, 1, tmp_path) == 5
    (tmp_path / "shards" / "2-of-7").mkdir(parents=True)
    assert count_of(Engine(), 3, 100, 1, tmp_path) == 7
    assert count_of(Engine(shards=9), 3, 100, 1, tmp_path) == 9
    with pytest.raises(InvalidInput, match="at most 5 shards"):
        count_of(Engine(shards=9), 3, 5, 1, tmp_path)


def test_what_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = made(place, "out", "--engine", "ray")
    assert done.exit_code == 2
    assert "--engine ray needs ray, which is not installed: " in done.output


def test_engines_that_are_none_are_refused(place: Path) -> None:
    for words, message in (
        (("--engine", "spark"), "--engine is ray or slurm, got spark"),
        (("--engine", "ray", "--shard", "1/2"), "do not write it beside --shard"),
        (("--price", "2.5"), "--price belongs beside --dry-run"),
        (("--dry-run", "--price", "2,5"), "--price 2,5: write what a worker costs for an hour as a number"),
        (("--dry-run", "--price", "-1"), "--price -1: write what a worker costs"),
        (("--engine", "ray", "--dry-run", "--address", "auto"), "--workers 8"),
        (("--workers", "2"), "--workers belongs beside --engine ray or --engine slurm"),
        (("--engine", "slurm", "--address", "auto"), "--address belongs beside --engine ray"),
        (("--engine", "ray", "--slurm", "partition=gpu"), "--slurm belongs beside --engine slurm"),
        (("--engine", "slurm", "--slurm", "partition"), "--slurm partition: write KEY=VALUE"),
    ):
        done = made(place, "out", *words)
        assert done.exit_code == 2
        assert message in done.output


@pytest.mark.parametrize(
    ("said", "address", "seen"),
    [(None, "", "0"), ("1", "", "1"), (None, "auto", None)],
    ids=["here", "asked for", "there"],
)
def test_ray_reports_no_usage_unless_somebody_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, address: str, seen: str | None
) -> None:
    def init(**options: Any) -> None:
        assert os.environ.get("RAY_USAGE_STATS_ENABLED") == seen
        raise ConnectionError("as far as this test goes")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", said or "")  # which is as it was afterwards
    if said is None:
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    done = made(place, "out", "--engine", "ray", *(("--address", address) if address else ()))
    assert "as far as this test goes" in done.output
