"""Training: what is kept, what is cached, what is left untouched, and the figures it reports."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from crossxai.errors import CrossXAIError, InvalidInput, MissingDependency, install_command
from crossxai.studies.networks import weight_files
from crossxai.studies.pcam import histology
from crossxai.studies.pcam.dataset import PatchDataset, PCamIndex
from crossxai.studies.pcam.reading import CENTRE, PCam, write_split
from crossxai.studies.training import TrainSettings, fit, patch_loop
from crossxai.studies.training import resnet18 as training
from crossxai.studies.training.resnet18 import figures, metrics_of

TINY = TrainSettings(epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = histology.Recipe(stride=8, train_per_class=8, valid_per_class=4, test_per_class=4)
    return histology.build(tmp_path_factory.mktemp("data"), recipe)


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(data, TINY, tmp_path_factory.mktemp("models"), progress=False)


# fit


def test_checkpoint_tells_where_it_comes_from(data: Path, fitted: Path, tmp_path: Path) -> None:
    held = weight_files.read(fitted)
    assert held.meta["settings"] == TINY.model_dump()
    assert held.meta["data"] == {split: PCam(data, split).fingerprint() for split in ("train", "valid", "test")}
    assert held.n_classes == 2
    assert len(held.meta["history"]) == 1
    assert (held.meta["task"], held.meta["framework"], held.meta["best_epoch"]) == ("classification", "torch", 1)
    mean, sd = PCamIndex.of(data, "train", tmp_path).statistics()
    np.testing.assert_array_equal(held.mean, mean)
    np.testing.assert_array_equal(held.sd, sd)


def test_reported_figures_are_those_of_the_stored_weights(data: Path, fitted: Path) -> None:
    from crossxai.studies.networks import torch_networks

    held = weight_files.read(fitted)
    model = torch_networks.load(fitted, held)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            standardised = (images - held.mean) / held.sd
            return np.asarray(model(torch.from_numpy(standardised.transpose(0, 3, 1, 2).copy())).numpy())

    for split in ("valid", "test"):
        assert figures(predict, PatchDataset(PCam(data, split))) == pytest.approx(held.meta["metrics"][split], abs=1e-4)


def test_second_call_returns_without_training(data: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fitted.read_bytes()
    monkeypatch.setattr(patch_loop, "train", lambda *a: pytest.fail("trained again"))
    assert fit(data, TINY, fitted.parent) == fitted
    assert fitted.read_bytes() == before
    assert {p.name for p in fitted.parent.iterdir()} == {fitted.name, fitted.with_suffix(".log.csv").name}


def test_other_settings_other_data_or_a_damaged_file_train_again(
    data: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trained(Exception):
        pass

    def stop(*args: Any) -> None:
        raise Trained

    monkeypatch.setattr(patch_loop, "train", stop)
    with pytest.raises(Trained):
        fit(data, TrainSettings(epochs=1, batch_size=8, seed=1), fitted.parent)
    recipe = histology.Recipe(stride=8, train_per_class=8, valid_per_class=4, test_per_class=3)
    with pytest.raises(Trained):
        fit(histology.build(tmp_path / "other", recipe), TINY, fitted.parent)
    damaged = tmp_path / fitted.name
    damaged.write_bytes(fitted.read_bytes()[:-500])
    with pytest.raises(Trained):
        fit(data, TINY, tmp_path)


def test_same_seed_same_file_and_nothing_global_is_touched(data: Path, fitted: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    np.random.seed(123)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads(), torch.is_grad_enabled()
    again = fit(data, TINY, tmp_path, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == threads
    assert again.name == fitted.name
    assert weight_files.read(again).digest == weight_files.read(fitted).digest


def test_the_best_epoch_is_kept_and_patience_ends_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([(0.5, 0.7), (0.9, 0.5), (0.9, 0.4), (0.9, 0.6), (0.8, 0.1)])
    seen: list[np.ndarray] = []

    def judge(predict: Any, part: Any, batch_size: int, workers: int) -> dict[str, float]:
        accuracy, loss = next(script, (0, 0))  # after training the checkpoint's own figures are asked for
        seen.append(predict.__self__.weights()["fc.weight"])
        return {"balanced_accuracy": accuracy, "loss": loss}

    monkeypatch.setattr(training, "figures", judge)
    settings = TrainSettings(epochs=10, batch_size=8, patience=2)
    held = weight_files.read(fit(data, settings, tmp_path, progress=False))
    assert len(seen) - 2 == len(held.meta["history"]) == 5  # two epochs after the best, the third (loss breaks the tie)
    assert held.meta["best_epoch"] == 3
    np.testing.assert_array_equal(held.weights["fc.weight"], seen[2])
    assert not np.array_equal(seen[2], seen[4])


def test_a_diverging_loss_says_what_to_change(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CrossXAIError, match=r"epoch \d+: the loss is (nan|inf): lower learning_rate \(now 1e\+25\)"):
        fit(data, TrainSettings(epochs=20, batch_size=8, learning_rate=1e25), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_one_class_cannot_be_learnt(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_split(tmp_path, split, np.zeros((3, 96, 96, 3), np.uint8), [1, 1, 1])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="all labels are the same"):
        fit(tmp_path, TINY, tmp_path)


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_without_torch_the_extra_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"training needs {package}, .*{re.escape(install_command('torch'))}"):
        fit(data, TINY, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0},
        {"epoch": 3},
        {"patience": 0},
        {"fraction": 0},
        {"rotation": 90},
        {"framework": "jax"},
        {"frozen": True},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings(**wrong)


# Figures


def test_metrics_by_hand() -> None:
    logits = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 2.0], [0.0, 1.0]])
    scores = metrics_of(logits, np.array([1, 1, 0, 0]))
    assert scores["n"] == 4
    assert scores["accuracy"] == 0.25
    assert scores["balanced_accuracy"] == 0.25
    assert scores["auc"] == (0 + 0.5 + 0 + 0) / 4  # of four pairs one is a tie and three are wrong
    p = 1 / (1 + np.exp([-1.0, 1.0, 2.0, 1.0]))
    assert scores["loss"] == pytest.approx(-np.log(p).mean())


def test_auc_and_balanced_accuracy_equal_scikit_learn_s() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    logits, labels = rng.integers(-3, 4, (200, 2)).astype(float), (rng.random(200) < 0.2).astype(np.int64)
    scores = metrics_of(logits, labels)
    assert scores["auc"] == pytest.approx(metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, logits.argmax(axis=1)))


def test_one_class_leaves_nan_and_no_warning() -> None:
    scores = metrics_of(np.array([[0.0, 1.0]]), np.array([1]))
    assert np.isnan(scores["auc"])
    assert np.isnan(scores["balanced_accuracy"])
    assert scores["accuracy"] == 1


def test_figures_do_not_depend_on_the_batch_and_the_shape_is_checked(data: Path) -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        return np.stack([images[..., 0].mean(axis=(1, 2)), images[:, 40:50, 40:50, 2].mean(axis=(1, 2))], axis=1)

    part = PatchDataset(PCam(data, "valid"))
    assert figures(predict, part, batch_size=3) == figures(predict, part)
    with pytest.raises(InvalidInput, match=r"must give logits \(8, 2\) for PCam\(.*'valid'\).*got \(8, 1\)"):
        figures(lambda images: predict(images)[:, :1], part)


def test_a_short_training_learns(tmp_path: Path) -> None:
    root = histology.build(
        tmp_path / "data", histology.Recipe(stride=4, train_per_class=64, valid_per_class=20, test_per_class=40)
    )
    path = fit(root, TrainSettings(epochs=2, batch_size=8), tmp_path, progress=False)
    assert weight_files.read(path).meta["metrics"]["test"]["balanced_accuracy"] >= 0.8


# The default settings on the default data


@pytest.mark.process
def test_the_default_model_is_right_and_looks_at_the_centre(embedded: Path) -> None:
    from crossxai.studies.networks import torch_networks

    root = embedded.parents[1] / "histology"
    held = weight_files.read(embedded)
    model = torch_networks.load(embedded, held)
    rule = json.loads((root / "about.json").read_text())["splits"]["test"]["surround_rule"]["chosen"]
    assert held.meta["metrics"]["test"]["balanced_accuracy"] >= max(0.85, rule)

    data = PCam(root, "test")
    images, labels = data.images(range(len(data))), data.labels()
    swapped, donors = images.copy(), np.arange(len(data)) ^ 1  # the neighbour has the other label
    swapped[:, CENTRE, CENTRE] = images[donors][:, CENTRE, CENTRE]
    x = torch.from_numpy(((swapped - held.mean) / held.sd).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        followed = model(x).argmax(1).numpy() == labels[donors]
    assert followed.mean() >= 0.9  # of the patches whose centre alone was exchanged, the answer follows the centre
