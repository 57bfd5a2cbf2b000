"""Nine small networks, {one image, image + table, image + image} × {class, regression, segmentation}, the same in both
frameworks: convolutions with a max-pool per image, fused, then one head. Written by hand in each, so that they check ports."""

from __future__ import annotations

from typing import Any

import numpy as np

import crossxai  # noqa: F401 - makes the import order of the frameworks safe
from crossxai import Modality, Question, Target
from crossxai.model import Array

SIZE = 16
INPUTS = ("image", "image+table", "image+image")
TASKS = ("class", "regression", "segmentation")
T1 = Modality.image("t1")
T2 = Modality.image("t2", channels=("grey",))
TABLE = Modality.table(("age", "dose", "score"))
MODALITIES = {"image": (T1,), "image+table": (T1, TABLE), "image+image": (T1, T2)}
STANDARDISE = {"t1": ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))}
OUT = {"class": 3, "regression": 1, "segmentation": 2}


def weights(inputs: str, task: str) -> dict[str, Array]:
    """Random kernels (channels last: height, width, in, out) and biases, by layer."""
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {}
    for modality in MODALITIES[inputs]:
        if modality.spatial:
            shapes[f"{modality.name}_conv1"] = (3, 3, len(modality.features), 4)
            shapes[f"{modality.name}_conv2"] = (3, 3, 4, 6)
        else:
            shapes["table_dense"] = (3, 6)
    fused = 12 if inputs == "image+image" else 6
    if inputs == "image+table" and task != "segmentation":
        fused = 12
    shapes["head"] = (2, 2, fused, 2) if task == "segmentation" else (fused, OUT[task])
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        found[name] = rng.normal(size=shape) * 1.6 / np.sqrt(np.prod(shape[:-1]))
        found[f"{name}_bias"] = rng.normal(size=shape[-1]) * 0.2
    return found


def torch_net(inputs: str, task: str, dtype: str = "float32") -> Any:
    import torch
    from torch import nn

    modalities, given = MODALITIES[inputs], weights(inputs, task)

    class Sum(nn.Module):
        """A layer, as Keras's Add is one, so that both frameworks offer it to class activation maps."""

        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in (n for n in given if not n.endswith("_bias")):
                w = given[name]
                if name == "head" and task == "segmentation":
                    layer: nn.Module = nn.ConvTranspose2d(w.shape[2], w.shape[3], 2, stride=2)
                    w = w.transpose(2, 3, 0, 1)
                elif w.ndim == 4:
                    layer = nn.Conv2d(w.shape[2], w.shape[3], 3, padding=1)
                    w = w.transpose(3, 2, 0, 1)
                else:
                    layer = nn.Linear(*w.shape)
                    w = w.T
                layer = layer.to(getattr(torch, dtype))
                with torch.no_grad():
                    layer.weight.copy_(torch.tensor(w))
                    layer.bias.copy_(torch.tensor(given[f"{name}_bias"]))
                self.add_module(name, layer)
                if name != "head":
                    self.add_module(f"{name}_relu", nn.ReLU())
            self.pool = nn.MaxPool2d(2)
            self.mean = nn.AdaptiveAvgPool2d(1)
            self.flat = nn.Flatten()
            self.add = Sum()
            self.broadcast = nn.Unflatten(1, (6, 1, 1))

        def forward(self, *x: Any) -> Any:
            seen, table = [], None
            for modality, value in zip(modalities, x, strict=True):
                if not modality.spatial:
                    table = self.table_dense_relu(self.table_dense(value))
                    continue
                for number in (1, 2):
                    name = f"{modality.name}_conv{number}"
                    value = getattr(self, f"{name}_relu")(getattr(self, name)(value))
                    value = self.pool(value) if number == 1 else value
                seen.append(value)
            fused = seen[0] if len(seen) == 1 else torch.cat(seen, 1)
            if task == "segmentation":
                return self.head(fused if table is None else self.add(fused, self.broadcast(table)))
            flat = self.flat(self.mean(fused))
            return self.head(flat if table is None else torch.cat([flat, table], 1))

    return Net().eval()


def keras_net(inputs: str, task: str, dtype: str = "float32") -> Any:
    import keras
    from keras import layers

    starts, seen, table = [], [], None
    for modality in MODALITIES[inputs]:
        shape = (SIZE, SIZE, len(modality.features)) if modality.spatial else (len(modality.features),)
        x = start = keras.Input(shape, name=modality.name, dtype=dtype)
        starts.append(start)
        if not modality.spatial:
            table = layers.ReLU(name="table_dense_relu", dtype=dtype)(
                layers.Dense(6, name="table_dense", dtype=dtype)(x)
            )
            continue
        for number, width in ((1, 4), (2, 6)):
            name = f"{modality.name}_conv{number}"
            x = layers.Conv2D(width, 3, padding="same", name=name, dtype=dtype)(x)
            x = layers.ReLU(name=f"{name}_relu", dtype=dtype)(x)
            x = layers.MaxPooling2D(2, name=f"{modality.name}_pool", dtype=dtype)(x) if number == 1 else x
        seen.append(x)
    x = seen[0] if len(seen) == 1 else layers.Concatenate(dtype=dtype)(seen)
    if task == "segmentation":
        if table is not None:
            x = layers.Add(name="add", dtype=dtype)([x, layers.Reshape((1, 1, 6), dtype=dtype)(table)])
        x = layers.Conv2DTranspose(2, 2, strides=2, name="head", dtype=dtype)(x)
    else:
        x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
        x = x if table is None else layers.Concatenate(dtype=dtype)([x, table])
        x = layers.Dense(OUT[task], name="head", dtype=dtype)(x)
    model = keras.Model(starts, x)
    given = weights(inputs, task)
    for name in (n for n in given if not n.endswith("_bias")):
        kernel = given[name].transpose(0, 1, 3, 2) if name == "head" and task == "segmentation" else given[name]
        model.get_layer(name).set_weights([kernel, given[f"{name}_bias"]])
    return model


def model(framework: str, inputs: str = "image", task: str = "class", dtype: str = "float32") -> Any:
    axes = ("y", "x", "class") if task == "segmentation" else ("class",)
    options: dict[str, Any] = {"standardise": STANDARDISE, "output_axes": axes}
    if framework == "torch":
        from crossxai.adapters.torch import TorchModel

        return TorchModel(torch_net(inputs, task, dtype), MODALITIES[inputs], **options)
    from crossxai.adapters.tensorflow import KerasModel

    return KerasModel(keras_net(inputs, task, dtype), MODALITIES[inputs], **options)


def values(inputs: str, n: int = 2, dtype: str = "float32") -> tuple[Array, ...]:
    """Smooth random images and a table of a few years, doses and scores."""
    from skimage.filters import gaussian

    rng = np.random.default_rng(11)
    found = []
    for modality in MODALITIES[inputs]:
        if not modality.spatial:
            found.append(rng.normal(size=(n, 3)).astype(dtype))
            continue
        noise = rng.random((n, SIZE, SIZE, len(modality.features)))
        smooth = np.stack([gaussian(image, 1, channel_axis=-1) for image in noise])
        low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
        found.append(((smooth - low) / (high - low)).astype(dtype))
    return tuple(found)


def target(task: str, n: int = 2) -> Target:
    """Classes in turn, the one output, or the mean output of class 1 over a square that differs per sample."""
    if task == "class":
        return Target.classes(np.arange(n) % 3, 3)
    if task == "regression":
        return Target.outputs(0, n, 1)
    masks = np.zeros((n, SIZE, SIZE))
    for i in range(n):
        masks[i, 3 + i % 4 : 9 + i % 4, 4:12] = 1
    return Target.regions(masks, 1, 2)


def question(
    framework: str, inputs: str = "image", task: str = "class", n: int = 2, dtype: str = "float32", **options: Any
) -> Question:
    return Question(model(framework, inputs, task, dtype), values(inputs, n, dtype), target(task, n), **options)
