"""Networks that return several tensors, or take a dict: a port returns the same, and its certificate says which one differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import torch
from torch import nn

import crossxai as xai
from crossxai.porting import twin

IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
TENSOR = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


class Answer(NamedTuple):
    scores: Any
    age: Any
    places: Any


class Heads(nn.Module):
    """A class, one number per sample and a map, in the nesting that `how` makes of them."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.conv, self.scores = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
        self.age, self.places = nn.Linear(6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.conv(x).relu()
        pooled = x.mean((2, 3))
        return self.how(self.scores(pooled), self.age(pooled).squeeze(1), self.places(x))


NESTINGS: dict[str, tuple[Any, Any]] = {
    "dict": (lambda a, b, c: {"scores": a, "age": b, "places": c}, "scores"),
    "tuple": (lambda a, b, c: (b, c, a), 2),
    "nested": (lambda a, b, c: {"head": [a, b], "places": c}, "head.0"),
    "no tensor": (lambda a, b, c: (a, None, {"age": b, "places": c}), 0),
    "named": (Answer, "scores"),
}


def flat(returned: Any) -> list[np.ndarray]:
    """The tensors in order, images channels last."""
    if isinstance(returned, dict):
        returned = list(returned.values())
    if isinstance(returned, list | tuple):
        return [array for part in returned if part is not None for array in flat(part)]
    array = returned.detach() if isinstance(returned, torch.Tensor) else returned
    return [
        np.moveaxis(array.numpy(), 1, -1) if isinstance(returned, torch.Tensor) and array.ndim > 2 else array.numpy()
    ]


@pytest.mark.parametrize("name", [n if n == "dict" else pytest.param(n, marks=pytest.mark.deep) for n in NESTINGS])
def test_every_output_there_and_back(name: str, tmp_path: Path) -> None:
    how, counts = NESTINGS[name]
    network = Heads(how).eval()
    there = xai.port(xai.wrap(network, output=counts), "keras", IMAGES)
    back = xai.port(there.model, "torch", IMAGES)
    expected = network(TENSOR)
    for port, given in ((there, IMAGES), (back, TENSOR)):
        assert port.certificate.holds, port.certificate.summary.to_string()
        compared = {line.name.split(",")[0] for line in port.certificate.lines if line.name.startswith("output ")}
        assert len(compared) == 2
        for mine, theirs in zip(flat(port.module(given)), flat(expected), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
    kinds = dict if isinstance(expected, Answer) else type(expected)
    assert type(there.module(IMAGES)) is type(back.module(TENSOR)) is kinds
    there.save(tmp_path / "keras")
    again = keras.saving.load_model(tmp_path / "keras" / "model.keras")
    assert [array.shape for array in flat(again(IMAGES))] == [array.shape for array in flat(expected)]
    back.save(tmp_path / "torch")  # which runs network.py and network.pt2, and compares every output
    program = torch.export.load(tmp_path / "torch" / "network.pt2").module()(TENSOR)
    assert type(program) is kinds


def test_the_output_that_differs_is_named() -> None:
    how, counts = NESTINGS["dict"]
    network = Heads(how).eval()
    port = xai.port(xai.wrap(network, output=counts), "keras", IMAGES)
    kernel, bias = port.module.get_layer("age").get_weights()
    port.module.get_layer("age").set_weights([kernel, bias + 0.01])
    certificate = xai.certify(xai.wrap(network, output=counts), port.model, IMAGES)
    assert {line.name.split(",")[0] for line in certificate.lines if not line.holds} == {"output age"}
    assert certificate.first is not None
    assert certificate.first.one == "age"


def test_outputs_that_only_one_network_has_are_not_measured() -> None:
    one, other = Heads(NESTINGS["dict"][0]).eval(), Heads(lambda a, b, c: {"scores": a, "places": c}).eval()
    certificate = xai.certify(xai.wrap(one, output="scores"), xai.wrap(other, output="scores"), IMAGES)
    reasons = {line.name: line.reason for line in certificate.lines if line.name.startswith("output ") and line.reason}
    assert list(reasons) == ["output age"]
    assert "only Heads returns it" in reasons["output age"]


def test_a_twin_gives_the_output_that_counts_alone() -> None:
    model = xai.wrap(Heads(NESTINGS["dict"][0]).eval(), output="age")
    assert tuple(twin(model, (IMAGES,), "torch").module(TENSOR).shape) == (3, 1)


def test_an_output_that_no_input_changes_is_refused() -> None:
    model = xai.wrap(Heads(lambda a, b, c: {"scores": a, "steps": torch.arange(3.0)}).eval(), output="scores")
    with pytest.raises(xai.Unsupported, match="output 'steps' of the network depends on no input"):
        xai.port(model, "keras", IMAGES)


def test_tokens_keep_their_axes() -> None:
    """As a detector's queries: no image, though they have three axes."""

    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.boxes, self.scores = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> Any:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return {"boxes": self.boxes(tokens).sigmoid(), "scores": self.scores(tokens.mean(1))}

    there = xai.port(xai.wrap(Queries().eval(), output="scores"), "keras", IMAGES)
    back = xai.port(there.model, "torch", IMAGES)
    assert there.certificate.holds
    assert back.certificate.holds
    assert tuple(there.module(IMAGES)["boxes"].shape) == tuple(back.module(TENSOR)["boxes"].shape) == (3, 16, 5)


def keras_network() -> Any:
    """A dict of an image and a table to a dict of two heads, by a model inside that gives two feature maps."""
    given = keras.Input((16, 16, 3), name="image"), keras.Input((5,), name="table")
    inside = keras.Input((16, 16, 3))
    low = keras.layers.Conv2D(4, 3, activation="relu", name="low")(inside)
    backbone = keras.Model(inside, {"low": low, "high": keras.layers.Conv2D(6, 3, name="high")(low)}, name="backbone")
    maps = backbone(given[0])
    pooled = [keras.layers.GlobalAveragePooling2D()(maps[name]) for name in ("low", "high")]
    joined = keras.layers.Concatenate()([*pooled, given[1]])
    outputs = {"risk": keras.layers.Dense(3)(joined), "age": keras.layers.Dense(1)(joined), "low": maps["low"]}
    return keras.Model({"image": given[0], "table": given[1]}, outputs)


def test_a_dict_goes_in_by_name() -> None:
    keras.utils.set_random_seed(0)
    network = keras_network()
    table = np.random.default_rng(1).random((3, 5), np.float32)
    modalities = (xai.Modality.image(), xai.Modality.table(tuple("abcde")))
    port = xai.port(xai.wrap(network, modalities=modalities, output="risk"), "torch", (IMAGES, table))
    assert port.certificate.holds
    returned = port.module(table=torch.from_numpy(table), image=TENSOR)
    expected = network({"image": IMAGES, "table": table})
    assert list(returned) == ["risk", "age", "low"]
    for name, tensor in returned.items():
        np.testing.assert_allclose(flat(tensor)[0], expected[name], atol=1e-5)


@pytest.mark.deep
def test_a_segmentation_network_of_torchvision_keeps_its_dictionary() -> None:
    from torchvision.models import segmentation

    network = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True).eval()
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    halves = np.zeros((2, 32, 32), bool)
    halves[:, :16] = True
    port = xai.port(xai.wrap(network, output="out"), "keras", images, target=xai.Target.regions(halves, 1, 5))
    assert list(port.module(images)) == ["out", "aux"]
    assert port.certificate.holds
    assert {line.name.split(",")[0] for line in port.certificate.lines if "aux" in line.name} == {"output aux"}
