"""The PatchCamelyon study as its user runs it: the commands of docs/pcam.md, small by default, as printed in the deep tests."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import ROOT, commands
from documented import followed as run
from experiments import crossxai

from crossxai.report import run as runs
from crossxai.studies.networks import weight_files

pytestmark = pytest.mark.process

LESS = ((r"^n = \d+$", "n = 4"), (r"steps = 100\b", "steps = 5"), (r"samples = \d+", "samples = 20"))


def smaller(experiment: str) -> str:
    """The experiment with few patches, steps and samples."""
    for pattern, less in LESS:
        experiment = re.sub(pattern, less, experiment, flags=re.M)
    return experiment


def followed(place: Path, small: bool) -> dict[str, float]:
    """Run every command of the page's first section in a folder; seconds by command. small: few patches, steps and epochs."""
    examples = place / "examples" / "pcam"
    examples.mkdir(parents=True)
    for path in (ROOT / "examples" / "pcam").glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        (examples / path.name).write_text(smaller(text) if small else text)

    def fewer(words: list[str]) -> list[str]:
        if "synthetic" in words:
            return ["--n", "120"]
        if "train" not in words:
            return []
        share = "0.02" if "data/histology" in words else "0.5"  # as few of either set
        return ["--epochs", "1", "--batch-size", "16", "--fraction", share]

    lines = commands("pcam.md", "From nothing to a report")
    return run(place, lines, fewer if small else (lambda words: []))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    followed(place, small=True)
    return place


@pytest.mark.parametrize("name", ["study", "shortcut"])
def test_the_commands_end_with_a_report(small: Path, name: str) -> None:
    made = runs.load(small / "out" / name)
    assert {e.status for e in made.explanations} == {"ok"}
    assert all(not model["refused"] for model in made.manifest["models"])
    page = (small / "out" / name / "report.html").read_text(encoding="utf-8")
    for section in ("places", "samples", "curves"):
        assert f'<section id="{section}">' in page, section
    for explanation in made.explanations:
        assert {"deletion", "insertion"} <= set(explanation.scores)


def test_each_explainer_is_scored_with_its_own_maps(small: Path) -> None:
    """The study's mistake: the row of one explainer computed with the maps of another."""
    made = runs.load(small / "out" / "study")
    for model in made.models:
        curves = [e.scores["deletion"].curve for e in made.of(model).values()]
        for i, one in enumerate(curves):
            assert not any(np.array_equal(one, other) for other in curves[:i])


def test_both_frameworks_train(small: Path) -> None:
    metas = {name: weight_files.read(small / "models" / f"histology{name}.npz").meta for name in ("", "-keras")}
    assert {name: meta["framework"] for name, meta in metas.items()} == {"": "torch", "-keras": "tensorflow"}
    assert metas[""]["data"] == metas["-keras"]["data"]
    # The same weights to begin with, the same patches in the same order, the same augmentation.
    losses = [meta["history"][0]["train_loss"] for meta in metas.values()]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_commands_for_the_real_files_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody downloads 8 GB in a test: from a mirror where nothing is, and from a folder that is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [shlex.split(line)[1:] for line in commands("pcam.md", "The real files")]
    assert [words[:2] for words in lines] == [
        ["data", "pcam"],
        ["data", "pcam"],
        ["train", "pcam"],
        ["compare", "examples/pcam/real.toml"],
    ]
    (tmp_path / "mirror").mkdir()
    done = crossxai(*lines[0], "--mirror", (tmp_path / "mirror").as_uri())
    assert done.exit_code == 2, done.output
    for words in lines[1:]:
        done = crossxai(*words)
        assert done.exit_code in (1, 2), (words, done.output, done.exception)
        assert "pcam" in done.output


# What the issue promises at full size


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    seconds = followed(place, small=False)
    print({line: round(s) for line, s in seconds.items()}, round(sum(seconds.values())))
    return place


@pytest.mark.deep
def test_the_shortcut_is_exposed(full: Path) -> None:
    """On 20,000 patches: the attribution goes to the mark, the centre share collapses, and the page says so first."""
    made = runs.load(full / "out" / "shortcut")
    shares = {
        model: {
            metric: float(
                np.nanmean([e.scores[metric].value for e in made.of(model).values() if not runs.is_control(e)])
            )
            for metric in ("centre_share", "share of the mark")
        }
        for model in made.models
    }
    honest, fooled = shares["honest"], shares["shortcut"]
    assert fooled["share of the mark"] > 5 * honest["share of the mark"], shares
    assert fooled["centre_share"] < honest["centre_share"] / 2, shares
    page = (full / "out" / "shortcut" / "report.html").read_text(encoding="utf-8")
    assert "Shortcut?" in page
    assert "into the top left ninth" in page
    assert "Shortcut?" not in (full / "out" / "study" / "report.html").read_text(encoding="utf-8")


@pytest.mark.deep
def test_memory_does_not_depend_on_the_set_s_size(full: Path, tmp_path: Path) -> None:
    """Peak of a training epoch on all of 2,000 and of 20,000 patches, and of a comparison of four, each in its own process."""
    assert crossxai("data", "pcam", "synthetic", "--out", str(tmp_path / "few"), "--n", "2000").exit_code == 0
    peaks: dict[str, list[float]] = {"train": [], "compare": []}
    for root in (tmp_path / "few", full / "data" / "pcam-synthetic"):
        out = tmp_path / root.name
        text = (ROOT / "examples" / "pcam" / "real.toml").read_text(encoding="utf-8")
        text = re.sub(r"^root = .*$", f'root = "{root}"', text, flags=re.M)
        text = re.sub(r"^checkpoint = .*$", f'checkpoint = "{out}.npz"', text, flags=re.M)
        (tmp_path / "e.toml").write_text(smaller(text))
        train = ["train", "pcam", "--data", str(root), "--out", f"{out}.npz", "--epochs", "1"]
        for name, words in (("train", train), ("compare", ["compare", str(tmp_path / "e.toml"), "--out", str(out)])):
            peaks[name].append(peak(words))
    print(peaks)
    for name, (few, many) in peaks.items():
        assert many < few + 100, (name, peaks)


def peak(words: list[str]) -> float:
    """The largest resident size of a command, in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'crossxai', *sys.argv[1:]], check=True, "
        "stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])
