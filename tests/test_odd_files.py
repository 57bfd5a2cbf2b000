"""Damaged and odd files: each is left out with a reason in words, an error in words, or read right. One entry a file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import crossxai as xai
from crossxai.data import arrays
from crossxai.data.arrays import Batch

SIDE = 4
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def model(*modalities: xai.Modality, size: bool = True) -> Any:
    """What reading asks of a model: its modalities and the size that it takes."""
    recognised = SimpleNamespace(size=(SIDE, SIDE) if size else None, resize=None, layout="NHWC")
    return SimpleNamespace(name="none", modalities=modalities or (xai.Modality.image(),), recognised=recognised)


COLOUR, GREY = xai.Modality.image(), xai.Modality.image(channels=("grey",))
TABLE = xai.Modality.table(("age", "dose"))


@dataclass(frozen=True)
class Row:
    """One file is left out, and says this; the n others are read."""

    words: str
    n: int = 1


@dataclass(frozen=True)
class Error:
    """Nothing is read, and the message says this."""

    words: str


@dataclass(frozen=True)
class Right:
    """The odd one, the last sample, is read. pixels: (y, x) → its values from 0 to 255; row: the table's; note, id: of it."""

    pixels: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    row: Sequence[float] = ()
    note: str = ""
    id: str = ""
    n: int | None = None


Make = Callable[[Path], Any]
Case = tuple[str, Make, Row | Error | Right, Any]
CASES: list[Case] = []


def case(name: str, expected: Row | Error | Right, *modalities: xai.Modality) -> Callable[[Make], Make]:
    """Add a file to the table: a function that writes it into a folder and returns what is to be read, the folder if nothing."""

    def add(make: Make) -> Make:
        CASES.append((name, make, expected, modalities))
        return make

    return add


def drawn(colour: Any = RED, mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new(mode, size, colour)


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


# pictures, in a folder beside good.png

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
for ending in ("png", "jpg", "tif", "webp", "gif", "bmp"):

    def truncated(folder: Path, ending: str = ending) -> None:
        NOISE.save(folder / f"odd.{ending}")
        cut(folder / f"odd.{ending}")

    case(f"truncated {ending}", Row("cannot be read: "))(truncated)


@case("text named .png", Row("is no picture that Pillow can read"))
def _(folder: Path) -> None:
    (folder / "odd.png").write_text("no picture")


@case("program named .png (EPS)", Row("is no picture that Pillow can read"))
def _(folder: Path) -> None:
    (folder / "odd.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(x) (w) file\n")


@case("PNG named .jpg", Right({(0, 0): RED}))
def _(folder: Path) -> None:
    drawn().save(folder / "odd.jpg", "PNG")


@case("empty file", Row("is empty"))
def _(folder: Path) -> None:
    (folder / "odd.png").touch()


@case("CMYK JPEG", Right({(0, 0): WHITE}))
def _(folder: Path) -> None:
    drawn((0, 0, 0, 0), "CMYK").save(folder / "odd.jpg")


@case("1 × 1", Right({(0, 0): BLUE, (3, 3): BLUE}, note="resized"))
def _(folder: Path) -> None:
    drawn(BLUE, size=(1, 1)).save(folder / "odd.png")


@case("20,000 pixels wide", Right({(0, 0): BLUE, (3, 3): BLUE}, note="resized"))
def _(folder: Path) -> None:
    drawn(BLUE, size=(20_000, 2)).save(folder / "odd.png")


for ending, options in {"gif": {}, "webp": {"lossless": True}, "png": {}, "tif": {}}.items():

    def animated(folder: Path, ending: str = ending, options: Any = options) -> None:
        frames = [drawn(BLUE), drawn(GREEN)]
        frames[0].save(folder / f"odd.{ending}", save_all=True, append_images=frames[1:], **options)

    case(f"two frames, {ending}", Right({(0, 0): BLUE}, note="first of several frames or pages was taken (1 of 2"))(
        animated
    )

TURNED = {1: ((0, 0), (0, 3)), 2: ((0, 3), (0, 0)), 3: ((3, 3), (3, 0)), 4: ((3, 0), (3, 3)),
          5: ((0, 0), (3, 0)), 6: ((0, 3), (3, 3)), 7: ((3, 3), (0, 3)), 8: ((3, 0), (0, 0))}  # fmt: skip
"""Where the first and the last stored pixel of the first row are to be seen, by TIFF's tag 274."""
for orientation, (first, last) in TURNED.items():

    def turned(folder: Path, orientation: int = orientation) -> None:
        picture, exif = drawn(WHITE), Image.Exif()
        picture.putpixel((0, 0), RED)
        picture.putpixel((3, 0), GREEN)
        exif[274] = orientation
        picture.save(folder / "odd.png", exif=exif)

    case(f"EXIF orientation {orientation}", Right({first: RED, last: GREEN, (1, 1): WHITE}))(turned)


@case("EXIF that is none", Right({(0, 0): RED}))
def _(folder: Path) -> None:
    drawn().save(folder / "odd.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03")


@case("16-bit grey", Right({(0, 0): (128,) * 3}))
def _(folder: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 128 * 257, np.uint16)).save(folder / "odd.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@case("16-bit RGB PNG", Right({(0, 0): (128, 0, 255)}))
def _(folder: Path) -> None:
    row = b"\0" + struct.pack(">HHH", 128 * 257, 0, 65535) * SIDE
    (folder / "odd.png").write_bytes(png(SIDE, SIDE, 16, 2, row * SIDE))


@case("16-bit RGB TIFF", Right({(0, 0): (128, 0, 255)}))
def _(folder: Path) -> None:
    pixels = struct.pack("<HHH", 128 * 257, 0, 65535) * SIDE * SIDE
    tags = [(256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14),
            (277, 3, 1, 3), (278, 3, 1, SIDE), (279, 4, 1, len(pixels))]  # fmt: skip
    start = 14 + len(pixels)
    head = b"II*\0" + struct.pack("<I", start) + struct.pack("<HHH", 16, 16, 16) + pixels
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    (folder / "odd.tif").write_bytes(head + struct.pack("<H", len(tags)) + directory + bytes(4))


@case("32-bit float TIFF", Row("values of 32 bits, whose range nothing tells"))
def _(folder: Path) -> None:
    Image.fromarray(np.ones((SIDE, SIDE), np.float32)).save(folder / "odd.tif")


@case("32-bit integer TIFF", Row("values of 32 bits, whose range nothing tells"))
def _(folder: Path) -> None:
    drawn(70_000, "I").save(folder / "odd.tif")


@case("palette with transparency", Right({(0, 0): GREEN, (3, 3): RED}, note="transparency was dropped"))
def _(folder: Path) -> None:
    picture = drawn(0, "P")
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((0, 0), 1)
    picture.save(folder / "odd.png", transparency=bytes([255, 0]))


@case("grey with alpha", Right({(0, 0): (100,) * 3}, note="transparency was dropped"))
def _(folder: Path) -> None:
    drawn((100, 0), "LA").save(folder / "odd.png")


@case("colour with alpha", Right({(0, 0): BLUE}, note="transparency was dropped"))
def _(folder: Path) -> None:
    drawn((*BLUE, 7), "RGBA").save(folder / "odd.png")


@case("1 bit", Right({(0, 0): (255,), (3, 3): (0,)}), GREY)
def _(folder: Path) -> None:
    picture = drawn(0, "1")
    picture.putpixel((0, 0), 1)
    picture.save(folder / "odd.png")


@case("colour for a grey model", Right({(0, 0): (76,)}), GREY)  # 0.299 of 255
def _(folder: Path) -> None:
    drawn(RED).save(folder / "odd.png")


@case("folder named .png", Row("is a folder"))
def _(folder: Path) -> None:
    (folder / "odd.png").mkdir()


@case("dangling link", Row("is a link to what is not there"))
def _(folder: Path) -> None:
    (folder / "odd.png").symlink_to(folder / "nowhere.png")


@case("link that leads to itself", Row("is a link that leads to itself"))
def _(folder: Path) -> None:
    (folder / "odd.png").symlink_to(folder / "odd.png")


@case("pipe", Row("is no regular file"))
def _(folder: Path) -> None:
    os.mkfifo(folder / "odd.png")


@case("no permission", Right({(0, 0): RED}) if os.geteuid() == 0 else Row("cannot be read: Permission denied"))
def _(folder: Path) -> None:
    drawn().save(folder / "odd.png")
    (folder / "odd.png").chmod(0)


@case("header of 60,000 × 60,000 pixels", Row("pixels"))
def _(folder: Path) -> None:
    (folder / "odd.png").write_bytes(png(60_000, 60_000, 8, 2, b""))


@case("name beyond ASCII", Right({(0, 0): RED}, id="ödd 写真"))
def _(folder: Path) -> None:
    drawn().save(folder / "ödd 写真.png")


@case("name with a line break", Right({(0, 0): RED}, id="odd\\nfile"))
def _(folder: Path) -> None:
    drawn().save(folder / "odd\nfile.png")


@case("name that is no text", Right({(0, 0): RED}, id="odd\\xff"))
def _(folder: Path) -> None:
    drawn().save(os.fsencode(folder) + b"/odd\xff.png", "PNG")


@case("two endings of one name", Right({(0, 0): BLUE}, id="good.tif"))
def _(folder: Path) -> None:
    drawn(BLUE).save(folder / "good.tif")


@case("one file that was asked for", Error("odd.png cannot be read: "))
def _(folder: Path) -> Path:
    truncated(folder, "png")
    return folder / "odd.png"


@case("a list that names it", Error("odd.png cannot be read: "))
def _(folder: Path) -> list[Path]:
    truncated(folder, "png")
    return [folder / "good.png", folder / "odd.png"]


@case("name that is too long", Error("cannot be read: File name too long"))
def _(folder: Path) -> str:
    return "x" * 5000


@case("name that no file can have", Error("cannot be read: embedded null byte"))
def _(folder: Path) -> str:
    return "a\0.png"


@case("nothing that can be read", Error("no sample is left of p: good.png: is empty; odd.png: is empty"))
def _(folder: Path) -> None:
    for name in ("good", "odd"):
        (folder / f"{name}.png").write_bytes(b"")


# tables


def table(content: str, encoding: str = "utf-8", **said: Any) -> Make:
    """A CSV file beside good.png and odd.png."""

    def make(folder: Path) -> Any:
        drawn().save(folder / "odd.png")
        (folder / "t.csv").write_bytes(content.encode(encoding))
        return xai.Files(folder / "t.csv", **said)

    return make


ODD = Right({(0, 0): RED}, n=2)
BOTH = "file,label\ngood.png,0\nodd.png,1\n"
for name, make, expected in (
    ("empty CSV", table(""), Error("t.csv is empty")),
    ("CSV without the column", table("name\nodd.png\n"), Error("needs a column with the head file, which names")),
    ("CSV of heads alone", table("file,label\n"), Error("holds no row below its heads")),
    ("CSV with a byte order mark", table("\ufeff" + BOTH), ODD),
    ("CSV in UTF-16", table(BOTH, "utf-16"), ODD),
    ("CSV with semicolons", table(BOTH.replace(",", ";")), ODD),
    ("CSV with tabs", table(BOTH.replace(",", "\t")), ODD),
    ("CSV with Windows line ends", table(BOTH.replace("\n", "\r\n")), ODD),
    ("CSV with blank lines and spaces", table("\n file , label\n\ngood.png , 0\n\n odd.png,1\n\n"), ODD),
    ("CSV in Latin-1", table(BOTH.replace("label", "größe"), "latin-1"), Right({(0, 0): RED}, note="was read as Latin-1")),
    ("CSV with quotes", table('file,label\n"good.png","a, ""b"""\n"odd.png",c\n'), ODD),
    ("CSV that names a file twice", table(BOTH + "odd.png,0\n"), Row("is named a second time, after t.csv, line 3", n=2)),
    ("CSV with two columns of one name", table("file,file\nodd.png,odd.png\n"), Error("several columns with the head file")),
    ("CSV that leads out", table(BOTH + "../../etc/passwd,1\n"), Row('lies outside of p: write root = "…"', n=2)),
    ("CSV with an absolute path", table(BOTH + "/etc/passwd,1\n"), Row('lies outside of p: write root = "…"', n=2)),
    ("CSV with a path of Windows", table(BOTH.replace("odd", ".\\odd")), ODD),
    ("CSV with a short line", table(BOTH + "odd.png\n"), Row("has 1 cells under 2 heads", n=2)),
    ("CSV with a long line", table(BOTH + "a,b.png,1\n"), Row("has 3 cells under 2 heads", n=2)),
    ("CSV with an open quote", table(BOTH + '"odd.png,1\n'), Row("has 1 cells under 2 heads", n=2)),
    ("CSV that names a file that is not there", table(BOTH + "lost.png,1\n"), Row("is not there", n=2)),
    ("CSV that names nothing", table(BOTH + ",1\n"), Row("names no file", n=2)),
    ("CSV that names its folder", table(BOTH + ".,1\n"), Row("lies outside of p", n=2)),
    ("CSV with labels for some", table(BOTH + "good.png,\n".replace("good", "./odd")), Error("a label for 2 of 3 rows")),
    ("CSV with a column that is not there", table(BOTH, labels="diagnosis"), Error("there are file, label: write labels =")),
    ("CSV with its own names", table("path,y\ngood.png,0\nodd.png,1\n", images="path", labels="y"), ODD),
    ("picture named .csv", table(png(4, 4, 8, 2, b"").decode("latin-1"), "latin-1"), Error("needs a column with the head file")),
):  # fmt: skip
    case(name, expected)(make)


@case("files outside of a root that is declared", Right({(0, 0): RED}, n=2))
def _(folder: Path) -> Any:
    made = table(BOTH.replace("good", "../p/good"))(folder)
    return xai.Files(made.files, root=folder.parent / "p")


def joined(rows: str, **said: Any) -> Make:
    """Good.png and odd.png with a table of age and dose."""

    def make(folder: Path) -> Any:
        drawn().save(folder / "odd.png")
        (folder.parent / "t.csv").write_text(rows)
        return xai.Files(folder, table=folder.parent / "t.csv", **said)

    return make


AGES = "id,age,dose\ngood,30,1\nodd,{},2\n"
for name, make, expected in (
    ("table joined by the pictures' names", joined(AGES.format(50)), Right({(0, 0): RED}, row=(50, 2), n=2)),
    ("table with a decimal comma", joined(AGES.format("50,5").replace("50,5", "!").replace(",", ";").replace("!", "50,5")),
     Right(row=(50.5, 2), n=2)),
    ("table without a picture's row", joined("id,age,dose\ngood,30,1\n"), Row("t.csv has no row with id = 'odd'")),
    ("table with two rows of a picture", joined(AGES.format(50) + "odd,7,7\n"), Row("t.csv has 2 rows with id = 'odd'")),
    ("table without the key", joined(AGES.format(50), key="name"), Error("there are id, age, dose: write key =")),
    ("table without a column", joined("id,age\ngood,1\nodd,1\n"), Error("lacks dose (there is id, age)")),
    ("word in a table", joined(AGES.format("old")), Row("has 'old' in the column 'age', which is no number")),
    ("infinity in a table", joined(AGES.format("inf")), Row("has an infinite value in the column 'age'")),
    ("value that is missing", joined(AGES.format("")), Error("t.csv, line 3: 'age' is missing; write missing = \"median\"")),
    ("NaN filled by a rule", joined(AGES.format("NaN"), missing="mean"), Right(row=(30, 2), note="mean of their column (age 1)")),
    ("sentinel filled by a number", joined(AGES.format(-999), missing=-1, missing_values=-999), Right(row=(-1, 2), note="by -1")),
    ("missing value that drops its row", joined(AGES.format("?"), missing="drop", missing_values="?"),
     Row("lacks a value in the column 'age'")),
    ("column without any value", joined("id,age,dose\ngood,,1\nodd,,2\n", missing="median"), Error("'age' has no median")),
):  # fmt: skip
    case(name, expected, COLOUR, TABLE)(make)


@case("table alone", Right(row=(50, 2), id="odd", n=2), TABLE)
def _(folder: Path) -> Any:
    return joined(AGES.format(50))(folder).table


# masks


def masked(mask: Image.Image, **said: Any) -> Make:
    def make(folder: Path) -> Any:
        drawn().save(folder / "odd.png")
        masks = folder.parent / "masks"
        masks.mkdir()
        drawn(1, "1").save(masks / "good.png")
        mask.save(masks / "odd.png")
        return xai.Files(folder, masks=masks, **said)

    return make


GRADED = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(SIDE, SIDE))
for name, make, expected in (
    ("mask of another size", masked(drawn(1, "1", (5, 4))), Row("is a mask of 5 × 4 pixels for a picture of 4 × 4")),
    ("mask of many values", masked(GRADED), Row("is no mask of 0 and one other value: it holds 0, 1, 2, 3, 4, …")),
    ("mask in 16 bits", masked(Image.fromarray(np.full((4, 4), 900, np.uint16))), ODD),
):  # fmt: skip
    case(name, expected)(make)


@case("mask that cannot be read", Row("is a mask that cannot be read"))
def _(folder: Path) -> Any:
    made = masked(NOISE)(folder)
    cut(folder.parent / "masks" / "odd.png")
    return made


# arrays

IMAGES = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)


def npy(values: Any, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        np.save(folder / "x.npy", values, **options)
        return folder / "x.npy"

    return make


def npz(**values: Any) -> Make:
    def make(folder: Path) -> Path:
        np.savez(folder / "x.npz", **values)
        return folder / "x.npz"

    return make


def nan(row: int) -> Any:
    values = IMAGES.copy()
    values[row, 0, 0] = np.nan
    return values


for name, make, expected in (
    ("pickled objects", npy(np.array([{}, {}]), allow_pickle=True), Error("without running code")),
    ("pickled objects in .npz", npz(x=np.array([{}, {}], object)), Error("without running code")),
    ("NaN in one row", npy(nan(1)), Row("'image' holds NaN or infinity", n=2)),
    ("NaN in all rows", npy(np.full_like(IMAGES, np.inf)), Error("no sample is left of x.npy: x.npy, row 0: 'image' holds NaN")),
    ("complex numbers", npy(IMAGES + 1j), Error("holds complex64: samples are real numbers")),
    ("text", npy(np.array(["a", "b"])), Error("samples are real numbers")),
    ("one sample without its axis", npy(IMAGES[0]), Error("of one sample write x[None]")),
    ("two axes too many", npy(IMAGES[None, None]), Error("takes (n, y, x, 3), got shape (1, 1, 3, 4, 4, 3)")),
    ("one number", npy(np.float32(1)), Error("is one number, and has no axis of samples")),
    ("no samples", npy(IMAGES[:0]), Error("there is no sample: the inputs are empty")),
    ("too few labels", npz(x=IMAGES, labels=np.arange(2)), Error("holds 3 samples and labels of shape (2,)")),
    ("labels that are dates", npz(x=IMAGES, labels=np.zeros(3, "datetime64[D]")), Error("samples are real numbers")),
    ("structured fields", npz(x=np.zeros(3, [("a", "f4"), ("b", "f4")])), Error("samples are real numbers")),
    ("no array", npz(), Error("holds no array")),
    ("stored by columns", npz(x=np.asfortranarray(IMAGES)), Right({(0, 0): IMAGES[2, 0, 0] * 255}, n=3)),
    ("big-endian", npz(x=IMAGES.astype(">f4")), Right({(3, 1): IMAGES[2, 3, 1] * 255}, n=3)),
):  # fmt: skip
    case(name, expected)(make)


@case("truncated .npy", Error("without running code"))
def _(folder: Path) -> Path:
    path: Path = npy(IMAGES)(folder)
    cut(path)
    return path


@case("truncated .npz", Error("without running code"))
def _(folder: Path) -> Path:
    path: Path = npz(x=IMAGES)(folder)
    cut(path)
    return path


@case("changed byte in .npz", Error("Bad CRC-32"))
def _(folder: Path) -> Path:
    path: Path = npz(x=IMAGES)(folder)
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    return path


def bomb(folder: Path, shape: tuple[int, ...], size: int) -> Path:
    """An .npz of zeros, `size` bytes of them."""
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f4"})
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return folder / "x.npz"


@case("zip bomb, by its header", Error("x.npz:x is cut off: its header says 43200000000 bytes, there are 1048576"))
def _(folder: Path) -> Path:
    return bomb(folder, (1, 60_000, 60_000, 3), 2**20)


# HDF5


def hdf5(write: Callable[[Any], object], **said: Any) -> Make:
    def make(folder: Path) -> Any:
        with h5py.File(folder / "x.h5", "w") as file:
            write(file)
        return xai.Files(folder / "x.h5", **said)

    return make


def named(file: Any) -> None:
    file["scans/x"], file["y"] = IMAGES, [0, 1, 2]


NAMED = {"images": "scans/x", "labels": "y"}
VIRTUAL = h5py.VirtualLayout((3, SIDE, SIDE, 3), np.float32)
VIRTUAL[...] = h5py.VirtualSource("other.h5", "x", (3, SIDE, SIDE, 3))
ELSEWHERE = Error("keeps its data in other files")
LARGE = {"shape": (3, 60_000, 60_000, 3), "dtype": "f4", "chunks": (1, 64, 64, 3)}


def part(file: Any) -> None:
    file.create_dataset("x", **LARGE)[0, 0, 0] = 1


for name, make, expected in (
    ("HDF5 with names declared", hdf5(named, **NAMED), Right({(0, 0): IMAGES[2, 0, 0] * 255}, n=3)),
    ("HDF5 with rows declared", hdf5(named, **NAMED, indices=[2, 0]), Right({(0, 0): IMAGES[0, 0, 0] * 255}, n=2, id="0")),
    ("HDF5 with rows that are not there", hdf5(named, **NAMED, indices=[5]), Error("x.h5 has rows 0 … 2")),
    ("HDF5 without names", hdf5(named), Error('holds scans/x, y: the model takes one array, and labels if known; write images')),
    ("HDF5 without the data set", hdf5(named, images="x"), Error("x.h5:x is not there; the file holds scans/x, y")),
    ("HDF5, a group", hdf5(named, images="scans"), Error("x.h5:scans is a group of x: name a data set")),
    ("HDF5, nothing", hdf5(lambda file: None), Error("holds no array")),
    ("HDF5, a link to another file", hdf5(lambda file: file.update({"x": h5py.ExternalLink("/etc/passwd", "/x")}), images="x"),
     Error("x.h5:x is a link to /etc/passwd, which is not followed")),
    ("HDF5, a link inside", hdf5(lambda file: file.update({"x": h5py.SoftLink("/x")}), images="x"), Error("is a link to /x")),
    ("HDF5 over other files", hdf5(lambda file: file.create_virtual_dataset("x", VIRTUAL)), ELSEWHERE),
    ("HDF5 with its data elsewhere", hdf5(lambda file: file.create_dataset("x", (3, 4), "f4", external=[("/etc/passwd", 0, 48)])),
     ELSEWHERE),
    ("HDF5 of a huge shape without data", hdf5(lambda file: file.create_dataset("x", **LARGE)),
     Error("it declares the shape (3, 60000, 60000, 3), and nothing was ever written")),
    ("HDF5 of a huge shape", hdf5(part), Error("3 samples of x.h5:x, of shape (3, 60000, 60000, 3) and float32, take 129.6 GB")),
    ("HDF5 of text", hdf5(lambda file: file.update({"x": ["a", "b"]})), Error("samples are real numbers")),
    ("HDF5 of references", hdf5(lambda file: file.create_dataset("x", data=file.ref, dtype=h5py.ref_dtype)),
     Error("x.h5:x holds object: samples are real numbers")),
    ("HDF5 that holds itself", hdf5(lambda file: file.update({"x": IMAGES, "again": file})), Right(n=3)),
    ("HDF5 with NaN", hdf5(lambda file: file.update({"x": nan(0)})), Row("'image' holds NaN or infinity", n=2)),
):  # fmt: skip
    case(name, expected)(make)


@case("truncated HDF5", Error("cannot be read as HDF5 (truncated or damaged?)"))
def _(folder: Path) -> Any:
    made = hdf5(named, **NAMED)(folder)
    cut(made.files)
    return made


@case("text named .h5", Error("cannot be read as HDF5 (truncated or damaged?)"))
def _(folder: Path) -> Path:
    (folder / "x.h5").write_text("no data")
    return folder / "x.h5"


@pytest.mark.parametrize(("make", "expected", "modalities"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_every_odd_file_is_a_row_an_error_in_words_or_read_right(
    tmp_path: Path, make: Make, expected: Row | Error | Right, modalities: tuple[xai.Modality, ...]
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    drawn(WHITE).save(folder / "good.png")
    given = make(folder)
    given = folder if given is None else given
    if isinstance(expected, Error):
        with pytest.raises(xai.CrossXAIError) as caught:
            arrays.read(model(*modalities), given)
        assert expected.words in str(caught.value)
        return
    batch = arrays.read(model(*modalities), given)
    if isinstance(expected, Row):
        ((name, reason),) = batch.left_out
        assert expected.words in reason
        assert "\n" not in name
        assert any("was left out" in note for note in batch.notes)
        assert len(batch) == len(batch.ids) == expected.n
    else:
        check_right(batch, expected)


def check_right(batch: Batch, expected: Right) -> None:
    assert batch.left_out == ()
    assert len(batch) == (expected.n or 2)
    for place, value in expected.pixels.items():
        np.testing.assert_allclose(batch.inputs[0][-1][place] * 255, value, atol=0.6)
    if expected.row:
        np.testing.assert_array_equal(batch.inputs[-1][-1], np.array(expected.row, np.float32))
    assert expected.note in " ".join(batch.notes)
    assert not expected.id or batch.ids[-1] == expected.id


MEASURED = """
import resource, sys, zipfile
from pathlib import Path
import test_odd_files as odd
from crossxai import CrossXAIError
folder = Path(sys.argv[1])
odd.drawn().save(folder / "good.png")
(folder / "odd.png").write_bytes(odd.png(60_000, 60_000, 8, 2, b""))
large = odd.bomb(folder, (10, 12_000, 12_000, 3), 2**20)
small = odd.bomb(folder.parent, (2**21, 4, 4, 3), 400 * 2**20)
hollow = odd.hdf5(odd.part)(folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for given in (folder, large, hollow, small):
    try:
        print(len(odd.arrays.read(odd.model(), given, samples=2)))
    except CrossXAIError as error:
        print("refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.process
def test_what_headers_declare_takes_no_memory(tmp_path: Path) -> None:
    """A picture of 11 GB, arrays of 17 and 130 GB, and one whose first rows are read of the 400 MB that it unpacks to."""
    folder = tmp_path / "p"
    folder.mkdir()
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", MEASURED, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=120)
    assert done.returncode == 0, done.stderr
    *read, more = done.stdout.split()
    assert read == ["1", "refused", "refused", "2"]
    assert int(more) < 40_000, f"{more} kB more"
