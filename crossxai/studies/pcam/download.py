"""PatchCamelyon's files as published: how they are fetched, verified and unpacked.

Source: Zenodo record 2546921 (Veeling et al., 2018, CC0, https://zenodo.org/records/2546921), or a mirror."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from crossxai.data.fetching import BLOCK, Retries, fetch, forget, length
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.files.atomic import replacing, sweep
from crossxai.studies.pcam.reading import ROWS, Part, Split, count_rows, file_name

SPLITS: tuple[Split, ...] = get_args(Split)
URL = "https://zenodo.org/records/2546921/files/{name}?download=1"


@dataclass(frozen=True)
class Archive:
    """One gzipped HDF5 file as published. size: bytes, md5: hexadecimal, both of the archive; rows: patches inside."""

    split: Split
    part: Part
    size: int
    md5: str
    rows: int

    @property
    def name(self) -> str:
        return self.unpacked + ".gz"

    @property
    def unpacked(self) -> str:
        """The name of the HDF5 file inside."""
        return file_name(self.split, self.part)

    @property
    def unpacked_size(self) -> int:
        """Bytes that the HDF5 file has at most, about: its arrays, uncompressed, and HDF5's own book-keeping."""
        return self.rows * math.prod(ROWS[self.part]) + (1 << 16)


Record = tuple[Archive, ...]

# md5: those that the Zenodo record lists (quoted in github.com/tensorflow/datasets/issues/1551) and torchvision.datasets.PCAM
# expects. The table in the README of github.com/basveeling/pcam has valid and test exchanged (its issues 1 and 4): not used.
# size: TensorFlow Datasets, url_checksums/patch_camelyon.txt, measured on downloads from this record.
# rows: README of github.com/basveeling/pcam, "Numbers": 2^18 for training, 2^15 each for validation and test.
RECORD: Record = (
    Archive("train", "x", 6_421_353_462, "1571f514728f59376b705fc836ff4b63", 262_144),
    Archive("train", "y", 21_378, "35c2d7259d906cfc8143347bb8e05be7", 262_144),
    Archive("valid", "x", 805_965_320, "d5b63470df7cfa627aeec8b9dc0c066e", 32_768),
    Archive("valid", "y", 3_038, "2b85f58b927af9964a4c15b8f7e8f179", 32_768),
    Archive("test", "x", 800_875_929, "d8c2d60d490dbd479f8199bdfa0cf6ec", 32_768),
    Archive("test", "y", 3_040, "60a7035772fbdb7f34eb86d4420cf66a", 32_768),
)


def download(
    out: str | os.PathLike[str],
    splits: Iterable[str] = SPLITS,
    mirror: str | None = None,
    keep_archives: bool = False,
    table: Record = RECORD,
    retries: Retries | None = None,
    progress: bool = True,
) -> Path:
    """Bring the files of the named splits into the folder `out`, and return it; what is there is not fetched again.

    mirror: an address (http, https, file) to which each archive's name is added. keep_archives: leave each `.h5.gz` beside its
    `.h5`. table: what the archives must be. retries: how patient to be with the server. An archive that you put there yourself is
    verified, used and left.

    Raises `InvalidInput` for an unknown address, `UnknownName` for an unknown split, and `InvalidFile` if the server does not
    have the files, does not answer for long, or sends other bytes; if a file of another set is in the way; if there is no room.
    """
    names = list(splits)
    for name in names:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS)
    if not names:
        raise InvalidInput(f"no split is named; write one or more of {', '.join(SPLITS)}")
    archives = [archive for archive in table if archive.split in names]
    prefix = None if mirror is None else _prefix(mirror)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidFile(f"{folder}: cannot be made ({error.strerror or error}); choose another --out") from error
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with _alone(folder), Progress(*columns, console=Console(stderr=True), disable=not progress) as bars:
        missing = [archive for archive in archives if not _finished(folder, archive)]
        _make_sure_of_room(folder, missing, keep_archives)
        for archive in missing:
            url = URL.format(name=archive.name) if prefix is None else prefix + archive.name
            _bring(folder, archive, url, keep_archives, retries or Retries(), bars)
    return folder


def md5(path: Path) -> str:
    """The md5 of a file, streamed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _prefix(mirror: str) -> str:
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.scheme == "file"):
        raise InvalidInput(
            f"mirror {mirror!r} is no address of files; write one such as https://example.org/pcam or file:///folder, to which "
            "/NAME.h5.gz is added"
        )
    return mirror if mirror.endswith(("/", "=")) else mirror + "/"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two downloads into one folder would write into each other's files; the lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidFile(
                f"{folder}: another download is writing there; wait for it, or choose another --out"
            ) from error
        except OSError:
            pass  # some network file systems cannot lock a folder: go on without
        yield
    finally:
        os.close(handle)


def _part(folder: Path, archive: Archive) -> Path:
    return folder / f"{archive.name}.part"


def _finished(folder: Path, archive: Archive) -> bool:
    """Whether the file is there as published; what killed processes left of it is removed."""
    path = folder / archive.unpacked
    sweep(path)
    if not path.exists():
        return False
    try:
        rows = count_rows(path, archive.part)
    except InvalidFile as error:
        raise InvalidFile(f"{error}: delete that file and start again, or choose another --out") from error
    if rows != archive.rows:
        raise InvalidFile(
            f"{path}: has {rows} rows, the published file has {archive.rows}: it belongs to another set, which is not "
            "overwritten; choose another --out"
        )
    forget(_part(folder, archive))  # killed after the file was whole and before its archive was removed
    return True


def _make_sure_of_room(folder: Path, missing: list[Archive], keep_archives: bool) -> None:
    """Archives are fetched, unpacked and removed one after the other: the most that is there at once must fit."""
    used = peak = 0
    for archive in missing:
        own = (folder / archive.name).is_file()
        used += 0 if own else archive.size - min(archive.size, length(_part(folder, archive)))
        used += archive.unpacked_size
        peak = max(peak, used)
        used -= 0 if own or keep_archives else archive.size
    free = shutil.disk_usage(folder).free
    if peak > free:
        less = "; without --keep-archives it needs less" if keep_archives else ""
        raise InvalidFile(
            f"{folder}: about {peak / 1e9:.1f} GB are needed there and {free / 1e9:.1f} GB are free; make room, choose another "
            f"--out, or fewer --splits{less}"
        )


def _bring(folder: Path, archive: Archive, url: str, keep: bool, retries: Retries, bars: Progress) -> None:
    final, packed, part = folder / archive.unpacked, folder / archive.name, _part(folder, archive)
    if packed.exists():
        _verify_own(packed, archive)
        _unpack(packed, final, archive, bars)
        return
    name = f"{archive.split} {archive.part}"
    task = bars.add_task(name, total=archive.size)
    fetch(
        url,
        part,
        archive.size,
        retries,
        report=lambda done: bars.update(task, completed=done),
        say=lambda what: bars.console.print(f"{archive.name}: {what}", markup=False, highlight=False, soft_wrap=True),
    )
    bars.update(task, description=f"verifying {name}")
    checksum = md5(part)
    bars.update(task, description=name)
    if checksum != archive.md5:
        forget(part)  # the next start must not go on from it
        raise InvalidFile(
            f"{url}: what came is not the published file: md5 expected {archive.md5}, found {checksum}; it has been removed: "
            "start again to fetch it anew, or give another address with --mirror URL"
        )
    if keep:
        os.replace(part, packed)
        part = packed
    _unpack(part, final, archive, bars)
    if not keep:
        part.unlink()


def _verify_own(packed: Path, archive: Archive) -> None:
    """An archive under its final name is the user's: never changed, so it must be right as it is."""
    size = length(packed)
    if size != archive.size:
        raise InvalidFile(
            f"{packed}: has {size} bytes, the published file has {archive.size}; delete it, or rename it to {packed.name}.part "
            "if it is the beginning of that file, and start again"
        )
    checksum = md5(packed)
    if checksum != archive.md5:
        raise InvalidFile(
            f"{packed}: is not the published file: md5 expected {archive.md5}, found {checksum}; delete it and start again"
        )


def _unpack(packed: Path, final: Path, archive: Archive, bars: Progress) -> None:
    with replacing(final) as temporary:
        try:
            with (
                bars.open(packed, "rb", description=f"unpacking {archive.split} {archive.part}") as raw,
                gzip.GzipFile(fileobj=raw) as stream,
                open(temporary, "wb") as file,
            ):
                shutil.copyfileobj(stream, file, BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidFile(f"{packed}: not a whole gzip file ({error}); delete it and start again") from error
        rows = count_rows(temporary, archive.part)
        if rows != archive.rows:
            raise InvalidFile(f"{packed}: holds {rows} rows, expected {archive.rows}")
