"""ResNet-18 on patches: the same steps in both frameworks, what a checkpoint holds, and what a kill leaves."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from noise import patches, written
from test_imports import BLOCK
from typer.testing import CliRunner

from crossxai import cli
from crossxai.errors import InvalidFile, InvalidInput, MissingDependency, Unsupported
from crossxai.studies.networks import torch_networks, weight_files
from crossxai.studies.networks.loading import load
from crossxai.studies.pcam.dataset import Augmentation, PatchDataset
from crossxai.studies.pcam.reading import PCam, write_split
from crossxai.studies.training import TrainSettings, fit
from crossxai.studies.training.learner_torch import TorchLearner
from crossxai.studies.training.patch_loop import LOGGED, Plan, Rules, StateFile

TINY = TrainSettings(epochs=2, batch_size=8, learning_rate=1e-3)
RULES = Rules((np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)), 0.05, 0.05, False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("patches"))


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(data, TINY, tmp_path_factory.mktemp("models") / "whole.npz", progress=False)


def weights(path: Path) -> dict[str, np.ndarray]:
    return weight_files.read(path).weights


def logged(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.with_suffix(".log.csv").read_text().splitlines()))


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    assert set(one) == set(two)
    return all(np.array_equal(one[name], two[name]) for name in one)


# What is learnt


def test_the_schedule_is_torch_s_one_cycle() -> None:
    plan = Plan(1, 8, 0.01, 3, 0)
    for total in (10, 37):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
        theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=total, cycle_momentum=False)
        for step in range(total):
            assert plan.rate(step, total) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
            optimiser.step()
            theirs.step() if step < total - 1 else None
    assert plan.rate(0, 1) == 0.01


def test_weights_are_drawn_as_torchvision_s_are() -> None:
    ours, theirs = weight_files.drawn(0), torch_networks.resnet18(seed=0).state_dict()
    assert list(ours) == list(theirs)
    for name, values in theirs.items():
        assert ours[name].shape == values.shape
        if values.numel() > 2 and values.ndim > 1:
            assert ours[name].std() == pytest.approx(float(values.std()), rel=0.1)
        elif not name.startswith("fc."):
            np.testing.assert_array_equal(ours[name], values.numpy())
    assert not np.array_equal(ours["fc.weight"], weight_files.drawn(1)["fc.weight"])


def test_both_frameworks_take_the_same_steps(data: Path) -> None:
    """In float64, where rounding cannot hide a difference: losses, weights, running statistics, after several steps of AdamW."""
    from crossxai.studies.training.learner_keras import KerasLearner

    rules = Rules(RULES.constants, 0.05, 0.05, False, "float64")
    start = weight_files.drawn(0)
    learners = TorchLearner(start, rules), KerasLearner(start, rules)
    dataset = PatchDataset(PCam(data, "train"), augmentation=Augmentation())
    for step in range(2):
        images, labels = dataset.batch(np.arange(2 * step, 2 * step + 2))
        first, second = (learner.step(images, labels, 1e-3) for learner in learners)
        assert first == pytest.approx(second, rel=1e-10)
    one, two = (learner.weights() for learner in learners)
    for name, values in one.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(two[name], values, rtol=1e-6, atol=1e-9, err_msg=name)
    assert not np.array_equal(one["conv1.weight"], start["conv1.weight"])
    images = PCam(data, "test").images([0, 1])
    np.testing.assert_allclose(learners[0].predict(images), learners[1].predict(images), rtol=1e-8)


def test_in_float32_the_first_losses_agree_and_frozen_leaves_all_but_the_last_layer(data: Path) -> None:
    from crossxai.studies.training.learner_keras import KerasLearner

    start = weight_files.drawn(0)
    images, labels = PatchDataset(PCam(data, "train")).batch(np.arange(8))
    rules = Rules(RULES.constants, 0.05, 0.05, True)
    losses = []
    for learner in (TorchLearner(start, rules), KerasLearner(start, rules)):
        losses.append([learner.step(images, labels, 1e-3) for _ in range(5)])
        assert losses[-1][-1] < losses[-1][0]
        for name, values in learner.weights().items():
            assert np.array_equal(values, start[name]) != name.startswith("fc."), name
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_weights_to_begin_with(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = weight_files.read(fitted)
    given, (mean, _) = weight_files.initial(str(fitted), seed=5)  # type: ignore[misc]
    np.testing.assert_array_equal(mean, held.mean)
    np.testing.assert_array_equal(given["layer3.0.conv1.weight"], held.weights["layer3.0.conv1.weight"])
    np.testing.assert_array_equal(given["fc.weight"], weight_files.drawn(5)["fc.weight"])
    state = {name: torch.from_numpy(values.copy()) for name, values in held.weights.items()}
    torch.save(state, tmp_path / "some.pth")
    again, (mean, _) = weight_files.initial(str(tmp_path / "some.pth"), seed=5)  # type: ignore[misc]
    np.testing.assert_array_equal(mean, weight_files.IMAGENET_MEAN_SD[0])
    assert all(np.array_equal(again[name], given[name]) for name in given if "tracked" not in name)
    torch.save({**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    with pytest.raises(InvalidFile, match=r"not the weights of a ResNet-18 \(look at 'conv1.weight'\)"):
        weight_files.initial(str(tmp_path / "grey.pth"), seed=5)
    with pytest.raises(InvalidInput, match=r"an .npz, .pth or .pt file, or 'imagenet'; got 'imagnet'"):
        weight_files.initial("imagnet", seed=5)

    class Unreachable:
        def get_state_dict(self, **options: Any) -> None:
            raise URLError("no network")

    class Weights:
        IMAGENET1K_V1 = Unreachable()

    monkeypatch.setattr("torchvision.models.ResNet18_Weights", Weights)
    with pytest.raises(InvalidFile, match="ImageNet weights cannot be had"):
        weight_files.initial("imagenet", seed=5)
    assert weight_files.IMAGENET == weight_files.IMAGENET
    monkeypatch.setattr(weight_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"which are not installed: begin with an \.npz"):
        weight_files.initial("imagenet", seed=5)


# A whole training


def test_a_checkpoint_holds_how_it_came_about_and_both_frameworks_load_it(data: Path, fitted: Path) -> None:
    meta = weight_files.read(fitted).meta
    assert TrainSettings(fraction=1, rotation=10).model_dump_json() == TrainSettings().model_dump_json()
    assert (meta["task"], meta["framework"], meta["patches"]) == ("classification", "torch", {"train": 32, "valid": 12})
    assert len(meta["history"]) == 2
    assert 1 <= meta["best_epoch"] <= 2
    images = PCam(data, "test").images(range(4))
    outputs = [load(fitted, framework).model.predict((images,)) for framework in ("torch", "tensorflow")]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
    assert load(fitted, "tensorflow").metrics == meta["metrics"]["test"]
    rows = logged(fitted)
    assert list(rows[0]) == list(LOGGED)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["loss"]) for row in rows] == [held["train_loss"] for held in meta["history"]]
    assert not fitted.with_suffix(".training.npz").exists()


@pytest.mark.process
def test_workers_change_no_weight(data: Path, fitted: Path, tmp_path: Path) -> None:
    assert same(fit(data, TINY, tmp_path / "a.npz", False, workers=3), fitted)


def test_a_file_that_is_no_checkpoint_is_not_written_over(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("mine")
    with pytest.raises(InvalidFile, match="it would be lost: write to another file"):
        fit(data, TINY, tmp_path / "notes.npz", progress=False)
    assert (tmp_path / "notes.npz").read_text() == "mine"


KILLED = """
import sys
from crossxai.studies.training import TrainSettings, fit
fit(sys.argv[1], TrainSettings.model_validate_json(sys.argv[3]), sys.argv[2], progress=False, save_seconds=0)
"""


def killed_in_the_second_epoch(data: Path, path: Path, settings: TrainSettings) -> None:
    words = [sys.executable, "-c", KILLED, str(data), str(path), settings.model_dump_json()]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    state = path.with_suffix(".training.npz")
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if state.exists() and progress_of(state)["epoch"] == 1 and progress_of(state)["step"] >= 1:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert progress_of(state)["epoch"] == 1
    assert not path.exists()


def progress_of(state: Path) -> dict[str, Any]:
    with np.load(state) as archive:
        return dict(json.loads(str(archive["meta"]))["progress"])


@pytest.mark.process
def test_a_training_killed_within_an_epoch_ends_with_the_same_weights(
    data: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "killed.npz"
    killed_in_the_second_epoch(data, path, TINY)
    before = logged(path)
    (tmp_path / ".killed.training.npz.999999999.ab.part").write_text("left by a process that is no more")
    fit(data, TINY, path, progress=False)
    assert "Going on at epoch 2, step" in capsys.readouterr().err
    assert same(path, fitted)
    assert weight_files.read(path).meta == weight_files.read(fitted).meta
    after = logged(path)
    assert after[:1] == before  # what the first epoch took is still known
    assert len(after) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"killed.npz", "killed.log.csv"}


def test_a_state_of_another_training_or_a_damaged_one_is_none(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "a.training.npz", "one")
    assert state.read() is None
    state.write({"x": np.arange(3)}, {"progress": 1})
    arrays, meta = state.read()  # type: ignore[misc]
    assert (arrays["x"].tolist(), meta["progress"]) == ([0, 1, 2], 1)
    assert StateFile(state.path, "two").read() is None
    whole = state.path.read_bytes()
    for place in range(len(whole)):  # zipfile says so in six ways
        state.path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        found = state.read()
        assert found is None or (found[0]["x"].tolist(), found[1]["progress"]) == ([0, 1, 2], 1)
    state.path.write_bytes(whole[:-30])
    assert state.read() is None


def test_a_checkpoint_with_one_wrong_byte_is_a_clear_error_or_whole(tmp_path: Path) -> None:
    path = weight_files.write(
        tmp_path / "a.npz", {"w": np.arange(3)}, [0] * 3, [1] * 3, {"architecture": "resnet18", "n_classes": 2}
    )
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            assert weight_files.read(path).weights["w"].tolist() == [0, 1, 2]
        except InvalidFile:
            refused += 1
    assert refused > len(whole) / 2


def test_a_state_that_a_kill_left_beside_the_checkpoint_goes_and_another_training_s_stays(
    data: Path, fitted: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(fitted, tmp_path / "whole.npz"))
    own, other = (
        StateFile(path.with_suffix(".training.npz"), of) for of in (weight_files.read(path).meta["identity"], "x")
    )
    other.write({}, {})
    fit(data, TINY, path, progress=False)
    assert other.read() is not None
    own.write({}, {})
    fit(data, TINY, path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["whole.npz"]


def test_what_would_be_lost_or_found_out_too_late_is_refused_at_once(data: Path, fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(fitted, tmp_path / "whole.npz"))
    with pytest.raises(InvalidInput, match=r"whole\.npz: the weights to begin with would be lost"):
        fit(data, TINY.model_copy(update={"weights": str(path)}), path, progress=False)
    root = Path(shutil.copytree(data, tmp_path / "data"))
    write_split(root, "test", np.zeros((0, 96, 96, 3), np.uint8), np.zeros(0, int))
    with pytest.raises(InvalidInput, match=r"'test'\): 0 patches: nothing to measure the result by"):
        fit(root, TINY, tmp_path / "new.npz", progress=False)


@pytest.mark.process
def test_the_command(data: Path, tmp_path: Path) -> None:
    words = ["train", "pcam", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--batch-size", "8"]
    words += ["--fraction", "0.5", "--workers", "2"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert "ResNet-18 in torch: best epoch 1 of 1" in done.output
    assert "validation (n = 6)" in done.output
    assert "test (n = 12)" in done.output
    meta = weight_files.read(tmp_path / f"{data.name}-torch.npz").meta
    assert f"{meta['metrics']['test']['auc']:.4f}" in done.output
    assert "nothing to do" in CliRunner().invoke(cli.app, words).output
    for wrong, said in (
        (["--fraction", "2"], "--fraction: Input should be less than or equal to 1; got 2.0"),
        (["--out", str(tmp_path / "a.pth")], "a checkpoint is an .npz; write"),
        (["--frozen"], "a frozen network needs weights"),
        (["--weights", "none.npz"], "none.npz: no weights to read there"),
    ):
        refused = CliRunner().invoke(cli.app, [*words, *wrong])
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())
    assert not (tmp_path / "a.pth").exists()


def test_without_tensorflow_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependency, match=r"training in Keras needs tensorflow, .*\[tensorflow\]"):
        fit(data, TrainSettings(framework="tensorflow"), tmp_path)


# In Keras


KERAS = TINY.model_copy(update={"framework": "tensorflow"})


@pytest.mark.process
@pytest.mark.deep
def test_keras_ends_with_the_same_weights_after_a_kill_and_is_as_good(data: Path, fitted: Path, tmp_path: Path) -> None:
    whole = fit(data, KERAS, tmp_path / "whole.npz", progress=False)
    path = tmp_path / "killed.npz"
    killed_in_the_second_epoch(data, path, KERAS)
    assert same(fit(data, KERAS, path, progress=False), whole)
    first, second = (weight_files.read(p).meta["history"][0]["train_loss"] for p in (fitted, whole))
    assert first == pytest.approx(second, rel=0.05)


@pytest.mark.process
@pytest.mark.deep
def test_keras_trains_without_torch(data: Path, tmp_path: Path) -> None:
    words = ["crossxai", "train", "pcam", "--data", str(data), "--out", str(tmp_path), "--framework", "tensorflow"]
    code = BLOCK.format(blocked={"torch", "torchvision", "triton"}) + (
        f"sys.argv = {[*words, '--epochs', '1', '--batch-size', '8']!r}\n"
        "from crossxai.cli import app\ntry: app()\nfinally: print([m for m in sys.modules if m.startswith('torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ResNet-18 in tensorflow" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
    assert weight_files.read(tmp_path / f"{data.name}-tensorflow.npz").meta["framework"] == "tensorflow"


PEAK = """
import sys
from crossxai.studies.training import TrainSettings, fit
settings = TrainSettings(epochs=1, batch_size=32, frozen=True, weights=sys.argv[3])
fit(sys.argv[1], settings, sys.argv[2], progress=False, workers=2)
# Not ru_maxrss, which begins with the peak of the process that started this one.
print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024)
"""


@pytest.mark.process
@pytest.mark.deep
def test_memory_does_not_grow_with_the_set(fitted: Path, tmp_path: Path) -> None:
    peaks = []
    for n in (1280, 5120):  # more than a chunk of the reader; 159 MB more as bytes, 637 MB more as numbers
        root = tmp_path / str(n)
        for split, some in (("train", n), ("valid", n // 4), ("test", n // 4)):
            write_split(root, split, *patches(some, 0))  # type: ignore[arg-type]
        words = [sys.executable, "-c", PEAK, str(root), str(root / "model.npz"), str(fitted)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(float(done.stdout))
    assert peaks[1] - peaks[0] < 60, peaks


@pytest.mark.parametrize("installed", ["torch", "tensorflow"])
def test_the_embedded_model_is_trained_by_what_is_installed(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossxai.studies import training
    from crossxai.studies.networks import checkpoints
    from crossxai.studies.pcam import histology

    trained: list[tuple[TrainSettings, int]] = []
    monkeypatch.setattr(
        checkpoints.importlib.util, "find_spec", lambda name: object() if installed == "torch" else None
    )
    monkeypatch.setattr(histology, "build", lambda folder: folder)
    monkeypatch.setattr(
        training, "fit", lambda root, settings, *rest: trained.append((settings, torch.get_num_threads()))
    )
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        checkpoints.embedded_checkpoint(progress=False)
        # The network of torch depends on the number of threads: always two, so that it is the same on every machine.
        assert trained == [(TrainSettings(framework=installed), 2 if installed == "torch" else 5)]  # type: ignore[arg-type]
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
