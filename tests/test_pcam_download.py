"""The download of PatchCamelyon's files, against a server that misbehaves and processes that are killed."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pcam_server import File, Server, chunked, page, publish, serve, status
from typer.testing import CliRunner

from crossxai.cli import app
from crossxai.data import fetching, pcam_download
from crossxai.data.fetching import Retries
from crossxai.data.pcam import PCam, file_name, write_split
from crossxai.data.pcam_download import download
from crossxai.data.pcam_record import RECORD, Archive, Record
from crossxai.errors import InvalidFile, InvalidInput, UnknownName

ROOT = Path(__file__).parents[1]
QUICK = Retries(attempts=3, wait=0.01, longest=0.02, timeout=5)
X, Y = file_name("valid", "x") + ".gz", file_name("valid", "y") + ".gz"
CUT = 100_000
"""Bytes after which connections end: about half of the archive X."""


class Published:
    def __init__(self, folder: Path) -> None:
        self.table, self.archives, self.files = publish(folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def server(published: Published) -> Iterator[Server]:
    server = Server(published.archives)
    yield server
    server.stop()


@pytest.fixture
def get(server: Server, published: Published, tmp_path: Path) -> Callable[..., Path]:
    """Download valid (or what is asked) from the server, impatiently."""
    defaults = {"mirror": server.url, "table": published.table, "retries": QUICK, "progress": False}
    return lambda *splits, **settings: download(tmp_path / "out", splits or ["valid"], **{**defaults, **settings})


def same(folder: Path, published: Published, *splits: str, archives: bool = False) -> None:
    """The folder holds the published files, byte for byte, and nothing else."""
    wanted = {name for split in splits or ("valid",) for name in published.files if f"_{split}_" in name}
    packed = {f"{name}.gz" for name in wanted} if archives else set()
    assert {path.name for path in folder.iterdir()} == wanted | packed
    for name in wanted:
        assert (folder / name).read_bytes() == published.files[name]
    for name in packed:
        assert (folder / name).read_bytes() == published.archives[name]


def test_the_record_is_torchvision_s() -> None:
    from torchvision.datasets import PCAM

    known = {f"{name}.gz": md5 for split in PCAM._FILES.values() for name, _, md5 in split.values()}
    assert {archive.name: archive.md5 for archive in RECORD} == known
    assert len(RECORD) == 6
    assert sum(archive.rows for archive in RECORD if archive.part == "x") == 327_680


def test_every_split_byte_for_byte_and_not_twice(
    get: Callable[..., Path], server: Server, published: Published
) -> None:
    folder = get("train", "valid", "test")
    same(folder, published, "train", "valid", "test")
    assert len(PCam(folder, "train")) == 24
    assert [served.sent for served in server.log] == [archive.size for archive in published.table]
    server.log.clear()
    get("train", "valid", "test")
    assert server.log == []


def test_archives_can_be_kept_and_a_missing_file_alone_is_fetched(
    get: Callable[..., Path], server: Server, published: Published
) -> None:
    folder = get(keep_archives=True)
    same(folder, published, archives=True)
    server.log.clear()
    (folder / file_name("valid", "x")).unlink()  # its archive is there, and used, and left
    get()
    same(folder, published, archives=True)
    assert server.log == []
    (folder / file_name("valid", "y")).unlink()
    (folder / Y).unlink()
    get()
    assert [served.name for served in server.log] == [Y]


def test_dropped_connections_are_resumed(get: Callable[..., Path], server: Server, published: Published) -> None:
    server.plan[X] = [serve(stop=CUT), serve(stop=20_000), serve(stop=0), serve(stop=0), serve(stop=20_000)]
    same(get(), published)
    requests = [served for served in server.log if served.name == X]
    assert [r.range for r in requests] == [None, "bytes=100000-", *["bytes=120000-"] * 3, "bytes=140000-"]
    assert {r.condition for r in requests[1:]} == {'"1"'}
    assert server.sent(X) == len(published.archives[X])


def test_a_silent_server_is_given_up_and_resumed(
    get: Callable[..., Path], server: Server, published: Published
) -> None:
    server.plan[X] = [serve(stop=CUT, stall=True)]
    same(get(retries=Retries(attempts=2, wait=0.01, timeout=0.3)), published)
    assert server.sent(X) == len(published.archives[X])


@pytest.mark.parametrize("act", [chunked(), serve(declared=None), serve(ranges=False)])
def test_other_ways_to_send_a_file(
    get: Callable[..., Path], server: Server, published: Published, act: Callable[..., None]
) -> None:
    server.plan[X] = [act]
    same(get(), published)
    assert len(server.log) == 2


@pytest.mark.parametrize("cut", [chunked(stop=CUT), serve(stop=CUT), serve(stop=CUT, declared=None)])
def test_a_server_that_ignores_ranges_makes_it_start_over(
    get: Callable[..., Path], server: Server, published: Published, cut: Callable[..., None]
) -> None:
    server.plan[X] = [cut, serve(ranges=False)]
    same(get(), published)
    assert server.sent(X) == CUT + len(published.archives[X])


def test_a_server_that_ignores_ranges_and_always_drops_is_given_up(get: Callable[..., Path], server: Server) -> None:
    server.plan[X] = [serve(stop=CUT, ranges=False)] * 9
    with pytest.raises(
        InvalidFile, match=rf"ended after {CUT} of \d+ bytes; given up after 3 attempts that .*; {CUT} of"
    ):
        get()
    assert len(server.log) == 4  # the first brought something, three in a row nothing new


def test_wrong_bytes_are_named_and_not_resumed(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    good = published.archives[X]
    server.files[X] = File(good[:5000] + bytes(16) + good[5016:])
    expected = next(archive.md5 for archive in published.table if archive.name == X)
    with pytest.raises(InvalidFile, match=rf"md5 expected {expected}, found [0-9a-f]{{32}}; it has been removed"):
        get()
    assert list((tmp_path / "out").iterdir()) == []
    server.files[X] = File(good)
    same(get(), published)


@pytest.mark.parametrize(("code", "reason"), [(404, "Not Found"), (403, "Forbidden"), (410, "Gone")])
def test_a_file_that_is_not_there_is_an_error_at_once(
    get: Callable[..., Path], server: Server, code: int, reason: str
) -> None:
    server.plan[X] = [status(code)] * 9
    with pytest.raises(
        InvalidFile, match=rf"http://127.*/pcam/{X}: the server answers {code} \({reason}\).*--mirror URL"
    ):
        get()
    assert len(server.log) == 1


def test_overloaded_servers_are_waited_for(get: Callable[..., Path], server: Server, published: Published) -> None:
    server.plan[X] = [status(503), serve(stop=CUT), status(429, Retry_After="0"), status(503, Retry_After="soon")]
    same(get(), published)
    assert server.sent(X) == len(published.archives[X])


def test_a_server_overloaded_for_ever(get: Callable[..., Path], server: Server) -> None:
    server.plan[X] = [status(503)] * 9
    with pytest.raises(
        InvalidFile, match=rf"{X}: the server answers 503 .*; given up after 3 attempts that brought nothing"
    ):
        get()
    assert len(server.log) == 3


def test_how_long_is_waited() -> None:
    patient = Retries(wait=1, longest=10)
    assert [patient.pause(n, None) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert [patient.pause(1, asked) for asked in (0.0, 7.0, 3600.0)] == [0, 7, 10]
    assert fetching._after("7") == 7
    assert fetching._after(None) is fetching._after("soon") is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert fetching._after(later) == pytest.approx(30, abs=2)
    assert fetching._after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_a_server_s_retry_after_is_kept(get: Callable[..., Path], server: Server, published: Published) -> None:
    server.plan[X] = [status(503, Retry_After="1")]
    before = time.monotonic()
    same(get(retries=Retries(attempts=2, wait=0.01, longest=0.7)), published)
    assert 0.7 <= time.monotonic() - before < 4


def test_redirects_are_followed_with_the_range(get: Callable[..., Path], server: Server, published: Published) -> None:
    server.files["elsewhere"] = server.files[X]
    server.plan[X] = [status(code, Location="/other/elsewhere") for code in (302, 301, 307)]
    server.plan["elsewhere"] = [serve(stop=CUT), serve(stop=1)]
    same(get(), published)
    assert [served.range for served in server.log if served.name == "elsewhere"] == [
        None,
        "bytes=100000-",
        "bytes=100001-",
    ]
    assert server.sent("elsewhere") == len(published.archives[X])


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changes_between_attempts_is_fetched_anew(
    get: Callable[..., Path], server: Server, published: Published, heeds: bool
) -> None:
    good = server.files[X].content

    def replaced(server: Server) -> None:
        server.files[X] = File(good, '"2"')

    server.files[X] = File(good[:10] + bytes(len(good) - 10), '"1"')
    server.plan[X] = [serve(stop=CUT, then=replaced), serve(conditions=heeds)]
    same(get(), published)


def test_a_changed_file_without_a_validator_is_found_out(
    get: Callable[..., Path], server: Server, published: Published
) -> None:
    good = server.files[X].content

    def replaced(server: Server) -> None:
        server.files[X] = File(good, None)

    server.files[X] = File(good[:10] + bytes(len(good) - 10), None)
    server.plan[X] = [serve(stop=CUT, then=replaced)]
    with pytest.raises(InvalidFile, match="md5 expected"):
        get()
    same(get(), published)


@pytest.mark.parametrize(
    "lie",
    [
        serve(ranges=False, declared="1000"),
        serve(ranges=False, declared="999999999"),
        serve(ranges=False, stop=0),
        serve(first=0),
        serve(total="77"),
        page(declared=True),
        page(declared=False),
        status(204),
        status(416),
    ],
)
def test_lies_cost_nothing_that_is_on_disk(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path, lie: Callable[..., None]
) -> None:
    """In the middle: what has come stays, and what is missing is all that is fetched when the server tells the truth again."""
    server.plan[X] = [serve(stop=CUT), lie]
    with pytest.raises(InvalidFile, match=rf"given up after 1 attempts that brought nothing; {CUT} of"):
        get(retries=Retries(attempts=1, wait=0))
    assert (tmp_path / "out" / f"{X}.part").read_bytes() == published.archives[X][:CUT]
    server.log.clear()
    same(get(), published)
    assert server.sent(X) == len(published.archives[X]) - CUT


@pytest.mark.parametrize("length", ["1000", "999999999"])
def test_a_wrong_length_of_a_range_harms_nothing(
    get: Callable[..., Path], server: Server, published: Published, length: str
) -> None:
    server.plan[X] = [serve(stop=CUT), serve(declared=length)]
    same(get(), published)


@pytest.mark.parametrize("lie", [serve(declared="1000"), serve(declared="999999999"), page(True), page(False)])
def test_lies_at_the_beginning(
    get: Callable[..., Path], server: Server, published: Published, lie: Callable[..., None]
) -> None:
    server.plan[X] = [lie]
    same(get(), published)


SCRIPT = """
import gzip, sys, time
from pathlib import Path
from crossxai.data import pcam_download
from crossxai.data.fetching import Retries
from crossxai.data.pcam_record import Archive
out, url, stall = sys.argv[1:]
if stall:
    pcam_download.BLOCK = 1 << 14
    class Slow(gzip.GzipFile):
        blocks = 0
        def read(self, size=-1):
            self.blocks += 1
            if self.blocks > 4:
                time.sleep(60)
            return super().read(size)
    gzip.GzipFile = Slow
pcam_download.download(out, ["valid"], url, table={table!r}, retries=Retries(attempts=2, wait=0.01), progress=False)
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


def test_kill_during_the_download(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    part = tmp_path / "out" / f"{X}.part"
    server.plan[X] = [serve(stop=CUT, stall=True), serve(stop=50_000, stall=True)]
    for size in (CUT, CUT + 50_000):
        killed(tmp_path / "out", server, published.table, lambda n=size: fetching.length(part) == n)
    assert part.read_bytes() == published.archives[X][: CUT + 50_000]
    same(get(), published)
    assert server.sent(X) == len(published.archives[X])
    assert [served.condition for served in server.log if served.name == X] == [None, '"1"', '"1"']


def test_kill_during_the_download_and_the_file_changes(
    get: Callable[..., Path], server: Server, published: Published, tmp_path: Path
) -> None:
    good = server.files[X].content
    server.files[X] = File(good[:10] + bytes(len(good) - 10), '"old"')
    server.plan[X] = [serve(stop=CUT, stall=True)]
    killed(tmp_path / "out", server, published.table, lambda: fetching.length(tmp_path / "out" / f"{X}.part") == CUT)
    server.files[X] = File(good, '"new"')
    same(get(), published)


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


def test_room_is_looked_at_before(
    get: Callable[..., Path], server: Server, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    sizes = {a.part: a for a in published.table if a.split == "valid"}
    # At the worst, both HDF5 files and one archive, that of the labels after that of the images is gone.
    peak = sizes["x"].size + sizes["x"].unpacked_size
    for free, keep, enough in [(peak - 1, False, False), (peak, False, True), (peak, True, False)]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _, n=free: usage._replace(free=n))
        if enough:
            shutil.rmtree(get())
            server.log.clear()
        else:
            with pytest.raises(InvalidFile, match=r"about .* GB are needed there and .* GB are free; make room"):
                get(keep_archives=keep)
            assert server.log == []


def test_a_full_disk_is_not_a_dropped_connection(
    get: Callable[..., Path], server: Server, published: Published
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, before[1]))
    try:
        with pytest.raises(InvalidFile, match=r"cannot write .*\.part: File too large"):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.log) == 1
    same(get(), published)


def test_a_record_whose_rows_are_others(get: Callable[..., Path], published: Published, tmp_path: Path) -> None:
    table = tuple(Archive(a.split, a.part, a.size, a.md5, 9) for a in published.table)
    with pytest.raises(InvalidFile, match="holds 8 rows, expected 9"):
        get(table=table)
    assert not (tmp_path / "out" / file_name("valid", "x")).exists()


def test_mirrors(get: Callable[..., Path], server: Server, published: Published, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name, content in published.archives.items():
        (shelf / name).write_bytes(content)
    shutil.rmtree(get(mirror=f"{server.url}/"))
    same(get(mirror=shelf.as_uri()), published)
    assert {path.name for path in shelf.iterdir()} == set(published.archives)
    with pytest.raises(InvalidFile, match=r"no such file; give another address of the files with --mirror URL"):
        get("test", mirror=(tmp_path / "nowhere").as_uri())
    for wrong in ("ftp://example.org/pcam", "example.org/pcam", "http://", ""):
        with pytest.raises(InvalidInput, match="is no address of files; write one such as https"):
            get(mirror=wrong)


def test_nobody_listens(get: Callable[..., Path], server: Server) -> None:
    url = server.url
    server.stop()
    with pytest.raises(
        InvalidFile, match=r"no connection \(.*refused\); given up after 3 attempts that brought nothing; 0 of"
    ):
        get(mirror=url)


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
    assert f"{X}: the connection ended after {CUT} of {len(published.archives[X])} bytes; next attempt in 1 s" in said
    same(tmp_path / "out", published, "train", "valid", "test")


def test_splits_are_checked(get: Callable[..., Path]) -> None:
    with pytest.raises(UnknownName, match="no split is called 'val'; did you mean valid"):
        get("val")
    with pytest.raises(InvalidInput, match="no split is named; write one or more of train, valid, test"):
        download("out", [])
