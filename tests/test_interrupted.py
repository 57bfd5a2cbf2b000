"""A disk that is full, read-only or gone ends a run in words, with nothing half written and no row; the same command goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai
from test_shards import assert_same, content, differences, made

import crossxai as xai
from crossxai.attribution import Attribution, Scores
from crossxai.errors import StorageFailed
from crossxai.experiment import model_run
from crossxai.files import Result, Samples, atomic, opening, read_result, read_samples, write_result, write_samples

ERRORS = (errno.ENOSPC, errno.EROFS, errno.ESTALE, errno.ENOENT, errno.EDQUOT, errno.EIO)
AGAIN = "run this again: what is done is kept"


def told(done: Any, place: Path, number: int) -> None:
    """One sentence and its status, and nothing half written."""
    assert done.exit_code == 2, f"{done.output}\n{done.exception!r}"
    assert os.strerror(number) in done.output
    assert str(place) in done.output.replace("\n", "")
    assert AGAIN in done.output.replace("\n", "")
    assert done.output.count("Error:") == 1
    assert not [*place.rglob("*.part"), *place.rglob("*.txt"), *place.rglob(".merging-*")]


class Failing:
    """Every file under a folder, or those that are named, fails once when it takes its name, one of explanations again when its
    scores come; each with the next of the errors."""

    def __init__(self, folder: Path, names: str = "") -> None:
        self.folder, self.names, self.tries, self.failed = folder, names, Counter[Path](), list[int]()
        self.replace = os.replace

    def __call__(self, source: Any, target: Any) -> None:
        path = Path(target)
        self.tries[path] += 1
        fatal = (1, 3) if "explanations" in path.parts else (1,)
        named = self.folder in path.parents and ".merging" not in str(path) and self.names in path.name
        if named and self.tries[path] in fatal:
            self.failed.append(ERRORS[len(self.failed) % len(ERRORS)])
            raise OSError(self.failed[-1], os.strerror(self.failed[-1]), str(source))
        self.replace(source, target)

    def until(self, command: Callable[[], Any]) -> None:
        """Run a command until it is done; whenever it is not, it has told why."""
        while (done := command()).exit_code:
            told(done, self.folder, self.failed[-1])


@pytest.mark.parametrize(
    ("names", "times"),
    [("captum.occlusion", 2), pytest.param("", 8, marks=pytest.mark.deep)],
    ids=["maps and scores", "all"],
)
def test_files_that_cannot_be_written_are_written_by_the_same_command_again(
    both: Path, monkeypatch: pytest.MonkeyPatch, names: str, times: int
) -> None:
    assert made(both, "--shard", "1/1").exit_code == 0
    (both / "out").rename(both / "whole")
    failing = Failing(both / "out", names)
    monkeypatch.setattr(os, "replace", failing)
    failing.until(lambda: made(both, "--shard", "1/1"))
    assert len(failing.failed) == times
    for path in (both / "whole").rglob("*.h5"):
        other = both / "out" / path.relative_to(both / "whole")
        assert [*differences(content(path), content(other))] == []


@pytest.mark.deep
def test_a_merge_and_a_page_that_cannot_be_written_are_written_by_the_same_command_again(
    both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made(both).exit_code == 0
    (both / "out").rename(both / "whole")
    for number in (1, 2):
        assert made(both, "--shard", f"{number}/2").exit_code == 0
    failing = Failing(both / "out")
    monkeypatch.setattr(os, "replace", failing)
    failing.until(lambda: crossxai("merge", str(both / "out")))
    assert set(failing.failed) == set(ERRORS)
    assert_same(both / "whole", both / "out")


def test_a_full_disk_is_no_failure_of_an_explainer_or_a_metric(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured of maps is not counted as failed either, whatever asks the disk."""

    def full(self: Any, explainer: Any) -> Any:
        with atomic.replacing(both / "out" / "temporary.npy") as temporary:
            raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    monkeypatch.setattr(model_run.ModelRun, "_explain", full)
    told(made(both), both / "out", errno.ENOSPC)
    monkeypatch.undo()
    monkeypatch.setattr(model_run.curves, "evaluate", lambda *_: full(None, None))
    told(made(both), both / "out", errno.ENOSPC)
    assert not (both / "out" / "manifest.json").exists()
    assert all(read_result(path).status == "ok" for path in (both / "out").rglob("explanations/*/*.h5"))
    monkeypatch.undo()
    assert made(both).exit_code == 0


DEEP = pytest.mark.deep


@pytest.mark.parametrize(
    "written",
    [pytest.param(1, marks=DEEP), 2, pytest.param(4, marks=DEEP)],
    ids=["explaining", "explained", "measured"],
)
def test_a_folder_that_vanishes_is_not_begun_anew(both: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """As by a disk that is unmounted: the folder of its name is another one."""
    original, made_so_far = model_run.write_result, list[Path]()
    out, away = both / "out" / "shards" / "1-of-1", both / "away"

    def vanishing(path: Path, result: Any) -> None:
        original(path, result)
        made_so_far.append(path)
        if len(made_so_far) == written:
            out.rename(away)
            out.mkdir()

    monkeypatch.setattr(model_run, "write_result", vanishing)
    done = made(both, "--shard", "1/1")
    assert done.exit_code == 2, done.output
    assert "see whether its disk is still there and run this again" in done.output.replace("\n", "")
    assert [*out.rglob("*")] == []
    out.rmdir()
    away.rename(out)
    assert made(both, "--shard", "1/1").exit_code == 0
    assert len(made_so_far) == 4  # nothing that was there is made again
    assert all(read_result(path).scores for path in out.rglob("explanations/*/*.h5"))


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: as of a disk that fills up, the kernel takes a part, and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def some_maps(n: int = 30) -> tuple[Samples, Result]:
    rng, image, ids = np.random.default_rng(0), xai.Modality.image(), tuple(f"sample {i}" for i in range(n))
    maps = Attribution((rng.random((n, 16, 16, 1), np.float32),), (image,), ids, "e", extras={"gap": np.zeros(n)})
    scores = {
        f"m{i}": Scores(f"m{i}", rng.random(n), True, curve=rng.random((n, 9)), fractions=np.linspace(0, 1, 9))
        for i in range(4)
    }
    samples = Samples(ids, (image,), {"image": rng.random((n, 16, 16, 3), np.float32)}, np.arange(n) % 2, ("a", "b"))
    return samples, Result("m", "torch", "l", "e", maps, degenerate=("",) * n, scores=scores)


@pytest.mark.parametrize("steps", [9, pytest.param(200, marks=pytest.mark.deep)])
@pytest.mark.parametrize("kind", ["samples", "result"])
def test_hdf5_survives_a_disk_that_is_full_anywhere(tmp_path: Path, kind: str, steps: int) -> None:
    """HDF5 itself ends the process with a segmentation fault at some of these places."""
    samples, result = some_maps()
    path = tmp_path / "f.h5"

    def write() -> None:
        if kind == "samples":
            write_samples(path, samples)
        else:
            write_result(path, result)

    write()
    size = path.stat().st_size
    path.unlink()
    for most in np.linspace(0, size - 1, steps, dtype=int).tolist():
        with at_most(most), pytest.raises(StorageFailed, match=r"cannot write .*f\.h5: File too large"):
            write()
        assert [*tmp_path.iterdir()] == []
    write()
    read: Any = read_samples(path).inputs["image"] if kind == "samples" else read_result(path).maps["image"]
    np.testing.assert_array_equal(read, samples.inputs["image"] if kind == "samples" else result.maps["image"])


def test_what_hdf5_reads_back_is_what_it_wrote_though_the_disk_is_full(tmp_path: Path) -> None:
    with at_most(100), opening.Disk(tmp_path / "f") as disk:
        for place, written in ((0, b"a" * 90), (90, b"b" * 20), (95, b"c" * 5), (200, b"d")):
            disk.seek(place)
            assert disk.write(written) == len(written)
        disk.seek(85)
        buffer = bytearray(30)
        disk.readinto(buffer)
        assert buffer == b"a" * 5 + b"b" * 5 + b"c" * 5 + b"b" * 10 + b"\0" * 5
        with pytest.raises(OSError, match="File too large"):
            disk.check()


IN_A_SPACE_OF_ITS_OWN = ("unshare", "--map-root-user", "--mount")
"""Where a process may mount what nobody else sees, and what is gone with it."""
ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from experiments import crossxai
from test_shards import assert_same
from crossxai.experiment import model_run

place, disk = Path(sys.argv[1]), Path(sys.argv[1]) / "disk"

def mount(*words):
    subprocess.run(["mount", *words, disk], check=True)

def made(out):
    done = crossxai("compare", str(place / "e.toml"), "--out", str(out), "--quiet")
    assert not done.exit_code or not [*out.rglob("*.part"), *out.rglob("*.txt")]
    print(done.exit_code, done.output.strip().splitlines()[-1], flush=True)
    return done

def after_maps(act):
    original = model_run.write_result
    def write_result(path, result):
        original(path, result)
        model_run.write_result = original
        act()
    model_run.write_result = write_result

made(place / "whole")
disk.mkdir()
for size in (16, 40, 60, 75, 90, 110, 200):  # kilobytes
    mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs") if size == 16 else mount("-o", f"remount,size={size}k")
    done = made(disk / "out")
    assert done.exit_code == 2 and "No space left on device; make room there and run this again" in done.output, done.output
mount("-o", "remount,size=20m")
assert made(disk / "out").exit_code == 0
assert_same(place / "whole", disk / "out")
after_maps(lambda: mount("-o", "remount,ro"))
done = made(disk / "read_only")
assert done.exit_code == 2 and "Read-only file system; make it writable and run this again" in done.output, done.output
assert made(disk / "read_only").exit_code == 2
mount("-o", "remount,rw")
assert made(disk / "read_only").exit_code == 0
assert_same(place / "whole", disk / "read_only")
after_maps(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
done = made(disk / "gone")
assert done.exit_code == 2 and "see whether its disk is still there and run this again" in done.output, done.output
assert [*disk.iterdir()] == []
print("all as it should be")
"""


@pytest.mark.process
def test_a_disk_that_fills_up_or_is_taken_away(both: Path) -> None:
    """What the tests above inject, done by the kernel."""
    (both / "probe").mkdir()
    probe = [*IN_A_SPACE_OF_ITS_OWN, "mount", "-t", "tmpfs", "tmpfs", str(both / "probe")]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here; the tests above say the same of errors that are injected")
    command = [*IN_A_SPACE_OF_ITS_OWN, sys.executable, "-c", ON_A_SMALL_DISK, str(both)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all as it should be\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT], ids=["full disk", "no file"])
def test_errors_that_no_code_of_ours_expects_are_told_where_they_are_of_a_disk(
    both: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def raising(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "/tmp/library")

    monkeypatch.setattr("crossxai.experiment.parts.run_all", raising)
    done = made(both)
    if number == errno.ENOSPC:
        assert done.exit_code == 2
        assert "cannot read or write /tmp/library: No space left on device; make room there" in done.output
    else:
        assert isinstance(done.exception, FileNotFoundError)
