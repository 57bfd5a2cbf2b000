"""The download of PatchCamelyon's files, against a server that misbehaves and processes that are killed."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from pcam_server import CUT, File, Published, Server, X, Y, chunked, page, same, serve, status

from crossxai.data import fetching
from crossxai.data.fetching import Retries
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.studies.pcam.download import RECORD, Archive, download
from crossxai.studies.pcam.reading import PCam, file_name


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
        with pytest.raises(
            InvalidInput, match=r"is no address of files; write one such as https://.* or file:///folder"
        ):
            get(mirror=wrong)
    for wrong in ("http://.example/x", "http://example.invalid/é", "http://host:abc/x"):
        with pytest.raises(InvalidFile, match=r"no address \(.*\); write --mirror URL in ASCII"):
            get("test", mirror=wrong)


def test_nobody_listens(get: Callable[..., Path], server: Server) -> None:
    url = server.url
    server.stop()
    with pytest.raises(InvalidFile, match=r"\(.*refused\).* 3 attempts .* 0 of"):
        get(mirror=url)


def test_splits_are_checked(get: Callable[..., Path]) -> None:
    with pytest.raises(UnknownName, match="no split is called 'val'; did you mean valid"):
        get("val")
    with pytest.raises(InvalidInput, match="no split is named; write one or more of train, valid, test"):
        download("out", [])
