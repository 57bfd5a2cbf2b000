"""The same architectures in PyTorch and in Keras, and the checkpoints that both read."""

from __future__ import annotations

from crossxai.studies import submodules

Encoder = tuple[tuple[str, int], ...]

__getattr__ = submodules(__name__, ("checkpoints", "loading", "weight_files"))


def _layers(text: str) -> Encoder:
    """(name, width) of each layer, 0 where it has none."""
    words = (layer.split() for layer in text.split(", "))
    return tuple((name, int(width[0]) if width else 0) for name, *width in words)


# In order, the layers that both frameworks build the fusion networks' encoders of: the name, which says the kind, and the width.
# A pool with a number averages over equal windows, so many each way; one without takes the maximum of 2 × 2.
ENCODERS = {
    "ct": _layers("conv1 16, relu1, pool1, conv2 32, relu2, pool2, pool3 4, flatten, fc 64"),
    "stream": _layers("conv1 16, bn1, relu1, pool1, conv2 32, bn2, relu2, pool2, pool3 1, flatten, fc 64, relu3"),
    "unet": _layers("conv1 8, relu1, pool1, conv2 16, relu2, pool2, conv3 32, relu3, pool3"),
}
