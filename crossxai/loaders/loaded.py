"""What a loader returns: a network, and what its library or file says about its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from crossxai.errors import InvalidInput
from crossxai.model import Modality

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]


LARGEST = 100_000_000
"""Pixels that a picture is resized to at most: a very narrow one would take all memory."""


@dataclass(frozen=True)
class Resize:
    """How pictures are brought to a network: resized to `to`, then the middle `cut` taken.

    to: the shorter side in pixels, or (height, width), which changes the picture's proportions. cut: (height, width), or None to
    keep all of it.
    """

    to: int | tuple[int, int]
    cut: tuple[int, int] | None
    resample: Resample = "bilinear"

    def __str__(self) -> str:
        if isinstance(self.to, int):
            resized = f"the shorter side resized to {self.to} pixels ({self.resample})"
        else:
            resized = f"resized to {self.to[0]} × {self.to[1]} pixels ({self.resample})"
        cut = "" if self.cut is None or self.cut == self.to else f", the middle {self.cut[0]} × {self.cut[1]} cut out"
        return f"pictures: {resized}{cut}"

    def __call__(self, picture: Any) -> Any:
        """A PIL picture resized and cut, to the pixel as torchvision's Resize and CenterCrop do it."""
        from PIL import Image

        if isinstance(self.to, int):
            short, long = sorted(picture.size)
            longer = int(self.to * long / short)
            size = (self.to, longer) if picture.width <= picture.height else (longer, self.to)
        else:
            size = self.to[::-1]
        if size[0] * size[1] > LARGEST:
            raise InvalidInput(
                f"a picture of {picture.width} × {picture.height} pixels would be resized to {size[0]} × {size[1]}: cut it first"
            )
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling[self.resample.upper()])
        if self.cut is None:
            return picture
        height, width = self.cut
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))  # a smaller picture gets a black edge


def image_of(channels: int, limits: tuple[float, float] | None = None, name: str = "image") -> Modality:
    """An image of so many channels, named by their number."""
    names = {1: ("grey",), 3: ("red", "green", "blue")}.get(channels) or tuple(f"channel_{i}" for i in range(channels))
    return Modality.image(name, names, limits or (0.0, 1.0))


@dataclass(frozen=True)
class Loaded:
    """A network from a name or a file.

    name: for reports. told: where its weights and its preprocessing come from, a sentence each. standardise: (mean, sd) of its
    only image, as it is with values from 0 to 1. classes: the names of its outputs, where its library or file tells them.
    modalities, size: of inputs, where the network itself does not tell them. random: whether nobody trained its weights.
    """

    net: Any
    name: str
    told: tuple[str, ...] = ()
    resize: Resize | None = None
    standardise: tuple[Sequence[float], Sequence[float]] | None = None
    classes: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] | None = None
    size: tuple[int, int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    random: bool = False


RANDOM = "random"
"""In place of weights: a network as it is before training, drawn by seed 0."""
RANDOM_WEIGHTS = "random weights (seed 0): nobody trained this network"
TRUST = "trust=True in Python, trust = true in an experiment file, --trust on the command line"
"""What to write so that a file may run code of its own."""
SAFE = {"torch": (2, 10), "keras": (3, 11, 3)}
"""The first versions that no published file makes run code where they are told to read weights alone."""


def require_safe(package: str, path: Path, trust: bool) -> None:
    """Raise `InvalidInput` where an installed library can be made to run code from a file in spite of its safe mode."""
    installed = version(package)
    numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
    if not trust and numbers < SAFE[package]:
        least = ".".join(map(str, SAFE[package]))
        raise InvalidInput(
            f"{path}: a crafted file makes {package} {installed} run code even in its safe mode, which {package} {least} mends: "
            f"install that, or hand over .safetensors. If you trust who made the file: {TRUST}"
        )
