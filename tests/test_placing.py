"""A network that moves its image before its first convolution has layers whose maps would lie at the wrong place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as k
from skimage import data, transform
from torch import nn
from torch.nn import functional as F
from torchvision import models

from crossxai import Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get

IMAGE = (Modality.image(),)


def photograph(size: int, n: int = 1) -> Any:
    return np.stack([transform.resize(data.astronaut(), (size, size))] * n).astype(np.float32)


def noise(size: int, n: int = 1) -> Any:
    return np.random.default_rng(3).random((n, size, size, 3)).astype(np.float32)


class Moved(nn.Module):
    def __init__(self, move: Callable[[Any], Any], net: nn.Module) -> None:
        super().__init__()
        self.move, self.net = move, net

    def forward(self, x: Any) -> Any:
        return self.net(self.move(x))


def shuffled(x: Any) -> Any:
    n, c, h, w = x.shape
    order = np.random.default_rng(0).permutation(16)
    patches = (
        x.reshape(n, c, 4, h // 4, 4, w // 4).permute(0, 1, 2, 4, 3, 5).reshape(n, c, 16, h // 4, w // 4)[:, :, order]
    )
    return patches.reshape(n, c, 4, 4, h // 4, w // 4).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mirrored in x": (lambda x: x.flip(3), "against x of the image"),
    "mirrored in y": (lambda x: x.flip(2), "against y of the image"),
    "upside down": (lambda x: x.flip((2, 3)), "against y and x of the image"),
    "turned": (lambda x: torch.rot90(x, 1, (2, 3)), "elsewhere than where they lie"),
    "rolled": (lambda x: x.roll(x.shape[2] // 4, 2), "elsewhere than where they lie"),
    "rolled by half": (lambda x: x.roll(x.shape[3] // 2, 3), "elsewhere than where they lie"),
    "cropped": (
        lambda x: x[:, :, x.shape[2] // 4 : -x.shape[2] // 4, x.shape[3] // 4 : -x.shape[3] // 4],
        "cropped away",
    ),
    "cropped to a corner": (lambda x: x[:, :, : x.shape[2] // 2, : x.shape[3] // 2], "lower, right quarter"),
    "padded": (lambda x: F.pad(x, (x.shape[3] // 2,) * 4), "as if .*padded"),
    "padded at a corner": (lambda x: F.pad(x, (0, x.shape[3], 0, x.shape[2])), "elsewhere than where they lie"),
    "shuffled": (shuffled, "elsewhere than where they lie"),
}
RIGHT: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda x: x,
    "stretched": lambda x: F.interpolate(x, (x.shape[2], 2 * x.shape[3])),
    "smaller": lambda x: F.interpolate(x, (x.shape[2] // 2, x.shape[3] // 2)),
    "cropped a little": lambda x: x[:, :, x.shape[2] // 12 : -x.shape[2] // 12, x.shape[3] // 12 : -x.shape[3] // 12],
    "padded a little": lambda x: F.pad(x, (3, 3, 3, 3)),
}


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def resnet() -> nn.Module:
    return models.resnet18(num_classes=2)


def question(net: nn.Module, x: Any, **options: Any) -> Question:
    return Question(TorchModel(net.eval(), IMAGE, **options), (x,), Target.classes([1] * len(x), 2))


@pytest.mark.parametrize("images", [photograph, noise])
@pytest.mark.parametrize("make", [plain, resnet])
@pytest.mark.parametrize("how", WRONG)
def test_an_image_that_is_moved_inside_is_refused(
    how: str, make: Callable[[], nn.Module], images: Callable[[int], Any]
) -> None:
    """Also at a ResNet's last layers, of 2 × 2 places, which tell nothing themselves."""
    torch.manual_seed(0)
    move, words = WRONG[how]
    asked = question(Moved(move, make()), images(64))
    with pytest.raises(Unsupported, match=words):
        get("gradcam.gradcam")(asked)
    first = "net.0" if make is plain else "net.conv1"
    with pytest.raises(Unsupported, match="Take that step"):
        get("gradcam.gradcam", layer=first)(asked)
    with pytest.raises(Unsupported, match="wrong place"):
        asked.layers.layout(list(asked.cam_layers())[-1])


@pytest.mark.parametrize("make", [plain, resnet])
@pytest.mark.parametrize("how", RIGHT)
def test_what_lands_where_it_was_is_drawn(how: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    asked = question(Moved(RIGHT[how], make()), photograph(64))
    note = get("gradcam.gradcam")(asked).notes[-1]
    assert "axes (channel, y, x), the layer's definition" in note


def test_axes_that_are_exchanged_are_read_as_measured() -> None:
    """The map is that of the network on data that were exchanged before, exchanged back."""
    torch.manual_seed(0)
    net, x = plain(), photograph(32)
    net[-1].weight.data.abs_()
    inside = get("gradcam.gradcam")(question(Moved(lambda t: t.transpose(2, 3), net), x))
    outside = get("gradcam.gradcam")(question(net, np.ascontiguousarray(x.transpose(0, 2, 1, 3))))
    np.testing.assert_allclose(inside.of("image"), outside.of("image").transpose(0, 2, 1, 3), atol=1e-6)
    assert any("axes (channel, x, y), measured" in note for note in inside.notes)


def test_a_declaration_counts_more_than_what_is_measured() -> None:
    torch.manual_seed(0)
    net = Moved(lambda x: x.flip(3), plain())
    axes = {"net.6": ("channel", "y", "x")}
    answer = get("gradcam.gradcam", layer="net.6")(question(net, photograph(32), layer_axes=axes))
    assert any("declared" in note for note in answer.notes)
    unchecked = Question(TorchModel(net.eval(), IMAGE), (photograph(32),), Target.classes([1], 2), check="off")
    assert unchecked.cam_layer() == "net.6"


def test_a_step_between_layers_is_seen_after_it() -> None:
    """A map at the layer before is right, one at the layer after is not."""
    torch.manual_seed(0)
    first, second = plain()[:2], plain()

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, nn.Sequential(nn.Conv2d(8, 3, 1), second)

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x).flip(3))

    asked = question(Between(), photograph(32))
    assert asked.layers.layout("first.1").how == "the layer's definition"
    with pytest.raises(Unsupported, match="against x"):
        asked.cam_layer()
    assert set(asked.cam_layers()) == {"first", "first.0", "first.1"}


def keras_plain(move: list[Any]) -> Any:
    keras.utils.set_random_seed(0)
    body = [k.Conv2D(8, 3, padding="same", activation="relu"), k.Conv2D(8, 3, padding="same"), k.ReLU()]
    head = [k.MaxPooling2D(2), k.Conv2D(8, 3, padding="same", name="last"), k.GlobalAveragePooling2D(), k.Dense(2)]
    return keras.Sequential([keras.Input((32, 32, 3)), *move, *body, *head])


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ([k.Cropping2D(8)], "cropped away"),
        ([k.Cropping2D(((0, 16), (0, 0)))], "lower quarter"),
        ([k.ZeroPadding2D(16)], "the image's borders are at"),
        ([k.ZeroPadding2D(((0, 32), (0, 32)))], "elsewhere than where they lie"),
        ([k.Lambda(lambda x: x[:, ::-1])], "against y"),
    ],
)
def test_keras_networks_that_move_their_image_are_refused(move: list[Any], words: str) -> None:
    asked = Question(KerasModel(keras_plain(move), IMAGE), (photograph(32),), Target.classes([1], 2))
    with pytest.raises(Unsupported, match=words):
        get("gradcam.gradcam")(asked)


def test_keras_layers_that_move_nothing_are_drawn() -> None:
    for move in ([], [k.RandomFlip()], [k.ZeroPadding2D(3)], [k.Resizing(48, 32)], [k.Rescaling(1 / 255)]):
        asked = Question(KerasModel(keras_plain(move), IMAGE), (photograph(32),), Target.classes([1], 2))
        assert "the layer's definition" in get("gradcam.gradcam")(asked).notes[-1]


def test_keras_axes_that_are_permuted_are_read_as_measured() -> None:
    asked = Question(KerasModel(keras_plain([k.Permute((2, 1, 3))]), IMAGE), (photograph(32),), Target.classes([1], 2))
    assert asked.layers.layout("last").axes == ("x", "y", "channel")
    assert any("measured" in note for note in get("gradcam.gradcam")(asked).notes)


def test_asking_costs_seventeen_passes_once_for_all_layers() -> None:
    torch.manual_seed(0)
    net, seen = plain(), []
    net[0].register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    asked = question(net, photograph(32))
    asked.layers.layers  # noqa: B018 - the layers' shapes, known before
    seen.clear()
    for layer in ("0", "3", "6"):
        asked.layers.layout(layer)
    assert sum(seen) == 17
    seen.clear()
    Question(asked.model, asked.inputs, asked.target).layers.layout("6")
    assert not seen


def test_nothing_unclear_is_refused() -> None:
    """Dead and constant networks, a blank image, one place, and a network that mixes all places first."""
    torch.manual_seed(0)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.conv = nn.Linear(32 * 32, 32 * 32), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return self.conv(self.mix(x.flatten(2)).reshape(x.shape)).mean((2, 3))[:, :2]

    dead = plain()
    for p in dead.parameters():
        p.data.zero_()
    for net, x in ((Mixed(), noise(32)), (dead, noise(32)), (plain(), np.full((1, 32, 32, 3), 0.5, np.float32))):
        layer = "conv" if isinstance(net, Mixed) else "6"
        assert question(net, x).layers.layout(layer).how == "the layer's definition"


def test_a_network_that_pads_before_every_convolution_is_right() -> None:
    """Keras networks with torch's weights pad by a layer of their own; of a small plane, that is much."""
    layers: list[keras.layers.Layer] = [keras.Input((64, 64, 3))]
    for i in range(5):
        layers += [
            keras.layers.ZeroPadding2D(),
            keras.layers.Conv2D(8, 3, strides=2 if i < 4 else 1, activation="relu"),
        ]
    network = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    images = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
    question = Question(KerasModel(network, (Modality.image(),)), (images,), Target.classes([0, 1], 3))
    assert get("gradcam.gradcam")(question).values[0].shape[:3] == (2, 64, 64)


HEALTHY: dict[str, tuple[Callable[[], Any], int]] = {
    "torch ResNet-50": (lambda: models.resnet50(num_classes=2), 64),
    "torch MobileNet v3": (lambda: models.mobilenet_v3_small(num_classes=2), 64),
    "torch Inception v3": (lambda: models.inception_v3(num_classes=2, init_weights=True), 96),
    "torch ShuffleNet": (lambda: models.shufflenet_v2_x0_5(num_classes=2), 64),
    "Keras MobileNet v2": (lambda: keras.applications.MobileNetV2(input_shape=(128, 128, 3), weights=None, classes=2), 128),
    "Keras MobileNet v3": (lambda: keras.applications.MobileNetV3Small(input_shape=(80, 80, 3), weights=None, classes=2), 80),
    "Keras ResNet-50": (lambda: keras.applications.ResNet50(input_shape=(96, 96, 3), weights=None, classes=2), 96),
}  # fmt: skip


# ResNet-50 is MobileNet's story with more layers: its layers are as many passes as in all the others together.
LARGE = [pytest.param(name, marks=pytest.mark.process if name.endswith("ResNet-50") else []) for name in HEALTHY]


@pytest.mark.parametrize("name", LARGE)
def test_no_layer_of_a_healthy_network_is_refused(name: str) -> None:
    """Keras networks pad in layers of their own, which moves small planes by themselves."""
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    make, size = HEALTHY[name]
    net = make()
    model: Any = TorchModel(net.eval(), IMAGE) if isinstance(net, nn.Module) else KerasModel(net, IMAGE)
    for images in (photograph, noise):
        layers = Question(model, (images(size),), Target.classes([1], 2)).layers
        layers._measured(next(iter(layers.layers.shapes)))
        verdicts = [place.verdict for place in layers.layers.placed["image"].values()]
        assert "wrong" not in verdicts
        assert "right" in verdicts
        layers.layers.measured.clear()
