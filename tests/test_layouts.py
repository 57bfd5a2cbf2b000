"""Activation maps on networks that others made, whose layers hold (y, x, channel) or tokens: pytorch-grad-cam is the referee.

Its maps come with the `reshape_transform` that its documentation gives for such networks; ours are told or measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import timm
import torch
import transformers
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import spearmanr
from skimage import data, transform
from torch import nn
from torchvision import models

from crossxai import InvalidInput, Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.assumptions import layout
from crossxai.attention import Streams, Tokens
from crossxai.explainers import get
from crossxai.porting import twin

IMAGE = (Modality.image(),)


def photographs(size: int, n: int = 2) -> Any:
    """Real photographs (n, size, size, 3) in [0, 1]."""
    pictures = (data.astronaut(), data.chelsea()[:, :300], data.coffee()[:, :400])[:n]
    return np.stack([transform.resize(p, (size, size)) for p in pictures]).astype(np.float32)


class Logits(nn.Module):
    """What pytorch-grad-cam can ask of a Hugging Face model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x).logits


def hugging_face(kind: str) -> nn.Module:
    small = {"image_size": 64, "num_labels": 5}
    if kind == "vit":
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "patch_size": 8,
        }
        return transformers.ViTForImageClassification(transformers.ViTConfig(**small, **sizes))
    sizes = {"patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    return transformers.SwinForImageClassification(transformers.SwinConfig(**small, **sizes))


def torchvision_vit() -> nn.Module:
    net = models.VisionTransformer(64, 8, 3, 4, 32, 64, num_classes=5)
    nn.init.normal_(net.heads[-1].weight)  # type: ignore[arg-type]  # zero as it is made: nothing would depend on the image
    return net


def tokens(prefix: int) -> Callable[[Any], Any]:
    def reshape(t: Any) -> Any:
        side = round((t.shape[1] - prefix) ** 0.5)
        return t[:, prefix:].reshape(len(t), side, side, -1).permute(0, 3, 1, 2)

    return reshape


def last(t: Any) -> Any:
    return t.permute(0, 3, 1, 2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[Any], Any]]] = {
    "torchvision ViT": (torchvision_vit, "encoder.layers.encoder_layer_2.ln_1", tokens(1)),
    "torchvision Swin": (
        lambda: models.SwinTransformer([2, 2], 24, [2, 2], [2, 4], [4, 4], num_classes=5),
        "features.3.1.norm1",
        last,
    ),
    "torchvision ConvNeXt": (lambda: models.convnext_tiny(num_classes=5), "features.7.2", lambda t: t),
    "timm ViT": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5),
        "blocks.2.norm1",
        tokens(1),
    ),
    "timm DeiT": (
        lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=3, num_classes=5),
        "blocks.2.norm1",
        tokens(2),
    ),
    "timm Swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=64,
            window_size=4,
            depths=(1, 1),
            num_heads=(2, 4),
            embed_dim=24,
            num_classes=5,
        ),
        "layers.1.blocks.0.norm1",
        last,
    ),
    "timm ConvNeXt": (lambda: timm.create_model("convnext_atto", num_classes=5), "stages.3.blocks.0", lambda t: t),
    "Hugging Face ViT": (lambda: hugging_face("vit"), "vit.layers.2.layernorm_before", tokens(1)),
    "Hugging Face Swin": (lambda: hugging_face("swin"), "swin.encoder.layers.1.blocks.1.layernorm_before", tokens(0)),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, str, Callable[[Any], Any]]:
    make, layer, reshape = NETWORKS[request.param]
    torch.manual_seed(0)
    net = make().eval()
    for name, parameter in net.named_parameters():  # random weights attend nearly evenly, and maps would be flat
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data *= 3
    return net, layer, reshape


def referee(net: nn.Module, layer: str, reshape: Callable[[Any], Any], x: Any) -> Any:
    asked = Logits(net) if net.__module__.startswith("transformers") else net
    cam = GradCAM(asked, [net.get_submodule(layer)], reshape_transform=reshape)
    return cam(torch.tensor(np.moveaxis(x, -1, 1).copy()), [ClassifierOutputTarget(c) for c in (1, 3)])


def test_grad_cam_is_pytorch_grad_cam_s(network: tuple[nn.Module, str, Callable[[Any], Any]]) -> None:
    """At the same layer; and by default at a layer whose map the referee confirms too."""
    net, layer, reshape = network
    names = [name for name, _ in net.named_modules()]
    assert layer in names, [n for n in names if "norm" in n][-6:]
    x = photographs(64)
    question = Question(TorchModel(net, IMAGE), (x,), Target.classes([1, 3], 5))
    truth = referee(net, layer, reshape, x)
    for explainer in ("gradcam.gradcam", "reference.gradcam", "xplique.gradcam"):
        answer = get(explainer, layer=layer, profile="canonical")(question)
        for ours, theirs in zip(answer.of("image")[..., 0], truth, strict=True):
            assert theirs.max() == 0 or spearmanr(ours.ravel(), theirs.ravel()).statistic >= 0.99, explainer
        assert any(f"drawn at layer {layer!r}" in note for note in answer.notes)
    chosen = question.cam_layer()
    assert chosen not in ("patch_embed", "conv_proj")
    default = get("gradcam.gradcam")(question).of("image")[..., 0]
    if "norm" in chosen or "ln_" in chosen or chosen == layer:
        hooked = referee(net, chosen, reshape, x)
        for ours, theirs in zip(default, hooked, strict=True):
            assert theirs.max() == 0 or spearmanr(ours.ravel(), theirs.ravel()).statistic >= 0.99


class Per(nn.Module):
    """Attention matrices and per-head values as layers of their own; `axes` is how the last layer's places lie."""

    def __init__(self, flipped: bool = False) -> None:
        super().__init__()
        self.patch, self.values, self.weights = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Identity()
        self.stream, self.head, self.flipped = nn.Identity(), nn.Linear(8, 2), flipped

    def forward(self, x: Any) -> Any:
        t = self.patch(x)
        if self.flipped:
            t = t.flip(3)
        t = t.flatten(2).transpose(1, 2)
        heads = self.values(t.reshape(len(t), 16, 2, 4).transpose(1, 2))
        attention = self.weights((heads @ heads.transpose(-2, -1)).softmax(-1))
        return self.head(self.stream(t + (attention @ heads).transpose(1, 2).reshape(len(t), 16, 8)).mean(1))


def asked(net: nn.Module, **options: Any) -> Question:
    return Question(TorchModel(net.eval(), IMAGE, **options), (photographs(16),), Target.classes([0, 1], 2))


def test_attention_matrices_and_values_of_heads_are_no_images() -> None:
    torch.manual_seed(0)
    question = asked(Per())
    for layer in ("values", "weights"):
        with pytest.raises(Unsupported, match="what its axes mean is neither told by the layer nor measurable"):
            get("gradcam.gradcam", layer=layer)(question)
    assert question.cam_layer() == "stream"
    assert question.layers.size("stream") == (4, 4, 8)


def test_places_in_another_order_are_no_grid() -> None:
    """A network that mirrors its image holds tokens that a grid in raster order would paint in the wrong place."""
    torch.manual_seed(0)
    with pytest.raises(Unsupported, match="declare it at the adapter"):
        get("gradcam.gradcam", layer="stream")(asked(Per(flipped=True)))


def test_what_is_declared_counts() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.turned, self.head = nn.Conv2d(3, 4, 4, 4), nn.Identity(), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.turned(self.conv(x).permute(0, 3, 2, 1)).mean((1, 2)))

    torch.manual_seed(0)
    net = Transposed()
    measured = get("reference.gradcam", layer="turned")(asked(net))
    declared = get("reference.gradcam", layer="turned")(asked(net, layer_axes={"turned": ("x", "y", "channel")}))
    np.testing.assert_array_equal(measured.of("image"), declared.of("image"))
    assert any("axes (x, y, channel), declared" in note for note in declared.notes)
    with pytest.raises(InvalidInput, match="write one name per axis"):
        get("gradcam.gradcam", layer="turned")(asked(net, layer_axes={"turned": ("y", "channel")}))
    streams = Streams({"image": Tokens(grid=(4, 4))}, readout=("image", None))
    torch.manual_seed(0)
    assert "declared" in get("gradcam.gradcam", layer="stream")(asked(Per(), streams=streams)).notes[0]


def test_measuring_costs_seventeen_passes_once() -> None:
    torch.manual_seed(0)
    seen: list[int] = []
    net = Per()
    net.patch.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    question = asked(net)
    question.trusted(gradients=True)
    seen.clear()
    first = question.layers
    first.layout("stream")
    assert sum(seen) <= 1 + 17
    seen.clear()
    asked_again = Question(question.model, question.inputs, question.target)
    asked_again.layers.layout("stream")
    assert not seen


def test_layouts_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for axes, tokens_, shape in (
        (("channel", "y", "x"), None, (5, 2, 3)),
        (("y", "x", "channel"), None, (2, 3, 5)),
        (("token", "channel"), Tokens((2, 3), 1), (7, 5)),
        (("channel", "token"), Tokens((2, 3), 0), (5, 6)),
    ):
        how = layout.Layout(axes, tokens_)
        activation = rng.normal(size=(4, *shape))
        space = how.space(activation)
        assert space.shape == (4, 2, 3, 5)
        assert how.size(shape) == (2, 3, 5)
        np.testing.assert_array_equal(how.restored(space, activation), activation)


def test_the_default_is_no_projection_with_its_norm() -> None:
    """LeViT's queries are a linear layer and a batch norm, in a module of its own kind."""
    torch.manual_seed(0)
    net = timm.create_model("levit_128s", num_classes=2)
    for name, parameter in net.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data *= 2
    x = np.random.default_rng(0).random((1, 224, 224, 3)).astype(np.float32)
    question = Question(TorchModel(net.eval(), IMAGE), (x,), Target.classes([1], 2))
    chosen = question.cam_layer()
    assert ".attn" not in chosen, chosen


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_convolution_that_runs_twice_says_what_to_write(framework: str) -> None:
    """And a network with what it says answers at that layer; its twins give the same map."""
    for identity in (False, True):
        model = shared_torch(identity) if framework == "torch" else shared_keras(identity)
        question = Question(model, (photographs(16),), Target.classes([0, 1], 2))
        if identity:
            assert question.cam_layer() == "out"
            for other in (
                KerasModel(twin(model, question.inputs, "keras").module, IMAGE),
                TorchModel(twin(model, question.inputs, "torch").module, IMAGE),
            ):
                again = Question(other, question.inputs, question.target)
                assert again.cam_layer() == "out"
                maps = [get("reference.gradcam")(q).of("image") for q in (question, again)]
                np.testing.assert_allclose(*maps, atol=1e-5)
        else:
            with pytest.raises(Unsupported, match=r"conv.* run more than once .*Identity"):
                question.cam_layer()


def shared_torch(identity: bool) -> Any:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Identity(), nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            h = self.conv(torch.relu(self.conv(x)))
            return self.head((self.out(h) if identity else h).mean((2, 3)))

    torch.manual_seed(0)
    return TorchModel(Twice().eval(), IMAGE)


def shared_keras(identity: bool) -> Any:
    keras.utils.set_random_seed(0)
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    given = keras.Input((16, 16, 3))
    h = conv(keras.ops.relu(conv(given)))
    h = keras.layers.Identity(name="out")(h) if identity else h
    return KerasModel(keras.Model(given, keras.layers.Dense(2)(keras.ops.mean(h, axis=(1, 2)))), IMAGE)
