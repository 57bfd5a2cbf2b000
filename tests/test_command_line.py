"""What every command shares: JSON for programs, nothing else on stdout, exit statuses, lines that a pipe does not cut."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai
from typer.testing import CliRunner

import crossxai as xai
from crossxai import cli
from crossxai.cli import completing

ROOT = Path(__file__).parents[1]
OWN = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()
class Drops(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x.mean((2, 3)), 0.5, training=True)
def drops():
    return nn.Sequential(nn.Conv2d(3, 3, 3), Drops()).eval()
def with_a_name_that_is_much_longer_than_what_a_table_of_eighty_columns_would_leave_room_for():
    return net()
"""
MODEL = ("--model", "line_own:net", "--data", "images.npy", "--size", "16")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "line_own.py").write_text(OWN)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((4, 16, 16, 3), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*words: str, status: int = 0) -> Any:
    """The JSON that a command prints, which is all of its stdout."""
    done = crossxai(*words, "--json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def test_a_run_is_told_to_programs_and_its_numbers_are_those_of_its_files(folder: Path) -> None:
    found = told("compare", *MODEL, "--explainers", "captum.saliency", "--metrics", "deletion", "--out", "out")
    run = xai.Run("out")
    assert Path(found["report"]) == run.page
    assert found["verdict"]
    assert all(isinstance(finding, str) for finding in found["findings"])
    (row,) = [row for row in found["rows"] if row["label"] == "captum.saliency"]
    mean = run.summary.set_index("label").loc["captum.saliency", "mean"]
    assert row["deletion_mean"] == pytest.approx(mean)
    assert found["failures"] == []
    assert found == told("report", "out")
    flips = told("evaluate", "out", "--preset", "ours,rise", "--limit", "4")
    assert {row["preset"] for row in flips["means"]} == {"ours", "rise"}
    assert flips["pairs"]
    file = "out/explanations/net/captum.saliency.h5"
    measured = told("evaluate", file, "--model", "line_own:net", "--size", "16", "--metrics", "deletion")
    assert measured["metrics"][0]["mean"] == pytest.approx(mean, abs=1e-6)


def test_facts_parity_and_catalogues_are_told_to_programs(folder: Path) -> None:
    facts = told("check", "line_own:net", "--size", "16")
    assert facts["broken"] == 0
    assert {"deterministic", "weights trained"} <= {fact["name"] for fact in facts["models"][0]["facts"]}
    assert told("check", "line_own:drops", "--size", "16", status=1)["broken"] > 0
    page = told("parity", *MODEL, "--method", "saliency", "--samples", "2", "--out", "parity")
    assert len(page["methods"]) == 1
    assert page["not_met"] == []
    listed = told("list")
    assert {row["name"] for row in listed["explainers"]} >= {"captum.saliency", "lime.image"}
    assert set(told("list", "--metrics")) == {"metrics", "left_out"}


def test_errors_go_to_stderr_with_status_2_and_stdout_stays_empty(folder: Path) -> None:
    for words in (
        ("compare", "--model", "line_own:net", "--data", "lost.npy"),
        ("layers", "lost.keras"),
        ("check", "x.toml"),
    ):
        done = crossxai(*words, "--json")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: ")


def test_quiet_is_the_result_alone(folder: Path) -> None:
    done = crossxai("compare", *MODEL, "--metrics", "deletion", "--quiet", "--out", "out")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert "Report: " in done.stdout


def test_nothing_is_cut_where_nobody_sees_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    name = re.findall(r"def (with_\w+)", OWN)[0]
    model = ["compare", f"line_own:{name}", "--data", "images.npy", "-e", "captum.saliency", "-q"]
    done = CliRunner().invoke(cli.app, [*model, "--metrics", "deletion,insertion,aopc,sparseness,entropy"])
    assert done.exit_code == 0, done.output
    assert "…" not in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr
    header = next(line for line in done.stdout.splitlines() if "deletion" in line and "seconds" in line)
    assert "In the report, too" not in done.stdout, header  # no column is left out
    listed = CliRunner().invoke(cli.app, ["list"]).stdout
    assert "…" not in listed


def test_exit_statuses_are_documented_as_the_commands_have_them() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    statuses = re.findall(r"^\| (\d+) \|", page.partition("## Exit statuses")[2], re.M)
    assert statuses == ["0", "1", "2", "3", "130"]


def test_names_are_completed_after_commas() -> None:
    assert completing.explainers("captum.sal") == ["captum.saliency"]
    assert completing.explainers("lime.image,captum.sal") == ["lime.image,captum.saliency"]
    assert "deletion" in completing.metrics("")
