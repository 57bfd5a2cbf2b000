"""Folded batch norms: the same outputs, from fewer operations, and the model itself as it was."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import OutOfMemory, Unsupported
from crossxai.evaluation.curves import Deletion, deletion, evaluate
from crossxai.model import Array, Foldable, Inputs
from crossxai.porting.certificate import check_folded
from crossxai.studies.networks import keras_networks, torch_networks
from crossxai.testing import Counting

IMAGE = (Modality.image(),)
STANDARD = {"image": ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))}
IMAGES = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)


class Net(nn.Module):
    """Three convolutions with batch norms: one foldable behind a functional ReLU, one whose output is read twice, one last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.twice, self.twice_norm = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.last, self.last_norm = nn.Conv2d(6, 4, 3, stride=2), nn.BatchNorm2d(4, affine=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first_norm(self.first(x)))
        y = self.twice(x)
        return self.head(self.last_norm(self.last(self.twice_norm(y) + y)).mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias)
    return made.eval()


def norms(module: nn.Module) -> list[str]:
    return [name for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch(dtype: str) -> None:
    """The same outputs; only the batch norm whose convolution is read twice is left; the model keeps all of its own."""
    module = net().to(getattr(torch, dtype))
    model = TorchModel(module, IMAGE, standardise=STANDARD)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    faster = model.folded((IMAGES,))
    np.testing.assert_allclose(
        faster.predict((IMAGES,)), model.predict((IMAGES,)), atol=1e-5 if dtype == "float32" else 1e-12
    )
    assert norms(faster.module) == ["twice_norm"]
    assert norms(module) == ["first_norm", "twice_norm", "last_norm"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.first.weight.is_contiguous()
    module.head.weight.data.zero_()  # the weights are those of the moment
    assert not np.allclose(faster.predict((IMAGES,)), model.predict((IMAGES,)))


def test_a_hooked_layer_stays() -> None:
    """Whoever watches a layer goes on seeing it."""
    module = net()
    module.first_norm.register_forward_hook(lambda _m, _a, output: output + 1)
    faster = TorchModel(module, IMAGE).folded((IMAGES,))
    assert norms(faster.module) == ["first_norm", "twice_norm"]


def test_resnet18() -> None:
    """Every batch norm of ResNet-18 goes, in both frameworks; scores move by rounding."""
    module = torch_networks.resnet18(n_classes=3, seed=0).eval()
    images = np.random.default_rng(1).random((3, 96, 96, 3), np.float32)
    one = TorchModel(module, IMAGE, standardise=STANDARD)
    assert not norms(one.folded((images,)).module)
    other = KerasModel(keras_networks.resnet18(n_classes=3), IMAGE, standardise=STANDARD)
    network = other.folded((images,)).model
    assert not [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for model in (one, other):
        expected = model.predict((images,))
        assert np.abs(model.folded((images,)).predict((images,)) - expected).max() <= 1e-5 * np.abs(expected).max()


def keras_net() -> Any:
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.ReLU()(x)
    y = keras.layers.Conv2D(4, 3)(x)
    z = keras.layers.BatchNormalization()(y)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([y, z])))


def test_keras() -> None:
    """As in torch: the one that is read twice stays; weights are as they are now."""
    keras.utils.set_random_seed(0)
    network = keras_net()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            rng = np.random.default_rng(0)
            layer.set_weights([rng.random(w.shape) + 0.5 for w in layer.get_weights()])
    model = KerasModel(network, IMAGE, standardise=STANDARD)
    faster = model.folded((IMAGES,))
    np.testing.assert_allclose(faster.predict((IMAGES,)), model.predict((IMAGES,)), atol=1e-5)
    kept = [m for m in faster.model.layers if isinstance(m, keras.layers.BatchNormalization)]
    assert len(kept) == 1
    assert sum(isinstance(m, keras.layers.BatchNormalization) for m in network.layers) == 2


def test_what_cannot_be_folded_is_asked_as_it_is() -> None:
    """No batch norm, no trace, no layers at all: the question stays itself."""
    plain = TorchModel(nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), IMAGE)
    with pytest.raises(Unsupported, match="nothing to fold"):
        plain.folded((IMAGES,))

    class Dynamic(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    function = FunctionModel(lambda x: x.mean((1, 2)), IMAGE)
    for model in (plain, TorchModel(Dynamic().eval(), IMAGE), function):
        question = Question(model, (IMAGES,), Target.outputs(0, 5, 2 if model is plain else 3))
        assert question.folded() is question


class Watching(Net):
    """Keeps what its forward sees, on itself and on a layer, as many modules do for their users."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen = 0, None

    def forward(self, x: Any) -> Any:
        self.calls, self.seen, self.head.seen = self.calls + 1, x, x
        return super().forward(x)


def test_what_a_module_keeps_of_its_passes_is_no_symbol() -> None:
    """Tracing leaves the module's own attributes as they were; the passes that check the copy are passes."""
    module = Watching().eval()
    model = TorchModel(module, IMAGE)
    model.graph((IMAGES,))
    calls = module.calls
    assert type(module.seen) is type(module.head.seen) is torch.Tensor
    model.folded((IMAGES,))
    assert module.calls > calls
    assert type(module.seen) is torch.Tensor


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_model_without_batch_norms_is_not_even_traced(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a large transformer as a graph takes time and memory, all for nothing."""
    if framework == "torch":
        model: Any = TorchModel(nn.Sequential(nn.Conv2d(3, 2, 16), nn.Flatten()).eval(), IMAGE)
    else:
        model = KerasModel(keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()]), IMAGE)
    monkeypatch.setattr(type(model), "graph", lambda *_: pytest.fail("it was traced"))
    with pytest.raises(Unsupported, match="nothing to fold"):
        model.folded((IMAGES,))


class Cramped:
    """A model that has no room for a copy of itself."""

    name, modalities = "cramped", IMAGE

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray(inputs[0].mean((1, 2)))

    def folded(self, inputs: Inputs) -> Cramped:
        self.asked.append(len(inputs[0]))
        raise OutOfMemory("no room for two")


@pytest.mark.parametrize(("size", "few"), [(1, 1), (3, 3), (32, 4)])
def test_folding_takes_no_more_memory_than_a_batch(size: int, few: int) -> None:
    """A copy is checked on no more samples than the model may see at once; without room for one, the model itself goes on."""
    model = Cramped()
    question = Question(model, (IMAGES,), Target.outputs(0, 5, 3), batch_size=size)
    assert question.folded() is question
    assert model.asked == [few]


def test_a_difference_is_not_let_through() -> None:
    """What the certificate refuses: too far for how outputs vary, whatever their size; not finite; another shape."""
    one = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    check_folded(one, one * (1 + 5e-6), "net")
    check_folded(one + 1000, one + 1000 + np.float32(1.2e-4), "net")  # a rounding of 1000
    for base, other in ((one, one * 1.001), (one, one * np.nan), (one, one[:, :2]), (one + 1000, one * 1.001 + 1000)):
        with pytest.raises(Unsupported, match="batch norms folded"):
            check_folded(base, other, "net")


def test_long_streams_are_scored_by_the_folded_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of `LONG` numbers go through it, shorter ones do not; curves agree, and passes are counted as before."""
    monkeypatch.setattr(deletion, "LONG", 24 * 25 * 16 * 16 * 3)
    module = net()
    calls: list[int] = []
    module.head.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0])))
    model = Counting(TorchModel(module, IMAGE))
    assert isinstance(model, Foldable)
    images = np.random.default_rng(0).random((24, 16, 16, 3), np.float32)
    question = Question(model, (images,), Target.outputs(0, 24, 3))
    maps = np.random.default_rng(1).random((24, 16, 16, 1))
    answer = Attribution((maps,), question.modalities, question.ids, "noise")
    long = evaluate(question, [answer], [Deletion()])[0][0]
    assert model.forward == 24 * 25
    parts = [
        evaluate(question[[i]], [Attribution((maps[[i]],), question.modalities, (str(i),), "noise")], [Deletion()])
        for i in range(3)
    ]
    short = np.concatenate([part[0][0].value for part in parts])
    assert not np.array_equal(long.value[:3], short)  # another network did it
    np.testing.assert_allclose(long.value[:3], short, atol=1e-5)
