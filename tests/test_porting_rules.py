"""Every operation that a network may be read with, by a tiny network in float64, rebuilt in both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import operations, to_port

from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.porting import twin


def check_ported(model: Any, values: np.ndarray) -> None:
    """Rebuilt in either framework the network is the same to rounding, values and gradients."""
    assert np.ptp(model.predict((values,)), axis=0).max() > 1e-3  # it is not constant
    for framework in ("torch", "keras"):
        assert twin(model, (values,), framework).gap <= 1e-10


@pytest.mark.parametrize("name", operations.TORCH)
def test_from_torch(name: str) -> None:
    torch.manual_seed(0)
    kind, make = operations.TORCH[name]
    check_ported(TorchModel(make().double().eval(), (operations.MODALITIES[kind],)), operations.values(kind))


@pytest.mark.parametrize("name", operations.KERAS)
def test_from_keras(name: str) -> None:
    kind, make = operations.KERAS[name]
    check_ported(KerasModel(to_port.lively_keras(make()), (operations.MODALITIES[kind],)), operations.values(kind))
