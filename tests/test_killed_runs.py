"""A comparison killed with SIGKILL, anywhere, goes on: same results, and no map that was on disk is computed again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from experiments import SMALL, toml

from crossxai import files
from crossxai.experiment import run as runs
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


@pytest.mark.parametrize("files_before_the_kill", [1, 3], ids=["explaining", "judging"])
def test_a_killed_comparison_goes_on(
    tmp_path: Path, embedded: Path, whole: dict[str, files.Result], files_before_the_kill: int
) -> None:
    (tmp_path / "e.toml").write_text(toml(EXPERIMENT))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "crossxai", "compare", str(tmp_path / "e.toml"), "--out", str(out)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(out.glob("explanations/pytorch/*.h5"))) < files_before_the_kill and time.monotonic() < until:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.wait()
    before = read(out)
    assert files_before_the_kill <= len(before) <= 3
    assert not (out / "manifest.json").exists()
    assert not any(e.scores for e in before.values())

    after = read(runs.run(check(EXPERIMENT), out))
    assert (out / "manifest.json").exists()
    for label, explanation in before.items():
        assert after[label].attribution.seconds == explanation.attribution.seconds, (
            f"{label} was on disk and has been computed again"
        )
    assert set(after) == set(whole)
    for label, explanation in after.items():
        np.testing.assert_array_equal(explanation.maps["image"], whole[label].maps["image"])
        for metric in ("deletion", "insertion"):
            np.testing.assert_array_equal(explanation.scores[metric].curve, whole[label].scores[metric].curve)
    assert not [path for path in out.rglob(".*") if path.is_file()], "what the killed process left behind"
