"""Samples that are read when they are asked for: the same numbers as in memory, and a run in parts that never holds them all."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from experiments import crossxai, toml
from PIL import Image
from test_shards import assert_same, differences
from test_shards import content as held

import crossxai as xai
from crossxai import on_demand
from crossxai.adapters.numpy import FunctionModel
from crossxai.attribution import Attribution, Scores
from crossxai.data import arrays, from_arrays, from_files, from_scans
from crossxai.errors import InvalidFile, InvalidInput, StorageFailed
from crossxai.experiment import loading, parts, sharding, specification
from crossxai.experiment.questions import questions
from crossxai.files import Result, read_result, read_samples, samples, write_result, write_samples
from crossxai.files.splitting import split_result
from crossxai.files.tasks import content, fingerprint
from crossxai.target import SampleMasks

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)


def of_array(values: Any) -> xai.OnDemand:
    return xai.OnDemand(values.shape, values.dtype, lambda rows: values[rows])


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three samples are held at once, of masks in arrays none, and nothing takes all of them."""
    size = 4 * 16 * 16 * 3 * 4
    for module in (on_demand, loading, samples, from_files, from_arrays, from_scans):
        monkeypatch.setattr(module, "HELD", size - 1)
    monkeypatch.setattr(from_arrays, "HELD", 16 * 16 * 4)
    monkeypatch.setattr(on_demand, "BLOCK", 2 * size // 4)
    monkeypatch.setattr(sharding, "PART", size)

    def whole(self: xai.OnDemand, *given: Any, **named: Any) -> None:
        raise AssertionError(f"all rows of {self} were taken")

    monkeypatch.setattr(xai.OnDemand, "__array__", whole)


def test_rows_are_those_of_the_array() -> None:
    values = RNG.random((7, 3, 2))
    held = of_array(values)
    assert (len(held), held.shape, held.dtype, held.ndim, held.nbytes) == (7, (7, 3, 2), float, 3, values.nbytes)
    for rows in (slice(1, 5), slice(None, None, -2), np.array([4, 0, 4]), np.array([], int), [2, 3], 5, -1):
        np.testing.assert_array_equal(held[rows], values[rows])
    np.testing.assert_array_equal(np.asarray(held), values)
    np.testing.assert_array_equal(np.stack(list(held)), values)
    with pytest.raises(IndexError):
        held[7]
    wrong = xai.OnDemand((7, 3), float, lambda rows: values[rows])
    with pytest.raises(InvalidInput, match=r"2 rows of float64 \(3,\) were asked for, read were float64 \(2, 3, 2\)"):
        wrong[:2]


def test_hashes_are_those_of_the_arrays(little_memory: None) -> None:
    ids, images = tuple("abcdefg"), RNG.random((7, 16, 16, 3), np.float32)
    about = {"ids": ids, "modalities": (xai.Modality.image(),), "labels": np.arange(7) % 2, "classes": ("n", "y")}
    one = xai.Samples(inputs={"image": images}, **about)
    other = xai.Samples(inputs={"image": of_array(images)}, **about)
    assert fingerprint(one) == fingerprint(other)
    assert (one.on_demand, other.on_demand) == (0, images.nbytes)
    masks = images[..., 0] > 0.5
    assert repr(SampleMasks(masks, ids)) == repr(SampleMasks(of_array(masks), ids))  # type: ignore[arg-type]
    assert SampleMasks(masks, ids) == SampleMasks(of_array(masks), ids)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        SampleMasks(of_array(masks), ids).of(("f", "a"), (16, 16), "x"), masks[[5, 0]]  # type: ignore[arg-type]
    )  # fmt: skip

    @dataclasses.dataclass
    class Metric:
        masks: Any
        name: str = "m"

    assert content(Metric(masks)) == content(Metric(of_array(masks)))  # type: ignore[arg-type]


def test_values_are_checked_when_they_are_read(little_memory: None) -> None:
    images = RNG.random((7, 16, 16, 3), np.float32)
    images[5, 3, 3] = np.nan
    held = xai.Samples(tuple("abcdefg"), (xai.Modality.image(),), {"image": of_array(images)}, np.zeros(7, int), ("n",))
    assert held[:5].inputs["image"].shape == (5, 16, 16, 3)
    with pytest.raises(InvalidInput, match="modality 'image': the values hold NaN"):
        held[4:]
    with pytest.raises(InvalidInput, match="expected float32 or float64, got uint8"):
        xai.Samples(tuple("ab"), (xai.Modality.image(),), {"image": of_array(PIXELS[:2])}, np.zeros(2, int), ("n",))
    grey = {"image": of_array(images[..., :2])}
    with pytest.raises(InvalidInput, match="got \\(7, 16, 16, 2\\)"):
        xai.Samples(tuple("abcdefg"), (xai.Modality.image(),), grey, np.zeros(7, int), ("n",))


def net(inputs: Any) -> Any:
    score = np.asarray(inputs)[..., 0].mean(axis=(1, 2)) * 8 - 4
    return np.stack([-score, score], axis=1).astype(np.float32)


def model() -> FunctionModel:
    return FunctionModel(net, (xai.Modality.image(),), name="net")


def photographs(folder: Path) -> Path:
    """Two folders of pictures, one of which is damaged, and their masks."""
    (folder / "masks").mkdir(parents=True)
    for number, pixels in enumerate(PIXELS):
        (own := folder / "images" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(own / f"{number:02d}.png")
        if number != 3:
            Image.fromarray((pixels[..., 0] > 99).astype(np.uint8) * 255).save(folder / "masks" / f"{number:02d}.png")
    (folder / "images" / "a" / "04.png").write_bytes(b"no picture")
    return folder


def stored(path: Path) -> Path:
    x = PIXELS.astype(np.float32) / 255
    x[7, 0, 0] = np.inf
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        with h5py.File(path, "w") as file:
            file["x"], file["labels"], file["inside"] = x, np.arange(12) % 2, PIXELS[..., :1] // 128
    return path


@pytest.mark.parametrize("kind", ["pictures", "masks", "x.npy", "x.h5", "uint8.npy"])
def test_files_are_read_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    options: dict[str, Any] = {}
    if kind in ("pictures", "masks"):
        place = photographs(tmp_path) / "images"
        options = {"masks": tmp_path / "masks"} if kind == "masks" else {}
    elif kind == "uint8.npy":
        np.save(place := tmp_path / kind, PIXELS)
    else:
        place = stored(tmp_path / kind)
        options = {"labels": "labels", "masks": "inside", "images": "x"} if kind == "x.h5" else {}
    given = xai.Files(place, **options)
    before = arrays.read(model(), given, samples=20)
    for module in (from_files, from_arrays):
        monkeypatch.setattr(module, "HELD", 3 * 16 * 16 * 3 * 4)
    after = arrays.read(model(), given, samples=20, on_demand=True)
    (images,) = after.inputs
    assert isinstance(images, xai.OnDemand)
    np.testing.assert_array_equal(images[:], before.inputs[0])
    np.testing.assert_array_equal(images[[5, 2, 5]], before.inputs[0][[5, 2, 5]])
    assert (after.left_out, after.ids, after.label_names) == (before.left_out, before.ids, before.label_names)
    assert after.notes == before.notes
    assert (before.masks is None) == (kind not in ("masks", "x.h5"))
    if before.masks is not None:
        assert isinstance(after.masks, xai.OnDemand)
        np.testing.assert_array_equal(after.masks[:], before.masks)
    assert not isinstance(arrays.read(model(), given, samples=20).inputs[0], xai.OnDemand)
    if kind == "pictures":
        next(place.glob("b/01.png")).unlink()
        with pytest.raises(InvalidFile, match=r"01\.png"):
            images[:]


def test_what_is_done_to_samples_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Remembered(arrays._Reader):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(arrays, "_Reader", Remembered)
    monkeypatch.setattr(from_files, "HELD", 3 * 16 * 16 * 3 * 4)
    (images,) = arrays.read(model(), xai.Files(photographs(tmp_path) / "images"), samples=20, on_demand=True).inputs
    before = len(made[0].notes)
    images[:], images[:]
    assert len(made[0].notes) == before  # else memory grows with what is read


def test_scans_are_read_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel = pytest.importorskip("nibabel")
    for number in range(5):
        values = RNG.random((6, 5, 4)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 3, 1])), tmp_path / f"{number}.nii.gz")
    taken = FunctionModel(lambda x: np.asarray(x).mean(axis=(1, 2, 3)), (xai.Modality.volume(),), name="net")
    before = arrays.read(taken, tmp_path, checked=False)
    monkeypatch.setattr(from_scans, "HELD", 2 * 6 * 5 * 4 * 4)
    after = arrays.read(taken, tmp_path, checked=False, on_demand=True)
    assert isinstance(after.inputs[0], xai.OnDemand)
    np.testing.assert_array_equal(after.inputs[0][:], before.inputs[0])
    assert (after.ids, after.notes, after.spaces) == (before.ids, before.notes, before.spaces)


def test_a_model_is_measured_on_whole_samples() -> None:
    """Of more samples than are held, where only some of the inputs are read on demand."""
    n = on_demand.HEAD + 6
    images, small = RNG.random((n, 4, 4, 3), np.float32), RNG.random((n, 2, 2, 1), np.float32)

    def scores(*inputs: Any) -> Any:
        return np.stack([values.mean(axis=(1, 2, 3)) for values in inputs], axis=1)

    two = FunctionModel(scores, (xai.Modality.image("small", ("grey",)), xai.Modality.image()), name="two")
    whole = xai.Question(two, (small, of_array(images)), xai.Target.classes(np.ones(n, int), 2))
    np.testing.assert_allclose(whole.part([0, n - 1]).score(), images[[0, -1]].mean(axis=(1, 2, 3)), rtol=1e-6)


def test_true_regions_are_explained_of_masks_on_demand() -> None:
    images = RNG.random((5, 4, 4, 3), np.float32)
    masks = images[..., 0] > 0.5
    maps = FunctionModel(
        lambda x: np.stack([-x[..., 0], x[..., 0]], axis=-1), (xai.Modality.image(),), name="net",
        output_axes=("y", "x", "class"),
    )  # fmt: skip
    given = (tuple("abcde"), (xai.Modality.image(),), {"image": images}, np.ones(5, int), ("n", "y"))
    wanted = specification.check({"target": {"of": "label"}, "models": [{"name": "net", "factory": "own:net"}]})
    targets = [
        questions(wanted, xai.Samples(*given, {"mask": own}, task="segmentation"), loading.declared(maps), "net")
        for own in (masks, of_array(masks))
    ]
    np.testing.assert_array_equal(targets[1].explained.target.weights, targets[0].explained.target.weights)


def test_images_that_were_not_kept_are_named(tmp_path: Path) -> None:
    images = RNG.random((7, 16, 16, 3), np.float32)
    whole = xai.Samples(tuple("abcdefg"), (xai.Modality.image(),), {"image": images}, np.zeros(7, int), ("n",))
    write_samples(tmp_path / "samples.h5", whole, np.array([1, 4]))
    read = read_samples(tmp_path / "samples.h5")
    assert (read.ids, read.inputs["image"].shape) == (whole.ids, images.shape)
    np.testing.assert_array_equal(read.inputs["image"][[4, 1]], images[[4, 1]])
    with pytest.raises(InvalidInput, match="the image of c was not kept, as its maps were not"):
        read.inputs["image"][1:4]


def factory() -> FunctionModel:
    """Of experiments below."""
    return model()


def few(out: Path, **further: Any) -> specification.Experiment:
    return specification.check(
        {
            "data": {"files": str(stored(out.parent / "x.h5")), "images": "x", "labels": "labels", "masks": "inside", "n": 20},
            "models": [{"name": "net", "factory": "test_on_demand:factory"}],
            "explainers": [{"name": "lime.image", "params": {"samples": 20, "segmentation": "grid", "patch": 8}}],
            "metrics": [
                {"name": "deletion", "params": {"steps": 4, "fill": "mean"}},
                {"name": "insertion", "params": {"steps": "auto"}},
                {"name": "relevance_rank", "params": {"mask": "truth"}},
                {"name": "grid_pointing", "params": {"mosaic": "same"}},
            ],
            "folder": Path(__file__).parent,
            **further,
        }
    )  # fmt: skip


@pytest.mark.parametrize("keep", [pytest.param("all", marks=pytest.mark.deep), "sample:3"])
def test_a_run_in_parts_is_the_run_at_once(tmp_path: Path, request: pytest.FixtureRequest, keep: str) -> None:
    from crossxai.report import write_report

    whole = parts.run_all(few(tmp_path / "a", keep_maps=keep), tmp_path / "whole")
    write_report(whole)
    assert not (whole / "shards").exists()
    request.getfixturevalue("little_memory")
    experiment = few(tmp_path / "a", keep_maps=keep)
    out = parts.run_all(experiment, tmp_path / "parts")
    write_report(out)
    assert_same(whole, out)
    assert not (out / "shards").exists()  # once they are merged
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    parts.run_all(experiment, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")} == before  # nothing was to be done


@pytest.mark.parametrize("keep", ["all", "float16", pytest.param("sample:3", marks=pytest.mark.deep)])
def test_a_further_explainer_is_all_that_is_computed(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    from crossxai.experiment import model_run

    asked: list[str] = []
    explain = model_run.ModelRun._explain

    def counted(self: Any, explainer: Any) -> Any:
        asked.append(explainer.name)
        return explain(self, explainer)

    monkeypatch.setattr(model_run.ModelRun, "_explain", counted)
    lime = {"name": "lime.image", "params": {"samples": 20, "segmentation": "grid", "patch": 8}}
    occlusion = {"name": "reference.occlusion", "profile": "canonical", "params": {"patch": 8, "stride": 8}}
    out = parts.run_all(few(tmp_path / "a", keep_maps=keep), tmp_path / "run")
    before = xai.Run(out)
    maps, scores = before.maps["lime.image"], before.scores
    asked.clear()
    parts.run_all(few(tmp_path / "a", keep_maps=keep, explainers=[lime, occlusion]), out)
    assert set(asked) == {"reference.occlusion"}
    after = xai.Run(out)
    np.testing.assert_array_equal(after.maps["lime.image"].values[0], maps.values[0])
    assert after.maps["lime.image"].ids == maps.ids
    lines = after.scores[after.scores["explainer"].isin(scores["explainer"].unique())]
    np.testing.assert_array_equal(lines["value"], scores["value"])
    assert after.maps["lime.image"].seconds == pytest.approx(maps.seconds)


def test_another_model_of_the_same_name_is_explained_anew(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = few(
        tmp_path / "a", explainers=[{"name": "controls.centre"}], metrics=[{"name": "deletion", "params": {"steps": 2}}]
    )
    before = xai.Run(parts.run_all(experiment, tmp_path / "run")).scores
    other = FunctionModel(lambda x: net(x)[:, ::-1] / 2, (xai.Modality.image(),), name="net")
    monkeypatch.setattr("test_on_demand.model", lambda: other)
    after = xai.Run(parts.run_all(experiment, tmp_path / "run")).scores
    anew = xai.Run(parts.run_all(experiment, tmp_path / "anew")).scores
    np.testing.assert_array_equal(after["value"], anew["value"])
    assert not np.allclose(after["value"], before["value"])


def test_parts_know_weights_masks_and_code() -> None:
    from crossxai.experiment.deciding import of_run

    measured = specification.MetricSpec(name="relevance_rank")
    explained = specification.ExplainerSpec(name="reference.occlusion")

    def key(digest: str = "a", mask: float = 0.5, stride: int = 8) -> str:
        own = dataclasses.replace(loading.declared(model()), digest=digest, complete=True)
        metric = xai.evaluation.get("relevance_rank", masks=PIXELS[..., 0] / 255 > mask, ids=tuple("abcdefghijkl"))
        explainer = xai.explainers.get("reference.occlusion", profile="canonical", patch=8, stride=stride)
        return of_run({"net": own}, [(explained, explainer)], {"net": [(measured, metric)]})

    assert key() == key()
    assert len({key(), key(digest="b"), key(mask=0.6), key(stride=4)}) == 4


def test_a_sample_larger_than_a_part_is_a_part(little_memory: None) -> None:
    images = RNG.random((3, 64, 64, 3), np.float32)
    about = {
        "ids": tuple("abc"),
        "modalities": (xai.Modality.image(),),
        "labels": np.arange(3) % 2,
        "classes": ("n", "y"),
    }
    assert sharding.least(xai.Samples(inputs={"image": of_array(images)}, **about)) == 3


@pytest.mark.parametrize("shared", [True, False])
def test_curves_are_divided_as_they_are_joined(tmp_path: Path, shared: bool) -> None:
    """Also where a curve has as many points as there are samples, or every sample points of its own."""
    n, curves = 4, RNG.random((4, 4))
    fractions = np.linspace(0, 1, 4) if shared else np.sort(RNG.random((4, 4)), axis=1)
    maps = Attribution(
        (RNG.random((n, 2, 2, 1)).astype(np.float32),), (xai.Modality.image("image", ("grey",)),), tuple("abcd"), "e"
    )
    scores = Scores("m", RNG.random(n), True, curves, fractions)
    write_result(tmp_path / "all.h5", Result("net", "numpy", "e", "reference", maps, {"m": scores}, ("",) * n))
    assert split_result(tmp_path / "all.h5", tmp_path / "own.h5", slice(1, 3), n)
    own = read_result(tmp_path / "own.h5").scores["m"]
    np.testing.assert_array_equal(own.curve, curves[1:3])
    np.testing.assert_array_equal(own.fractions, fractions if shared else fractions[1:3])


def test_a_stopped_run_goes_on_with_its_part(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    run = parts.run

    def stopped(*given: Any, **named: Any) -> Path:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(given[4].number)
        return run(*given, **named)

    monkeypatch.setattr(parts, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        parts.run_all(few(tmp_path / "a"), tmp_path / "run")
    assert sharding.done(tmp_path / "run") == "2 of 3 parts are done"
    made.clear()
    parts.run_all(few(tmp_path / "a"), tmp_path / "run")
    assert made == [3]


def test_parts_of_a_failure_stay_and_are_mended(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossxai.experiment import model_run

    asked: list[str] = []

    def broken(self: Any, explainer: Any) -> Any:
        asked.append(explainer.name)
        if explainer.name == "lime.image" and "3" in self.question.ids and not mended:
            raise RuntimeError("no")
        return explainer(self.question)

    mended = False
    monkeypatch.setattr(model_run.ModelRun, "_explain", broken)
    out = parts.run_all(few(tmp_path / "a"), tmp_path / "run")
    assert xai.Run(out).refused["lime.image"].startswith("RuntimeError: no")
    mended = True
    asked.clear()
    parts.run_all(few(tmp_path / "a"), out)
    assert asked == ["lime.image"]  # of the part in which it had failed
    assert not xai.Run(out).refused
    assert not (out / "shards").exists()


def test_what_needs_all_samples_at_once_gets_them_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise = [{"name": "deletion", "params": {"steps": {"auto": {"precision": 0.2}}}}]
    for module, name in ((loading, "HELD"), (from_arrays, "HELD"), (sharding, "PART")):
        monkeypatch.setattr(module, name, 4 * 16 * 16 * 3 * 4)
    out = parts.run_all(few(tmp_path / "a", metrics=precise), tmp_path / "run")
    assert not (out / "shards").exists()
    monkeypatch.setattr(parts, "AT_ONCE", 1000)
    with pytest.raises(InvalidInput, match=r"11 samples take .* so that the run is made in parts: metric deletion"):
        parts.run_all(few(tmp_path / "a", metrics=precise), tmp_path / "other")
    (tmp_path / "third" / "shards" / "1-of-2").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="shards of a division into 2, this run is made in 3 parts"):
        parts.run_all(few(tmp_path / "a"), tmp_path / "third")


def test_patches_are_read_on_demand(little_memory: None, tmp_path: Path) -> None:
    from crossxai.studies.pcam.reading import PCam, write_split
    from crossxai.studies.pcam.source import kind_of, samples_of

    images = RNG.integers(0, 256, (9, 96, 96, 3), dtype=np.uint8)
    masks = RNG.random((9, 96, 96)) > 0.5
    write_split(tmp_path, "test", images, np.arange(9) % 2, masks)
    rows = np.array([7, 1, 4, 2])
    made = samples_of(PCam(tmp_path, "test"), rows, kind_of(tmp_path))
    assert isinstance(made.inputs["image"], xai.OnDemand)
    part = made[1:3]
    np.testing.assert_array_equal(part.inputs["image"], images[rows[1:3]].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(part.masks["tumour"], masks[rows[1:3]])
    centre = np.zeros((96, 96), bool)
    centre[32:64, 32:64] = True
    np.testing.assert_array_equal(part.truth["image"][0], masks[1] & centre)  # a positive
    np.testing.assert_array_equal(part.truth["image"][1], ~masks[4] & centre)


def test_the_command_makes_parts(tmp_path: Path, little_memory: None) -> None:
    experiment = few(tmp_path / "a").model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "e.toml"
    file.write_text(toml(experiment), encoding="utf-8")
    (tmp_path / "test_on_demand.py").write_text(
        "import numpy as np\nimport crossxai as xai\nfrom crossxai.adapters.numpy import FunctionModel\n"
        "def factory():\n    def net(x):\n        s = np.asarray(x)[..., 0].mean(axis=(1, 2)) * 8 - 4\n"
        "        return np.stack([-s, s], axis=1).astype(np.float32)\n"
        "    return FunctionModel(net, (xai.Modality.image(),), name='net')\n"
    )
    done = crossxai("compare", str(file), "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert "they are explained and evaluated in 3 parts" in done.output
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_model_is_asked_for_all_outputs_once(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(inputs: Any) -> Any:
        seen.append(len(inputs))
        return net(inputs)

    def asked(shard: sharding.Shard) -> int:
        before = sum(seen)
        parts.run(experiment, tmp_path / "run", shard=shard)
        return sum(seen) - before

    monkeypatch.setattr("test_on_demand.model", lambda: FunctionModel(counted, (xai.Modality.image(),), name="net"))
    none = {"explainers": [{"name": "controls.centre"}], "controls": False, "check": "off"}
    experiment = few(tmp_path / "a", metrics=[{"name": "sparseness"}], **none)
    passes = [asked(sharding.Shard(number, 3)) for number in (2, 1, 3)]
    kinds = passes[0] - 11  # what the model gives is found out by each process
    assert passes == [11 + kinds, 4 + kinds, 3 + kinds]
    (file,) = (tmp_path / "run" / "shards").glob("outputs-*.npy")
    outputs = np.load(file)
    np.save(file, -outputs)  # of another model: it is asked again
    assert asked(sharding.Shard(3, 3)) == 3 + 11 + kinds
    np.testing.assert_array_equal(np.load(file), outputs)
    file.write_bytes(b"damaged")
    assert asked(sharding.Shard(3, 3)) == 11 + kinds
    assert len(xai.merge(tmp_path / "run").scores) == 11


@pytest.mark.parametrize("step", [40, pytest.param(3, marks=pytest.mark.deep)])
def test_samples_that_can_no_longer_be_read_end_a_run_in_words(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """At the first read, and after every so many, each in a run that goes on where the one before was."""
    whole = parts.run_all(few(tmp_path / "a"), tmp_path / "whole")
    original, reads, lost = xai.OnDemand.__getitem__, 0, list[int]()

    def losing(self: xai.OnDemand, rows: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads > step * len(lost):
            monkeypatch.setattr(self, "_read", gone)
        return original(self, rows)

    def gone(rows: Any) -> Any:
        raise OSError(errno.ESTALE, "Stale file handle", "/data/x.h5")

    def stopped() -> str:
        try:
            parts.run_all(few(tmp_path / "a"), tmp_path / "parts")
        except StorageFailed as error:
            return str(error)
        return ""

    monkeypatch.setattr(xai.OnDemand, "__getitem__", losing)
    while told := stopped():
        assert told.startswith("samples can no longer be read: /data/x.h5: Stale file handle; bring them back and run")
        assert not [*(tmp_path / "parts").rglob("*.txt")]
        lost.append(reads)
        reads = 0
    assert len(lost) > 1
    for path in whole.rglob("*.h5"):
        assert [*differences(held(path), held(tmp_path / "parts" / path.relative_to(whole)))] == []


def test_a_file_of_patches_that_is_cut_short_while_it_is_open_is_told(tmp_path: Path) -> None:
    """HDF5 itself gives zeros."""
    from crossxai.studies.pcam.reading import PCam, file_name, write_split

    write_split(tmp_path, "test", RNG.integers(1, 256, (9, 96, 96, 3), dtype=np.uint8), np.arange(9) % 2)
    split = PCam(tmp_path, "test")
    assert split.pixels([8]).all()
    os.truncate(tmp_path / file_name("test", "x"), 100_000)
    for rows in ([8], [0, 8]):
        with pytest.raises(InvalidFile, match=r"_x\.h5: rows cannot be read \(it has been cut short\)"):
            split.pixels(rows)


def test_parts_hold_no_samples_of_those_before(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    held: list[int] = []
    run = parts.run

    def counted(*given: Any, **named: Any) -> Path:
        made = run(*given, **named)
        # By `type`: `isinstance` asks weak proxies for their class, and those of what is gone raise.
        held.append(sum(type(o) is xai.Question and len(o) < 11 for o in gc.get_objects()))
        gc.disable()  # what is in circles stays, unless somebody looks for it
        return made

    monkeypatch.setattr(parts, "run", counted)
    try:
        parts.run_all(few(tmp_path / "a"), tmp_path / "run")
    finally:
        gc.enable()
    assert len(held) == 3
    assert max(held) == min(held)
