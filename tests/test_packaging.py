"""The wheel: what is in it, and what it does in an environment that holds nothing but what it asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.process


def call(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ROOT)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its own dependencies: no framework, no explainer library."""
    place = tmp_path_factory.mktemp("bare")
    call(sys.executable, "-m", "venv", place)
    constraints = ("--constraint", ROOT / "constraints.txt")
    call(place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, wheel)
    return place / "bin"


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = call("git", "-C", ROOT, "ls-files", "crossxai").split()
    assert names == set(tracked)
    assert {"crossxai/py.typed", "crossxai/demo.toml", "crossxai/report/templates/report.html.j2"} <= names


def test_without_a_framework_the_command_line_and_the_package_work(bare: Path) -> None:
    assert re.search(r"compare .*\n.* list ", call(bare / "crossxai", "--help"), re.S)
    assert "captum.saliency" in call(bare / "crossxai", "list")
    assert call(bare / "python", "-c", "import crossxai; print(crossxai.__version__)").strip()


def test_without_a_framework_a_function_is_explained_and_evaluated(bare: Path) -> None:
    code = """
import numpy as np
from crossxai import Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation import get as metric
from crossxai.explainers import get as explainer
model = FunctionModel(lambda x: x @ np.array([[1.0, 0], [0, 2]]), (Modality.table(("a", "b")),), outputs="logits")
table = np.random.default_rng(0).random((4, 2))
question = Question(model, (table,), Target.classes([0, 1, 0, 1], 2))
maps = explainer("reference.shapley")(question)
print(metric("deletion")(question, maps).value.shape)
"""
    assert call(bare / "python", "-c", code).strip() == "(4,)"


def test_what_is_missing_is_named_with_the_extra_that_brings_it(bare: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [bare / "crossxai", "demo", "--out", tmp_path / "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "pip install 'crossxai[" in done.stderr
    assert "Traceback" not in done.stderr
