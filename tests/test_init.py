"""A commented experiment file that the command line writes runs at once, and says what the command line would have run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from experiments import crossxai
from PIL import Image

import crossxai as xai
from crossxai.experiment.specification import load
from crossxai.experiment.writing import value

OWN = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import torch

    (tmp_path / "init_own.py").write_text(OWN)
    (tmp_path / 'my "photos"').mkdir()
    for name in "ab":
        values = np.random.default_rng(ord(name)).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(values).save(tmp_path / 'my "photos"' / f"{name}.png")
    names: dict[str, object] = {}
    exec(OWN, names)
    torch.save(names["net"](), tmp_path / "net.pt")  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process
def test_the_file_runs_as_the_command_line_would_have(folder: Path) -> None:
    words = ("--model", "net.pt", "--trust", "--data", 'my "photos"', "--size", "16")
    done = crossxai("init", *words, "--out", "below/first.toml")
    assert done.exit_code == 0, done.output
    assert "crossxai compare below/first.toml" in done.stdout
    text = (folder / "below" / "first.toml").read_text()
    assert 'files = "../my \\"photos\\""' in text
    assert 'checkpoint = "../net.pt"' in text
    for words_of in ("# gradient: how the score reacts", "# Left out, attention: ", "# No metrics were named: "):
        assert words_of in text
    assert crossxai("compare", "below/first.toml", "--out", "file").exit_code == 0
    assert crossxai("compare", *words, "--out", "line").exit_code == 0
    columns = ["label", "metric", "mean"]
    file, line = (
        xai.Run(name).summary[columns].sort_values(columns[:2]).reset_index(drop=True) for name in ("file", "line")
    )
    assert file.equals(line)
    # What is commented out is right, too: everything that may be switched on is.
    switched = re.sub(r"^# (?=\[\[|name = |measure = |size = |outputs = )", "", text, flags=re.M)
    (folder / "below" / "switched.toml").write_text(switched.replace("size = 16", "", 1))
    assert len(load(folder / "below" / "switched.toml").explainers) > len(
        load(folder / "below" / "first.toml").explainers
    )


def test_nothing_is_overwritten_without_being_told(folder: Path) -> None:
    words = (
        "init",
        "--model",
        "init_own:net",
        "--data",
        'my "photos"',
        "--size",
        "16",
        "-e",
        "captum.saliency",
        "--metrics",
        "deletion",
    )
    assert crossxai(*words).exit_code == 0
    before = (folder / "experiment.toml").read_text()
    assert 'name = "captum.saliency"' in before
    again = crossxai(*words, "-n", "1")
    assert again.exit_code == 2
    assert "experiment.toml is there already: write --force" in " ".join(again.stderr.split())
    assert (folder / "experiment.toml").read_text() == before
    assert crossxai(*words, "-n", "1", "--force").exit_code == 0
    assert "n = 1 " in (folder / "experiment.toml").read_text()
    assert crossxai("init", "--model", "lost.pt", "--data", "x", "--out", "new.toml").exit_code == 2
    assert not (folder / "new.toml").exists()


@pytest.mark.parametrize(
    "given", ['a\x7fb\tc"\\', [1, 0.5, True, "é"], {"blur": 3, "data set": {"a": [1]}}, {"x": 1e-9}]
)
def test_values_are_toml(given: object) -> None:
    import tomllib

    assert tomllib.loads(f"x = {value(given)}")["x"] == given
