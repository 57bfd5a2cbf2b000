"""Runs in shards: joined, their files and report are those of the run without shards, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from cheap import CHEAP, MIDDLE
from experiments import BOTH, crossxai, toml

import crossxai as xai
from crossxai import evaluation, explainers
from crossxai.attribution import Scores
from crossxai.experiment import model_run
from crossxai.experiment.sharding import Shard

N = 7
EXPLAINERS = [
    "captum.saliency",
    "gradcam.gradcam",
    ("lime.image", {"samples": 20}),
]
METRICS = [
    ("deletion", {"steps": 4}),
    ("insertion", {"steps": "auto"}),
    ("irof", {}),  # curves of as many points as an image has segments
    ("grid_pointing", {"mosaic": "same"}),  # puts samples together
]
PASSING = ("created", "seconds", "merged")


def differences(one: Any, other: Any, place: str = "", atol: float = 1e-6) -> Iterator[str]:
    """Where two documents differ by more than rounding, but for when they were made."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if key not in PASSING:
                yield from differences(one.get(key), other.get(key), f"{place}.{key}", atol)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for row, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{place}.{row}", atol)
    elif isinstance(one, float) and isinstance(other, float):
        if not np.isclose(one, other, rtol=0, atol=atol, equal_nan=True):
            yield f"{place}: {one} {other}"
    elif one != other:
        yield f"{place}: {one} {other}"


def content(path: Path) -> dict[str, Any]:
    """Every data set and attribute of an HDF5 file."""
    held: dict[str, Any] = {}

    def add(name: str, item: Any) -> None:
        held.update({f"{name}@{key}": _plain(value) for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            held[name] = _plain(item[()])

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    return {key: value for key, value in held.items() if not key.endswith("@seconds")}


def _plain(value: Any) -> Any:
    value = np.asarray(value)
    return value.astype(float).tolist() if value.dtype.kind in "fiub" else [str(v) for v in value.reshape(-1)]


def assert_same(one: Path, other: Path, atol: float = 1e-6) -> None:
    """The same files, scores, summary and report; atol: of maps and what is said of them."""
    names = {p.relative_to(one).as_posix() for p in one.rglob("*.h5")}
    assert names == {p.relative_to(other).as_posix() for p in other.rglob("*.h5") if "shards" not in p.parts}
    for name in names:
        assert [*differences(content(one / name), content(other / name), atol=atol)] == [], name
    for name in ("scores.csv", "summary.csv"):
        a, b = (pd.read_csv(folder / name).drop(columns="seconds", errors="ignore") for folder in (one, other))
        pd.testing.assert_frame_equal(a, b, rtol=0, atol=1e-6)
    documents = (json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (one, other))
    assert [*differences(*documents, atol=atol)] == []


def compare_torch(out: Path, **options: Any) -> xai.Run:
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(6, 3),
    ).eval()  # fmt: skip
    images = np.random.default_rng(0).random((N, 16, 16, 3), np.float32)
    labels = np.arange(N) % 3
    asked: dict[str, Any] = {
        "explainers": EXPLAINERS,
        "metrics": METRICS,
        "target": "label",
        "progress": False,
    } | options
    groups = [f"patient {i // 2}" for i in range(N)]
    return xai.compare(xai.wrap(net), images, labels, groups=groups, layout="NHWC", out=out, **asked)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare_torch(tmp_path_factory.mktemp("whole")).folder


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=pytest.mark.deep) for count in (1, 2, N))])
def test_shards_in_any_order_are_the_run_without_shards(tmp_path: Path, whole: Path, count: int) -> None:
    numbers = [*range(1, count + 1)]
    random.Random(count).shuffle(numbers)
    for number in numbers:
        compare_torch(tmp_path, shard=(number, count))
    assert not (tmp_path / "manifest.json").exists()
    merged = xai.merge(tmp_path)
    assert merged.page.exists()
    assert len(merged.scores["sample"].unique()) == N
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "scores.parquet"), merged.scores, check_exact=True)
    assert set(merged.summary["metric"]) == {"deletion", "insertion", "irof", "grid_pointing"}
    assert_same(whole, tmp_path)


@pytest.mark.deep
def test_an_explainer_that_compares_samples_sees_all_of_them(tmp_path: Path) -> None:
    asked = {"explainers": [("captum.feature_permutation", {"patch": 8})], "controls": False}
    asked["metrics"] = ["sparseness", ("noise_correlation", {"draws": 1})]
    before = compare_torch(tmp_path / "whole", **asked)
    for number in (1, 2):
        compare_torch(tmp_path / "parts", shard=(number, 2), **asked)
    after = xai.merge(tmp_path / "parts")
    label = "captum.feature_permutation"
    np.testing.assert_allclose(after.maps[label].values[0], before.maps[label].values[0], rtol=0, atol=1e-6)
    values = [run.scores.set_index("metric")["value"] for run in (before, after)]
    pd.testing.assert_series_equal(values[0]["sparseness"], values[1]["sparseness"])
    assert values[1]["noise_correlation"].isna().all()
    assert "measure it in a run without shards" in after.page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("n", "count"), [(1, 1), (7, 3), (64, 64), (100, 7), (12, 5)])
def test_every_sample_is_in_one_shard_and_sizes_differ_by_one(n: int, count: int) -> None:
    parts = [range(n)[Shard(number, count).rows(n)] for number in range(1, count + 1)]
    assert [row for part in parts for row in part] == [*range(n)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shards_of_a_keras_network(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    net = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(3).random((3, 12, 12, 3), np.float32)

    def ask(out: Path, shard: tuple[int, int] | None = None) -> None:
        asked = {"explainers": ["xplique.saliency", "reference.gradcam"], "metrics": [("deletion", {"steps": 3})]}
        xai.compare(net, images, out=out, shard=shard, progress=False, **asked)

    assert_equal_in_shards(tmp_path, ask, 2)


def test_shards_of_regions(tmp_path: Path) -> None:
    """A segmentation: targets, masks and the truth go with their samples."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3, padding=1)).eval()
    images = np.random.default_rng(3).random((5, 10, 10, 3), np.float32)
    content = {
        "data": {"files": "d.npz", "images": "images", "masks": "masks"},
        "models": [{"name": "net", "factory": "seg:model"}],
        "target": {"of": "label"},
        "explainers": [{"name": "captum.saliency"}, {"name": "reference.saliency", "profile": "canonical"}],
        "metrics": [{"name": "deletion", "params": {"steps": 3}}, {"name": "mask_share"}],
    }
    masks = images[..., 0] > 0.5
    np.savez(tmp_path / "d.npz", images=images, masks=masks)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    (tmp_path / "seg.py").write_text(SEGMENTING)
    (tmp_path / "e.toml").write_text(toml(content))

    def ask(out: Path, shard: tuple[int, int] | None = None) -> None:
        words = ["--shard", "{}/{}".format(*shard)] if shard else []
        done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(out), "--quiet", *words)
        assert done.exit_code == 0, done.output

    assert_equal_in_shards(tmp_path, ask, 3)


SEGMENTING = """
import pathlib
import torch
from crossxai import wrap

def model():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3, padding=1)).eval()
    net.load_state_dict(torch.load(pathlib.Path(__file__).parent / 'w.pt', weights_only=True))
    return wrap(net, output_axes=('class', 'y', 'x'))
"""


def assert_equal_in_shards(place: Path, ask: Callable[..., None], count: int) -> None:
    ask(place / "whole")
    for number in range(count, 0, -1):
        ask(place / "parts", (number, count))
    xai.merge(place / "parts")
    assert_same(place / "whole", place / "parts")


def made(place: Path, *words: str) -> Any:
    return crossxai("compare", str(place / "e.toml"), "--out", str(place / "out"), *words)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0/4", "there is no shard 0/4: write the number of the shard"),
        ("5/4", "there is no shard 5/4"),
        ("x/y", "--shard x/y: write the number"),
        ("3", "--shard 3: write"),
        ("1/9", "at most 3 shards, --shard 1/3"),
    ],
)
def test_wrong_shards_are_refused(both: Path, written: str, message: str) -> None:
    done = made(both, "--shard", written)
    assert done.exit_code == 2
    assert message in done.output
    assert not (both / "out" / "manifest.json").exists()


def test_what_does_not_belong_together_is_refused(both: Path) -> None:
    """Missing shards are named with the command that makes them; other divisions, experiments and samples in words."""
    out = str(both / "out")
    assert "holds no shards" in crossxai("merge", out).output
    done = made(both, "--shard", "2/3", "--set", "title=Mine")
    assert done.exit_code == 0, done.output
    assert "Shard 2/3 is done, 1 of 3. When all are: crossxai merge" in done.output
    assert not [*(both / "out").rglob("report.*")]
    assert "holds shards of a run: `crossxai merge" in crossxai("report", out).output
    done = crossxai("merge", out)
    assert done.exit_code == 2
    assert "2 of 3 shards are missing" in done.output
    assert f"compare {both / 'e.toml'} --set title=Mine --shard 3/3 --out {out}" in done.output.replace("'", "")
    assert made(both, "--shard", "1/2", "--set", "title=Mine").exit_code == 0
    done = crossxai("merge", out)
    assert done.exit_code == 2
    assert "parts of several divisions, which overlap (of 2 there is 1; of 3 there is 2)" in done.output
    shutil.rmtree(both / "out" / "shards" / "1-of-2")
    for number, title in ((1, "Mine"), (3, "Yours")):
        assert made(both, "--shard", f"{number}/3", "--set", f"title={title}").exit_code == 0
    done = crossxai("merge", out)
    assert done.exit_code == 2
    assert "shard 3/3 is not of the run of shard 1/3: title is Yours, there Mine" in done.output.replace(
        "settings.", ""
    )
    (both / "both.py").write_text(BOTH.replace("default_rng(0)", "default_rng(1)"))
    import sys

    sys.modules.pop("both", None)
    assert made(both, "--shard", "3/3", "--set", "title=Mine").exit_code == 0
    done = crossxai("merge", out)
    assert done.exit_code == 2
    assert "fingerprint is" in done.output
    assert not (both / "out" / "samples.h5").exists()


def test_a_failure_in_one_shard_is_a_row_with_its_reason(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run without shards, where one sample that fails fails the explainer; mended, it is a row like the others."""
    original = model_run.ModelRun._explain

    def failing(self: Any, explainer: Any) -> Any:
        if explainer.name == "captum.occlusion" and "b" in self.question.ids:
            raise RuntimeError("sample b is odd")
        return original(self, explainer)

    monkeypatch.setattr(model_run.ModelRun, "_explain", failing)
    statuses = [made(both, "--shard", f"{number}/3").exit_code for number in (1, 2, 3)]
    assert statuses == [0, 3, 0]
    done = crossxai("merge", str(both / "out"))
    assert done.exit_code == 3, done.output
    run = xai.Run(both / "out")
    assert (
        "sample b is odd (traceback: failures/fusion/captum.occlusion.txt) (in shard 2/3)"
        in run.refused["captum.occlusion"]
    )
    assert (both / "out" / "failures" / "fusion" / "captum.occlusion.txt").is_file()
    assert set(run.scores["label"]) == {"controls.random"}
    monkeypatch.setattr(model_run.ModelRun, "_explain", original)
    assert made(both, "--shard", "2/3").exit_code == 0
    assert crossxai("merge", str(both / "out")).exit_code == 0
    assert set(xai.Run(both / "out").scores["label"]) == {"captum.occlusion", "controls.random"}
    assert not (both / "out" / "failures" / "fusion" / "captum.occlusion.txt").exists()


@dataclasses.dataclass(frozen=True)
class FailsOfOne:
    """A metric that cannot measure one sample, and so, in a run without shards, none."""

    name: ClassVar[str] = "fails_of_one"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, question: Any, attribution: Any) -> Scores:
        if "3" in question.ids:
            raise ZeroDivisionError("of sample 3")
        return Scores(self.name, np.ones(len(question)), True)


def test_a_metric_that_fails_in_one_shard_has_no_value_of_any_sample(tmp_path: Path) -> None:
    asked = {"explainers": ["captum.saliency"], "controls": False, "metrics": [FailsOfOne(), "sparseness"]}
    before = compare_torch(tmp_path / "whole", **asked)
    for number in (1, 2, 3):
        compare_torch(tmp_path / "parts", shard=(number, 3), **asked)
    after = xai.merge(tmp_path / "parts")
    pd.testing.assert_frame_equal(before.scores, after.scores)
    assert after.scores.query("metric == 'fails_of_one'")["value"].isna().all()
    assert not after.scores.query("metric == 'sparseness'")["value"].isna().any()
    (failure,) = json.loads((after.folder / "manifest.json").read_text())["failures"]
    assert "of sample 3" in failure["reason"]
    assert failure["reason"].endswith("(in shard 2/3)")


@pytest.mark.deep
def test_a_model_that_fails_in_one_shard_has_failed(both: Path) -> None:
    broken = "\ndef breaking():\n    import pathlib\n    if pathlib.Path(__file__).with_name('broken').exists():\n"
    (both / "breaking.py").write_text(BOTH + broken + "        raise OSError('no weights')\n    return model()\n")
    text = (both / "e.toml").read_text(encoding="utf-8")
    (both / "e.toml").write_text(text.replace("both:model", "breaking:breaking"))
    assert made(both, "--shard", "1/2").exit_code == 0
    (both / "broken").touch()
    assert made(both, "--shard", "2/2").exit_code == 3
    for _ in range(2):
        assert crossxai("merge", str(both / "out")).exit_code == 3
        (entry,) = json.loads((both / "out" / "manifest.json").read_text())["models"]
        assert "no weights" in entry["failed"]
        assert entry["failed"].endswith("(in shard 2/2)")
        assert set(xai.Run(both / "out").refused) == {"captum.occlusion", "controls.random"}
    (both / "broken").unlink()
    assert made(both, "--shard", "2/2").exit_code == 0
    assert crossxai("merge", str(both / "out")).exit_code == 0
    assert (both / "out" / "predictions" / "fusion.h5").exists()
    (both / "broken").touch()
    shutil.rmtree(both / "out" / "shards" / "1-of-2")
    assert made(both, "--shard", "1/2").exit_code == 3
    assert crossxai("merge", str(both / "out")).exit_code == 3
    assert not (both / "out" / "predictions" / "fusion.h5").exists()


def test_a_stopped_shard_goes_on(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk is not computed again, also by a shard; merging before says that it has begun."""
    written: list[str] = []
    original = model_run.write_result

    def stopping(path: Path, result: Any) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path.stem)
        original(path, result)

    monkeypatch.setattr(model_run, "write_result", stopping)
    assert made(both, "--shard", "2/2").exit_code == 130
    monkeypatch.setattr(
        model_run, "write_result", lambda path, result: (written.append(path.stem), original(path, result))
    )
    done = crossxai("merge", str(both / "out"))
    assert "2 of 2 shards are missing, 2 begun" in done.output
    assert made(both, "--shard", "2/2").exit_code == 0
    assert written == ["captum.occlusion", "controls.random", "captum.occlusion", "controls.random"]
    assert made(both, "--shard", "1/2").exit_code == 0
    assert crossxai("merge", str(both / "out")).exit_code == 0


def test_a_merge_that_cannot_be_written_leaves_everything_as_it_was(
    both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle: words, no half of a run, and the same command again succeeds."""
    from crossxai.experiment import merging

    for number in (1, 2):
        assert made(both, "--shard", f"{number}/2").exit_code == 0
    original = merging.join_predictions

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merging, "join_predictions", full)
    done = crossxai("merge", str(both / "out"))
    assert done.exit_code == 2
    assert "No space left on device" in done.output
    assert [path.name for path in (both / "out").iterdir()] == ["shards"]
    monkeypatch.setattr(merging, "join_predictions", original)
    assert crossxai("merge", str(both / "out")).exit_code == 0
    (both / "out" / "shards" / "2-of-2" / "samples.h5").write_bytes(b"damaged")
    done = crossxai("merge", str(both / "out"))
    assert done.exit_code == 2
    assert "2-of-2/samples.h5" in done.output.replace("\n", "")
    assert (both / "out" / "manifest.json").exists()


def test_a_shard_into_a_folder_that_cannot_be_is_refused(both: Path) -> None:
    (both / "out").mkdir()
    (both / "out" / "shards").write_text("a file")
    done = made(both, "--shard", "1/2")
    assert done.exit_code == 2
    assert "cannot write in" in done.output


def test_a_dry_run_of_a_shard_plans_its_samples(both: Path) -> None:
    plans = [json.loads(made(both, "--dry-run", "--json", *words).stdout) for words in ((), ("--shard", "1/3"))]
    assert [plan["samples"] for plan in plans] == [3, 1]
    assert plans[1]["total"]["forward"] < plans[0]["total"]["forward"]
    assert not (both / "out").exists()


def test_precision_of_all_samples_is_refused_in_shards(tmp_path: Path) -> None:
    with pytest.raises(xai.InvalidInput, match="a shard has some of them: write points alone"):
        compare_torch(tmp_path, shard=(1, 2), metrics=[("deletion", {"steps": {"auto": {"precision": 0.01}}})])


def every_explainer() -> list[Any]:
    """All that need no truth and no control, with parameters that are cheap."""
    kinds = {name: kind for name, kind in explainers.discover().items() if not name.startswith("controls.")}
    return [(name, {"profile": kind.profiles[0], **CHEAP.get(name, {})}) for name, kind in kinds.items()]


def every_metric() -> list[Any]:
    few: dict[str, Any] = {"mosaic": "same", "masks": MIDDLE, "draws": 2}
    entries = [(entry.name, {f.name for f in dataclasses.fields(entry.metric)}) for entry in evaluation.discover()]
    return [evaluation.get(name, **{key: few[key] for key in few.keys() & fields}) for name, fields in entries]


@pytest.mark.deep
@pytest.mark.parametrize("of", ["explainers", "metrics"])
def test_every_explainer_and_every_metric_is_the_same_in_shards(tmp_path: Path, of: str) -> None:
    """Nothing looks at the samples of a shard where it would look at the run's. One shard's integrated gradients add up and
    another's do not: whether they do is judged of all."""
    few = ["captum.saliency", "captum.integrated_gradients", "gradcam.gradcam"]
    asked = {"explainers": every_explainer() if of == "explainers" else few, "controls": of == "metrics"}
    asked["metrics"] = ["sparseness"] if of == "explainers" else every_metric()
    before = compare_torch(tmp_path / "whole", **asked)
    for number in (2, 3, 1):  # each of a model of its own, of which nothing has been measured yet
        compare_torch(tmp_path / "parts", shard=(number, 3), **asked)
    after = xai.merge(tmp_path / "parts")
    assert before.refused == after.refused
    keys = ["label", "metric", "sample"]
    one, other = (run.scores.set_index(keys)["value"] for run in (before, after))
    pd.testing.assert_series_equal(one, other, rtol=0, atol=1e-6, check_index_type=False, check_categorical=False)
    for label, maps in before.maps.items():
        for values, joined in zip(maps.values, after.maps[label].values, strict=True):
            np.testing.assert_allclose(
                joined, values, rtol=0, atol=3e-6 * max(np.nanmax(np.abs(values)), 1e-9), err_msg=label
            )
    assert len(one) > 200


@pytest.mark.deep
def test_a_folder_that_vanishes_in_the_middle_ends_in_words_and_goes_on(
    both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file system that is unmounted: what was written there is missing, which merging says with what makes it."""
    original = model_run.write_result
    folder = both / "out" / "shards" / "1-of-2"

    def vanishing(path: Path, result: Any) -> None:
        original(path, result)
        monkeypatch.setattr(model_run, "write_result", original)
        shutil.rmtree(folder)

    monkeypatch.setattr(model_run, "write_result", vanishing)
    done = made(both, "--shard", "1/2")
    assert done.exit_code == 2
    assert "samples.h5, which was written before, is gone" in done.output.replace("\n", "")
    assert made(both, "--shard", "2/2").exit_code == 0
    done = crossxai("merge", str(both / "out"))
    assert done.exit_code == 2
    assert f"--shard 1/2 --out {both / 'out'}" in done.output
    assert made(both, "--shard", "1/2").exit_code == 0
    (folder / "samples.h5").unlink()
    done = crossxai("merge", str(both / "out"))
    assert "samples.h5 does not exist; make this shard again: " in done.output
    assert made(both, "--shard", "1/2").exit_code == 0
    assert crossxai("merge", str(both / "out")).exit_code == 0


@pytest.mark.deep
def test_merging_holds_a_block_of_maps_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of maps of 64 MB, a few blocks of 1 MB; and the same maps in blocks of one sample."""
    from crossxai.attribution import Attribution
    from crossxai.files import Result, joining, read_result, write_result
    from crossxai.model import Modality

    parts, rng = [], np.random.default_rng(0)
    for number in range(4):
        values = rng.random((32, 256, 512, 1), np.float32)
        maps = Attribution((values,), (Modality.image(),), tuple(f"{number} {i}" for i in range(32)), "e")
        write_result(tmp_path / str(number) / "explanations" / "m" / "l.h5", Result("m", "torch", "l", "e", maps))
        parts.append(joining.Part(tmp_path / str(number), 32))
    del values, maps
    each = [read_result(part.folder / "explanations" / "m" / "l.h5", maps=False) for part in parts]
    ids = tuple(name for one in each for name in one.ids)
    result = dataclasses.replace(each[0], attribution=dataclasses.replace(each[0].attribution, ids=ids))
    monkeypatch.setattr(joining, "BLOCK", 2**20)
    tracemalloc.start()
    joining.join_result(tmp_path / "joined", parts, result, [32] * 4)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**23
    joined = read_result(tmp_path / "joined" / "explanations" / "m" / "l.h5")
    own = read_result(parts[2].folder / "explanations" / "m" / "l.h5")
    np.testing.assert_array_equal(joined.maps["image"][64:96], own.maps["image"])
    assert joined.ids == ids
