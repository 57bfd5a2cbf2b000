"""A run, a shard and a run in parts killed with SIGKILL go on: same results, and no map that was on disk is computed again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from experiments import SMALL, toml

from crossxai import files
from crossxai.errors import InvalidInput
from crossxai.experiment import loading, model_run, parts, sharding
from crossxai.experiment import run as runs
from crossxai.experiment.merging import merge
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import check

pytestmark = pytest.mark.process

EXPERIMENT = {
    **SMALL,
    "explainers": [
        {"name": "gradcam.gradcam", "params": {"layer": "layer4"}},
        {"name": "captum.integrated_gradients", "params": {"steps": 4}},
        {"name": "lime.image", "params": {"samples": 40}},
    ],
    "metrics": [{"name": name, "params": {"steps": 20}} for name in ("deletion", "insertion")],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> dict[str, files.Result]:
    """An uninterrupted run's explanations by label."""
    return read(runs.run(check(EXPERIMENT), tmp_path_factory.mktemp("whole")))


def read(folder: Path) -> dict[str, files.Result]:
    return {path.stem: files.read_result(path) for path in (folder / "explanations" / "pytorch").glob("*.h5")}


def killed(program: list[str], place: Path, many: int, folder: str) -> None:
    """Run a command on the experiment, and end it with SIGKILL once a model's folder holds so many files of explanations."""
    (place / "e.toml").write_text(toml(EXPERIMENT))
    command = [sys.executable, *program, "compare", str(place / "e.toml"), "--out", str(place / "out")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(place.glob(f"{folder}/explanations/pytorch/*.h5"))) < many and time.monotonic() < until:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.wait()


def seconds_of(folder: Path) -> dict[str, float]:
    """How long maps took, by which those that were made again are known."""
    return {path.as_posix(): files.read_result(path).attribution.seconds for path in folder.rglob("pytorch/*.h5")}


@pytest.mark.parametrize("files_before_the_kill", [1, 3], ids=["explaining", "judging"])
def test_a_killed_comparison_goes_on(
    tmp_path: Path, embedded: Path, whole: dict[str, files.Result], files_before_the_kill: int
) -> None:
    out = tmp_path / "out"
    killed(["-m", "crossxai"], tmp_path, files_before_the_kill, "out")
    before = read(out)
    assert files_before_the_kill <= len(before) <= 3
    assert not (out / "manifest.json").exists()
    assert not any(e.scores for e in before.values())
    seconds = seconds_of(out)
    after = read(runs.run(check(EXPERIMENT), out))
    assert (out / "manifest.json").exists()
    assert seconds.items() <= seconds_of(out).items(), "maps that were on disk have been computed again"
    assert_whole(out, after, whole, atol=0)


def test_a_killed_shard_goes_on(tmp_path: Path, embedded: Path, whole: dict[str, files.Result]) -> None:
    """And the shard that was not killed joins it."""
    out, own = tmp_path / "out", tmp_path / "out" / "shards" / "2-of-2"
    shard = ["-c", "import sys; from crossxai.cli import app; app([*sys.argv[1:], '--shard', '2/2'])"]
    killed(shard, tmp_path, 2, "out/shards/2-of-2")
    seconds = seconds_of(own)
    assert len(seconds) >= 2
    assert not (own / "manifest.json").exists()
    with pytest.raises(InvalidInput, match="2 of 2 shards are missing, 2 begun"):
        merge(out)
    for number in (1, 2):
        runs.run(check(EXPERIMENT), out, shard=Shard(number, 2))
    assert seconds.items() <= seconds_of(own).items(), "maps that were on disk have been computed again"
    assert_whole(out, read(merge(out)), whole)


IN_PARTS = """
import sys
from crossxai.experiment import loading, sharding
loading.HELD, sharding.PART = 1, 96 * 96 * 3 * 4
from crossxai.cli import app
app()
"""


def test_a_killed_run_in_parts_goes_on(
    tmp_path: Path, embedded: Path, whole: dict[str, files.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three samples in three parts, killed in the second."""
    out = tmp_path / "out"
    killed(["-c", IN_PARTS], tmp_path, 1, "out/shards/2-of-3")
    seconds = seconds_of(out)
    assert 4 <= len(seconds) <= 6
    assert not (out / "manifest.json").exists()
    made: list[str] = []
    original = model_run.write_result

    def written(path: Path, result: files.Result) -> None:
        made.append(path.as_posix())
        original(path, result)

    monkeypatch.setattr(model_run, "write_result", written)
    monkeypatch.setattr(loading, "HELD", 1)
    monkeypatch.setattr(sharding, "PART", 96 * 96 * 3 * 4)
    after = read(parts.run_all(check(EXPERIMENT), out))
    assert not [path for path in made if "1-of-3" in path]
    twice = [path for path in seconds if made.count(path) > 1]  # of what was on disk, scores alone are written
    assert not twice, "maps that were on disk have been computed again"
    assert_whole(out, after, whole)
    assert not (out / "shards").exists()


def assert_whole(out: Path, after: dict[str, files.Result], whole: dict[str, files.Result], atol: float = 1e-5) -> None:
    """The results of a run that nobody disturbed, and nothing else."""
    assert set(after) == set(whole)
    for label, explanation in after.items():
        np.testing.assert_allclose(explanation.maps["image"], whole[label].maps["image"], rtol=0, atol=atol)
        for metric in ("deletion", "insertion"):
            curves = [one[label].scores[metric].curve for one in (after, whole)]
            np.testing.assert_allclose(*curves, rtol=0, atol=atol)
    assert not [path for path in out.rglob(".*") if path.is_file()], "what the killed process left behind"
