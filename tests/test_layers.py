"""The table of a model's layers, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from experiments import crossxai
from networks import attentive
from torch import nn

import crossxai as xai

SIDE = 16
IMAGES = np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, padding=1)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.second(self.first(x).relu()).relu()).flatten(1))


def torch_model() -> Any:
    torch.manual_seed(0)
    return xai.wrap(Named().eval())


def keras_model() -> Any:
    keras.utils.set_random_seed(0)
    given = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(given)
    x = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return xai.wrap(keras.Model(given, keras.layers.Dense(3, name="head")(x)))


@pytest.mark.parametrize("made", [torch_model, keras_model])
def test_shapes_are_what_the_network_gives_and_maps_go_where_explainers_draw_them(made: Any) -> None:
    model = made()
    found = model.layers(IMAGES)
    for name, activation in model.activations((IMAGES,)).items():
        assert found[name].shape == activation.shape[1:]
    question = xai.Question(model, (IMAGES,), xai.Target.classes([0, 1], 3))
    drawable = {layer.name: layer.maps["image"] for layer in found if layer.maps}
    assert drawable == {name: size[:2] for name, size in question.cam_layers().items()}
    assert found.default == {"image": question.cam_layer()} == {"image": "second"}
    maps = xai.explain(model, IMAGES, "gradcam.gradcam")
    assert f"drawn at layer {found.default['image']!r}" in " ".join(maps.notes)
    assert found["first"].axes == (("y", "x", "channel") if made is keras_model else ("channel", "y", "x"))
    assert found["first"].kind.lower() == "conv2d"
    assert "channel" in found["head"].reason or "axes" in found["head"].reason
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[2:]] == [layer.name for layer in found]
    (marked,) = [line for line in lines if "(default)" in line]
    assert marked.split()[0] == "second"
    assert "8 × 8 (default)" in found._repr_html_()
    assert len(model.layers()) == len(found)  # on noise


def test_tokens_are_read_as_a_grid_and_a_function_shows_no_layers() -> None:
    found = xai.wrap(attentive.vit(layers=1)).layers(np.random.default_rng(0).random((1, 32, 32, 3), np.float32))
    tokens = [layer for layer in found if layer.axes == ("token", "channel")]
    assert tokens
    assert {layer.maps["image"] for layer in tokens if layer.maps} == {(4, 4)}
    function = xai.wrap(lambda x: x.mean(axis=(1, 2)), modalities=(xai.Modality.image(),))
    with pytest.raises(xai.Unsupported, match="cannot be read: it gives scores alone"):
        function.layers()


def test_the_command_prints_the_same_for_people_and_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keras_model().model.save("net.keras")
    done = crossxai("layers", "net.keras", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found = keras_model().layers(IMAGES)
    assert told["default"] == found.default
    assert [(row["name"], tuple(row["shape"])) for row in told["layers"]] == [(r.name, r.shape) for r in found]
    shown = crossxai("layers", "net.keras").stdout
    assert "8 × 8 (default)" in shown
    assert "Activation maps of image are drawn at second" in shown
    assert crossxai("layers", "nowhere.keras").exit_code == 2
