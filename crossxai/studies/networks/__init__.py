"""The same architectures in PyTorch and in Keras, and the checkpoints that both read."""

from __future__ import annotations

from crossxai.studies import submodules

__getattr__ = submodules(__name__, ("checkpoints", "loading", "weight_files"))
