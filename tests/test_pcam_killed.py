"""PatchCamelyon's download when its processes are killed, and in folders that hold something already."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pcam_server import CUT, File, Published, Server, X, Y, same, serve
from typer.testing import CliRunner

from crossxai.cli import app
from crossxai.data import fetching
from crossxai.errors import InvalidFile
from crossxai.studies.pcam import download as pcam_download
from crossxai.studies.pcam.download import Record, download
from crossxai.studies.pcam.reading import file_name, write_split

ROOT = Path(__file__).parents[1]


SCRIPT = """
import gzip, sys, time
from pathlib import Path
from crossxai.studies.pcam import download
from crossxai.data.fetching import Retries
from crossxai.studies.pcam.download import Archive
out, url, stall = sys.argv[1:]
if stall:
    download.BLOCK = 1 << 14
    class Slow(gzip.GzipFile):
        blocks = 0
        def read(self, size=-1):
            self.blocks += 1
            if self.blocks > 4:
                time.sleep(60)
            return super().read(size)
    gzip.GzipFile = Slow
download.download(out, ["valid"], url, table={table!r}, retries=Retries(attempts=2, wait=0.01), progress=False)
"""


def killed(out: Path, server: Server, table: Record, when: Callable[[], bool], stall: str = "") -> None:
    """A process that downloads until `when`, then kill -9."""
    code = SCRIPT.replace("{table!r}", repr(table))
    process = subprocess.Popen([sys.executable, "-c", code, str(out), server.url, stall], cwd=ROOT)
    try:
        until = time.monotonic() + 30
        while not when():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.process
def test_kill_during_the_download(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    part = tmp_path / "out" / f"{X}.part"
    server.plan[X] = [serve(stop=CUT, stall=True), serve(stop=500, stall=True)]
    for size in (CUT, CUT + 500):
        killed(tmp_path / "out", server, published.table, lambda n=size: fetching.length(part) == n)
    assert part.read_bytes() == published.archives[X][: CUT + 500]
    same(get(), published)
    assert server.sent(X) == len(published.archives[X])
    assert [served.condition for served in server.log if served.name == X] == [None, '"1"', '"1"']


@pytest.mark.process
def test_kill_during_the_download_and_the_file_changes(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    good = server.files[X].content
    server.files[X] = File(good[:10] + bytes(len(good) - 10), '"old"')
    server.plan[X] = [serve(stop=CUT, stall=True)]
    killed(tmp_path / "out", server, published.table, lambda: fetching.length(tmp_path / "out" / f"{X}.part") == CUT)
    server.files[X] = File(good, '"new"')
    same(get(), published)


@pytest.mark.process
def test_kill_during_decompression(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    final = file_name("valid", "x")
    strays = lambda: list(out.glob(f".{final}.*.part"))  # noqa: E731
    killed(out, server, published.table, lambda: any(s.stat().st_size == 4 << 14 for s in strays()), stall="yes")
    assert len(strays()) == 1
    assert not (out / final).exists()
    server.log.clear()
    same(get(), published)
    assert [served.name for served in server.log] == [Y]


@pytest.mark.process
def test_killed_between_unpacking_and_tidying(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    folder = get()
    (folder / f"{X}.part").write_bytes(published.archives[X])
    (folder / f"{X}.part.tag").write_text('"1"')
    server.log.clear()
    get()
    same(folder, published)
    assert server.log == []


def test_temporaries_of_the_living_are_left(get: Callable[..., Path], tmp_path: Path) -> None:
    living = tmp_path / "out" / f".{file_name('valid', 'x')}.{os.getppid()}.abcd1234.part"
    living.parent.mkdir()
    living.write_bytes(b"1")
    get()
    assert living.exists()


def test_two_downloads_into_one_folder(get: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pcam_download._alone(folder), pytest.raises(InvalidFile, match="another download is writing there"):
        get()
    get()


def test_a_file_too_long_is_thrown_away(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{X}.part").write_bytes(bytes(10_000_000))
    same(get(), published)


def test_files_of_others_are_neither_overwritten_nor_believed(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    write_split(folder, "valid", np.zeros((3, 96, 96, 3), np.uint8), [0, 1, 0])
    path = folder / file_name("valid", "x")
    with pytest.raises(InvalidFile, match="has 3 rows, the published file has 8: it belongs to another set"):
        get()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidFile, match=r"not a whole HDF5 file .* delete that file and start again"):
        get()
    for name in (path.name, file_name("valid", "y")):
        (folder / name).unlink()
    good = published.archives[X]
    (folder / X).write_bytes(good[:500])
    with pytest.raises(
        InvalidFile, match=rf"has 500 bytes, the published file has {len(good)}; delete it, or rename it"
    ):
        get()
    (folder / X).write_bytes(good[:500] + bytes(len(good) - 500))
    with pytest.raises(InvalidFile, match=r"is not the published file: md5 expected .*, found"):
        get()
    assert server.log == []
    (folder / X).write_bytes(good[:500])
    (folder / X).rename(folder / f"{X}.part")
    same(get(), published)
    assert server.sent(X) == len(good) - 500


def test_the_command(server: Server, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["data", "pcam", "download", "--out", str(tmp_path / "out"), *words])
        return done.exit_code, done.output + done.stderr

    code, said = run("--mirror", f"{server.url}/empty", "--splits", "nothing")
    assert code == 2
    assert "no split is called 'nothing'" in said
    server.files.clear()
    code, said = run("--mirror", server.url, "--splits", "valid")
    assert code == 2
    assert (
        f"{server.url}/{X}: the server answers 404 (Not Found); give another address of the files with --mirror URL"
        in said
    )
    server.files.update({name: File(content) for name, content in published.archives.items()})
    monkeypatch.setattr(pcam_download, "download", partial(download, table=published.table))
    server.plan[X] = [serve(stop=CUT)]
    code, said = run("--mirror", server.url, "--splits", "valid,test", "-s", "train")
    assert code == 0, said
    assert re.search(rf"{X}: .* {CUT} of {len(published.archives[X])} bytes.* 1 s", said)
    same(tmp_path / "out", published, "train", "valid", "test")
