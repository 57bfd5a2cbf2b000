"""Attention as the adapters record it: the same on both frameworks, nothing changed, nothing missed without a word."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from networks import attentive, toys
from networks.attentive import COLUMNS, JOINED, TABLE, WIDTH, ask, same
from torch import nn

from crossxai import Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get
from crossxai.model import Array


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def vits(dtype: str) -> dict[str, Any]:
    return attentive.vits(dtype)


def test_both_frameworks_record_the_same(vits: dict[str, Any], dtype: str) -> None:
    (ts, tm), (ks, km) = (ask(vits[name], dtype).attention_score(gradients=True) for name in ("torch", "keras"))
    np.testing.assert_allclose(ks, ts, rtol=0, atol=1e-6 if dtype == "float32" else 1e-12)
    assert [m.layer for m in tm] == [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(2)]
    assert len(km) == 2
    for one, other in zip(tm, km, strict=True):
        assert one.values.shape == (3, 2, 17, 17)
        assert one.values.dtype == other.values.dtype == np.dtype(dtype)
        same(other.values, one.values, dtype)
        same(other.gradient, one.gradient, dtype)
    for name in ("attention.rollout", "attention.relevance"):
        mine, theirs = (get(name)(ask(vits[framework], dtype)) for framework in ("torch", "keras"))
        assert mine.values[0].shape == (3, 32, 32, 1)
        assert mine.values[0].dtype == np.dtype(dtype)
        assert (mine.degenerate() == "").all()
        same(theirs.values[0], mine.values[0], dtype)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_recording_changes_no_output(vits: dict[str, Any], dtype: str, framework: str) -> None:
    model = vits[framework]
    inputs = ask(model, dtype).inputs
    plain = model.predict(inputs)
    for cotangent in (None, np.ones_like):
        outputs, maps = model.attention_vjp(inputs, cotangent)
        np.testing.assert_allclose(outputs, plain, rtol=0, atol=1e-6 if dtype == "float32" else 1e-12)
        assert all((m.gradient is None) == (cotangent is None) for m in maps)
        np.testing.assert_allclose(sum(m.values.sum(axis=-1) for m in maps) / 2, 1, atol=1e-5)


def test_nothing_is_left_behind(vits: dict[str, Any], dtype: str) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    flash = keras.config.is_flash_attention_enabled()
    for model in vits.values():
        ask(model, dtype).attention_score(gradients=True)
        ask(model, dtype).attention_score()
    for module in vits["torch"].module.modules():
        assert "forward" not in vars(module)
        assert not module.training
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(p.grad is None and p.requires_grad for p in vits["torch"].module.parameters())
    assert torch.is_grad_enabled()
    assert not torch._C._is_torch_function_mode_enabled()
    for layer in vits["keras"].model._flatten_layers():
        assert not {"call", "_masked_softmax", "_compute_attention"} & set(vars(layer))
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert keras.config.is_flash_attention_enabled() == flash


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_attention_gradient_is_a_finite_difference(framework: str) -> None:
    model = attentive.vits("float64")[framework]
    question = ask(model, "float64", n=1)
    _, maps = question.attention_score(gradients=True)
    mean, sd = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (toys.MEAN, toys.SD))
    x = (torch.tensor(question.inputs[0]).movedim(-1, 1) - mean) / sd
    net, step = attentive.vits("float64")["torch"].module, 1e-5
    for layer, (h, q, k) in ((0, (0, 0, 5)), (0, (1, 3, 16)), (1, (1, 0, 0)), (1, (0, 0, 9))):
        delta = torch.zeros(1, 2, 17, 17, dtype=torch.float64)
        delta[0, h, q, k] = step
        with torch.no_grad():
            up, down = (attentive.plain_vit(net, x, {layer: sign * delta})[0][0, 0] for sign in (1, -1))
        difference = float(up - down) / (2 * step)
        np.testing.assert_allclose(maps[layer].gradient[0, h, q, k], difference, rtol=1e-6, atol=1e-9)
        assert abs(difference) > 1e-6


class Sequence(nn.Module):
    """nn.TransformerEncoder over image patches and table columns in one sequence, which torch runs on its fused path."""

    def __init__(self, masked: bool = False, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, **options)
        self.conv, self.columns = nn.Conv2d(3, WIDTH, 8, 8), attentive.Columns(3)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.masked = nn.Linear(WIDTH, 3), masked

    def forward(self, image: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        h = torch.cat([self.columns(table), self.conv(image).flatten(2).transpose(1, 2)], dim=1)
        mask = torch.arange(h.shape[1]).expand(len(h), -1) > 17 if self.masked else None
        return self.head(self.encoder(h, src_key_padding_mask=mask)[:, 0])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_fused_encoder_layers_are_opened(frozen: bool, masked: bool) -> None:
    net = attentive.randomise(Sequence(masked), "float64")
    if frozen:  # then nothing requires a gradient, and the fused path runs even where gradients are enabled
        net.requires_grad_(False)
    model = TorchModel(net, (toys.IMAGE, TABLE), streams=JOINED)
    question = ask(model, "float64")
    outputs, maps = model.attention_vjp(question.inputs, np.ones_like)
    np.testing.assert_allclose(outputs, model.predict(question.inputs), atol=1e-12)
    assert [m.layer for m in maps] == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    assert all(m.values.shape == (3, 2, 20, 20) and np.abs(m.gradient).max() > 0 for m in maps)
    for name in ("attention.rollout", "attention.relevance"):
        answer = get(name)(question)
        assert answer.of("table").shape == (3, 3)
        assert answer.of("image").shape == (3, 32, 32, 1)
        assert (answer.of("image") > 0).any()
        if masked:  # the last two patches are hidden from every token
            assert (answer.of("image")[:, -4:, -8:] == 0).all()
    assert all(p.requires_grad != frozen for p in net.parameters())


class Bare(nn.Module):
    """One attention layer over the columns of a table, with any of its options."""

    def __init__(self, call: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__()
        self.columns = attentive.Columns(3)
        self.attention = nn.MultiheadAttention(WIDTH, 2, **options)
        self.head, self.given = nn.Linear(WIDTH, 3), call or {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.columns(x)
        h = h if self.attention.batch_first else h.transpose(0, 1)
        keys = nn.functional.pad(h, (0, self.attention.kdim - WIDTH))
        out, _ = self.attention(h, keys, keys if self.attention.vdim == self.attention.kdim else h, **self.given)
        return self.head(out[:, 0] if self.attention.batch_first else out[0])


HIDE = torch.tensor([[False, False, True, False]] * 3)
CAUSAL = torch.ones(4, 4, dtype=torch.bool).triu(1)


def bare(call: dict[str, Any] | None = None, dtype: str = "float64", **options: Any) -> tuple[TorchModel, Any]:
    net = attentive.randomise(Bare(call, **options), dtype)
    table = np.random.default_rng(0).normal(size=(3, 3))
    return TorchModel(net, (TABLE,), streams=COLUMNS), (table,)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({"bias": False}, {"need_weights": False}),
        ({"kdim": 20, "vdim": 20}, {}),
        ({"kdim": 20, "vdim": 16}, {"need_weights": False}),
        ({}, {"key_padding_mask": HIDE}),
        ({}, {"key_padding_mask": torch.where(HIDE, -2.5, 0.0).double(), "need_weights": False}),
        ({}, {"attn_mask": CAUSAL}),
        ({}, {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
        (
            {},
            {"attn_mask": CAUSAL.T, "is_causal": True, "need_weights": False},
        ),  # torch believes the hint, not the mask
        ({}, {"attn_mask": CAUSAL, "key_padding_mask": HIDE, "is_causal": True}),
        ({}, {"attn_mask": torch.linspace(-1, 1, 6 * 16).view(6, 4, 4).double(), "average_attn_weights": False}),
    ],
)
def test_every_option_of_torch_attention_gives_its_own_output(
    options: dict[str, Any], call: dict[str, Any], batch_first: bool
) -> None:
    model, inputs = bare(call, batch_first=batch_first, **options)
    outputs, (found,) = model.attention_vjp(inputs, np.ones_like)
    np.testing.assert_allclose(outputs, model.predict(inputs), atol=1e-12)
    assert found.values.shape == (3, 2, 4, 4)
    if "key_padding_mask" in call and call["key_padding_mask"].dtype == torch.bool:
        assert (found.values[..., 2] == 0).all()


class Frozen(nn.Module):
    """Attention under `no_grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bare(batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = self.inner(x)
        return y + self.inner.head(self.inner.columns(x)[:, 0])


class Windows(nn.Module):
    """Attention inside pairs of tokens, the pairs laid out as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.columns, self.head = attentive.Columns(3), nn.Linear(WIDTH, 3)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.columns(x).reshape(2 * len(x), 2, WIDTH)
        return self.head(self.attention(h, h, h)[0].reshape(len(x), 4, WIDTH)[:, 0])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Bare(add_bias_kv=True), "layer 'attention' adds a learned key"),
        (lambda: Bare(add_zero_attn=True), "layer 'attention' adds an empty key"),
        (lambda: Bare({"key_padding_mask": HIDE | True}), "the masks leave a token nothing to attend to"),
        (lambda: nn.Linear(3, 3), "model 'pytorch' ran no attention that can be recorded"),
        (Windows, r"layer 'attention' of model 'pytorch' has attention of shape \(6, 2, 2, 2\), not \(3, heads"),
        (Frozen, "layer 'inner.attention' runs under torch.no_grad"),
    ],
)
def test_attention_that_cannot_be_recorded_on_torch(net: Any, message: str) -> None:
    model = TorchModel(net().eval(), (TABLE,), streams=COLUMNS)
    with pytest.raises(Unsupported, match=message):
        model.attention_vjp((np.zeros((3, 3), np.float32),), np.ones_like)
    assert not torch._C._is_torch_function_mode_enabled()


def keras_table(attend: Any) -> KerasModel:
    start = keras.Input((3,))
    h = attentive.KerasColumns()(start)
    return KerasModel(keras.Model(start, keras.layers.Dense(3)(attend(h)[:, 0])), (TABLE,), streams=COLUMNS)


class OwnWay(keras.layers.MultiHeadAttention):
    def _compute_attention(self, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return value, value


@pytest.mark.parametrize(
    ("attend", "message"),
    [
        (lambda h: h, "model 'keras' ran no keras.layers.MultiHeadAttention layer"),
        (lambda h: h + keras.layers.Attention()([h, h]), "has attention that cannot be recorded"),
        (lambda h: OwnWay(2, 8)(h, h), "forms probabilities its own way"),
        (
            lambda h: keras.layers.MultiHeadAttention(2, 8, attention_axes=(1, 2))(h[:, :, None], h[:, :, None])[
                :, :, 0
            ],
            r"has attention of shape \(None, 2, 4, 1, 4, 1\)",
        ),
    ],
)
def test_attention_that_cannot_be_recorded_on_keras(attend: Any, message: str) -> None:
    model = keras_table(attend)
    with pytest.raises(Unsupported, match=message):
        model.attention_vjp((np.zeros((3, 3), np.float32),), np.ones_like)
    assert not any({"call", "_masked_softmax"} & set(vars(layer)) for layer in model.model._flatten_layers())


@pytest.mark.parametrize(
    "attend",
    [
        lambda h: keras.layers.MultiHeadAttention(2, 8, dropout=0.5)(h, h, use_causal_mask=True),
        lambda h: keras.layers.MultiHeadAttention(2, 8)(h, h, use_causal_mask=True),
        lambda h: keras.layers.MultiHeadAttention(2, 8)(h, h, return_attention_scores=True)[0],
        lambda h: keras.layers.GroupQueryAttention(8, 4, 2)(h, h),
    ],
)
def test_options_of_keras_attention_give_their_own_output(attend: Any) -> None:
    model = keras_table(attend)
    inputs = (np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32),)
    outputs, (found,) = model.attention_vjp(inputs, np.ones_like)
    np.testing.assert_allclose(outputs, model.predict(inputs), atol=1e-6)
    assert found.values.shape[2:] == (4, 4)
    np.testing.assert_allclose(found.values.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(found.gradient).max() > 0


def test_a_cotangents_own_error_keeps_its_type() -> None:
    def refuse(outputs: Array) -> Array:
        raise Unsupported("not this one")

    for model in attentive.vits().values():
        with pytest.raises(Unsupported, match="not this one"):
            model.attention_vjp(ask(model).inputs, refuse)
