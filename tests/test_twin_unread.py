"""A modality that nothing in the network reads: methods on a twin give zeros there, as others do, and say so."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from cheap import CHEAP
from torch import nn

from crossxai import Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get

KINDS = {name: kind for name, kind in discover().items() if kind.needs == "module"}
MODALITIES = (Modality.image(), Modality.table(("age", "dose")))
REMINDER = "ignore:.*(hooks|required_grads).*:UserWarning"  # Captum's own, at every call
WORDS = (
    "at the samples looked at, model {name!r} does not depend on {lost}: its gradient and its relevance are zero there"
)


class Net(nn.Module):
    def __init__(self, lost: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lost, self.conv, self.relu = lost, nn.Conv2d(3, 4, 3), nn.ReLU()
        self.head = nn.Linear(4 if lost == "table" else 2, 3)

    def forward(self, image: Any, table: Any) -> Any:
        return self.head(self.relu(self.conv(image)).mean((2, 3)) if self.lost == "table" else self.relu(table))


def keras_net(lost: str) -> Any:
    keras.utils.set_random_seed(0)
    image, table = keras.Input((12, 12, 3), name="image"), keras.Input((2,), name="table")
    h = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(image) if lost == "table" else table)
    h = keras.layers.GlobalAveragePooling2D()(h) if lost == "table" else h
    return keras.Model([image, table], keras.layers.Dense(3)(h))


def question(framework: str, lost: str) -> Question:
    rng = np.random.default_rng(0)
    inputs = rng.random((3, 12, 12, 3), np.float32), 0.1 + rng.random((3, 2), np.float32)
    net = Net(lost).eval() if framework == "torch" else keras_net(lost)
    model: Any = TorchModel(net, MODALITIES) if framework == "torch" else KerasModel(net, MODALITIES)
    return Question(model, inputs, Target.classes([0, 1, 2], 3))


@pytest.mark.filterwarnings(REMINDER)
@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if "table" in kind.kinds])
@pytest.mark.parametrize("lost", ["image", "table"])
def test_zeros_and_a_note(name: str, framework: str, lost: str) -> None:
    asked, explainer = question(framework, lost), get(name, **CHEAP.get(name, {}))
    found = explainer(asked)
    assert (found.of(lost) == 0).all()
    assert np.abs(found.of("image" if lost == "table" else "table")).max() > 0
    assert WORDS.format(name=asked.model.name, lost=lost) in found.notes
    assert (explainer(asked.only(lost)).of(lost) == 0).all()


@pytest.mark.filterwarnings(REMINDER)
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if "table" not in kind.kinds])
def test_of_images_alone_too(name: str) -> None:
    """Zeros with the note, or a refusal in words where no layer is there to draw at."""
    asked = question("torch", "image")
    if name in ("gradcam.guided_backprop", "gradcam.fullgrad"):
        found = get(name)(asked)
        assert (found.of("image") == 0).all()
        assert WORDS.format(name="pytorch", lost="image") in found.notes
    else:
        with pytest.raises(Unsupported, match=r"image"):
            get(name)(asked)


@pytest.mark.filterwarnings(REMINDER)
def test_a_twin_answers_where_the_model_gives_no_gradient() -> None:
    """The note is measured by gradients of the model itself, which weights made under inference mode do not give."""
    with torch.inference_mode():
        net = Net("table").eval()
    asked = Question(TorchModel(net, MODALITIES), question("torch", "table").inputs, Target.classes([0, 1, 2], 3))
    found = get("captum.guided_backprop")(asked.only("image"))
    assert np.abs(found.of("image")).max() > 0
    assert found.notes == ()
