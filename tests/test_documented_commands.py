"""The commands of docs/command-line.md, and the examples with photographs, as their readers follow them."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from documented import commands, followed
from experiments import crossxai

import crossxai as xai

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example has run, with what the page's commands name."""
    place = tmp_path_factory.mktemp("photographs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        runpy.run_path(str(ROOT / "examples" / "photographs.py"), run_name="__main__")
    shutil.copytree(place / "out" / "photographs", place / "photos")
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=4).state_dict(), place / "own.pt")
    return place


def few(words: list[str]) -> list[str]:
    """Two samples, and no progress, of what takes samples."""
    return ["-n", "2"] if words[0] in ("compare", "init") else []


def test_the_commands_on_twelve_photographs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = commands("command-line.md", "On twelve photographs")
    assert len(lines) == 4
    followed(place, lines, few)
    transformer = xai.Run(place / "out" / "transformer").summary
    assert {"attention.relevance", "gradcam.gradcam"} <= set(transformer[transformer["n"] > 0]["label"])
    two = xai.Run(place / "out" / "two")
    assert two.scores["value"].between(-0.05, 1.05).all()  # of probabilities; estimated areas may lie a little beyond
    assert set(two.models) == {"photographs", "vit"}
    page = (place / "out" / "transformer" / "report.html").read_text(encoding="utf-8")
    assert "living" in page  # the labels of the table are the model's classes
    (place / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "photographs.toml", place / "examples")
    monkeypatch.chdir(place)
    done = crossxai("compare", "examples/photographs.toml", "-n", "2", "--out", "out/file", "-q")
    assert done.exit_code == 0, done.output
    assert set(xai.Run("out/file").models) == {"keras", "vit"}


def test_all_other_commands_of_the_page(place: Path) -> None:
    there = commands("command-line.md", "On twelve photographs")
    lines = [line for line in commands("command-line.md") if line not in there]
    assert len(lines) > 6
    followed(place, lines, few)
