"""Runs in a bucket: the files that a folder would hold, also where a store fails, and samples that lie in one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from experiments import crossxai
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from rich.console import Console
from test_on_demand import few, little_memory  # noqa: F401
from test_ray import experiment_in, place  # noqa: F401
from test_shards import assert_same

import crossxai as xai
from crossxai.data import arrays, from_stores
from crossxai.errors import install_command
from crossxai.experiment import parts
from crossxai.files import atomic, read_result, remote, stores
from crossxai.files.stores import Store

MAPS = "explanations/f/reference.rise@canonical.h5"


class Failing(MemoryFileSystem):
    """A store in memory, with files of its own, whose every transfer asks `refuse` first."""

    protocol: ClassVar = "failing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    refuse: ClassVar[Any] = None

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if Failing.refuse is not None:
            Failing.refuse(rpath)
        super().put_file(lpath, rpath, **options)


@pytest.fixture(autouse=True)
def stores_of_one_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty stores, no pauses, and a folder of caches in which nothing is left behind but samples."""
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stores, "PAUSES", (0.0,))
    monkeypatch.setattr(stores, "IN_ONE_STEP", stores.IN_ONE_STEP | {"failing"})
    from_stores._fetched.cache_clear()
    for kind in (MemoryFileSystem, Failing):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]
    Failing.refuse = None
    yield
    assert not [*(tmp_path / "cache").glob("crossxai/remote/*")]
    assert not atomic.elsewhere


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in a folder."""
    folder = experiment_in(tmp_path_factory.mktemp("whole"))
    assert made(folder, str(folder / "out")).exit_code == 0
    return folder / "out"


def made(place: Path, out: str, *words: str) -> Any:  # noqa: F811
    return crossxai("compare", str(place / "e.toml"), "--out", out, *words)


def brought(url: str, to: Path) -> Path:
    """What lies below a URL, in a folder."""
    store = Store(url)
    store.get({name: to / name for name in store.names()})
    return to


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_files_are_those_of_a_folder(place: Path, whole: Path) -> None:  # noqa: F811
    done = made(place, "memory://bucket/run")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Report: memory://bucket/run/report.html" in done.output
    there = brought("memory://bucket/run", place / "there")
    assert_same(whole, there)
    assert names(there) == names(whole)


def test_shards_in_a_bucket_are_merged_there(place: Path, whole: Path) -> None:  # noqa: F811
    url = "memory://bucket/run"
    done = made(place, url, "--shard", "2/2")
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"Shard 2/2 is done, 1 of 2. When all are: crossxai merge {url}" in done.output
    done = crossxai("merge", url)
    assert done.exit_code == 2
    assert f"--shard 1/2 --out {url}\n" in done.output
    assert "so are all others" in made(place, url, "--shard", "1/2").output
    done = crossxai("merge", url)
    assert done.exit_code == 0, (done.output, done.exception)
    assert_same(whole, brought(url, place / "there"))


def test_a_store_that_fails_leaves_what_was_there_and_the_same_command_goes_on(place: Path) -> None:  # noqa: F811
    url, words = "failing://bucket/run", ("--shard", "1/2")
    shard, tried, asked = Store(f"{url}/shards/1-of-2"), list[str](), ""

    def fail(path: str) -> None:
        if path.endswith(asked):
            tried.append(path)
            raise error

    def seconds() -> float:
        """How long the maps took, by which those that were made again are known."""
        return read_result(brought(shard.url, place / "there") / MAPS).attribution.seconds

    Failing.refuse = fail
    asked, error = MAPS, ConnectionError("the network is gone")
    done = made(place, url, *words)
    assert done.exit_code == 2, done.output
    assert f"Error: cannot write {shard.url}/{MAPS}: ConnectionError: the network is gone" in done.output
    assert len(tried) == 2  # once more after a pause; and it is no row of the explainer
    assert set(shard.names()) & {"samples.h5", "plan.json", "manifest.json", MAPS} == {"samples.h5", "plan.json"}
    asked, error = "manifest.json", PermissionError("no")
    done = made(place, url, *words)
    assert f"Error: cannot write {shard.url}/manifest.json: PermissionError: no" in done.output
    assert len(tried) == 3  # another attempt would not help
    assert "manifest.json" not in shard.names()
    before = seconds()
    Failing.refuse = None
    assert made(place, url, *words).exit_code == 0
    assert seconds() == before
    Failing.refuse = fail
    asked, error = MAPS, OSError("gone again")
    assert made(place, url, "--set", "seed=1", *words).exit_code == 2
    assert seconds() == before
    assert "manifest.json" not in shard.names()


def test_an_upload_that_succeeds_in_the_end_is_none_that_failed(place: Path) -> None:  # noqa: F811
    failures = [OSError("try later")]

    def once(path: str) -> None:
        if path.endswith(MAPS) and failures:
            raise failures.pop()

    Failing.refuse = once
    url = "failing://bucket/run"
    done = made(place, url, "--shard", "1/2")
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = brought(f"{url}/shards/1-of-2", place / "there") / "manifest.json"
    assert json.loads(manifest.read_text())["failures"] == failures == []


def test_files_that_are_no_longer_of_the_run_go_and_foreign_ones_are_refused(place: Path) -> None:  # noqa: F811
    url, words = "memory://bucket/run", ("--shard", "1/2")
    shard = Store(f"{url}/shards/1-of-2")
    assert made(place, url, *words).exit_code == 0
    assert MAPS in shard.names()
    assert made(place, url, "--explainers", "reference.occlusion", *words).exit_code == 0
    assert MAPS not in shard.names()
    place_of = "/bucket/run/shards/1-of-2/samples.h5"
    fsspec.filesystem("memory").pipe_file(place_of, b"a thesis")
    done = made(place, url, *words)
    assert f"{shard.url}/samples.h5 was not written by CrossXAI and would be lost" in done.output
    assert fsspec.filesystem("memory").cat_file(place_of) == b"a thesis"


def test_reports_evaluations_and_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(place)
    url = "memory://bucket/run"
    assert made(place, url).exit_code == 0
    Store(url).remove("report.html")
    done = crossxai("report", url, "--json")
    assert json.loads(done.stdout)["report"] == f"{url}/report.html"
    assert "report.html" in Store(url).names()
    done = crossxai("evaluate", url, "--preset", "ours", "--experiment", str(place / "e.toml"))
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"Tables: {url}/presets.csv" in done.output
    assert "presets.csv" in Store(url).names()
    run = xai.Run(url)
    assert repr(run).endswith(f"; {url})")
    assert run.maps["reference.rise@canonical"].of("image").shape == (10, 16, 16, 1)
    _gone(run)


def _gone(run: xai.Run) -> None:
    """What happens as Python ends."""
    copy = remote._copies[run.folder if run.folder in remote._copies else run.folder.parent.parent]
    copy.close()
    assert not run.folder.exists()


def test_compare_and_merge_in_python() -> None:
    def score(images: Any) -> Any:
        value = images[:, :4].mean(axis=(1, 2, 3))
        return np.stack([-value, value], axis=1)

    model = xai.wrap(score, modalities=(xai.Modality.image(),))
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    asked: dict[str, Any] = {"explainers": ["reference.occlusion"], "metrics": ["sparseness"], "progress": False}
    for number in (1, 2):
        _gone(xai.compare(model, images, [0, 1, 0, 1], out="memory://bucket/two", shard=(number, 2), **asked))
    merged = xai.merge("memory://bucket/two")
    whole = xai.compare(model, images, [0, 1, 0, 1], out="memory://bucket/one", **asked)
    assert merged.scores["value"].tolist() == whole.scores["value"].tolist()
    _gone(merged)
    _gone(whole)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/run", "s3://bucket/run needs s3fs, which is not installed: pip install s3fs"),
        ("s3://", "s3://: write the bucket and the folder, such as s3://bucket/run"),
        ("nosuch://bucket/run", "nosuch://bucket/run: ValueError: Protocol not known: nosuch"),
    ],
)
def test_what_a_url_needs_is_said(place: Path, url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "s3fs", None)
    done = made(place, url)
    assert done.exit_code == 2
    assert words in done.output


def test_without_fsspec(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "fsspec", None)
    words = f"s3://bucket/run needs fsspec, which is not installed: {install_command('remote')}"
    assert words in made(place, "s3://bucket/run").output


def test_a_url_where_none_is_taken_makes_no_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    maps = xai.Attribution.of_array(np.zeros((1, 4, 4, 3), np.float32), layout="NHWC", explainer="mine")
    for out in ("s3://bucket/maps.h5", tmp_path / "s3://bucket/maps.h5"):
        with pytest.raises(xai.InvalidFile, match="was a URL, which the folder of a run alone may be"):
            maps.save(out)
    with pytest.raises(xai.InvalidFile, match="was a URL"):
        xai.merge(Path("s3://bucket/run"))
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_a_store_where_nothing_may_be_written_is_told_before_a_model_is_made(
    place: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*given: Any, **options: Any) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(Failing, "pipe_file", refuse)
    done = made(place, "failing://bucket/run")
    assert "cannot write in failing://bucket/run: PermissionError: read only" in done.output
    assert not (place / "models.txt").exists()


def test_a_full_disk_here_is_told_as_such(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    replace = os.replace

    def full(one: Any, other: Any) -> None:
        if str(other).endswith("samples.h5"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(one, other)

    monkeypatch.setattr(os, "replace", full)
    done = made(place, "memory://bucket/run")
    assert done.exit_code == 2
    assert "what is done is kept (in the copy here of memory://bucket/run; XDG_CACHE_HOME or" in done.output


def test_copies_stay_where_they_are_to_stay_and_go_where_their_process_was_killed(
    place: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caches = tmp_path / "cache" / "crossxai" / "remote"
    (killed := caches / "abcd.copy").mkdir(parents=True)
    words = ("--shard", "1/2")
    assert made(place, "memory://bucket/run", *words).exit_code == 0
    assert not killed.exists()
    with remote.folder("memory://bucket/other") as used:
        assert made(place, "memory://bucket/run", *words).exit_code == 0
        assert used.is_dir()
    monkeypatch.setenv("CROSSXAI_CACHE", str(tmp_path / "kept"))
    assert made(place, "memory://bucket/run", *words).exit_code == 0
    (kept,) = (tmp_path / "kept").glob("run-*")
    assert (kept / "shards" / "1-of-2" / "manifest.json").is_file()


def test_names_that_lead_elsewhere_are_left_alone(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for name in ("/b/run/../evil.txt", "/b/run/.hidden", "/b/run/a\\b", "/b/run/ok.txt"):
        files.store[name] = files.store.get(name)
        files.pipe_file(name, b"1")
    assert [*Store("memory://b/run").names()] == ["ok.txt"]


def test_samples_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    for label in ("cat", "dog"):
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    files.put(str(tmp_path / "photos"), "/bucket/photos", recursive=True)
    asked: list[str] = []
    get_file = MemoryFileSystem.get_file

    def counted(self: Any, rpath: str, lpath: str, **options: Any) -> None:
        asked.append(rpath)
        get_file(self, rpath, lpath, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", counted)

    model = xai.wrap(lambda images: images.mean(axis=(1, 2)), modalities=(xai.Modality.image(),))

    def read(given: str) -> list[str]:
        from_stores._fetched.cache_clear()  # as in another process
        asked.clear()
        return [*arrays.read(model, given).ids]

    here = read(str(tmp_path / "photos"))
    assert len(here) == 4
    url = "memory://bucket/photos"
    assert read(url) == here
    assert len(asked) == 4
    assert read(url) == here
    assert asked == []
    assert read(f"{url}/*/1.png") == read(str(tmp_path / "photos" / "*" / "1.png"))
    assert read(f"{url}/cat/0.png") == ["0"]
    files.rm("/bucket/photos/cat/0.png")
    files.pipe_file("/bucket/photos/cat/1.png", (tmp_path / "photos" / "cat" / "0.png").read_bytes())
    assert read(url) == [name for name in here if name != "cat/0"]
    assert asked == ["/bucket/photos/cat/1.png"]
    files.pipe_file("/bucket/list.csv", b"file\nphotos/dog/1.png\n")
    assert read("memory://bucket/list.csv") == ["1"]
    assert set(asked) == {
        f"/bucket/{name}" for name in Store("memory://bucket").names()
    }  # what lies beside it comes along
    with pytest.raises(xai.InvalidFile, match="memory://bucket/nothing: there are no files"):
        read("memory://bucket/nothing")


def test_parts_of_many_samples_go_on_from_the_bucket(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As another machine would: each command has a copy of its own."""
    url, more = "failing://bucket/run", {"metrics": [{"name": "sparseness"}]}
    request.getfixturevalue("little_memory")

    def fail(path: str) -> None:
        if path.endswith("3-of-3/manifest.json"):
            raise PermissionError("no")

    def run(**further: Any) -> float:
        """How long the maps took, by which those that were made again are known."""
        with remote.folder(url) as out:
            parts.run_all(few(tmp_path / "a", **more, **further), out, Console(quiet=True))
            made = read_result(out / "explanations" / "net" / "lime.image.h5")  # what a report reads is here
            assert len(made.ids) == 11
            return made.attribution.seconds

    Failing.refuse = fail
    with pytest.raises(xai.InvalidFile, match=f"^cannot write {url}/shards/3-of-3/manifest.json: PermissionError: no$"):
        run()
    assert {f"shards/{number}-of-3/manifest.json" for number in (1, 2)} <= set(Store(url).names())
    sent: list[str] = []
    Failing.refuse = sent.append
    run()
    assert not [path for path in sent if "shards/1-of-3" in path or "shards/2-of-3" in path]
    assert not [name for name in Store(url).names() if name.startswith("shards")]
    sent.clear()
    before = run()
    assert not [path for path in sent if path.endswith(".h5")]  # all was done
    further = [
        few(tmp_path / "a").model_dump()["explainers"][0],
        {"name": "reference.occlusion", "profile": "canonical", "params": {"patch": 8}},
    ]
    assert run(explainers=further) == pytest.approx(before)


@pytest.mark.process
def test_processes_that_share_a_store(place: Path) -> None:  # noqa: F811
    """Each shard, and the merge, by a process of its own; the store is a folder of this machine, where uploads take two steps."""
    for out in (f"file://{place}/store", str(place / "folder")):
        shards = (["compare", "e.toml", "--shard", f"{number}/2", "--out", out] for number in (2, 1))
        for words in (*shards, ["merge", out]):
            command = [sys.executable, "-m", "crossxai", *words]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stderr
    assert names(place / "folder") == names(place / "store")
    shutil.rmtree(place / "folder" / "shards")
    assert_same(place / "folder", place / "store", atol=0)
