"""The engine does not know the case studies: without their folder it works, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, the studies left out."""
    place = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "crossxai", place / "crossxai", ignore=shutil.ignore_patterns("studies", "__pycache__"))
    return place


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=copy, env=environment, check=False
    )


def test_an_experiment_of_one_s_own_ends_with_a_report(copy: Path) -> None:
    shutil.copy(ROOT / "examples" / "own_model.py", copy / "own_model.py")
    (copy / "own_data.py").write_text(
        "import numpy as np\nfrom crossxai import Modality\nfrom crossxai.files import Samples\n"
        "def images():\n"
        "    x = np.random.default_rng(0).random((4, 96, 96, 3), dtype=np.float32)\n"
        "    ids = tuple('abcd')\n"
        "    return Samples(ids, (Modality.image(),), {'image': x}, np.array([0, 1, 0, 1]), ('no', 'yes'))\n",
        encoding="utf-8",
    )
    text = (ROOT / "examples" / "own_model.toml").read_text(encoding="utf-8")
    own = text.replace("[data]\nn = 6", '[data]\nfactory = "own_data:images"')
    assert own != text
    (copy / "own.toml").write_text(own[: own.index('[[metrics]]\nname = "centre_share"')], encoding="utf-8")
    done = run(copy, "crossxai", "compare", "own.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (copy / "out" / "report.html").is_file()


def test_what_is_missing_is_named(copy: Path) -> None:
    listed = run(copy, "crossxai", "list")
    assert listed.returncode == 0, listed.stderr
    for name in ("'embedded'", "'trained'", "'data.medical'"):
        assert f"Left out: plug-in {name} of package crossxai: cannot be loaded" in listed.stdout
    helped = run(copy, "crossxai", "data", "--help")
    assert "Left out" in helped.stdout, helped.stderr
    called = run(copy, "crossxai", "data", "medical", "--out", "somewhere")
    assert called.returncode == 2
    assert "plug-in 'data.medical' of package crossxai: cannot be loaded: ModuleNotFoundError" in called.stderr
    demo = run(copy, "crossxai", "demo")
    assert demo.returncode == 2
    assert "no source is called 'embedded'" in demo.stderr
    assert "Traceback" not in demo.stderr


def test_the_tests_of_the_seam_pass(copy: Path) -> None:
    tests = [
        str(ROOT / "tests" / f"test_{name}.py") for name in ("question", "masks", "measures", "reference", "attention")
    ]
    names = [*tests, "--noconftest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-W", "ignore"]
    done = run(copy, "pytest", *names)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
