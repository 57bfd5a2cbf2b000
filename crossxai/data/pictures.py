"""Pictures of files as Pillow reads them, and masks: turned as their camera says, the header's size looked at before pixels."""

from __future__ import annotations

import errno
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.data.odd import Odd
from crossxai.errors import FOREIGN

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its name: others run programs (EPS), or say no size before they are decoded."""
PIXELS = 178_956_970
"""The most that a picture may have, which is Pillow's own limit; 0.5 GB in colour."""
DAMAGED = (*FOREIGN, OSError, SyntaxError, EOFError, struct.error, MemoryError)
"""What Pillow raises for damaged files, found by changing and cutting files of each format."""
WORDS = {errno.ENOENT: "is not there", errno.ELOOP: "is a link that leads to itself", errno.EACCES: "may not be read"}


def open_picture(path: Path, remark: Callable[[str], object] = lambda text: None) -> Any:
    """A picture of 8 bits; raises `Odd` with the reason. remark: called with what was changed, in words."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about odd metadata, and about sizes, which are looked at here
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > PIXELS:
                    raise Odd(
                        path, f"has {picture.width} × {picture.height} pixels, more than {PIXELS:,}: cut it first"
                    )
                if picture.format != "MPO" and getattr(picture, "is_animated", False):
                    remark("the first of several frames or pages was taken")
                turned = ImageOps.exif_transpose(picture)
                if turned.mode == "P" or "transparency" in turned.info:
                    # Pillow warns of palettes with transparency, unless they become this first.
                    turned = turned.convert("RGBA" if "transparency" in turned.info else "RGB")
    except Odd:
        raise
    except UnidentifiedImageError as error:
        raise Odd(path, "is no picture that Pillow can read as one of " + ", ".join(FORMATS)) from error
    except Image.DecompressionBombError as error:
        raise Odd(path, f"has more than {PIXELS:,} pixels by its header: cut it first") from error
    except DAMAGED as error:
        raise Odd(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if turned.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(turned) // 257).astype(np.uint8))
    if turned.mode in ("I", "F"):
        raise Odd(path, "holds values of 32 bits, whose range nothing tells: give arrays (.npy) in the model's range")
    return turned


def check_file(path: Path) -> None:
    """Raise `Odd` unless a path is a file that holds something and may be opened: a pipe would be waited for."""
    try:
        about = path.stat()
        regular = path.is_file()
    except (OSError, ValueError) as error:
        link = getattr(error, "errno", 0) == errno.ENOENT and path.is_symlink()
        words = WORDS.get(
            getattr(error, "errno", 0) or 0, f"cannot be read: {getattr(error, 'strerror', None) or error}"
        )
        raise Odd(path, "is a link to what is not there" if link else words) from error
    if not regular:
        raise Odd(path, "is a folder" if path.is_dir() else "is no regular file")
    if not about.st_size:
        raise Odd(path, "is empty")


def colours(picture: Any, channels: int, remark: Callable[[str], object] = lambda text: None) -> Any:
    """A picture with so many channels: 1, 3 or 4."""
    if channels != 4 and picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        if picture.getchannel("A" if "A" in picture.getbands() else "a").getextrema()[0] < 255:
            remark("transparency was dropped, so that the colours below it show")
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    return picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])


def open_mask(path: Path, size: tuple[int, int], label: str) -> Any:
    """A mask as a picture of 0 and 255, of a picture of this (width, height); raises `Odd` with the reason.

    Of two values the larger is inside; where there are more they number classes, and the sample's `label` is inside.
    """
    from PIL import Image

    picture = _indexed(path)
    values = np.asarray(picture)
    if values.ndim == 3:
        values = values[..., [band.upper() != "A" for band in picture.getbands()]].max(axis=-1)
    if values.shape[::-1] != size:
        raise Odd(
            path, f"is a mask of {values.shape[1]} × {values.shape[0]} pixels for a picture of {size[0]} × {size[1]}"
        )
    return Image.fromarray(inside(values, label, path).astype(np.uint8) * 255)


def inside(values: npt.NDArray[Any], label: str, path: object) -> npt.NDArray[np.bool_]:
    """Where a mask is: of values 0 and another where it is not 0, of several where it is the number of the class."""
    different = np.unique(values)
    if len(different) <= 2 and (different[0] == 0 or len(different) == 1):
        return np.asarray(values != 0)
    if label.isdecimal() and len(different) < 256 and int(label) in different:
        return np.asarray(values == int(label))
    listed = ", ".join(str(v) for v in different[:5]) + (", …" if len(different) > 5 else "")
    why = (
        f"and the sample's label {label!r} is none of them" if label else "and the sample has no label that chooses one"
    )
    raise Odd(path, f"is no mask of 0 and one other value: it holds {listed}, {why}")


def _indexed(path: Path) -> Any:
    """A mask's picture as it is stored; of a palette the numbers, which are classes, and not their colours."""
    from PIL import Image, ImageOps

    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > PIXELS:
                    raise Odd(path, f"has {picture.width} × {picture.height} pixels, more than {PIXELS:,}")
                return ImageOps.exif_transpose(picture)
    except Odd:
        raise
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise Odd(path, f"is a mask that cannot be read: {getattr(error, 'strerror', None) or error}") from error
