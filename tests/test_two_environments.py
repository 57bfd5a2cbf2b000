"""Two environments that pip makes, one without TensorFlow, one without torch: maps of either are evaluated in the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from test_explanations import IMAGES, MODULE, network, pictures, relative

import crossxai as xai

pytestmark = pytest.mark.deep
ROOT = Path(__file__).parents[1]
PORTED = """
import torch
from network import Network

def network():
    made = Network()
    made.load_state_dict(torch.load("weights.pt", weights_only=True))
    return made.eval()
"""
VALUES = """
import json, sys
import crossxai as xai
scores = xai.evaluate(sys.argv[2], attributions=sys.argv[1], metrics=["deletion", "insertion"])
print(json.dumps([metric.value.tolist() for (row,) in [scores.values()] for metric in row.values()]))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the folder that its programs run in."""

    path: Path
    place: Path

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
        command = [self.path / "bin" / program, *words]
        return subprocess.run(command, cwd=self.place, env=own, capture_output=True, text=True, check=False)

    def done(self, program: str, *words: str) -> str:
        """What a program prints that has to succeed."""
        finished = self.run(program, *words)
        assert finished.returncode == 0, (words, finished.stdout[-2000:], finished.stderr[-2000:])
        return finished.stdout

    def has(self, package: str) -> bool:
        found = f"from importlib.util import find_spec; print(find_spec({package!r}) is not None)"
        return self.done("python", "-c", found).strip() == "True"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch network with its Keras port, a Keras network with its torch port, and pictures."""
    folder = tmp_path_factory.mktemp("networks")
    pictures(folder)
    (folder / "own_network.py").write_text(MODULE, encoding="utf-8")
    xai.port(network(), "keras", IMAGES, out=folder)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    net = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Conv2D(6, 3, activation="relu"), layers.Flatten(), layers.Dense(4)]
    )
    net.save(folder / "native.keras")
    xai.port(net, "torch", IMAGES, out=folder)
    (folder / "ported.py").write_text(PORTED, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environments(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Environment]]:
    """An environment by the framework that it has; 9 GB together, removed afterwards."""
    folder = tmp_path_factory.mktemp("environments")
    made = {name: Environment(folder / name, place) for name in ("torch", "tensorflow")}
    try:
        for environment in made.values():
            subprocess.run([sys.executable, "-m", "venv", environment.path], check=True)
        install = ("install", "--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"))
        made["torch"].done("pip", *install, f"{ROOT}[captum]")
        made["tensorflow"].done("pip", *install, f"{ROOT}[xplique-cpu]")
        made["tensorflow"].done("pip", *install, "--no-deps", "xplique")
        yield made
    finally:
        shutil.rmtree(folder)


def test_neither_has_the_other_s_framework(environments: dict[str, Environment]) -> None:
    sides = {"torch": ("torch", "torchvision", "captum"), "tensorflow": ("tensorflow", "keras", "xplique")}
    for name, environment in environments.items():
        for side, packages in sides.items():
            assert [environment.has(package) for package in packages] == [side == name] * 3, (name, side)


@pytest.mark.parametrize(
    ("here", "model", "explainer", "there", "port", "wrong"),
    [
        ("torch", "own_network:network", "captum.integrated_gradients", "tensorflow", "model.keras", "native.keras"),
        (
            "tensorflow",
            "native.keras",
            "xplique.integrated_gradients",
            "torch",
            "ported:network",
            "own_network:network",
        ),
    ],
)
def test_maps_of_one_are_evaluated_in_the_other(
    environments: dict[str, Environment], place: Path, monkeypatch: pytest.MonkeyPatch,
    here: str, model: str, explainer: str, there: str, port: str, wrong: str,
) -> None:  # fmt: skip
    out, other = f"out/{here}", environments[there]
    environments[here].done(
        "crossxai", "explain", "--model", model, "--data", "photos", "--size", "32", "--explainer", explainer,
        "--param", "steps=8", "--out", out,
    )  # fmt: skip
    measured = json.loads(other.done("python", "-c", VALUES, f"{out}/maps.h5", port).splitlines()[-1])
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    expected = xai.evaluate(port, attributions=f"{out}/maps.h5", metrics=["deletion", "insertion"])[explainer]
    assert np.ptp(expected["insertion"].value) > 1e-3
    np.testing.assert_allclose(measured, [scores.value for scores in expected.values()], atol=1e-6)
    shown = other.done("crossxai", "evaluate", f"{out}/maps.h5", "--model", port, "--metrics", "deletion,insertion")
    assert all(f"{scores.value.mean():.3f}" in shown for scores in expected.values()), shown
    assert "gives the outputs of" in shown

    refused = other.run("crossxai", "evaluate", f"{out}/maps.h5", "--model", wrong)
    said = " ".join(refused.stderr.split())
    assert (refused.returncode, refused.stdout) == (2, ""), refused
    assert f"({here}), and model" in said
    assert "is another function: of sample" in said
    assert "Traceback" not in said
    lacking = other.run("crossxai", "evaluate", f"{out}/maps.h5", "--model", model)
    assert lacking.returncode == 2, lacking
    assert any(words in lacking.stderr for words in ("No module named 'torch'", "needs keras, which is not installed"))


def test_a_recipe_makes_the_same_map_in_both(environments: dict[str, Environment], place: Path) -> None:
    words = ("--data", "photos", "--size", "32", "--out")
    environments["torch"].done(
        "crossxai", "explain", "--model", "own_network:network", *words, "first", "--target", "2", "--profile",
        "canonical", "--explainer", "reference.integrated_gradients",
    )  # fmt: skip
    environments["tensorflow"].done(
        "crossxai", "explain", "--model", "model.keras", *words, "second", "--recipe", "first/recipe.toml"
    )
    first, second = (xai.Attribution.load(place / name / "maps.h5") for name in ("first", "second"))
    assert ("tensorflow" in first.origin.versions, "torch" in second.origin.versions) == (False, False)
    assert relative(first, second) <= 1e-4
    for explainer, name in (("captum.saliency", "tensorflow"), ("xplique.saliency", "torch")):
        recipe = f'[explainer]\nname = "{explainer}"\n'
        (place / "recipe.toml").write_text(recipe, encoding="utf-8")
        model = {"torch": "own_network:network", "tensorflow": "model.keras"}[name]
        refused = environments[name].run(
            "crossxai", "explain", "--model", model, *words, "third", "--recipe", "recipe.toml"
        )
        library = explainer.partition(".")[0]
        assert refused.returncode == 2, refused
        assert f"needs {library}, which is not installed: pip install " in refused.stderr
        assert f"[{library}]" in refused.stderr
