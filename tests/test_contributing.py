"""CONTRIBUTING.md, followed: its files, put where it says, are found, keep the contract and run an experiment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.S)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the page's files, and the entry point that it asks for."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "crossxai", folder / "crossxai", ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE.findall(PAGE)
    assert len(files) == 5
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")
    (line,) = re.findall(r'`(digits = "\S+")`', PAGE)
    info = folder / "my_digits-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-digits\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[crossxai.sources]\n" + line.replace('"', "") + "\n", encoding="utf-8")
    return folder


def run(place: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=place, env=environment, check=False, timeout=400
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_contract_holds(place: Path) -> None:
    assert "1 passed" in run(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_the_framework_keeps_the_contract_and_feeds_an_explainer(place: Path) -> None:
    code = """
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from crossxai import Question, Target
from crossxai.adapters.linear import LinearModel
from crossxai.explainers import get
from crossxai.testing import check_model
table, labels = load_iris(return_X_y=True)
classifier = LogisticRegression(max_iter=500).fit(table, labels)
model = LinearModel(classifier, ("sepal length", "sepal width", "petal length", "petal width"))
print(check_model(model, (table[:6],)))
question = Question(model, (table[:6],), Target.classes(labels[:6], 3))
np.testing.assert_allclose(get("mine.gradient_power")(question).values[0], np.abs(classifier.coef_[labels[:6]]))
"""
    assert "layers" in run(place, "-c", code)  # which the model does not have


def test_an_experiment_names_all_of_them(place: Path) -> None:
    (place / "own.py").write_text(
        "import numpy as np\nfrom crossxai import Modality\nfrom crossxai.adapters.numpy import FunctionModel\n"
        "def model():\n"
        "    image = Modality.image(channels=('grey',))\n"
        "    def logits(x):\n"
        "        middle = x[:, :, 3:5].mean((1, 2, 3))\n"
        "        return np.stack([-middle, middle], 1)\n"
        "    return FunctionModel(logits, (image,), outputs='logits')\n",
        encoding="utf-8",
    )
    (place / "own.toml").write_text(
        'title = "Digits"\n[data]\nsource = "digits"\nn = 4\n[[models]]\nname = "middle"\nfactory = "own:model"\n'
        '[[explainers]]\nname = "controls.random"\n[[explainers]]\nname = "controls.edges"\n'
        '[[metrics]]\nname = "kept_score"\n[[metrics]]\nname = "deletion"\n',
        encoding="utf-8",
    )
    run(place, "-m", "crossxai", "compare", "own.toml", "--out", "out")
    assert "kept_score_mean" in (place / "out" / "summary.csv").read_text(encoding="utf-8")
    listed = run(place, "-m", "crossxai", "list")
    for name in ("mine.gradient_power", "kept_score"):
        assert name in listed
    assert "Left out" not in listed


def test_every_target_and_link_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8")
    for text in (PAGE, workflow):
        for target in re.findall(r"(?:`|run: |\$ )make ([a-z-]+)", text):
            if target not in ("a",):
                assert re.search(rf"^{target}:", makefile, re.M), target
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), link
