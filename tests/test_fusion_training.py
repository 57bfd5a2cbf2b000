"""Training the fusion networks: reproducible, resumable bit for bit, judged on held-out samples, in both frameworks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from crossxai import cli
from crossxai.errors import CrossXAIError, InvalidFile, InvalidInput, MissingDependency, UnknownName
from crossxai.studies.medical import FEATURES, MedicalSet, generate, split, write
from crossxai.studies.networks import torch_networks, weight_files
from crossxai.studies.networks.loading import load
from crossxai.studies.training import FusionSettings, fit_fusion, fusion, fusion_loop
from crossxai.studies.training.fusion import BY_NAME, certified, predicted

N, SIZE = 24, 32
TINY = FusionSettings(epochs=2, batch_size=8)
TASKS = ("classification", "regression", "segmentation")


@pytest.fixture(scope="module")
def data() -> dict[str, MedicalSet]:
    return {task: generate(task, N, seed=1, size=SIZE) for task in TASKS}


def rows_of(data: MedicalSet) -> dict[str, Any]:
    return split(N, labels=data.labels if data.task == "classification" else None)


def fitted(data: MedicalSet, out: Path, settings: FusionSettings = TINY) -> Path:
    return fit_fusion(data, rows_of(data), out, settings, features=FEATURES, progress=False)[0]


def weights(path: Path) -> dict[str, np.ndarray]:
    return weight_files.read(path, None).weights


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    assert set(one) == set(two)
    return all(np.array_equal(one[name], two[name]) for name in one)


# What is trained


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_says_what_it_is_and_the_figures_are_its_own(
    data: dict[str, MedicalSet], tmp_path: Path, task: str
) -> None:
    found = data[task]
    path = fitted(found, tmp_path)
    assert path == tmp_path / f"{task}.npz"
    meta = certified(path, found, rows_of(found), keras=True)
    assert meta == weight_files.read(path, None).meta
    assert (meta["task"], meta["size"], meta["trained_without"]) == (task, SIZE, "")
    assert [m["name"] for m in meta["modalities"]] == list(BY_NAME[task].modalities)
    assert len(meta["history"]) == 2
    assert meta["keras"]["largest_difference"] <= 1e-4 * meta["keras"]["largest_output"]
    assert meta["keras"]["test"] == pytest.approx(meta["metrics"]["test"], abs=1e-4, nan_ok=True)
    loaded = load(path, "torch")
    rows = rows_of(found)["test"]
    outputs = predicted(loaded.model, found.inputs, rows)
    targets = BY_NAME[task].targets(found)[rows]
    assert loaded.metrics == BY_NAME[task].metrics(outputs, targets)
    if task == "classification":
        assert loaded.metrics["accuracy"] == float((outputs.argmax(1) == found.labels[rows]).mean())
    elif task == "regression":
        assert loaded.metrics["rmse"] == pytest.approx(np.sqrt(((outputs[:, 0] - found.labels[rows]) ** 2).mean()))
    else:
        a, b = outputs[..., 0] > 0, found.masks["tumour"][rows]
        dice = [2 * (x & y).sum() / max(x.sum() + y.sum(), 1) for x, y in zip(a, b, strict=True)]
        assert loaded.metrics["dice"] == pytest.approx(np.mean(dice))
    assert not list(tmp_path.glob("*.pt"))


def test_standardisation_is_of_the_training_rows_and_the_score_comes_in_points(
    data: dict[str, MedicalSet], tmp_path: Path
) -> None:
    found = data["regression"]
    rows = rows_of(found)
    path = fitted(found, tmp_path, TINY.model_copy(update={"learning_rate": 1e-9}))
    mean, sd = weight_files.read(path, None).standardise["t1"]
    assert mean == pytest.approx([found.inputs["t1"][rows["train"]].mean()], rel=1e-4)
    assert sd == pytest.approx([found.inputs["t1"][rows["train"]].std()], rel=1e-4)
    outputs = predicted(load(path, "torch").model, found.inputs, rows["train"])
    # Nothing was learnt, so all it says is near the mean score, not near zero.
    assert abs(outputs.mean() - found.labels[rows["train"]].mean()) < 2 * found.labels[rows["train"]].std()
    table = weight_files.read(fitted(data["classification"], tmp_path), None).standardise["table"]
    train = data["classification"].inputs["table"][rows_of(data["classification"])["train"]]
    np.testing.assert_allclose(table[0], train.mean(axis=0), rtol=1e-4)


def test_the_same_seed_gives_the_same_weights(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first, second = (fitted(data["regression"], tmp_path / name) for name in ("a", "b"))
    other = fitted(data["regression"], tmp_path / "c", TINY.model_copy(update={"seed": 1}))
    assert same(first, second)
    assert not same(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_finished_is_not_trained_again(
    data: dict[str, MedicalSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = data["regression"]
    path = fitted(found, tmp_path / "model.npz")
    content = path.read_bytes()

    def refuse(*_args: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(fusion, "_learn", refuse)
    again = fit_fusion(found, rows_of(found), path, TINY, progress=False)
    assert again == (path, False)
    assert path.read_bytes() == content
    changed = replace(found, labels=found.labels + 1)
    for other, settings in ((changed, TINY), (found, TINY.model_copy(update={"epochs": 3}))):
        with pytest.raises(AssertionError, match="trained again"):
            fitted(other, path, settings)


def test_the_best_epoch_is_kept_and_patience_ends_it(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    settings = FusionSettings(epochs=8, batch_size=4, patience=1, learning_rate=0.05)
    found = data["segmentation"]
    path = fitted(found, tmp_path, settings)
    meta = weight_files.read(path, None).meta
    losses = [epoch["valid_loss"] for epoch in meta["history"]]
    assert meta["best_epoch"] == 1 + int(np.argmin(losses))
    assert len(losses) == min(8, meta["best_epoch"] + 1)
    model = load(path, "torch").model
    rows = rows_of(found)["valid"]
    outputs = torch.from_numpy(np.moveaxis(predicted(model, found.inputs, rows), -1, 1).copy())
    targets = torch.from_numpy(np.moveaxis(BY_NAME["segmentation"].targets(found)[rows], -1, 1).copy())
    means = [BY_NAME["segmentation"].loss(o[None], t[None]).item() for o, t in zip(outputs, targets, strict=True)]
    assert np.mean(means) == pytest.approx(min(losses), rel=1e-3)


def test_a_loss_that_is_nan_says_so(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    found = data["regression"]
    labels = found.labels.copy()
    labels[rows_of(found)["train"][0]] = np.nan
    with pytest.raises(CrossXAIError, match="epoch 1: the loss is nan: lower learning_rate"):
        fitted(replace(found, labels=labels), tmp_path)


# A modality that tells nothing


def test_an_uninformative_modality_is_shuffled_in_every_split(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    found = data["classification"]
    settings = TINY.model_copy(update={"uninformative": "table"})
    inputs = fusion.shuffled(found, BY_NAME["classification"], settings)
    np.testing.assert_array_equal(inputs["ct"], found.inputs["ct"])
    assert not np.array_equal(inputs["table"], found.inputs["table"])
    order = [np.flatnonzero((found.inputs["table"] == row).all(axis=1))[0] for row in inputs["table"]]
    assert sorted(order) == list(range(N))
    path = fitted(found, tmp_path, settings)
    assert path.name == "classification-without-table.npz"
    meta = certified(path, found, rows_of(found), keras=False)
    assert meta["trained_without"] == load(path, "torch").trained_without == "table"
    rows = rows_of(found)["test"]
    outputs = predicted(load(path, "torch").model, inputs, rows)
    assert meta["metrics"]["test"] == BY_NAME["classification"].metrics(outputs, found.labels[rows])


# Stopped and gone on with

SCRIPT = """
import sys, time
from crossxai.studies.medical import FEATURES, generate, split
from crossxai.studies.training import FusionSettings, fit_fusion
from crossxai.studies.training import fusion_loop as loop

keep = loop._keep
def slowly(*given):
    keep(*given)
    time.sleep(float(sys.argv[2]))
loop._keep = slowly
data = generate("regression", 24, seed=1, size=32)
fit_fusion(data, split(24), sys.argv[1], FusionSettings(epochs=6, batch_size=8), features=FEATURES, progress=False)
"""


@pytest.mark.process
def test_killed_and_gone_on_with_gives_the_same_weights(
    data: dict[str, MedicalSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(killed), "0.5"])
    state = killed / "regression.training.pt"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if state.is_file() and torch.load(state, weights_only=True)["progress"]["epoch"] >= 2:
            break
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    reached = torch.load(state, weights_only=True)["progress"]["epoch"]
    assert 2 <= reached < 6
    assert not (killed / "regression.npz").exists()
    settings = FusionSettings(epochs=6, batch_size=8)
    for folder in (killed, whole):
        fitted(data["regression"], folder, settings)
        said = capsys.readouterr().err
        assert (f"Going on after epoch {reached}" in said) == (folder == killed)
    first, second = killed / "regression.npz", whole / "regression.npz"
    assert same(first, second)
    assert weight_files.read(first, None).meta == weight_files.read(second, None).meta
    assert not state.exists()


def test_a_state_of_other_settings_or_a_damaged_one_is_begun_anew(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    expected = fitted(data["regression"], tmp_path / "clean")
    state = tmp_path / "regression.training.pt"
    for content in (b"", b"PK\x03\x04 torn", None):
        if content is None:
            torch.save({"identity": "another", "progress": {}}, state)
        else:
            state.write_bytes(content)
        path = fitted(data["regression"], tmp_path)
        assert same(path, expected)
        path.unlink()


# A stronger encoder


def test_resnet18_encoders(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    source = torch_networks.resnet18(5, seed=3)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    settings = FusionSettings(
        epochs=1, batch_size=8, encoder="resnet18", frozen=True, weights=str(tmp_path / "weights.pth")
    )
    path = fitted(data["classification"], tmp_path, settings)
    assert path.name == "classification-resnet18-frozen.npz"
    meta = weight_files.read(path, None).meta
    assert meta["architecture"] == "fusion_classifier_resnet18"
    held = weights(path)
    np.testing.assert_array_equal(held["ct.layer4.1.conv2.weight"], source.layer4[1].conv2.weight.detach().numpy())
    np.testing.assert_array_equal(held["ct.bn1.running_mean"], np.zeros(64))
    np.testing.assert_allclose(held["ct.conv1.weight"], source.conv1.weight.detach().sum(1, keepdim=True), rtol=1e-6)
    assert certified(path, data["classification"], rows_of(data["classification"]), keras=False)["metrics"]["test"]
    tuned = fitted(data["classification"], tmp_path, settings.model_copy(update={"frozen": False}))
    assert not np.array_equal(weights(tuned)["ct.layer4.1.conv2.weight"], held["ct.layer4.1.conv2.weight"])


def test_weights_from_a_checkpoint_and_those_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossxai.studies.networks import weight_files

    source = torch_networks.resnet18(2, seed=3)
    state = {name: values.numpy() for name, values in source.state_dict().items()}
    path = weight_files.write(
        tmp_path / "r.npz", state, [0.5] * 3, [0.2] * 3, {"architecture": "resnet18", "n_classes": 2}
    )
    encoder: Any = torch_networks.fusion_network("fusion_classifier_resnet18").ct
    weight_files.into(encoder, path)
    assert torch.equal(encoder.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "torn.pth").write_bytes(b"no tensors")
    for name, message in (
        ("missing.pth", "no such file"),
        ("torn.pth", r"not a file of plain tensors \(write one with torch\.save\(network\.state_dict\(\), FILE\)\)"),
        ("other.pth", r"not the weights of a ResNet-18 \(look at 'conv1\.weight'\)"),
        ("r.txt", r"an \.npz, \.pth or \.pt file, or 'imagenet'"),
    ):
        with pytest.raises((InvalidFile, InvalidInput), match=message):
            weight_files.into(encoder, tmp_path / name)

    def unreachable(*_args: Any, **_options: Any) -> None:
        from urllib.error import URLError

        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models.ResNet18_Weights.get_state_dict", unreachable)
    with pytest.raises(InvalidFile, match=r"ImageNet weights cannot be had .*no route to host.*name a file"):
        weight_files.into(encoder, "imagenet")


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("regression", {"encoder": "resnet18"}, "the classifier's; regression has its own"),
        ("classification", {"weights": "r.pth"}, "only the encoder 'resnet18' takes weights"),
        ("classification", {"encoder": "resnet18", "frozen": True}, "a frozen encoder needs weights"),
        ("segmentation", {"uninformative": "ct"}, "no modality of segmentation is called 'ct'"),
    ],
)
def test_settings_that_do_not_go_together(task: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=message):
        FusionSettings(**given).of(BY_NAME[task])


def test_figures_of_the_tasks() -> None:
    seg, reg = BY_NAME["segmentation"], BY_NAME["regression"]
    true = np.zeros((2, 4, 4, 1))
    true[0, :2, :2] = 1
    said = np.where(true, 1.0, -1.0)
    assert seg.metrics(said, true) == {"n": 2, "dice": 1.0, "iou": 1.0}  # the empty mask, found empty, counts as found
    said[0, 0] = 1.0
    assert seg.metrics(said, true)["dice"] == pytest.approx((2 * 4 / (4 + 6) + 1) / 2)
    scores = np.array([[1.0], [2.0], [4.0]])
    found = reg.metrics(2 * scores + 1, scores)
    assert (found["r"], found["mae"]) == (pytest.approx(1), pytest.approx(10 / 3))
    assert found["rmse"] == pytest.approx(np.sqrt((4 + 9 + 25) / 3))
    assert np.isnan(reg.metrics(np.ones((3, 1)), scores)["r"])
    with pytest.raises(InvalidInput, match="the data are of task 'regression', not 'segmentation'"):
        seg.targets(generate("regression", 4, seed=0, size=32))


def test_soft_dice_counts_a_small_mask_as_much_as_a_large_one() -> None:
    loss = BY_NAME["segmentation"].loss
    small, large = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    small[..., :2, :2] = 1
    wrong = [loss(torch.where(t > 0, -20.0, 20.0), t).item() for t in (small, large)]
    right = [loss(torch.where(t > 0, 20.0, -20.0), t).item() for t in (small, large)]
    assert right == pytest.approx([0, 0], abs=1e-3)
    assert min(wrong) > 20


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    sizes = [len(b) for b in fusion_loop._batches(9, 4, torch.Generator().manual_seed(0))]
    assert sizes == [4, 5]


# The command


@pytest.mark.process
def test_the_command(tmp_path: Path) -> None:
    write(tmp_path / "data", n=8, xai_n=1, workers=1, progress=False)
    run = CliRunner()
    given = ["train", "regression", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "m"), "--epochs", "1"]
    first = run.invoke(cli.app, given)
    assert first.exit_code == 0, first.output
    assert "test, in Keras" in first.output
    assert "outputs differ by at most" in first.output
    assert "rmse" in first.output
    assert "Trained already" not in first.output
    again = run.invoke(cli.app, given)
    assert "Trained already, with these settings on these data: nothing to do." in again.output
    meta = weight_files.read(tmp_path / "m" / "regression.npz", None).meta
    assert json.loads(json.dumps(meta))["keras"]["largest_difference"] < 1e-3
    missing = run.invoke(cli.app, ["train", "regression", "--data", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "crossxai data medical" in missing.output
    wrong = run.invoke(cli.app, [*given, "--uninformative", "ct"])
    assert wrong.exit_code == 2
    assert "no modality of regression is called 'ct'" in wrong.output


def test_without_torch_the_command_says_so(
    data: dict[str, MedicalSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"training .*needs torch.*\[torch\]"):
        fitted(data["regression"], tmp_path)


def test_a_file_that_is_no_checkpoint_is_not_written_over(data: dict[str, MedicalSet], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, mine=np.arange(3))
    before = path.read_bytes()
    with pytest.raises(InvalidFile, match="not a CrossXAI checkpoint; it would be lost"):
        fit_fusion(data["regression"], rows_of(data["regression"]), path, FusionSettings(epochs=1), progress=False)
    assert path.read_bytes() == before
