"""What a model's outputs are: logits, probabilities, log-probabilities or values."""

from __future__ import annotations

from typing import Literal, get_args

from crossxai.errors import InvalidInput

Outputs = Literal["logits", "probabilities", "log_probabilities", "values"]


def check_declared(outputs: str | None) -> Outputs | None:
    """The declaration of an adapter's `outputs`, None for none; raises `InvalidInput` for an unknown word."""
    if outputs is not None and outputs not in get_args(Outputs):
        raise InvalidInput(f"outputs is one of {', '.join(get_args(Outputs))}, or None to measure it; got {outputs!r}")
    return outputs  # type: ignore[return-value]
