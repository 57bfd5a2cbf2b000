"""ONNX files through ONNX Runtime: scores without gradients. They hold operators of the standard, and no code of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import InvalidFile, InvalidInput, in_words
from crossxai.loaders.loaded import Loaded, image_of
from crossxai.model import Modality
from crossxai.process import foreign, require


def load(path: Path) -> Loaded:
    """The network of a file of one input and one output; images in the order of axes that the input's shape tells."""
    runtime = require("onnxruntime", "onnx", f"reading {path.name}")
    raised: tuple[type[Exception], ...] = (*foreign(), *_errors(runtime))
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except raised as error:
        raise InvalidFile(f"ONNX Runtime cannot read {path}: {in_words(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        names = f"the inputs {', '.join(i.name for i in inputs)} and the outputs {', '.join(o.name for o in outputs)}"
        raise InvalidInput(
            f"{path.name} has {names}; one of each is read: of others write a function of arrays, package.module:function"
        )
    (given,) = inputs
    if given.type not in ("tensor(float)", "tensor(double)"):
        raise InvalidInput(
            f"{path.name} takes {given.type}; floats are read: write a function of arrays, package.module:function"
        )
    modality, first, size = modality_of(path, tuple(given.shape))
    dtype = np.float32 if given.type == "tensor(float)" else np.float64
    alone = given.shape[0] == 1

    def predict(values: Any) -> Any:
        tensor = np.ascontiguousarray(np.moveaxis(values, -1, 1) if first else values, dtype)
        batches = [tensor[i : i + 1] for i in range(len(tensor))] if alone else [tensor]
        try:
            return np.concatenate([session.run(None, {given.name: batch})[0] for batch in batches])
        except _errors(runtime) as error:
            raise RuntimeError(in_words(error)) from error  # what the adapter reports of a model

    order = "first" if first else "last"
    told = [f"from {path.name} through ONNX Runtime: scores without gradients"]
    if modality.spatial:
        told.append(f"channels are its {order} axis, as the input's shape {tuple(given.shape)} says")
    return Loaded(predict, path.stem, tuple(told), modalities=(modality,), size=size)


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which derive from Exception alone."""
    state = runtime.capi.onnxruntime_pybind11_state
    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def modality_of(path: Path, shape: tuple[Any, ...]) -> tuple[Modality, bool, tuple[int, int] | None]:
    """What the input is by its shape, whether its channels come first, and its size in pixels where that is fixed."""
    if len(shape) == 2 and isinstance(shape[1], int):
        return Modality.table(tuple(f"feature_{i}" for i in range(shape[1])), "table"), False, None
    channels = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    if len(channels) != 1:
        raise InvalidInput(
            f"{path.name} takes an input of shape {shape}, which does not tell where its channels are: write a function of "
            "arrays, package.module:function"
        )
    (axis,) = channels
    sides = shape[2:] if axis == 1 else shape[1:3]
    size = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
    return image_of(shape[axis]), axis == 1, size
