"""What `crossxai data pcam check` and `embedded` say and do."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from pcam_server import publish
from typer.testing import CliRunner

from crossxai.cli import app
from crossxai.files import atomic
from crossxai.files.atomic import replacing, sweep
from crossxai.studies.pcam import histology
from crossxai.studies.pcam.download import RECORD, Record
from crossxai.studies.pcam.inspection import Findings, inspect_folder
from crossxai.studies.pcam.reading import PCam, Split, file_name, write_split


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A small published set with its archives."""
    folder = tmp_path_factory.mktemp("published")
    table, archives, _ = publish(folder)
    for name, content in archives.items():
        (folder / name).write_bytes(content)
    return folder, table


@pytest.fixture
def folder(source: tuple[Path, Record], tmp_path: Path) -> Path:
    return Path(shutil.copytree(source[0], tmp_path / "set"))


def run(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "pcam", "check", str(folder)], env={"COLUMNS": "140"})
    assert not isinstance(done.exception, (AssertionError, ValueError)), done.exception
    return done.exit_code, done.stdout


def look(folder: Path, table: Record = RECORD) -> Findings:
    return inspect_folder(folder, table, progress=False)


def test_the_published_set(source: tuple[Path, Record]) -> None:
    found = look(*source)
    assert found.problems == []
    assert [(f.split, f.part, f.state, f.rows) for f in found.files if f.part != "mask"] == [
        (split, part, "whole", n) for split, n in (("train", 24), ("valid", 8), ("test", 8)) for part in ("x", "y")
    ]
    assert [f.labels for f in found.files if f.part == "y"] == [(12, 12), (4, 4), (4, 4)]
    assert {f.archive for f in found.files if f.part != "mask"} == {"as published"}
    assert {f.state for f in found.files if f.part == "mask"} == {"missing"}
    assert found.notes[0] == "train: no masks."
    assert found.notes[-1].startswith("Row counts are those of the published set (train, valid, test).")


def test_archives_alone(folder: Path, source: tuple[Path, Record]) -> None:
    for path in folder.glob("*.h5"):
        path.unlink()
    found = look(folder, source[1])
    assert found.problems == []
    assert {(f.state, f.archive) for f in found.files if f.part != "mask"} == {("packed", "as published")}
    assert found.split("train")["x"].rows == 24
    assert found.split("train")["x"].size == source[1][0].size
    assert "Row counts are those of the published set" in found.notes[-1]
    foreign = look(folder)  # against the real record
    assert foreign.problems == []
    assert {f.archive for f in foreign.files if f.part != "mask"} == {"another set's"}
    assert any("its rows are looked at once it is unpacked" in note for note in foreign.notes)


def test_the_embedded_set_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = histology.Recipe(train_per_class=10, valid_per_class=6, test_per_class=5)
    build = histology.build
    monkeypatch.setattr(histology, "build", lambda out: build(out, small))
    done = CliRunner().invoke(app, ["data", "pcam", "embedded", "--out", str(tmp_path / "set")])
    assert done.exit_code == 0, done.output
    assert "Patches: 20 train, 10 test, 12 valid, with masks, in" in done.stdout
    assert PCam(tmp_path / "set", "valid").has_masks
    code, said = run(tmp_path / "set")
    assert code == 0
    assert said.count("whole") == 9
    assert "10 / 10" in said
    assert "Row counts are not those of the published set" in said
    assert said.endswith("No problem found.\n")
    assert "Problem:" not in said


def test_missing_splits_are_named_and_no_problem(folder: Path) -> None:
    for path in folder.glob("*train*"):
        path.unlink()
    code, said = run(folder)
    assert code == 0
    assert "There is no train split." in said


@pytest.mark.parametrize("name", ["there is none", "empty"])
def test_nothing_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    code, said = run(tmp_path / name)
    assert code == 1
    what = "there is no file of this format" if name == "empty" else "there is no such folder"
    assert re.search(rf"{what}.*crossxai data pcam download --out {tmp_path}", said)


def test_a_file_and_a_set_that_is_not_drawn_yet_are_told_apart_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "synthetic.json").write_text("{}")
    assert "there is synthetic.json alone: give the command that was drawing this set again" in problem(tmp_path)
    assert "is a file; name the folder" in problem(tmp_path / "synthetic.json")


def problem(folder: Path, table: Record = RECORD) -> str:
    """The one problem that a folder has; the command says it and exits with 1."""
    (sentence,) = look(folder, table).problems
    if table is RECORD:
        code, said = run(folder)
        assert code == 1
        assert f"Problem: {sentence}" in said
        assert "No problem found" not in said
    return sentence


@pytest.mark.parametrize("part", ["x", "y"])
def test_half_a_split(folder: Path, part: str) -> None:
    for path in folder.glob(f"*test_{part}*"):
        path.unlink()
    other = {"x": "y", "y": "x"}[part]
    assert problem(folder) == (
        f"test: camelyonpatch_level_2_split_test_{part}.h5 is missing beside "
        f"camelyonpatch_level_2_split_test_{other}.h5; fetch or write it again"
    )


def test_lengths_that_differ(folder: Path) -> None:
    rng = np.random.default_rng(0)
    write_split(folder / "other", "test", rng.integers(0, 256, (5, 96, 96, 3), np.uint8), [0, 1, 0, 1, 1])
    shutil.copy(folder / "other" / file_name("test", "y"), folder)
    assert "8 rows in camelyonpatch_level_2_split_test_x.h5, 5 rows in" in problem(folder)


def test_a_truncated_file(folder: Path) -> None:
    path = folder / file_name("test", "x")
    path.write_bytes(path.read_bytes()[:100_000])
    assert "test_x.h5: not a whole HDF5 file" in problem(folder)


def test_labels_that_are_none(folder: Path) -> None:
    with h5py.File(folder / file_name("test", "y"), "r+") as file:
        file["y"][3] = 7
    assert "found the labels [7], expected 0 (no) and 1 (yes) only" in problem(folder)


def test_a_row_that_cannot_be_read(folder: Path) -> None:
    """One bit of a compressed chunk: the file opens, its shape is right, and only reading finds it."""
    path = folder / file_name("test", "x")
    with h5py.File(path, "r") as file:
        values = np.asarray(file["x"])
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 96, 96, 3), compression="gzip", fletcher32=True)
        place = file["x"].id.get_chunk_info(7).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 2000] ^= 1
    path.write_bytes(content)
    assert "test_x.h5: rows 0 … 7 cannot be read" in problem(folder)


def test_archives_that_are_wrong(folder: Path, source: tuple[Path, Record]) -> None:
    path = folder / (file_name("test", "x") + ".gz")
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    assert "not a whole gzip file" in problem(folder)
    path.write_bytes(gzip.compress(gzip.decompress(good), compresslevel=2, mtime=1))
    assert "is not the published archive: md5 expected" in problem(folder, source[1])
    path.write_bytes(good[:3000] + bytes([good[3000] ^ 1]) + good[3001:])
    (folder / file_name("test", "x")).unlink()
    assert "not a whole gzip file" in problem(folder)


def test_an_unfinished_download_is_said(folder: Path, source: tuple[Path, Record]) -> None:
    for path in folder.glob("*valid_x*"):
        path.unlink()
    (folder / (file_name("valid", "x") + ".gz.part")).write_bytes(bytes(10))
    found = look(folder, source[1])
    assert len(found.problems) == 1
    assert "valid_x.h5 is missing" in found.problems[0]
    assert any(
        f"10 of {source[1][2].size} bytes have been fetched; go on with: crossxai" in note for note in found.notes
    )
    assert not any("published set" in note for note in found.notes[1:])


def test_one_class_only_is_said(tmp_path: Path) -> None:
    write_split(tmp_path, "test", np.zeros((3, 96, 96, 3), np.uint8), [0, 0, 0])
    found = look(tmp_path)
    assert found.problems == []
    assert "test: only one class is there (3 × 0, 0 × 1): it has no AUC." in found.notes


def big(folder: Path, split: Split, n: int) -> None:
    """n patches, written piece by piece."""
    for part, row in (("x", (96, 96, 3)), ("y", (1, 1, 1))):
        with h5py.File(folder / file_name(split, part), "w") as file:
            data = file.create_dataset(part, shape=(n, *row), dtype=np.uint8, chunks=(50, *row))
            for start in range(0, n, 1000):
                data[start : start + 1000] = np.full((1000, *row), start // 1000 % 2, np.uint8)


@pytest.mark.process
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    code = (
        "import sys; from crossxai.studies.pcam.inspection import inspect_folder\n"
        "assert inspect_folder(sys.argv[1], progress=False).problems == []\n"
        # Not ru_maxrss, which begins with the peak of the process that started this one.
        "print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks = []
    for n in (2000, 12_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        big(folder, "test", n)
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 20  # MB; the larger set has 276 more


@pytest.mark.process
def test_what_the_killed_leave_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "a[1].h5"
    code = "import os, sys; from pathlib import Path; from crossxai.files.atomic import replacing\n"
    code += "with replacing(Path(sys.argv[1])) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    other = tmp_path / left.name.replace("a[1]", "b")
    other.write_text("another file's")
    foreign = tmp_path / f".{path.name}.notes.old.part"
    foreign.write_text("somebody's")
    with replacing(path) as mine:
        mine.write_text("whole")
        theirs = tmp_path / f".{path.name}.{os.getppid()}.00ff00ff.part"
        theirs.write_text("a living process's")
        sweep(path)
        assert not left.exists()
        assert all(kept.exists() for kept in (mine, theirs, other, foreign))
    assert path.read_text() == "whole"


def test_another_container_s_files_are_swept_once_they_are_old_and_its_own_number_again_at_once(tmp_path: Path) -> None:
    """The first process of every container is number 1, also that which starts again after a kill."""
    path = tmp_path / "a.h5"
    mine = tmp_path / f".a.h5.{os.getpid()}.{atomic.HOST}-00ff00ff.part"
    fresh, old = (tmp_path / f".a.h5.999999999.0badcafe-{end}.part" for end in ("00", "11"))
    for left in (mine, fresh, old):
        left.write_text("half")
    os.utime(old, (time.time() - 2 * atomic.STALE,) * 2)
    with replacing(path) as one, replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
        sweep(path)
        assert {p.name for p in tmp_path.iterdir()} == {one.name, two.name, fresh.name}
    assert {p.name for p in tmp_path.iterdir()} == {"a.h5", fresh.name}
    assert not atomic._open
