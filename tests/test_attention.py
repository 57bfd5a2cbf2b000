"""Attention as the adapters record it, and what rollout and relevance make of it."""

from __future__ import annotations

from typing import Any

import attentive
import keras
import numpy as np
import pytest
import torch
import toys
from attentive import BOTH, TABLE, VIT, WIDTH
from torch import nn

from crossxai import InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.attention import AttentionMap, Streams, Tokens
from crossxai.explainers import get
from crossxai.explainers.attention import Relevance, Rollout
from crossxai.model import Array, Attentive
from crossxai.resize import bilinear

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def vits(dtype: str) -> dict[str, Any]:
    return attentive.vits(dtype)


def ask(model: Any, dtype: str = "float32", n: int = 3, **options: Any) -> Question:
    """Explain class i % 3 of sample i."""
    table = np.random.default_rng(1).normal(size=(n, 3)).astype(dtype)
    inputs = (toys.images(n, dtype=dtype), table)[: len(model.modalities)]
    return Question(model, inputs, Target.classes(np.arange(n) % 3, 3), **options)


def same(found: Array, expected: Array, dtype: str) -> None:
    """Equal relative to the largest entry: gradients and relevance have any scale."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(1e-30, np.abs(expected).max()))


def test_both_frameworks_record_the_same(vits: dict[str, Any], dtype: str) -> None:
    (ts, tm), (ks, km) = (ask(vits[name], dtype).attention_score_and_grad() for name in ("torch", "keras"))
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
        ask(model, dtype).attention_score_and_grad()
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


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_relevance_is_the_written_out_formula(layers: int, heads: int) -> None:
    """Against a network and autograd of its own: R = I, then R + mean over heads of (A ⊙ gradient)⁺ R, layer by layer."""
    net = attentive.vit("float64", layers, heads)
    question = ask(TorchModel(net, (toys.IMAGE,), streams=VIT), "float64")
    x = torch.tensor(question.inputs[0]).movedim(-1, 1)
    outputs, probabilities = attentive.plain_vit(net, x)
    gradients = torch.autograd.grad(outputs[torch.arange(3), torch.arange(3)].sum(), probabilities)
    R = torch.eye(17, dtype=torch.float64).repeat(3, 1, 1)
    for a, g in zip(probabilities, gradients, strict=True):
        R = R + (a * g).clamp(min=0).mean(dim=1) @ R
    tokens = R[:, 0, 1:].reshape(3, 4, 4).detach()
    expected = nn.functional.interpolate(tokens[:, None], (32, 32), mode="bilinear")[:, 0]
    found = get("attention.relevance")(question).values[0][..., 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)
    assert (found >= 0).all()

    rolled = torch.eye(17, dtype=torch.float64).repeat(3, 1, 1)
    for a in probabilities:
        rolled = (a.mean(dim=1) + torch.eye(17)) / 2 @ rolled
    expected = bilinear(rolled[:, 0, 1:].reshape(3, 4, 4).detach().numpy(), 32, 32)
    np.testing.assert_allclose(get("attention.rollout")(question).values[0][..., 0], expected, atol=1e-12)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_attention_gradient_is_a_finite_difference(framework: str) -> None:
    model = attentive.vits("float64")[framework]
    question = ask(model, "float64", n=1)
    _, maps = question.attention_score_and_grad()
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


def spread(explainer: Any, maps: list[AttentionMap], streams: Streams) -> Array:
    """What an explainer collects from given maps."""

    class Given:
        attention_score = attention_score_and_grad = staticmethod(lambda: (None, tuple(maps)))

        def __len__(self) -> int:
            return len(maps[0].values)

    return explainer.spread(Given(), streams)


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
@pytest.mark.parametrize("residual", [0.0, 0.5])
def test_rollout_rows_sum_to_one(heads: str, residual: float) -> None:
    draw = np.random.default_rng(0).dirichlet(np.ones(17), size=(3, 2, 4, 17))
    maps = [AttentionMap(f"layer {i}", a) for i, a in enumerate(draw)]
    total = spread(Rollout(heads=heads, residual=residual), maps, VIT)
    np.testing.assert_allclose(total.sum(axis=-1), 1, atol=1e-12)
    assert (total >= 0).all()
    last = spread(Rollout(heads=heads, residual=residual, start=2), maps, VIT)
    np.testing.assert_allclose(last, spread(Rollout(heads=heads, residual=residual), maps[2:], VIT))


def test_rollout_of_uniform_attention_is_uniform() -> None:
    net = attentive.vit()
    for block in net.encoder.layers:
        nn.init.zeros_(block.self_attention.in_proj_weight[: 2 * WIDTH])
        nn.init.zeros_(block.self_attention.in_proj_bias[: 2 * WIDTH])
    values = get("attention.rollout")(ask(TorchModel(net, (toys.IMAGE,), streams=VIT))).values[0]
    np.testing.assert_allclose(values, (1 - 0.5**2) / 17, rtol=1e-5)
    assert np.ptp(values) < 1e-7


@pytest.mark.parametrize("name", ["attention.rollout", "attention.relevance"])
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_batches_and_order_do_not_matter_and_passes_are_announced(framework: str, name: str) -> None:
    inner = attentive.vits()[framework]
    seen = {"forward": 0, "backward": 0}

    class Counting:
        modalities, streams, predict, vjp = inner.modalities, inner.streams, inner.predict, inner.vjp
        name = "counting"

        def attention_vjp(self, inputs: Any, cotangent: Any) -> Any:
            seen["forward"] += len(inputs[0])
            seen["backward"] += 0 if cotangent is None else len(inputs[0])
            return inner.attention_vjp(inputs, cotangent)

    explainer = get(name)
    question = ask(Counting())
    values = explainer(question).values[0]
    assert explainer.passes(question) == (1, 0 if name.endswith("rollout") else 1)
    assert (seen["forward"], seen["backward"]) == tuple(3 * p for p in explainer.passes(question))
    for size in (1, 2):
        same(explainer(ask(inner, batch_size=size)).values[0], values, "float32")
    same(explainer(question[[2, 0]]).values[0], values[[2, 0]], "float32")


def test_the_target_moves_relevance_and_not_rollout() -> None:
    model = attentive.vits()["torch"]
    inputs = ask(model).inputs
    one, other = (Question(model, inputs, Target.classes([c] * 3, 3)) for c in (0, 1))
    np.testing.assert_array_equal(get("attention.rollout")(one).values[0], get("attention.rollout")(other).values[0])
    assert not np.allclose(get("attention.relevance")(one).values[0], get("attention.relevance")(other).values[0])


def test_cross_attention_is_the_same_on_both_frameworks(dtype: str) -> None:
    models = attentive.crossed(dtype)
    (ts, tm), (ks, km) = (ask(models[name], dtype).attention_score_and_grad() for name in ("torch", "keras"))
    np.testing.assert_allclose(ks, ts, rtol=1e-5, atol=1e-6 if dtype == "float32" else 1e-12)
    assert [m.layer for m in tm] == [
        "image_self", "table_self", "to_image", "to_table", "to_image", "to_table", "last"
    ]  # fmt: skip
    # The last layer to write to the image has no influence, so a functional Keras model does not run it.
    used = [m for m in tm if m.gradient.any()]
    assert len(used) == len(tm) - 1
    for one, other in zip(used, km, strict=True):
        same(other.values, one.values, dtype)
        same(other.gradient, one.gradient, dtype)
    mine, theirs = (get("attention.relevance")(ask(models[name], dtype)) for name in ("torch", "keras"))
    assert mine.of("image").shape == (3, 32, 32, 1)
    assert mine.of("table").shape == (3, 3)
    for modality in ("image", "table"):
        assert mine.of(modality).max() > 0
        same(theirs.of(modality), mine.of(modality), dtype)
    only = get("attention.relevance")(ask(models["torch"], dtype, free=("table",)))
    assert [m.name for m in only.modalities] == ["table"]
    np.testing.assert_array_equal(only.of("table"), mine.of("table"))


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_an_image_that_the_readout_never_attends_to_gets_nothing(framework: str) -> None:
    question = ask(attentive.crossed(meet=False)[framework])
    answer = get("attention.relevance")(question)
    assert (answer.of("image") == 0).all()
    assert (answer.of("table") > 0).any()


@pytest.mark.parametrize("parallel", [False, True])
def test_cross_attention_follows_the_papers_rules(parallel: bool) -> None:
    """Against a second writing of eq. 5 to 11, sample by sample with one matrix per pair of streams."""
    rng = np.random.default_rng(0)
    ends = ["ii", "tt", "ti", "it", "tt", "ti", "it", "tt"]
    size = {"i": 16, "t": 4}
    maps = []
    for end in ends:
        shape = (2, 3, size[end[0]], size[end[1]])
        maps.append(AttentionMap(end, rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]), rng.normal(size=shape)))
    streams = Streams(BOTH.tokens, BOTH.readout, parallel=parallel)
    total = spread(Relevance(), maps, streams)

    def bar(matrix: Array) -> Array:
        hat = matrix - np.eye(len(matrix))
        sums = hat.sum(axis=1)
        return np.eye(len(matrix)) + np.array([row / s if s else row for row, s in zip(hat, sums, strict=True)])

    for sample in range(2):
        R = {a + b: np.eye(size[a]) if a == b else np.zeros((size[a], size[b])) for a in "it" for b in "it"}
        before = R
        for position, end in enumerate(ends):
            a = np.maximum(maps[position].values[sample] * maps[position].gradient[sample], 0).mean(axis=0)
            s, q = end
            if s == q:
                o = "t" if s == "i" else "i"
                R = {**R, s + s: R[s + s] + a @ R[s + s], s + o: R[s + o] + a @ R[s + o]}
                continue
            if not (parallel and ends[position - 1] == q + s):
                before = R
            add_other = bar(before[s + s]).T @ a @ bar(before[q + q])
            R = {**R, s + q: R[s + q] + add_other, s + s: R[s + s] + a @ before[q + s]}
        blocks = np.block([[R["ii"], R["it"]], [R["ti"], R["tt"]]])
        np.testing.assert_allclose(total[sample], blocks, rtol=1e-10, atol=1e-12)


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


JOINED = Streams({"table": Tokens((3,), prefix=1), "image": Tokens((4, 4))}, readout=("table", 0), joined=True)


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


COLUMNS = Streams({"table": Tokens((3,), prefix=1)}, readout=("table", 0))
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


class Fused(nn.Module):
    """Attention by torch's function, outside nn.MultiheadAttention."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.inner, self.frozen = Bare(batch_first=True), frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.frozen:
            with torch.no_grad():
                y = self.inner(x)
            return y + self.inner.head(self.inner.columns(x)[:, 0])
        h = self.inner.columns(x)
        return self.inner(x) + self.inner.head(nn.functional.scaled_dot_product_attention(h, h, h)[:, 0])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Bare(add_bias_kv=True), "layer 'attention' adds a learned key"),
        (lambda: Bare(add_zero_attn=True), "layer 'attention' adds an empty key"),
        (lambda: Bare({"key_padding_mask": HIDE | True}), "the masks leave a token nothing to attend to"),
        (lambda: nn.Linear(3, 3), "model 'pytorch' ran no torch.nn.MultiheadAttention layer"),
        (Fused, "calls scaled_dot_product_attention outside nn.MultiheadAttention"),
        (lambda: Fused(frozen=True), "layer 'inner.attention' runs under torch.no_grad"),
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
        (lambda h: OwnWay(2, 8)(h, h), "forms its probabilities its own way"),
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


@pytest.mark.parametrize("name", ["attention.rollout", "attention.relevance"])
def test_who_cannot_answer_says_why(name: str) -> None:
    explainer = get(name)
    plain = FunctionModel(lambda x: x.mean(axis=(1, 2)), (toys.IMAGE,))
    with pytest.raises(Unsupported, match=f"{name} needs attention, which model 'function' does not give"):
        explainer(ask(plain))
    for model in (toys.torch_model(), toys.keras_model()):
        assert isinstance(model, Attentive)
        with pytest.raises(Unsupported, match=r"declares no token streams: give its adapter, .* streams=Streams"):
            explainer(ask(model))

    net = attentive.vit()
    other = Streams({"image": Tokens((8, 8))}, readout=("image", None))
    with pytest.raises(Unsupported, match="attends over 17 tokens, the declared streams have 'image' 64: declare"):
        explainer(ask(TorchModel(net, (toys.IMAGE,), streams=other)))
    twice = Streams({"image": Tokens((4, 4), prefix=1), "memory": Tokens((), prefix=17)}, readout=("image", 0))
    with pytest.raises(Unsupported, match="attends over 17 tokens, and several declared streams have as many"):
        explainer(ask(TorchModel(net, (toys.IMAGE,), streams=twice)))

    table = Streams({"image": Tokens((4, 4)), "table": Tokens((1,), prefix=3)}, readout=("table", 0))
    question = ask(attentive.crossed(streams=table)["torch"])
    with pytest.raises(Unsupported, match="modality 'table' has 3 columns and 1 tokens"):
        explainer(question)
    without = Streams({"image": Tokens((4, 4)), "read": Tokens((), prefix=4)}, readout=("read", 0))
    with pytest.raises(Unsupported, match=r"explains modalities with tokens \(image, read\); free are table"):
        explainer(ask(attentive.crossed(streams=without)["torch"], free=("table",)))


def test_modalities_without_tokens_get_no_map() -> None:
    without = Streams({"image": Tokens((4, 4)), "read": Tokens((), prefix=4)}, readout=("read", 0))
    answer = get("attention.relevance")(ask(attentive.crossed(streams=without)["torch"]))
    assert [m.name for m in answer.modalities] == ["image"]
    full = get("attention.relevance")(ask(attentive.crossed()["torch"]))
    np.testing.assert_array_equal(answer.of("image"), full.of("image"))


def test_cross_attention_that_is_not_defined() -> None:
    with pytest.raises(
        Unsupported, match="not defined for cross-attention, which layer 'to_image' has from 'table' to"
    ):
        get("attention.rollout")(ask(attentive.crossed()["torch"]))
    three = Streams({**BOTH.tokens, "memory": Tokens((), prefix=2)}, readout=("table", 0))
    with pytest.raises(Unsupported, match="defined for models of two streams; this one has image, table, memory"):
        get("attention.relevance")(ask(attentive.crossed(streams=three)["torch"]))
    with pytest.raises(Unsupported, match="start=2, but only 2 attention layers run"):
        get("attention.rollout", start=2)(ask(attentive.vits()["torch"]))
    uneven = [AttentionMap("odd", np.full((1, 1, 4, 20), 1 / 20), np.ones((1, 1, 4, 20)))]
    with pytest.raises(Unsupported, match="layer 'odd' attends between one stream and all of them joined"):
        spread(Relevance(), uneven, JOINED)


def test_readout_by_the_mean_of_all_tokens() -> None:
    """The mean over rows, and maps of a signal and of a volume, linear between the centres of the tokens."""
    signal = Modality("signal", ("time", "channel"), ("lead",))
    volume = Modality("volume", ("z", "y", "x", "channel"), ("density",))
    weight = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.reshape(len(x), 8, -1).mean(-1, keepdim=True) * torch.tensor(weight[:1])
            return self.attention(h, h, h)[0].mean(dim=1)

    torch.manual_seed(0)
    for modality, grid, shape in ((signal, (8,), (24, 1)), (volume, (2, 2, 2), (4, 4, 6, 1))):
        model = TorchModel(
            Net().eval(), (modality,), streams=Streams({modality.name: Tokens(grid)}, (modality.name, None))
        )
        x = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
        question = Question(model, (x,), Target.classes([0, 1], WIDTH))
        _, (found,) = question.attention_score()
        tokens = (0.5 * found.values.mean(axis=1) + 0.5 * np.eye(8)).mean(axis=1).reshape(2, *grid)
        expected = torch.nn.functional.interpolate(
            torch.tensor(tokens)[:, None], shape[:-1], mode="linear" if len(grid) == 1 else "trilinear"
        )[:, 0]
        np.testing.assert_allclose(get("attention.rollout")(question).values[0][..., 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Tokens((0, 4)), InvalidInput, "a grid of whole numbers"),
        (lambda: Tokens([4, 4]), InvalidInput, "a grid of whole numbers"),
        (lambda: Tokens(()), InvalidInput, "a grid of whole numbers"),
        (lambda: Tokens((4,), prefix=-1), InvalidInput, "prefix=-1"),
        (lambda: Streams({}, ("image", 0)), InvalidInput, "write tokens="),
        (lambda: Streams({"image": Tokens((4, 4))}, "image"), InvalidInput, "readout is"),
        (lambda: Streams({"image": Tokens((4, 4))}, ("imag", 0)), UnknownName, "did you mean image"),
        (lambda: Streams({"image": Tokens((4, 4))}, ("image", 16)), InvalidInput, "token 0 … 15 of 'image'"),
        (lambda: COLUMNS.check((toys.IMAGE,)), InvalidInput, r"name a modality of the model \(image\), got table"),
        (
            lambda: Streams({"image": Tokens((16,))}, ("image", 0)).check((toys.IMAGE,)),
            InvalidInput,
            r"modality 'image' has axes y, x, channel: its grid has 2 of them, got grid=\(16,\)",
        ),
        (
            lambda: Streams({"image": Tokens((4, 4)), "tabel": Tokens((3,))}, ("image", 0)).check((toys.IMAGE, TABLE)),
            InvalidInput,
            r"'tabel' is no modality of the model \(image, table\)",
        ),
        (lambda: get("attention.rollout", heads="sum"), InvalidInput, "heads is mean, max or min, got 'sum'"),
        (lambda: get("attention.rollout", residual=1.0), InvalidInput, "0 ≤ residual < 1, got 1.0"),
        (lambda: get("attention.rollout", start=-1), InvalidInput, "start must be at least 0"),
    ],
)
def test_wrong_declarations(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
