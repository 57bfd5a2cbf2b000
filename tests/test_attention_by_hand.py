"""Attention that modules write out by hand: read as fused attention is, or refused; never missed without a word."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from keras import ops
from networks import attentive, toys
from networks.attentive import COLUMNS, TABLE, VIT, WIDTH, ask
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

from crossxai import Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import BrokenAssumption
from crossxai.explainers import get

HEADS, SIZE = 2, 8
METHODS = ("attention.rollout", "attention.relevance")


def split(x: Tensor) -> Tensor:
    """(n, heads, tokens, size)"""
    return x.unflatten(-1, (HEADS, SIZE)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(split(q) @ split(k).mT / SIZE**0.5, dim=-1)


def merged(x: Tensor, heads_first: bool = False) -> Tensor:
    """Heads merged with samples: (n · heads, tokens, size), or (heads · n, tokens, size)."""
    return (split(x).transpose(0, 1) if heads_first else split(x)).flatten(0, 1)


def by_bmm(q: Tensor, k: Tensor, v: Tensor, heads_first: bool = False) -> Tensor:
    q, k, values = (merged(t, heads_first) for t in (q, k, v))
    mixed = torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)) / SIZE**0.5, dim=-1), values)
    if heads_first:
        return joined(mixed.unflatten(0, (HEADS, -1)).transpose(0, 1))
    return joined(mixed.unflatten(0, (-1, HEADS)))


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(samples, queries, heads, keys)"""
    q, k, v = (t.unflatten(-1, (HEADS, SIZE)) for t in (q, k, v))
    a = (torch.einsum("bqhd,bkhd->bqhk", q, k) * SIZE**-0.5).softmax(-1)
    return torch.einsum("... q h k, ... k h d -> ... q h d", a, v).flatten(2)


def transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(…, keys, queries), as in attention for convolutional networks."""
    a = (split(k) @ split(q).mT / SIZE**0.5).softmax(dim=-2)
    return joined((split(v).mT @ a).mT)


def side_by_side(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(torch.matmul(split(v).mT, weights(q, k).permute(0, 1, 3, 2)).mT)


def viewed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = F.dropout(weights(q, k), 0.5, training=False).view(-1, q.shape[1], q.shape[1])
    return joined((a @ merged(v)).unflatten(0, (-1, HEADS)))


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = F.softmax(split(q) @ split(k).mT / SIZE**0.5, dim=-1, dtype=torch.float64).to(q.dtype)
    return joined(a.clone().contiguous() @ split(v))


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(F.scaled_dot_product_attention(split(q), split(k)[:, :1], split(v)[:, :1], enable_gqa=True))


def grouped_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = torch.softmax(split(q) @ split(k)[:, :1].mT / SIZE**0.5, dim=-1)
    return joined(a @ split(v)[:, :1])


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=True, scale=0.7))


def masked_by_numbers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.full((q.shape[1], q.shape[1]), -torch.inf).triu(1)
    return joined(F.scaled_dot_product_attention(split(q), split(k), split(v), mask, scale=0.7))


def masked_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shown = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    logits = torch.matmul(split(q), split(k).transpose(-1, -2)).mul(0.7)
    return joined(logits.masked_fill(~shown, -torch.inf).softmax(-1).matmul(split(v)))


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(F.scaled_dot_product_attention(split(q), split(k), split(v)))


class Block(nn.Module):
    """x + attention; weights is how softmax(query · key) · value is written."""

    def __init__(self, attend: Any) -> None:
        super().__init__()
        self.attend, self.norm = attend, nn.LayerNorm(WIDTH)
        self.into, self.out, self.heads = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(HEADS, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(self.norm(x)).chunk(3, dim=-1)
        own = {"block": self} if self.attend in (talking_before, talking_after) else {}
        return x + self.out(self.attend(q, k, v, **own))


class Net(nn.Module):
    """4 × 4 patches and a class token through two blocks, the first one fused."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, WIDTH, 8, 8), nn.Sequential(Block(first), Block(second))
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, 17, WIDTH))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.blocks(x)[:, 0])


def asked(second: Any, first: Any = fused, n: int = 3, net: Any = None, check: str = "on") -> Any:
    net = attentive.randomise(Net(first, second), "float32") if net is None else net
    return ask(TorchModel(net, (toys.IMAGE,), streams=VIT), n=n, check=check)


@pytest.mark.parametrize("n", [1, 2, 3])  # two: as many as there are heads
@pytest.mark.parametrize(
    ("by_hand", "same"),
    [
        (by_bmm, fused),
        (lambda q, k, v: by_bmm(q, k, v, heads_first=True), fused),
        (by_einsum, fused),
        (transposed, fused),
        (side_by_side, fused),
        (viewed, fused),
        (exact, fused),
        (grouped_by_hand, grouped),
        (masked_by_hand, masked),
        (masked_by_hand, masked_by_numbers),
    ],
)
def test_attention_by_hand_is_read(by_hand: Any, same: Any, n: int) -> None:
    mine, fast = asked(by_hand, n=n), asked(same, n=n)
    np.testing.assert_allclose(mine.score(), fast.score(), rtol=1e-5)
    for question in (mine, fast):
        scores, maps = question.attention_score(gradients=True)
        np.testing.assert_allclose(scores, question.score(), rtol=1e-5)
        assert [m.layer for m in maps] == ["blocks.0", "blocks.1"]
        assert all(m.values.shape == (n, HEADS, 17, 17) for m in maps)
    for method in METHODS:
        expected = get(method)(fast).values[0]
        np.testing.assert_allclose(get(method)(mine).values[0], expected, atol=1e-5 * np.abs(expected).max())


def talking_before(q: Tensor, k: Tensor, v: Tensor, block: Block) -> Tensor:
    logits = block.heads((split(q) @ split(k).mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return joined(logits.softmax(-1) @ split(v))


def talking_after(q: Tensor, k: Tensor, v: Tensor, block: Block) -> Tensor:
    return joined(block.heads(weights(q, k).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ split(v))


def test_heads_that_talk_before_the_softmax_are_read() -> None:
    _, maps = asked(talking_before).attention_score(gradients=True)
    np.testing.assert_allclose(maps[1].values.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(maps[1].gradient).max() > 0


def in_place(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(weights(q, k).mul_(0.5) @ split(v))


def thinned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = weights(q, k)
    return joined((a * (a > 0.05)) @ split(v))


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(split(q).softmax(-1) @ (split(k).softmax(-2).mT @ split(v)))


def exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = (split(q) @ split(k).mT).exp()
    return joined((a / a.sum(-1, keepdim=True)) @ split(v))


def summed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined((weights(q, k)[..., None] * split(v)[:, :, None]).sum(-2))


def additive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.tanh(q[:, :, None] + k[:, None]).mean(-1).softmax(-1) @ v


def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.stack([torch.softmax(q[i] @ k[i].T, -1) @ v[i] for i in range(len(q))])


def over_channels(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(((split(q).mT @ split(k)).softmax(-1) @ split(v).mT).mT)


def overwritten(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = weights(q, k).detach()
    mixed = a @ split(v)
    a.zero_()
    return joined(mixed)


def through_numpy(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(torch.as_tensor((weights(q, k) @ split(v)).detach().numpy()))


def dropping(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(F.dropout(weights(q, k), 0.5) @ split(v))


def dropping_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(F.scaled_dot_product_attention(split(q), split(k), split(v), dropout_p=0.1))


def nothing_left(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.zeros(q.shape[1], q.shape[1], dtype=torch.bool)
    return joined(F.scaled_dot_product_attention(split(q), split(k), split(v), mask)).nan_to_num()


def flexible(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return joined(flex_attention(split(q).detach(), split(k).detach(), split(v).detach()))


OTHER = "layer 'blocks.1' multiplies activations with activations, but not as softmax"


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(
    ("attend", "message"),
    [
        (talking_after, OTHER),
        (in_place, OTHER),
        (thinned, OTHER),
        (linear, OTHER),
        (exponentials, OTHER),
        (summed, OTHER),
        (additive, OTHER),
        (one_by_one, r"layer 'blocks.1' of model 'pytorch' has attention of shape \(17, 17\)"),
        (over_channels, "layer 'blocks.1' attends over 8 tokens"),
        (overwritten, "layer 'blocks.1' writes over its probabilities after it has used them"),
        (through_numpy, "layer 'blocks.1' goes on in NumPy"),
        (dropping, "layer 'blocks.1' drops attention at random"),
        (dropping_fused, "layer 'blocks.1' drops attention at random"),
        (nothing_left, "layer 'blocks.1': the masks leave a token nothing to attend to"),
        (flexible, "layer 'blocks.1' calls flex_attention"),
    ],
)
def test_attention_that_cannot_be_read_is_refused(attend: Any, message: str) -> None:
    for method in METHODS:
        with pytest.raises(Unsupported, match=message):
            get(method)(asked(attend, check="off"))
    assert not torch._C._is_torch_function_mode_enabled()


def cut(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return fused(q, k, v).detach()


def checkpointed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return checkpoint(fused, q, k, v, use_reentrant=False)


@pytest.mark.parametrize(
    ("attend", "message"),
    [
        (cut, "the outputs depend on layer 'blocks.1', but the gradient's way to it is cut"),
        (checkpointed, r"checkpoints its activations, so attention has no gradient: switch that off"),
    ],
)
def test_where_no_gradient_arrives_only_rollout_answers(attend: Any, message: str) -> None:
    question = asked(attend, check="off")
    expected = get("attention.rollout")(asked(fused)).values[0]
    np.testing.assert_allclose(get("attention.rollout")(question).values[0], expected, atol=1e-6)
    with pytest.raises(Unsupported, match=message):
        get("attention.relevance")(question)


def partly_cut(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed = by_einsum(q, k, v)
    return mixed / 2 + mixed.detach() / 2


class FrozenPatches(Net):
    """No gradient reaches the image, but all that is needed reaches the attention."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.blocks(x)[:, 0])


def test_the_gradient_at_the_attention_is_measured() -> None:
    for model in (asked(partly_cut).model, keras_net(PartlyCut())):
        question = ask(model) if model.name == "pytorch" else keras_question(model)
        assert np.ptp(get("attention.rollout")(question).values[0]) > 0
        with pytest.raises(BrokenAssumption, match=r"at its attention differs by up to \d+% from central differences"):
            get("attention.relevance")(question)
    whole = asked(by_einsum)
    frozen = asked(None, net=attentive.randomise(FrozenPatches(fused, by_einsum), "float32"))
    for method in METHODS:
        np.testing.assert_array_equal(get(method)(frozen).values[0], get(method)(whole).values[0])


def test_a_layer_that_feeds_nothing_has_zero_gradient() -> None:
    class Spare(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.blocks[1](self.patches(x).flatten(2).transpose(1, 2))
            return super().forward(x)

    _, maps = asked(None, net=attentive.randomise(Spare(fused, fused), "float32")).attention_score(gradients=True)
    assert [bool(np.abs(m.gradient).max()) for m in maps] == [False, True, True]


def test_names_of_several_attentions_in_one_module() -> None:
    def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fused(q, k, v) + by_einsum(k, q, v)

    _, maps = asked(twice).attention_score()
    assert [m.layer for m in maps] == ["blocks.0", "blocks.1", "blocks.1 (2)"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script")
def test_compiled_exported_and_scripted_networks() -> None:
    net = attentive.randomise(Net(fused, by_einsum), "float32")
    expected = get("attention.relevance")(asked(None, net=net)).values[0]
    compiled = torch.compile(net, backend="eager")
    exported = torch.export.export(net, (torch.zeros(3, 3, 32, 32),)).module()
    for other in (compiled, exported):
        _, maps = asked(None, net=other, check="off").attention_score(gradients=True)  # exported for three samples
        assert len(maps) == 2
    np.testing.assert_allclose(get("attention.relevance")(asked(None, net=compiled)).values[0], expected, atol=1e-6)
    scripted = nn.Sequential(torch.jit.script(nn.Identity()), net).eval()  # a part is enough
    with pytest.raises(Unsupported, match="is TorchScript, whose attention is out of sight"):
        asked(None, net=scripted).attention_score()


def keras_by_hand(kind: str) -> Any:
    """A layer that computes attention from weights of its own."""

    class ByHand(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.into = [self.add_weight(shape=(WIDTH, WIDTH), name=name) for name in ("q", "k", "v")]

        def call(self, x: Any) -> Any:
            q, k, v = (ops.matmul(x, w) for w in self.into)
            if kind == "softmax":
                return ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1)))), v)
            if kind == "einsum":
                return ops.einsum("bqk,bkd->bqd", tf.nn.softmax(tf.einsum("bqd,bkd->bqk", q, k)), v)
            if kind == "sum":
                a = ops.softmax(ops.sum(q[:, :, None] * k[:, None], -1))
                return ops.sum(a[..., None] * v[:, None], 2)
            if kind == "dot_product_attention":
                return ops.dot_product_attention(q[:, :, None], k[:, :, None], v[:, :, None])[:, :, 0]
            if kind == "function":
                return tf.function(lambda: tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v))()
            if kind == "numpy":
                return tf.ensure_shape(tf.numpy_function(lambda v: v, [v], tf.float32), v.shape)
            return ops.gelu(q) * ops.sigmoid(k)

    return ByHand()


def keras_net(extra: Any) -> KerasModel:
    start = keras.Input((3,))
    h = attentive.KerasColumns()(start)
    h = h + keras.layers.MultiHeadAttention(2, 8)(h, h)
    h = h + extra(keras.layers.LayerNormalization()(h))
    return KerasModel(keras.Model(start, keras.layers.Dense(3)(h[:, 0])), (TABLE,), streams=COLUMNS)


class PartlyCut(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(2, 8)

    def call(self, x: Any) -> Any:
        mixed = self.attention(x, x)
        return mixed / 2 + tf.stop_gradient(mixed) / 2


def keras_question(model: Any) -> Question:
    table = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    return Question(model, (table,), Target.classes([0, 1, 2], 3))


@pytest.mark.parametrize("cotangent", [None, np.ones_like])
@pytest.mark.parametrize("kind", ["softmax", "einsum", "sum", "dot_product_attention", "function", "numpy"])
def test_attention_by_hand_is_refused_on_keras(kind: str, cotangent: Any) -> None:
    inputs = (np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32),)
    with pytest.raises(
        Unsupported, match=r"mixes activations in '.*by_hand.*', outside the layers whose attention can"
    ):
        keras_net(keras_by_hand(kind)).attention_vjp(inputs, cotangent)


def test_gates_and_activations_are_no_attention_on_keras() -> None:
    inputs = (np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32),)
    _, maps = keras_net(keras_by_hand("gate")).attention_vjp(inputs, np.ones_like)
    assert len(maps) == 1


def test_a_way_that_is_cut_on_keras() -> None:
    class Stop(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.stop_gradient(x)

    attention, stop = keras.layers.MultiHeadAttention(2, 8, name="cut"), Stop()
    model = keras_net(lambda h: stop(attention(h, h)))
    inputs = (np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32),)
    assert len(model.attention_vjp(inputs, None)[1]) == 2
    with pytest.raises(Unsupported, match="depend on layer 'cut', but the gradient's way to it is cut"):
        model.attention_vjp(inputs, np.ones_like)
