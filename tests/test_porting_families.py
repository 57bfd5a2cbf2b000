"""One small member of every family of published networks, rebuilt in the other framework: to 1e-10 of how far its outputs vary in
float64, and in float32 to 1e-4, or what rounding comes to.

`python tests/test_porting_families.py [name ...]` prints the table of docs/porting.md, row by row."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from networks import families

from crossxai import Modality, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.porting import twin

ROUNDING = 2e9
"""A few times what rounding in float32 is of that in float64, for networks that amplify it."""
IN_EVERY_RUN = ("mobilenet_v3_small", "shufflenet_v2_x0_5")


def pictures(size: int) -> np.ndarray:
    """A dark picture of large spots and a bright one of small ones: outputs vary, as they do between photographs."""
    rng = np.random.default_rng(0)
    spots = [rng.random((n, n, 3)).repeat(-(-size // n), 0).repeat(-(-size // n), 1)[:size, :size] for n in (4, 16)]
    return np.stack([0.4 * spots[0], 0.5 + 0.5 * spots[1]])


def model(name: str, dtype: str) -> tuple[Any, np.ndarray]:
    """A network behind its adapter, and two images for it."""
    image = Modality.image()
    sizes = families.TORCHVISION | families.TIMM | families.APPLICATIONS
    values = pictures(sizes[name]).astype(dtype)
    if name in families.APPLICATIONS:
        return KerasModel(families.application(name, dtype), (Modality.image(range=(0, 255)),)), 255 * values
    net = families.torchvision_network(name) if name in families.TORCHVISION else families.timm_network(name)
    return TorchModel(copy.deepcopy(net).to(getattr(torch, dtype)), (image,)), values


def gap(name: str, dtype: str) -> float:
    made, values = model(name, dtype)
    return twin(made, (values,), "torch" if name in families.APPLICATIONS else "keras", dtype).gap


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.deep])
        for name in (*families.TORCHVISION, *families.TIMM, *families.APPLICATIONS)
    ],
)
def test_a_family_is_rebuilt_in_the_other_framework(name: str) -> None:
    exact = gap(name, "float64")
    assert exact < 1e-10
    assert gap(name, "float32") < max(1e-4, ROUNDING * exact)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_output_that_counts_of_a_hugging_face_transformer(framework: Any) -> None:
    """Its forward returns a dataclass."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    net = families.lively(ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).double())
    made = TorchModel(net, (Modality.image(),), output="logits")
    assert twin(made, (pictures(32),), framework).gap < 1e-10


def row(name: str) -> str:
    source = "Keras" if name in families.APPLICATIONS else "torch"
    try:
        cells = [f"{gap(name, dtype):.0e}" for dtype in ("float64", "float32")]
    except Unsupported as error:
        cells = [f"refused: {error}", ""]
    return f"| {name} | {source} | {cells[0]} | {cells[1]} |"


if __name__ == "__main__":
    for each in sys.argv[1:] or (*families.TORCHVISION, *families.TIMM, *families.APPLICATIONS):
        print(row(each), flush=True)
