"""The layers of a rebuilt Keras network that Keras has not, as a Python file that makes them known to `load_model`."""

from __future__ import annotations

from typing import Any

from crossxai.porting import keras_layers
from crossxai.porting.excerpt import excerpt

HEAD = '"""Layers of model.keras that Keras has not: import this file, then keras.saving.load_model("model.keras")."""'


def source(model: Any) -> str:
    """The file; "" where all layers are Keras's own."""
    kinds: list[Any] = [part for layer in model.layers for part in (type(layer), getattr(layer, "activation", None))]
    own = {kind.__name__ for kind in kinds if getattr(kind, "__module__", "") == keras_layers.__name__}
    if not own:
        return ""
    imports, definitions = excerpt(keras_layers, own)
    return (
        "\n\n".join([HEAD, "from __future__ import annotations", "\n".join(imports), "\n" + "\n\n\n".join(definitions)])
        + "\n"
    )
