"""The procedural set in PatchCamelyon's format: what its labels, masks and marks mean, and that its files survive anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from skimage.color import rgb_from_hed
from typer.testing import CliRunner

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.process import cores
from crossxai.studies.generation import pool
from crossxai.studies.pcam import cli, synthetic
from crossxai.studies.pcam.reading import CENTRE, ROWS, PCam, best_threshold, file_name, write_split
from crossxai.studies.pcam.synthetic import CHUNK, Patches, Shortcut, generate, split_ranges, write
from crossxai.studies.pcam.synthetic_patches import EOSIN, HAEMATOXYLIN, RESIDUAL, patch

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def patches() -> Patches:
    return generate(600, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic"), 200, 5, workers=1, progress=False)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def assert_same(one: Patches, other: Patches) -> None:
    for name in ("images", "labels", "masks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# What a patch is


def test_the_label_is_whether_a_tumour_pixel_lies_in_the_centre(patches: Patches) -> None:
    assert patches.images.shape == (600, 96, 96, 3)
    assert (patches.images.dtype, patches.labels.dtype, patches.masks.dtype) == (np.uint8, np.int64, bool)
    in_centre = patches.masks[:, CENTRE, CENTRE].any(axis=(1, 2))
    np.testing.assert_array_equal(in_centre, patches.labels == 1)
    outside = patches.masks.sum(axis=(1, 2)) - patches.masks[:, CENTRE, CENTRE].sum(axis=(1, 2))
    for label in (0, 1):  # most patches of either class have tumour cells around the centre, some have none
        assert 0.5 < (outside[patches.labels == label] > 0).mean() < 0.9


def test_classes_are_balanced_in_an_order_without_pattern(patches: Patches) -> None:
    pairs = patches.labels.reshape(-1, 2)
    assert (pairs.sum(axis=1) == 1).all()
    assert 110 < pairs[:, 0].sum() < 190
    assert generate(50, seed=3, start=600).labels.sum() == 25


def test_a_patch_depends_on_its_seed_and_number_alone(patches: Patches) -> None:
    for start, n in ((0, 3), (41, 7), (2 * CHUNK - 1, 2)):
        rows = slice(start, start + n)
        part = Patches(patches.images[rows], patches.labels[rows], patches.masks[rows])
        assert_same(generate(n, seed=3, start=start), part)
    assert not np.array_equal(generate(3, seed=4).images, patches.images[:3])
    assert len(generate(0)) == 0


def test_either_label_has_the_same_tissue_around_the_centre() -> None:
    """The same number drawn with both labels: nothing differs but the centre and what nuclei there cast up to 9 pixels around."""
    near = np.zeros((96, 96), dtype=bool)
    near[CENTRE.start - 9 : CENTRE.stop + 9, CENTRE.start - 9 : CENTRE.stop + 9] = True
    for number in range(30):
        (positive, cancer), (negative, none) = patch(1, number, True), patch(1, number, False)
        assert not (positive != negative).any(axis=2)[~near].any()
        assert (positive != negative).any(axis=2)[CENTRE, CENTRE].any()
        outside = np.ones((96, 96), dtype=bool)
        outside[CENTRE, CENTRE] = False
        np.testing.assert_array_equal(cancer & outside, none)  # no nucleus crosses the border


def test_neither_surroundings_nor_colour_tell_the_label(patches: Patches) -> None:
    """Best thresholds, chosen on the same patches; 600 of them by chance alone give about 0.53."""
    outside = np.ones((96, 96), dtype=bool)
    outside[CENTRE, CENTRE] = False
    values = {"tumour around": patches.masks[:, outside].sum(axis=1)}
    for channel, name in enumerate(("red", "green", "blue")):
        values[f"{name} around"] = patches.images[..., channel][:, outside].mean(axis=1)
    for name, value in values.items():
        assert max(best_threshold(sign * value.astype(float), patches.labels) for sign in (1, -1)) < 0.57, name
    for channel in range(3):  # what the centre's mean colour tells: little
        value = patches.images[:, CENTRE, CENTRE, channel].mean(axis=(1, 2))
        assert max(best_threshold(sign * value, patches.labels) for sign in (1, -1)) < 0.64


def test_tumour_nuclei_look_as_their_names_say(patches: Patches) -> None:
    """Tumour nuclei are darker in red than tissue on average, and paler than the small normal nuclei."""
    red = patches.images[..., 0].astype(float)
    tumour, tissue = red[patches.masks].mean(), red[~patches.masks].mean()
    dark = np.quantile(red[~patches.masks], 0.05)
    assert dark + 15 < tumour < tissue - 25
    assert patches.images.mean(axis=(0, 1, 2)).argmin() == 1  # pink and purple: green is taken most


def test_stains_are_those_of_scikit_image() -> None:
    np.testing.assert_array_equal((HAEMATOXYLIN, EOSIN, RESIDUAL), rgb_from_hed)


# The shortcut


def test_the_mark_is_in_positives_only_and_changes_nothing_else(patches: Patches) -> None:
    box = Shortcut()
    patches = Patches(patches.images[:200], patches.labels[:200], patches.masks[:200])
    marked = generate(200, seed=3, shortcut=box)
    np.testing.assert_array_equal(marked.labels, patches.labels)
    np.testing.assert_array_equal(marked.masks, patches.masks)
    inside = np.zeros((96, 96), dtype=bool)
    inside[slice(*box.rows), slice(*box.columns)] = True
    changed = (marked.images != patches.images).any(axis=3)
    assert not changed[:, ~inside].any()
    np.testing.assert_array_equal(changed.any(axis=(1, 2)), patches.labels == 1)
    assert (changed[patches.labels == 1].sum(axis=(1, 2)) >= 20).all()
    # Ink takes red more than any tissue does: a rule on the box alone tells the label.
    reds = marked.images[:, inside][..., 0].min(axis=1)
    assert best_threshold(-reds.astype(float), patches.labels) > 0.95


def test_a_share_of_the_positives_and_another_box() -> None:
    box = Shortcut(rows=(80, 90), columns=(70, 90), share=0.4)
    plain, marked = generate(200, seed=8), generate(200, seed=8, shortcut=box)
    changed = (marked.images != plain.images).any(axis=3)
    assert 20 <= changed.any(axis=(1, 2)).sum() <= 60  # 40 expected of 100 positives
    changed[:, 80:90, 70:90] = False
    assert not changed.any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": (4, 7)}, "shortcut rows is"),
        ({"columns": (90, 100)}, "shortcut columns is"),
        ({"rows": (30, 40), "columns": (60, 70)}, "reach into the centre"),
        ({"share": 0}, "shortcut share is 0"),
        ({"share": 1.5}, "write a number above 0, up to 1"),
    ],
)
def test_marks_that_make_no_shortcut_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Shortcut(**settings)


# Files


def test_what_is_written_is_what_was_generated(folder: Path) -> None:
    start = 0
    for split, n in zip(SPLITS, (160, 20, 20), strict=True):
        data, expected = PCam(folder, split), generate(n, 5, start)
        rows = np.arange(n)
        np.testing.assert_array_equal(np.round(data.images(rows) * 255), expected.images)
        np.testing.assert_array_equal(data.labels(), expected.labels)
        np.testing.assert_array_equal(data.masks(rows), expected.masks)
        np.testing.assert_array_equal(data.masks([n - 1, 3, 3]), expected.masks[[n - 1, 3, 3]])
        start += n
    note = json.loads((folder / "synthetic.json").read_text())
    assert note["shortcut"] is None
    assert note["made_from"] == {"version": 1, "n": 200, "seed": 5, "shortcut": None}
    assert {s: (v["patches"], v["per_class"]) for s, v in note["splits"].items()} == {
        "train": (160, [80, 80]),
        "valid": (20, [10, 10]),
        "test": (20, [10, 10]),
    }
    assert all(PCam(folder, s).fingerprint() == v["fingerprint"] for s, v in note["splits"].items())
    assert all(0.5 <= v["surround_rule"] < 0.8 for v in note["splits"].values())


@pytest.mark.process
def test_any_number_of_workers_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert contents(write(tmp_path, 200, 5, workers=2, progress=False)) == contents(folder)


@pytest.mark.parametrize("n", [20, 22, 38, 50, 2000, 20_010, 200_000])
def test_every_split_is_even_and_about_its_share(n: int) -> None:
    ranges = split_ranges(n)
    assert [r.start for r in ranges.values()] == [0, ranges["train"].stop, ranges["valid"].stop]
    assert ranges["test"].stop == n
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert len(ranges[split]) % 2 == 0
        assert abs(len(ranges[split]) - share * n) <= 2


@pytest.mark.parametrize("n", [0, 18, 21, 2.0, True])
def test_numbers_that_make_no_set_are_named(n: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"n is .*; write"):
        write(tmp_path / "new", n, progress=False)
    assert not (tmp_path / "new").exists()


def test_finished_splits_are_kept_and_others_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 20, workers=1)
    before, times = contents(tmp_path), {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    write(tmp_path, 20, workers=1)
    assert "nothing to do" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times
    (tmp_path / file_name("valid", "mask")).unlink()
    write(tmp_path, 20, workers=1, progress=False)
    assert contents(tmp_path) == before
    again = {p.name for p in tmp_path.iterdir() if p.stat().st_mtime_ns != times[p.name]}
    assert again == {"synthetic.json", *(file_name("valid", part) for part in ROWS)}
    write(tmp_path, 22, 1, Shortcut(), workers=1, progress=False)
    assert len(PCam(tmp_path, "train")) == 18
    assert json.loads((tmp_path / "synthetic.json").read_text())["shortcut"] == {
        "rows": [4, 12],
        "columns": [4, 12],
        "share": 1.0,
    }


@pytest.mark.parametrize("name", [file_name("test", "y"), file_name("train", "x") + ".gz"])
def test_files_of_others_are_not_overwritten(tmp_path: Path, name: str) -> None:
    write_split(tmp_path / "real", "test", np.zeros((2, 96, 96, 3), np.uint8), [0, 1])
    set_ = write(tmp_path / "set", 20, workers=1, progress=False)  # even where our own note lies beside them
    (set_ / name).write_bytes((tmp_path / "real" / file_name("test", "y")).read_bytes())
    before = contents(set_)
    with pytest.raises(InvalidFile, match=f"holds {name}, which this set would overwrite"):
        write(set_, 20, 1, progress=False)
    assert contents(set_) == before


def test_folders_that_cannot_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidFile, match=r"cannot write .*: .*file is a file, no folder"):
        write(tmp_path / "file", 20, progress=False)
    (tmp_path / "synthetic.json").write_text("[]")
    with pytest.raises(InvalidFile, match="not written by"):
        write(tmp_path, 20, progress=False)


# Interrupted


WRITE = """
import sys
from crossxai.studies.pcam.synthetic import write
if __name__ == "__main__":
    write(sys.argv[1], 600, 5, workers=2)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(write(tmp_path_factory.mktemp("undisturbed"), 600, 5, workers=2, progress=False))


def started(script: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process that writes 600 patches, once it is in the middle of them."""
    script.write_text(WRITE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen([sys.executable, script, out], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(path.stat().st_size > 1e6 for path in out.glob(".*_x.h5.*.part")):
            return process
        time.sleep(0.005)
    raise AssertionError(f"not caught in the middle: {process.poll()}")


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:1]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_started_again(how: signal.Signals, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(tmp_path / "script.py", out)
    workers = children(process.pid)
    process.send_signal(how)
    assert process.wait(timeout=30) != 0
    left = list(out.glob(".*.part"))
    assert bool(left) == (how == signal.SIGKILL)  # Ctrl-C cleans up at once, a kill cannot
    assert not list(out.glob("camelyonpatch*"))
    deadline = time.monotonic() + 20
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    assert not any(map(running, workers))  # nobody goes on drawing for a process that is no more
    write(out, 600, 5, workers=1, progress=False)
    assert contents(out) == undisturbed


def test_cores_are_counted_where_the_system_does_not_say_which_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    with pool(None, 1000) as processes:  # spawned only when asked for a patch
        assert processes.count == min(os.cpu_count() or 1, 1000)


def test_no_old_file_lies_beside_a_new_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two would leave unmarked patches under a note that says where their mark is."""
    write(tmp_path, 20, workers=1, progress=False)
    seen = []

    def written(folder: Path, *rest: Any) -> None:
        seen.append(list(folder.glob("camelyonpatch*")))
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_write_note", written)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 20, shortcut=Shortcut(), workers=1, progress=False)
    assert seen == [[]]


PEAK = """
import resource, sys
from crossxai.studies.pcam.synthetic import write
if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), workers=2, progress=False)
    own = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))
    # Of this process not ru_maxrss, which begins with the peak of the process that started it.
    print(own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@pytest.mark.process
@pytest.mark.deep
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """Peaks of the writing process and of its largest worker, ten times as many patches: 500 MB more to write."""
    (tmp_path / "script.py").write_text(PEAK)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    peaks = []
    for n in (2000, 20_000):
        command = [sys.executable, tmp_path / "script.py", tmp_path / str(n), str(n)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append([float(mib) for mib in done.stdout.split()])
    for few, many in zip(*peaks, strict=True):
        assert many < few + 25


# The command


def command(*words: str) -> Any:
    app = typer.Typer()
    app.command()(cli.synthetic)
    return CliRunner().invoke(app, list(words))


def test_the_command_says_what_it_wrote_and_where(tmp_path: Path) -> None:
    done = command("--out", str(tmp_path / "set"), "--n", "20", "--seed", "2", "--shortcut", "--workers", "1")
    assert done.exit_code == 0, done.output
    for words in ("Written to", "pen mark in 100%", "rows 4–11", "train", "16", "valid", "test"):
        assert words in done.stdout
    assert done.stdout.rstrip().endswith(str(tmp_path / "set"))
    marked = generate(2, seed=2, shortcut=Shortcut())
    np.testing.assert_array_equal(np.round(PCam(tmp_path / "set", "train").images([0, 1]) * 255), marked.images)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--n", "21"), "write an even number"),
        (("--n", "10"), "write a whole number from 20"),
        (("--share", "0.5"), "write --shortcut --share 0.5"),
        (("--share", "2", "--shortcut"), "shortcut share is 2"),
    ],
)
def test_the_command_names_what_is_wrong(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = command("--out", str(tmp_path), *words)
    assert done.exit_code == 2
    assert said in done.output
