"""Attention of networks that others made, against their own attention matrices: timm, Hugging Face, torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from networks import attentive, toys
from networks.attentive import ask
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer
from transformers import SwinConfig, SwinForImageClassification, ViTConfig, ViTForImageClassification

from crossxai import Unsupported
from crossxai.adapters.torch import TorchModel
from crossxai.attention import Streams, Tokens
from crossxai.errors import BrokenAssumption
from crossxai.explainers import get
from crossxai.explainers.families import bilinear
from crossxai.model import Array

METHODS = ("attention.rollout", "attention.relevance")


def random_weights(net: nn.Module) -> Any:
    """Weights large enough for attention far from uniform; only the scales of norms stay."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1 or name.endswith("bias") or "gamma" in name:
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return net.eval()


def timm_vit(name: str = "vit_tiny_patch16_224", fused: bool = True, **options: Any) -> Any:
    sizes = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 3}
    net = timm.create_model(name, pretrained=False, **{**sizes, **options})
    for block in net.blocks:
        block.attn.fused_attn = fused
    return random_weights(net)


def huggingface_vit(implementation: str) -> Any:
    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        num_labels=3,
    )  # fmt: skip
    config._attn_implementation = implementation
    return random_weights(ViTForImageClassification(config))


def huggingface_swin(implementation: str) -> Any:
    config = SwinConfig(image_size=32, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=3)
    config._attn_implementation = implementation
    return random_weights(SwinForImageClassification(config))


def timm_swin() -> Any:
    name, sizes = "swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 4, "embed_dim": 8, "num_classes": 3}
    return random_weights(timm.create_model(name, pretrained=False, depths=(2, 2), num_heads=(2, 2), **sizes))


def torchvision_swin() -> Any:
    return random_weights(SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=3))


def question(net: Any, prefix: int = 1, readout: Any = 0, grid: tuple[int, int] = (4, 4), n: int = 3) -> Any:
    streams = Streams({"image": Tokens(grid, prefix)}, ("image", readout))
    return ask(TorchModel(net, (toys.IMAGE,), streams=streams), n=n)


def drawn(rows: Tensor, prefix: int) -> Array:
    """Tokens (n, all) as maps (n, 32, 32, 1)."""
    tokens = rows[:, prefix:].detach().numpy()
    return bilinear(tokens.reshape(len(tokens), 4, 4), 32, 32)[..., None]


def reference(outputs: Tensor, attention: list[Tensor], prefix: int, read: list[int]) -> dict[str, Array]:
    """Rollout and relevance, written out, from a network's own matrices (n, heads, tokens, tokens)."""
    n, count = len(outputs), attention[0].shape[-1]
    rollout = relevance = torch.eye(count).repeat(n, 1, 1)
    gradients = torch.autograd.grad(outputs[torch.arange(n), torch.arange(n) % 3].sum(), attention)
    for a, g in zip(attention, gradients, strict=True):
        rollout = (a.mean(dim=1) + torch.eye(count)) / 2 @ rollout
        relevance = relevance + (a * g).clamp(min=0).mean(dim=1) @ relevance
    maps = {"attention.rollout": rollout, "attention.relevance": relevance}
    return {name: drawn(rows[:, read].mean(dim=1), prefix) for name, rows in maps.items()}


def check(asked: Any, expected: dict[str, Array], layers: list[str]) -> None:
    assert [m.layer for m in asked.attention_score(gradients=True)[1]] == layers
    for name, values in expected.items():
        answer = get(name)(asked).values[0]
        np.testing.assert_allclose(answer, values, rtol=0, atol=1e-5 * np.abs(values).max())
        assert np.ptp(answer) > 1e-3 * np.abs(values).max()


def image(asked: Any) -> Tensor:
    return torch.tensor(asked.inputs[0]).movedim(-1, 1)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_hugging_face(implementation: str) -> None:
    asked = question(huggingface_vit(implementation))
    own = huggingface_vit("eager")(image(asked), output_attentions=True)
    expected = reference(own.logits, list(own.attentions), 1, [0])
    check(asked, expected, ["vit.layers.0.attention", "vit.layers.1.attention"])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("name", "options", "prefix", "read"),
    [
        ("vit_tiny_patch16_224", {}, 1, [0]),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}, 0, list(range(16))),
        ("deit_tiny_distilled_patch16_224", {}, 2, [0, 1]),
        ("vit_base_patch14_reg4_dinov2", {}, 5, [0]),
        ("vit_small_patch16_dinov3", {}, 5, list(range(5, 21))),
    ],
)
def test_timm(name: str, options: dict[str, Any], prefix: int, read: list[int], fused: bool) -> None:
    asked = question(timm_vit(name, fused, **options), prefix, tuple(read))
    own, attention = timm_vit(name, fused=False, **options), []
    for block in own.blocks:  # what dropout gives, in evaluation mode, is what mixes the values
        block.attn.attn_drop.register_forward_hook(lambda _module, _args, output: attention.append(output))
    outputs = own(image(asked))
    check(asked, reference(outputs, attention, prefix, read), ["blocks.0.attn", "blocks.1.attn"])


def test_torchvision() -> None:
    asked = question(attentive.vit())
    attention = []
    own = attentive.vit()

    def weights(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> Any:
        return _args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    for block in own.encoder.layers:
        block.self_attention.register_forward_pre_hook(weights, with_kwargs=True)
        block.self_attention.register_forward_hook(lambda _module, _args, output: attention.append(output[1]))
    outputs = own(image(asked))
    rollout = torch.eye(17).repeat(3, 1, 1)
    for a in attention:
        rollout = (a.mean(dim=1) + torch.eye(17)) / 2 @ rollout
    assert outputs.shape == (3, 3)
    layers = [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(2)]
    check(asked, {"attention.rollout": drawn(rollout[:, 0], 1)}, layers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "net", [timm_swin, torchvision_swin, lambda: huggingface_swin("sdpa"), lambda: huggingface_swin("eager")]
)
def test_windows_are_refused(net: Any, method: str) -> None:
    for n in (1, 3):
        with pytest.raises(Unsupported, match=r"has attention of shape \(4, 2, 16, 16\), not \(1, heads, .*windows"):
            get(method)(question(net(), 0, None, (2, 2), n))


@pytest.mark.parametrize(
    ("name", "options", "prefix", "readout", "measured"),
    [
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, 1, 0, "tokens 1 … 16"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, 1, None, "tokens 1 … 16"),
        ("vit_tiny_patch16_224", {}, 1, None, "token 0"),
        ("deit_tiny_distilled_patch16_224", {}, 2, 0, "tokens 0, 1"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_readout_is_told(
    name: str, options: dict[str, Any], prefix: int, readout: Any, measured: str, method: str
) -> None:
    asked = question(timm_vit(name, **options), prefix, readout)
    with pytest.raises(BrokenAssumption, match=rf"layer 'blocks.1.attn', it depends on {measured}: write"):
        get(method)(asked)


@pytest.mark.parametrize(
    ("name", "options", "shape", "tokens"),
    [
        ("vit_tiny_patch16_224", {}, (32, 32), Tokens((4, 4), 1)),
        ("vit_tiny_patch16_224", {"img_size": (32, 64)}, (32, 64), Tokens((4, 8), 1)),
        ("vit_tiny_patch16_224", {"img_size": 56}, (56, 56), Tokens((7, 7), 1)),
        ("vit_tiny_patch16_224", {"img_size": 16}, (16, 16), Tokens((2, 2), 1)),
        ("vit_base_patch14_reg4_dinov2", {}, (32, 32), Tokens((4, 4), 5)),
    ],
)
def test_tokens_are_measured_where_they_are_not_declared(
    name: str, options: dict[str, Any], shape: tuple[int, int], tokens: Tokens
) -> None:
    net = timm_vit(name, **options)
    x = np.random.default_rng(0).random((2, *shape, 3)).astype(np.float32)
    for method in METHODS:
        answers = []
        for streams in (None, Streams({"image": tokens}, ("image", 0))):
            model = TorchModel(net, (toys.IMAGE,), streams=streams)
            answers.append(get(method)(attentive.about(model, x)))
        np.testing.assert_array_equal(*(answer.values[0] for answer in answers))
        grid = " × ".join(map(str, tokens.grid))
        for answer, how in zip(answers, ("measured", "declared"), strict=True):
            assert answer.notes[0] == (
                f"attention of 2 layers, blocks.0.attn to blocks.1.attn; tokens of image: {grid} after {tokens.prefix} without "
                f"a place; read at token 0; {how}"
            )


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: timm_vit("deit_tiny_distilled_patch16_224"), r"prefix=2\)}, readout=\('image', \(0, 1\)\)\)"),
        (lambda: timm_vit(global_pool="avg"), r"readout=\('image', tuple\(range\(1, 17\)\)\)\)"),
        (lambda: Shuffled().eval(), "its tokens are no grid of patches in raster order, as far as can be measured"),
    ],
)
def test_tokens_that_cannot_be_measured(net: Any, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        get("attention.rollout")(ask(TorchModel(net(), (toys.IMAGE,))))


class Shuffled(nn.Module):
    """A transformer that takes its patches in another order than raster's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = timm_vit()
        self.net.patch_embed.norm = _Permutation()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Permutation(nn.Module):
    def forward(self, patches: Tensor) -> Tensor:
        return patches[:, torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))]


def test_larger_images() -> None:
    net = random_weights(VisionTransformer(64, 8, 2, 2, 16, 32, num_classes=3))
    x = np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
    model = TorchModel(net, (toys.IMAGE,), streams=Streams({"image": Tokens((8, 8), 1)}, ("image", 0)))
    for method in METHODS:
        answer = get(method)(attentive.about(model, x))
        assert answer.values[0].shape == (2, 64, 64, 1)
        assert (answer.degenerate() == "").all()
