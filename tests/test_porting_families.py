"""One small member of every family of published networks, and the project's own, brought to the other framework and back: same
outputs, gradients and maps.

`python tests/test_porting_families.py [name ...]` prints the table of docs/porting.md, row by row."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import families, trips
from networks.trips import EXACT, LIMIT, WHAT, Figure

from crossxai import Modality, Unsupported
from crossxai.adapters.torch import TorchModel
from crossxai.porting import twin

PAGE = Path(__file__).parents[1] / "docs" / "porting.md"
IN_EVERY_RUN = {
    **dict.fromkeys(("fusion_classifier", "fusion_regressor", "fusion_unet", "keras:fusion_unet"), WHAT),
    **dict.fromkeys(("squeezenet1_1", "monai_unet_3d", "monai_unet_2d"), ("outputs", "gradients")),
    **dict.fromkeys(("resnet10t", "mobilenet_v3_small", "convnext_atto", "MobileNet"), ("outputs",)),
    "fusion_classifier_resnet18": ("outputs",),
}
"""Networks -> what is compared of them in float64; the deep tests compare everything."""


@pytest.mark.parametrize("name", IN_EVERY_RUN)
def test_a_network_is_the_same_there_and_back(name: str) -> None:
    for what, figure in trips.exact(name, IN_EVERY_RUN[name]).items():
        assert not figure.reason
        assert figure.worst <= EXACT[what], what


@pytest.mark.deep
@pytest.mark.parametrize("name", families.EVERY)
def test_a_family_is_the_same_there_and_back(name: str) -> None:
    for what, figure in trips.measured(name).items():
        assert figure.explained(what), (what, figure)
    gc.collect()  # networks refer to themselves, and are large


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_output_that_counts_of_a_hugging_face_transformer(framework: Any) -> None:
    """Its forward returns a dataclass."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    net = families.lively(ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).double())
    made = TorchModel(net, (Modality.image(),), output="logits")
    assert twin(made, (families.pictures(32),), framework).gap < 1e-10


def test_what_came_back_has_the_activation_maps_of_the_network() -> None:
    """Its layers are called as the network's, "flair.conv1", and there is no "flair" that holds them."""
    network, _, back = trips.trip("fusion_unet", "float32")
    for one, other in zip(network.parts(), back.parts(), strict=True):
        assert other.cam_layer() == one.cam_layer()


def test_the_page_has_every_network() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if line.count("|") > 5]
    assert not set(families.EVERY) - set(rows)


# The page


def row(name: str) -> str:
    source = "Keras" if name in families.APPLICATIONS or name in families.KERAS_FUSION else "torch"
    try:
        figures = trips.measured(name)
    except Unsupported as error:
        return f"| {name} | {source} | refused: {error} |"
    return f"| {name} | {source} | {' | '.join(cells(name, figures))} |"


def cells(name: str, figures: dict[str, Figure]) -> Iterator[str]:
    """The farther output in float64; in float32 there · back, and what is above the limit with that of float64."""
    yield short(figures["outputs"].exact)
    for what in WHAT:
        figure = figures[what]
        beyond = figure.worst > LIMIT[what]
        numbers = [f"**{v:.1e}**" if v > LIMIT[what] else short(v) for v in (figure.there, figure.back)]
        yield figure.reason or " · ".join(numbers) + f" ({short(figure.exact)})" * beyond


def short(value: float) -> str:
    return f"{value:.0e}" if value else "0"


if __name__ == "__main__":
    for each in sys.argv[1:] or families.EVERY:
        print(row(each), flush=True)
