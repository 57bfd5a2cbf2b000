"""Small transformers with the same random weights in PyTorch and in Keras, and a third time as plain formulas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from crossxai import Modality, Question, Target, porting
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.attention import AttentionMap, Streams, Tokens
from crossxai.model import Array
from networks import toys

WIDTH = 16
VIT = Streams({"image": Tokens((4, 4), prefix=1)}, readout=("image", 0))
TABLE = Modality.table(("age", "dose", "size"))
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
BOTH = Streams({"image": Tokens((4, 4)), "table": Tokens((3,), prefix=1)}, readout=("table", 0))
COLUMNS = Streams({"table": Tokens((3,), prefix=1)}, readout=("table", 0))
JOINED = Streams({"table": Tokens((3,), prefix=1), "image": Tokens((4, 4))}, readout=("table", 0), joined=True)


def randomise(net: Any, dtype: str, seed: int = 0) -> Any:
    """Random weights, large enough for attention far from uniform; norms stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            norm = ("ln" in name or "norm" in name) and name.endswith("weight")
            p.copy_(1 + 0.1 * noise if norm else 0.25 * noise)
    return net.to(getattr(torch, dtype)).eval()


def vit(dtype: str = "float32", layers: int = 2, heads: int = 2) -> Any:
    """torchvision's ViT on 32 × 32 pixels, 4 × 4 patches and a class token, 3 classes."""
    return randomise(VisionTransformer(32, 8, layers, heads, WIDTH, 32, num_classes=3), dtype)


def coloured(n: int, seed: int) -> tuple[Array, np.ndarray]:
    """Dim smooth images, somewhere in each a square of one colour, red, green or blue, which is its class."""
    rng = np.random.default_rng(seed)
    images, labels = 0.5 * toys.images(n, seed), rng.integers(0, 3, n)
    for image, label, (y, x) in zip(images, labels, rng.integers(0, 25, (n, 2)), strict=True):
        image[y : y + 8, x : x + 8, label] = 1
    return images, labels


def trained_vit(steps: int = 60) -> Any:
    """A `vit` that tells the colours of `coloured` apart."""
    net = vit()
    images, labels = coloured(512, seed=0)
    inputs, classes = torch.from_numpy(standardised(images)), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        rows = slice(64 * (step % 8), 64 * (step % 8 + 1))
        optimiser.zero_grad()
        F.cross_entropy(net(inputs[rows]), classes[rows]).backward()
        optimiser.step()
    return net.requires_grad_(True)


def timm_vit(net: Any) -> Any:
    """timm's ViT with the weights of a `vit`."""
    import timm

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "mlp_ratio": 2, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes)
    names = {
        "class_token": "cls_token", "encoder.pos_embedding": "pos_embed", "conv_proj": "patch_embed.proj", "heads.head": "head",
        "encoder.ln.": "norm.", "encoder.layers.encoder_layer_": "blocks.", "ln_": "norm", "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj", "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2",
    }  # fmt: skip
    weights = {}
    for name, value in net.state_dict().items():
        for one, other in names.items():
            name = name.replace(one, other)
        weights[name] = value
    model.load_state_dict(weights)
    return model.eval()


def standardised(images: Array) -> Array:
    """What an adapter that standardises makes of images, channels first."""
    return ((images - np.float32(toys.MEAN)) / np.float32(toys.SD)).astype(np.float32).transpose(0, 3, 1, 2).copy()


def plain_vit(net: Any, x: Tensor, deltas: dict[int, Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
    """The same network written out: (outputs, probabilities by layer); deltas are added to the probabilities of a layer."""
    n, found = len(x), []
    patches = F.conv2d(x, net.conv_proj.weight, net.conv_proj.bias, stride=8).flatten(2).transpose(1, 2)
    h = torch.cat([net.class_token.expand(n, -1, -1), patches], dim=1) + net.encoder.pos_embedding
    for i, block in enumerate(net.encoder.layers):
        a = block.self_attention
        y = block.ln_1(h)
        q, k, v = (
            torch.einsum("nte,hde->nhtd", y, w.view(a.num_heads, -1, WIDTH)) + b.view(a.num_heads, 1, -1)
            for w, b in zip(a.in_proj_weight.chunk(3), a.in_proj_bias.chunk(3), strict=True)
        )
        logits = torch.einsum("nhqd,nhkd->nhqk", q, k) * q.shape[-1] ** -0.5
        probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
        found.append(probabilities)
        if deltas and i in deltas:
            probabilities = probabilities + deltas[i]
        mixed = torch.einsum("nhqk,nhkd->nqhd", probabilities, v).reshape(n, -1, WIDTH)
        h = h + mixed @ a.out_proj.weight.T + a.out_proj.bias
        h = h + block.mlp[3](F.gelu(block.mlp[0](block.ln_2(h))))
    return net.heads(net.encoder.ln(h)[:, 0]), found


class Start(keras.layers.Layer):
    """A class token before the others, and an embedding of positions."""

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.positions = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="positions")

    def call(self, x: Any) -> Any:
        token = tf.repeat(tf.convert_to_tensor(self.token), tf.shape(x)[0], axis=0)
        return tf.concat([token, x], axis=1) + self.positions


def attention_weights(a: nn.MultiheadAttention) -> list[np.ndarray]:
    """The weights of torch's attention in Keras's order and shapes.

    Keras rounds 1 / sqrt(size) to float32 even in float64; the query's weights make up for it.
    """
    heads, found, exact = a.num_heads, [], (WIDTH // a.num_heads) ** -0.5
    scales = (exact / float(np.float32(exact)), 1.0, 1.0)
    for w, b, scale in zip(a.in_proj_weight.detach().chunk(3), a.in_proj_bias.detach().chunk(3), scales, strict=True):
        found += [scale * w.T.reshape(WIDTH, heads, -1).numpy(), scale * b.reshape(heads, -1).numpy()]
    out = a.out_proj
    return [*found, out.weight.detach().T.reshape(heads, -1, WIDTH).numpy(), out.bias.detach().numpy()]


def dense_weights(layer: Any) -> list[np.ndarray]:
    weight = layer.weight.detach().numpy()
    return [weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0), layer.bias.detach().numpy()]


def norm_weights(layer: Any) -> list[np.ndarray]:
    return [layer.weight.detach().numpy(), layer.bias.detach().numpy()]


def gelu(x: Any) -> Any:
    """TensorFlow's own rounds sqrt(2) to float32 even in float64."""
    return 0.5 * x * (1.0 + tf.math.erf(x / np.sqrt(2)))


class Twin:
    """Applies Keras layers and sets their weights to those of torch's counterparts."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __call__(self, layer: Any, weights: list[np.ndarray], *inputs: Any) -> Any:
        output = layer(*inputs)
        layer.set_weights(weights)
        return output

    def norm(self, source: Any, x: Any) -> Any:
        layer = keras.layers.LayerNormalization(epsilon=source.eps, dtype=self.dtype)
        return self(layer, norm_weights(source), x)

    def dense(self, source: Any, x: Any, activation: Any = None) -> Any:
        layer = keras.layers.Dense(source.out_features, activation=activation, dtype=self.dtype)
        return self(layer, dense_weights(source), x)

    def patches(self, source: Any, x: Any) -> Any:
        layer = keras.layers.Conv2D(WIDTH, 8, strides=8, dtype=self.dtype)
        return keras.layers.Reshape((16, WIDTH), dtype=self.dtype)(self(layer, dense_weights(source), x))

    def attention(self, source: Any, query: Any, value: Any, **options: Any) -> Any:
        layer = keras.layers.MultiHeadAttention(source.num_heads, source.head_dim, dtype=self.dtype, **options)
        return self(layer, attention_weights(source), query, value)


def keras_vit(net: Any, dtype: str = "float32", **options: Any) -> Any:
    """The Keras twin of a `vit`."""
    twin = Twin(dtype)
    start = keras.Input((32, 32, 3), dtype=dtype)
    tokens = [net.class_token.detach().numpy(), net.encoder.pos_embedding.detach().numpy()]
    h = twin(Start(dtype=dtype), tokens, twin.patches(net.conv_proj, start))
    for block in net.encoder.layers:
        y = twin.norm(block.ln_1, h)
        h = h + twin.attention(block.self_attention, y, y, **options)
        y = twin.dense(block.mlp[0], twin.norm(block.ln_2, h), gelu)
        h = h + twin.dense(block.mlp[3], y)
    h = twin.norm(net.encoder.ln, h)[:, 0]
    return keras.Model(start, twin.dense(net.heads.head, h))


class Columns(nn.Module):
    """Each column of a table as a token, its value times a vector, behind a class token."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(features, WIDTH))
        self.shift = nn.Parameter(torch.zeros(features, WIDTH))
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(len(x), -1, -1), x[..., None] * self.scale + self.shift], dim=1)


class KerasColumns(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1], WIDTH), name="scale")
        self.shift = self.add_weight(shape=(shape[-1], WIDTH), name="shift")
        self.token = self.add_weight(shape=(1, 1, WIDTH), name="token")

    def call(self, x: Any) -> Any:
        token = tf.repeat(tf.convert_to_tensor(self.token), tf.shape(x)[0], axis=0)
        return tf.concat([token, x[..., None] * self.scale + self.shift], axis=1)


class Crossed(nn.Module):
    """Image and table tokens: self-attention in each, cross-attention both ways, then in the table; read at its token 0.

    meet: whether the table's stream attends to the image at all.
    """

    def __init__(self, meet: bool = True) -> None:
        super().__init__()
        self.meet = meet
        self.conv = nn.Conv2d(3, WIDTH, 8, 8)
        self.columns = Columns(3)
        self.image_self, self.table_self, self.to_image, self.to_table, self.last = (
            nn.MultiheadAttention(WIDTH, 2, batch_first=True) for _ in range(5)
        )
        self.image_norm, self.table_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        i, t = self.conv(image).flatten(2).transpose(1, 2), self.columns(table)
        i = self.image_norm(i + self.image_self(i, i, i)[0])
        t = self.table_norm(t + self.table_self(t, t, t, need_weights=False)[0])
        for _ in range(2):  # the same weights twice: a layer that runs more than once
            if self.meet:
                t = t + self.to_image(t, i, i, need_weights=False)[0]
            i = i + self.to_table(i, t, t, need_weights=False)[0]
        return self.head((t + self.last(t, t, t)[0])[:, 0])


def keras_crossed(net: Crossed, dtype: str) -> Any:
    """The Keras twin of `Crossed`."""
    twin = Twin(dtype)
    image, table = keras.Input((32, 32, 3), dtype=dtype), keras.Input((3,), dtype=dtype)
    i = twin.patches(net.conv, image)
    t = twin(KerasColumns(dtype=dtype), [p.detach().numpy() for p in net.columns.parameters()][:3], table)
    i = twin.norm(net.image_norm, i + twin.attention(net.image_self, i, i))
    t = twin.norm(net.table_norm, t + twin.attention(net.table_self, t, t))
    to_image, to_table = (keras.layers.MultiHeadAttention(2, 8, dtype=dtype) for _ in range(2))
    for _ in range(2):
        if net.meet:
            t = t + twin(to_image, attention_weights(net.to_image), t, i)
        i = i + twin(to_table, attention_weights(net.to_table), i, t)
    t = t + twin.attention(net.last, t, t)
    return keras.Model([image, table], twin.dense(net.head, t[:, 0]))


def vits(dtype: str = "float32", net: Any = None) -> dict[str, Any]:
    """The same ViT on both frameworks, of random weights unless one is given."""
    net = net or vit(dtype)
    return {
        "torch": TorchModel(net, (toys.IMAGE,), standardise=toys.STANDARDISE, streams=VIT),
        "keras": KerasModel(keras_vit(net, dtype), (toys.IMAGE,), standardise=toys.STANDARDISE, streams=VIT),
    }


def ported(net: Any) -> dict[str, Any]:
    """A ViT of PyTorch, and the twin that CrossXAI builds of it in Keras."""
    model = TorchModel(net, (toys.IMAGE,), standardise=toys.STANDARDISE, streams=VIT)
    network = porting.twin(model, (toys.images(),), "keras").module
    return {"torch": model, "keras": KerasModel(network, (toys.IMAGE,), streams=VIT)}


def crossed(dtype: str = "float32", meet: bool = True, streams: Streams | None = BOTH) -> dict[str, Any]:
    """The same image + table model on both frameworks."""
    net = randomise(Crossed(meet), dtype)
    modalities = (toys.IMAGE, TABLE)
    return {
        "torch": TorchModel(net, modalities, streams=streams),
        "keras": KerasModel(keras_crossed(net, dtype), modalities, streams=streams),
    }


def ask(model: Any, dtype: str = "float32", n: int = 3, **options: Any) -> Question:
    """Explain class i % 3 of sample i."""
    table = np.random.default_rng(1).normal(size=(n, 3)).astype(dtype)
    inputs = (toys.images(n, dtype=dtype), table)[: len(model.modalities)]
    return Question(model, inputs, Target.classes(np.arange(n) % 3, 3), **options)


def about(model: Any, x: Array) -> Question:
    """Explain class i % 3 of image i."""
    return Question(model, (x,), Target.classes(np.arange(len(x)) % 3, 3))


def same(found: Array, expected: Array, dtype: str) -> None:
    """Equal relative to the largest entry: gradients and relevance have any scale."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(1e-30, np.abs(expected).max()))


def spread(explainer: Any, maps: list[AttentionMap], streams: Streams) -> Array:
    """What an explainer collects from given maps."""
    return explainer.spread(maps, streams)
