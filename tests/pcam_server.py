"""An HTTP server that does to a download, request by request, what servers do; and a small published set to serve."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from crossxai.data.fetching import Retries
from crossxai.studies.pcam.download import SPLITS, Archive, Record, download
from crossxai.studies.pcam.reading import file_name, write_split

PATCHES = {"train": 24, "valid": 8, "test": 8}


def publish(folder: Path) -> tuple[Record, dict[str, bytes], dict[str, bytes]]:
    """A set of noise: its table, its archives by name, its HDF5 files by name."""
    rng = np.random.default_rng(0)
    table, archives, files = [], {}, {}
    for split in SPLITS:
        n = PATCHES[split]
        write_split(folder, split, rng.integers(0, 256, (n, 96, 96, 3), np.uint8), np.arange(n) % 2)
        for part in ("x", "y"):
            name = file_name(split, part)
            files[name] = (folder / name).read_bytes()
            packed = gzip.compress(files[name], compresslevel=1, mtime=0)
            archives[f"{name}.gz"] = packed
            table.append(Archive(split, part, len(packed), hashlib.md5(packed).hexdigest(), n))
    return tuple(table), archives, files


@dataclass
class Served:
    """One request and what was sent for it."""

    name: str
    range: str | None
    condition: str | None
    sent: int = 0


@dataclass
class File:
    content: bytes
    tag: str | None = '"1"'


Act = Callable[["Handler", File], None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        self.close_connection = True
        self.served = Served(name, self.headers["Range"], self.headers["If-Range"])
        self.server.log.append(self.served)
        acts = self.server.plan.get(name, [])
        file = self.server.files.get(name)
        act = acts.pop(0) if acts else (serve() if file else status(404))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has been killed, or has seen enough
            act(self, file or File(b""))

    def body(self, data: bytes) -> None:
        self.served.sent += len(data)
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, archives: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {name: File(content) for name, content in archives.items()}
        self.plan: dict[str, list[Act]] = {}
        self.log: list[Served] = []
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/pcam"

    def stop(self) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()

    def sent(self, name: str) -> int:
        return sum(served.sent for served in self.log if served.name == name)


def serve(
    stop: int | None = None,
    ranges: bool = True,
    conditions: bool = True,
    declared: str | None = "",
    first: int | None = None,
    total: str | None = None,
    stall: bool = False,
    then: Callable[[Server], None] | None = None,
) -> Act:
    """The file, or the part of it that is asked for.

    stop: end after so many bytes. ranges, conditions: heed Range and If-Range. declared: Content-Length, None for none. first,
    total: what Content-Range says instead of the truth. stall: do not end the connection, send nothing more. then: is done last.
    """

    def act(handler: Handler, file: File) -> None:
        start = 0
        served = handler.served
        if ranges and served.range and not (conditions and served.condition and served.condition != file.tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", served.range)[1])
        data = file.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            shown = first if first is not None else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(file.content) - 1}/{total or len(file.content)}")
        if declared is not None:
            handler.send_header("Content-Length", declared or str(len(data)))
        if file.tag:
            handler.send_header("ETag", file.tag)
        handler.end_headers()
        handler.body(data[:stop])
        if then is not None:
            then(handler.server)
        if stall:
            handler.server.release.wait(30)

    return act


def chunked(stop: int | None = None) -> Act:
    """The whole file in HTTP/1.1's chunks, or its beginning and no last chunk."""

    def act(handler: Handler, file: File) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        data = file.content[:stop]
        for i in range(0, len(data), 50_000):
            block = data[i : i + 50_000]
            handler.wfile.write(f"{len(block):x}\r\n".encode())
            handler.body(block)
            handler.wfile.write(b"\r\n")
        if stop is None:
            handler.wfile.write(b"0\r\n\r\n")

    return act


def status(code: int, **headers: str) -> Act:
    def act(handler: Handler, file: File) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return act


def page(declared: bool) -> Act:
    """An HTML page with status 200, as portals and overloaded servers answer."""

    def act(handler: Handler, file: File) -> None:
        text = b"<!DOCTYPE html>Please try again later."
        handler.send_response(200)
        if declared:
            handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return act


QUICK = Retries(attempts=3, wait=0.01, longest=0.02, timeout=5)
X, Y = file_name("valid", "x") + ".gz", file_name("valid", "y") + ".gz"
CUT = 100_000
"""Bytes after which connections end: about half of the archive X."""


class Published:
    """A small set and what is published of it."""

    def __init__(self, folder: Path) -> None:
        self.table, self.archives, self.files = publish(folder)


def same(folder: Path, published: Published, *splits: str, archives: bool = False) -> None:
    """The folder holds the published files, byte for byte, and nothing else."""
    wanted = {name for split in splits or ("valid",) for name in published.files if f"_{split}_" in name}
    packed = {f"{name}.gz" for name in wanted} if archives else set()
    assert {path.name for path in folder.iterdir()} == wanted | packed
    for name in wanted:
        assert (folder / name).read_bytes() == published.files[name]
    for name in packed:
        assert (folder / name).read_bytes() == published.archives[name]


@pytest.fixture(scope="session")
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
