"""A network whose truth is known by construction, and that gradients and windows misread; the same in NumPy, torch and Keras.

Every pixel, and every column of a table, adds to each class's score on its own: a sum of tents, narrow peaks around six colours
(columns: around a value), each with its own width and its own weight for every class. What a pixel adds, against any fill, is
then exactly what it adds now less what the fill would: no pixel changes what another is worth. But a tent's slope is as
steep at its foot as below its top and points either way, and it is zero where another colour is, so gradients mislead; and the
evidence is as fine as a pixel, so windows, segments and small maps blur it.

An image is grey, where no tent is, with evidence of its class on every second pixel of a square and evidence against it on
every second pixel of another. Neighbouring evidence is of complementary colours, with grey between: whatever is averaged over
neighbours is no evidence, so that an imputed pixel adds nothing either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai import Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation.curves import fills
from crossxai.model import Array, Inputs

SIDE, CLASSES, N = 16, 3, 3
IMAGE, TABLE = Modality.image(), Modality.table(("age", "dose", "grade"))
RNG = np.random.default_rng(3)
# A colour and its complement for each class: two rows in turn.
COLOURS = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]]) * 0.6 + 0.2
WIDTHS = RNG.uniform(0.04, 0.1, 6)
OWN = np.repeat(np.eye(CLASSES), 2, axis=0)
HEIGHTS = np.where(OWN > 0, RNG.uniform(0.3, 2.0, (6, CLASSES)), -RNG.uniform(0.2, 0.8, (6, CLASSES)))
CENTRES, SPANS = np.array([0.5, -0.4, 0.1]), np.array([0.9, 0.6, 0.8])
COLUMN_HEIGHTS = RNG.uniform(0.5, 4.0, (3, CLASSES)) * [[1, 1, 1], [1, -1, 1], [-1, 1, 1]]
BIAS = 5.0


def pixels(images: Array) -> Array:
    """What each pixel of images (n, height, width, 3) adds to each class, (n, height, width, classes)."""
    total = np.zeros((*images.shape[:-1], CLASSES))
    for colour, width, heights in zip(COLOURS, WIDTHS, HEIGHTS, strict=True):
        distances = np.abs(images - colour) @ np.ones(3)
        near = distances < width
        total[near] += np.multiply.outer(1 - distances[near] / width, heights)
    return total


def columns(table: Array) -> Array:
    """What each column of a table (n, 3) adds to each class, (n, 3, classes)."""
    return np.asarray(np.maximum(1 - np.abs(table - CENTRES) / SPANS, 0)[..., None] * COLUMN_HEIGHTS)


def images(block: int = 1, centred: bool = False) -> tuple[Array, Array]:
    """Images (N, side, side, 3) and their labels (N,); block: side of the squares of one colour that evidence is made of."""
    rng, side = np.random.default_rng(0), SIDE // block
    labels = np.arange(N) % CLASSES
    made = rng.uniform(0.4, 0.6, (N, side, side, 3))
    half = side // 2
    for image, label in zip(made, labels, strict=True):
        top, left = (half // 2, half // 2) if centred else rng.integers(0, half // 2, 2)
        for y, x in np.argwhere(np.indices((half, half)).sum(axis=0) % 2 == 0):
            image[top + y, left + x] = _near(rng, 2 * label + y % 2)
        # Against it, in the far corner; not where images are put together, since it is evidence of another's class.
        for i in range(side // 4 if block == 1 else 0):
            image[side - 1 - i % 2, side - 1 - i] = _near(rng, 2 * ((label + 1) % CLASSES) + i % 2)
    return made.repeat(block, axis=1).repeat(block, axis=2), labels


def _near(rng: np.random.Generator, colour: int) -> Array:
    way = rng.normal(size=3)
    return np.asarray(COLOURS[colour] + way / np.abs(way).sum() * WIDTHS[colour] * rng.uniform(0.05, 0.8))


def ask(framework: str, block: int = 1, centred: bool = False, table: bool = False) -> Question:
    """A question about the logit of each sample's class, the image alone or with its table."""
    made, labels = images(block, centred)
    dtype = np.float32 if framework == "keras" else np.float64
    rows = np.random.default_rng(1).uniform(-0.3, 0.6, (N, 3))
    inputs: Inputs = (made.astype(dtype), rows.astype(dtype)) if table else (made.astype(dtype),)
    modalities = (IMAGE, TABLE) if table else (IMAGE,)
    make = {"numpy": _numpy, "torch": _torch, "keras": _keras}[framework]
    return Question(make(modalities), inputs, Target.classes(labels, CLASSES), batch_size=64)


def contributions(question: Question, fill: fills.FillLike = "zero") -> Inputs:
    """The truth: what each pixel (n, height, width, 1) and column (n, 3) adds to its sample's class, against a fill."""
    labels = question.target.weights.argmax(axis=1)
    found = []
    for modality, values in zip(question.modalities, question.values, strict=True):
        of = pixels if modality.spatial else columns
        own, other = (of(v.astype(np.float64)) for v in (values, fills.filled(fill, modality, values)))
        change = np.stack([c[..., label] for c, label in zip(own - other, labels, strict=True)])
        found.append(change[..., None] if modality.spatial else change)
    return tuple(found)


def _numpy(modalities: tuple[Modality, ...]) -> FunctionModel:
    def function(image: Array, table: Array | None = None) -> Array:
        score = BIAS + pixels(image).sum(axis=(1, 2))
        return np.asarray(score if table is None else score + columns(table).sum(axis=1))

    return FunctionModel(function, modalities)


def _weights() -> dict[str, tuple[Array, Array]]:
    """Kernel (in, out) and bias of each layer: distances both ways, tents; of columns, too; and the head."""
    away = np.zeros((3, 36))
    tent, shift = np.zeros((36, 6)), np.zeros(36)
    for colour in range(6):
        for channel in range(3):
            for number, sign in enumerate((1, -1)):
                unit = colour * 6 + channel * 2 + number
                away[channel, unit], shift[unit] = sign, -sign * COLOURS[colour, channel]
                tent[unit, colour] = -1 / WIDTHS[colour]
    span = np.repeat(-1 / SPANS, 2)[:, None] * np.repeat(np.eye(3), 2, axis=0)
    return {
        "away": (away, shift),
        "tent": (tent, np.ones(6)),
        "column_away": (np.kron(np.eye(3), [[1, -1]]), np.ravel([[-c, c] for c in CENTRES])),
        "column_tent": (span, np.ones(3)),
        "head": (np.concatenate([HEIGHTS * SIDE**2, COLUMN_HEIGHTS]), np.full(CLASSES, BIAS)),
    }


def _torch(modalities: tuple[Modality, ...]) -> Any:
    import torch
    from torch import nn

    from crossxai.adapters.torch import TorchModel

    given, both = _weights(), len(modalities) == 2

    def layer(name: str, rows: int | None = None) -> nn.Module:
        kernel, bias = given[name]
        kernel = kernel[:rows]
        conv = name in ("away", "tent")
        made: nn.Module = nn.Conv2d(*kernel.shape, 1) if conv else nn.Linear(*kernel.shape)
        made = made.double()
        with torch.no_grad():
            made.weight.copy_(torch.tensor(kernel.T[..., None, None] if conv else kernel.T))  # type: ignore[operator]
            made.bias.copy_(torch.tensor(bias))  # type: ignore[operator]
        return made

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.away, self.away_relu, self.tent, self.tent_relu = layer("away"), nn.ReLU(), layer("tent"), nn.ReLU()
            self.mean, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            if both:
                self.column_away, self.column_relu = layer("column_away"), nn.ReLU()
                self.column_tent, self.column_tent_relu = layer("column_tent"), nn.ReLU()
            self.head = layer("head", None if both else 6)

        def forward(self, image: Any, table: Any = None) -> Any:
            seen = self.flat(self.mean(self.tent_relu(self.tent(self.away_relu(self.away(image))))))
            if both:
                rows = self.column_tent_relu(self.column_tent(self.column_relu(self.column_away(table))))
                seen = torch.cat([seen, rows], 1)
            return self.head(seen)

    return TorchModel(Net().eval(), modalities)


def _keras(modalities: tuple[Modality, ...]) -> Any:
    import keras
    from keras import layers

    from crossxai.adapters.tensorflow import KerasModel

    given, both = _weights(), len(modalities) == 2
    starts = [keras.Input((SIDE, SIDE, 3), name="image"), keras.Input((3,), name="table")][: len(modalities)]
    x = layers.ReLU(name="away_relu")(layers.Conv2D(36, 1, name="away")(starts[0]))
    x = layers.ReLU(name="tent_relu")(layers.Conv2D(6, 1, name="tent")(x))
    x = layers.GlobalAveragePooling2D()(x)
    if both:
        rows = layers.ReLU(name="column_relu")(layers.Dense(6, name="column_away")(starts[1]))
        rows = layers.ReLU(name="column_tent_relu")(layers.Dense(3, name="column_tent")(rows))
        x = layers.Concatenate()([x, rows])
    model = keras.Model(starts, layers.Dense(CLASSES, name="head")(x))
    for name, (kernel, bias) in given.items():
        if name.startswith("column") and not both:
            continue
        kernel = kernel[:6] if name == "head" and not both else kernel
        conv = name in ("away", "tent")
        model.get_layer(name).set_weights([kernel[None, None] if conv else kernel, bias])
    return KerasModel(model, modalities)
