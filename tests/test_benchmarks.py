"""The benchmarks run, and what they compare gives the same curves; what they measure is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(script: str, *words: str) -> str:
    done = subprocess.run([sys.executable, FOLDER / script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.deep
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_harness(framework: str) -> None:
    """All rivals' curves are compared with ours before anything is timed."""
    words = ("--alone", "--frameworks", framework, "--sides", "48", "--images", "2", "--steps", "6", "--repeats", "1")
    found = json.loads(run("harness.py", *words).splitlines()[-1])
    assert found["passes"] == 2 * (2 * 7 - 2)
    assert all(seconds[0] > 0 for seconds in found["seconds"].values())


def test_memory() -> None:
    """The peak stays below the formula in every row."""
    table = run("memory.py", "--samples", "5", "50", "--side", "16")
    rows = [line.split("│")[1:-1] for line in table.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["5", "50"]
    for row in rows:
        peak, bound = (float(cell) for cell in row[-2:])
        assert 0 < peak < bound


@pytest.mark.deep
def test_device() -> None:
    """All rivals' curves are compared with ours, and without a GPU the title says so."""
    table = run("device.py", "--quick")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["resnet18, float32", "resnet18, bfloat16"]
    assert all(float(cell) > 0 for cell in rows[0][2:-1])
    assert "there is no GPU" in table or "On NVIDIA" in table


@pytest.mark.deep
def test_pcam_study() -> None:
    """The plain loop's curves are compared with ours before anything is shown."""
    words = ("--images", "2", "--steps", "5", "--looped", "1", "--samples", "20", "--repeats", "1")
    found = json.loads(run("pcam_study.py", "--alone", "--frameworks", "torch", *words).splitlines()[-1])
    assert found["passes"] == 2 * (2 + 3 * 2 * 4)
    assert found["looped"] == 2 * 6
    assert set(found["seconds"]) == {"bare", "ours", "loop"}


def test_reading() -> None:
    """Every way of reading is there, with a rate."""
    table = run("reading.py", "--patches", "128", "--repeats", "1")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows[:2]] == [
        ["h5py, whole chunks", "the file's", ""],
        ["patches", "the file's", "0 threads"],
    ]
    assert len(rows) == 1 + 2 * 2 * 5
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)


def test_structure() -> None:
    """One row per measure, and evaluation has no import circle."""
    table = run("structure.py")
    assert "| files that one Deletion(24) calls |" in table
    assert "crossxai.evaluation" not in table


def test_intervals() -> None:
    """Two tables of means and two of differences, two of groups, and one of other intervals."""
    found = run("intervals.py", "--repeats", "20", "--kinds", "1 to 9")
    assert found.count("| --- |") == 6
    assert "nan" not in found
    others = run("other_intervals.py", "--repeats", "5")
    assert others.count("| --- |") == 1
    assert "nan" not in others


def test_porting_tools() -> None:
    """A network is brought over and explained alike, and a converter that is not there is a row that says so."""
    printed = run("porting_tools.py", "--certify", "--networks", "fusion_classifier", "--tools", "CrossXAI", "nobuco")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    ours, missing = rows[2:4]
    assert ours[:2] == ["fusion_classifier", "CrossXAI"]
    assert all(float(cell) < 1e-3 for cell in ours[2:5])  # outputs, Grad-CAM, DeepLIFT
    assert "+" in ours[6]  # the certificate was made
    assert "fails" not in ours[6]
    assert missing[2] == "not installed: nobuco"  # its Keras 2 cannot be in one environment with ours
    assert rows[6][:7] == ["CrossXAI", "the other framework", "1 of 1", "1", "1 of 1", "1 of 1", "0 of 1"]


def test_first_report() -> None:
    """One command and a script by hand both end with their files; the script's lines are those that the README says."""
    table = run("first_report.py", "--size", "48", "--repeats", "1")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("crossxai", "1", "report/report.html"),
        ("by hand", "32", "maps.png"),
    ]
    assert "are 32 lines" in (FOLDER.parent / "README.md").read_text(encoding="utf-8")
