"""What rollout and relevance make of recorded attention; who cannot answer says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import attentive, toys
from networks.attentive import BOTH, COLUMNS, JOINED, TABLE, VIT, WIDTH, ask, same, spread
from torch import nn

from crossxai import InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.attention import AttentionMap, Attentive, Streams, Tokens
from crossxai.explainers import get
from crossxai.explainers.attention import Relevance, Rollout
from crossxai.explainers.families import bilinear
from crossxai.model import Array
from crossxai.testing import check_explainer


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
        name, watches = "counting", inner

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


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", ["attention.relevance", "attention.rollout"])
def test_contract(framework: str, name: str) -> None:
    """What tests/test_contract.py holds all others to; its networks have no attention."""
    explainer: Any = get(name)
    answer = check_explainer(explainer, ask(attentive.vits()[framework]))
    assert not isinstance(answer, Unsupported)
    if name == "attention.relevance":
        answer = check_explainer(explainer, ask(attentive.crossed()[framework]))
        assert not isinstance(answer, Unsupported)
        assert len(answer.values) == 2


def test_the_target_moves_relevance_and_not_rollout() -> None:
    model = attentive.vits()["torch"]
    inputs = ask(model).inputs
    one, other = (Question(model, inputs, Target.classes([c] * 3, 3)) for c in (0, 1))
    np.testing.assert_array_equal(get("attention.rollout")(one).values[0], get("attention.rollout")(other).values[0])
    assert not np.allclose(get("attention.relevance")(one).values[0], get("attention.relevance")(other).values[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_attention_is_the_same_on_both_frameworks(dtype: str) -> None:
    models = attentive.crossed(dtype)
    (ts, tm), (ks, km) = (ask(models[name], dtype).attention_score(gradients=True) for name in ("torch", "keras"))
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


@pytest.mark.parametrize("name", ["attention.rollout", "attention.relevance"])
def test_who_cannot_answer_says_why(name: str) -> None:
    explainer = get(name)
    plain = FunctionModel(lambda x: x.mean(axis=(1, 2)), (toys.IMAGE,))
    with pytest.raises(Unsupported, match=f"{name} needs attention, which model 'function' does not give"):
        explainer(ask(plain))
    for model in (toys.torch_model(), toys.keras_model()):
        assert isinstance(model, Attentive)
        with pytest.raises(
            Unsupported, match=r"ran no (attention that can be recorded|keras.layers.MultiHeadAttention)"
        ):
            explainer(ask(model))
    for model in attentive.crossed(streams=None).values():
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
        (lambda: COLUMNS.check((toys.IMAGE,)), InvalidInput, r"name one of the modalities image, got table"),
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
        (lambda: get("attention.rollout", heads="sum"), UnknownName, "no heads of attention.rollout is called 'sum'"),
        (lambda: get("attention.rollout", residual=1.0), InvalidInput, "0 ≤ residual < 1, got 1.0"),
        (lambda: get("attention.rollout", start=-1), InvalidInput, "start must be at least 0"),
    ],
)
def test_wrong_declarations(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
