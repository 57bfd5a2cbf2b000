"""Networks that torch.compile has made faster: streams of masked images go through them, everything else through the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai
from networks import toys
from torch import nn

import crossxai as xai
from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import Deletion, evaluate
from crossxai.explainers import get

IMAGE = (Modality.image(),)
Backend = Callable[[Any, Any], Any]
NAME = "of_this_test"


class Watched:
    """A backend of torch.compile that runs graphs as they are, counts them and their passes, and may do something else."""

    def __init__(self) -> None:
        self.graphs = self.passes = 0
        self.broken: Exception | None = None
        self.factor = 1.0

    def __call__(self, graph: Any, _examples: Any) -> Any:
        self.graphs += 1
        if self.broken is not None:
            raise self.broken

        def run(*given: Any) -> Any:
            self.passes += 1
            return tuple(output * self.factor for output in graph(*given))

        return run


@pytest.fixture
def backend() -> Iterator[Watched]:
    """Known to torch by a name, as backends of other packages are."""
    from torch._dynamo.backends import registry

    torch._dynamo.reset()
    watched = Watched()
    registry._BACKENDS[NAME] = None
    registry._COMPILER_FNS[NAME] = watched
    yield watched
    del registry._BACKENDS[NAME], registry._COMPILER_FNS[NAME]
    torch._dynamo.reset()


def ask(n: int = 12, **options: Any) -> Question:
    options = {"compile": NAME, **options}
    model = TorchModel(toys.torch_net(), IMAGE, outputs="logits", **options)
    return Question(model, (toys.images(n),), Target.classes(np.arange(n) % 3, 3, "softmax"), check="off")


def test_streams_alone(backend: Watched) -> None:
    """Whatever their batch sizes, they are compiled a few times, once for a model; explainers and outputs are not."""
    question = ask()
    maps = np.random.default_rng(0).normal(size=(12, 32, 32, 1)).astype(np.float32)
    given = [Attribution((maps,), question.modalities, question.ids, "random")]
    expected = evaluate(ask(compile=False), given, [Deletion(9)])[0][0].value
    question.model.predict(question.inputs)
    get("captum.saliency")(question[:2])
    get("gradcam.gradcam")(question[:2])
    assert (backend.graphs, backend.passes) == (0, 0)
    for batch_size in (32, 7, 19, 64):
        other = Question(question.model, question.inputs, question.target, batch_size=batch_size, check="off")
        before = backend.passes
        np.testing.assert_allclose(evaluate(other, given, [Deletion(9)])[0][0].value, expected, atol=1e-6)
        assert backend.passes - before >= 12 * 9 / batch_size
    assert 1 <= backend.graphs <= 3


def test_other_weights_are_other_scores(backend: Watched) -> None:
    """Whether torch counts the change or not; else what is compiled is kept."""
    question = ask(4)
    model: Any = question.model
    before = model.fingerprint()
    first = model.folded(question.inputs)
    assert model.fingerprint() == before  # torch leaves nothing on the module
    assert model.folded(question.inputs) is first
    with torch.no_grad():
        model.module.fc.bias.add_(1)
    second = model.folded(question.inputs)
    np.testing.assert_allclose(second.predict(question.inputs), model.predict(question.inputs), atol=1e-6)
    model.module.fc.weight.data.mul_(2)
    third = model.folded(question.inputs)
    np.testing.assert_allclose(third.predict(question.inputs), model.predict(question.inputs), atol=1e-6)
    assert len({id(first), id(second), id(third)}) >= 2
    reduced: Any = ask(4, precision="bf16").model
    fourth = reduced.folded(question.inputs)
    reduced.module.fc.weight.data.mul_(1.002)  # less than what bf16 rounds away
    assert reduced.folded(question.inputs) is not fourth


def test_hooks_that_come_later(backend: Watched) -> None:
    """What is compiled is not that of the same layers without them; and who reads a layer of the copy gets the network's own."""
    question = ask(4)
    model: Any = question.model
    plain = model.folded(question.inputs)
    inputs, before = question.inputs, backend.passes
    activation = model.activations(inputs, ["conv2"])["conv2"]
    np.testing.assert_allclose(plain.activations(inputs, ["conv2"])["conv2"], activation, atol=1e-5)
    np.testing.assert_allclose(
        plain.replace(inputs, "conv2", 0 * activation), model.replace(inputs, "conv2", 0 * activation)
    )
    weigh = np.ones_like
    np.testing.assert_allclose(plain.vjp(inputs, weigh)[1][0], model.vjp(inputs, weigh)[1][0], atol=1e-6)
    assert backend.passes == before
    model.module.fc.register_forward_hook(lambda _layer, _given, output: 2 * output)
    for asked in (model, TorchModel(model.module, IMAGE, outputs="logits", compile=NAME)):
        np.testing.assert_allclose(asked.folded(inputs).predict(inputs), model.predict(inputs), atol=1e-5)
    assert backend.passes > before  # of the network that had the hook to begin with


def test_batch_norms_are_folded_first(backend: Watched) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = TorchModel(net, IMAGE, compile=NAME)
    copy = model.folded((toys.images(4),))
    assert isinstance(copy.module[1], nn.Identity)
    before = backend.passes
    np.testing.assert_allclose(copy.predict((toys.images(4),)), model.predict((toys.images(4),)), atol=1e-6)
    assert backend.passes == before + 1


def test_many_networks_of_one_class(backend: Watched) -> None:
    """More than torch compiles by itself, which then runs them as they are."""
    with torch._dynamo.config.patch(cache_size_limit=1):
        for width in (2, 3):
            net = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
            copy = TorchModel(net, IMAGE, compile=NAME).folded((toys.images(2),))
            before = backend.passes
            copy.predict((toys.images(2),))
            assert backend.passes == before + 1


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.deep)])
def test_what_differs_is_refused(backend: Watched, precision: Any) -> None:
    question = ask(4, precision=precision)
    question.folded()
    assert backend.passes
    backend.factor = 1.3
    torch._dynamo.reset()
    other = ask(4, precision=precision)
    with pytest.raises(
        InvalidInput, match=r"'of_this_test' compiles it differs by .* more than rounding.*compile=False"
    ):
        other.folded()


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (
            RuntimeError("InvalidCxxCompiler: No working C++ compiler found in torch._inductor"),
            "no compiler of C.. is found",
        ),
        (ValueError("an operation that it does not know"), "an operation that it does not know"),
    ],
)
def test_what_cannot_be_compiled_is_refused(backend: Watched, raised: Exception, words: str) -> None:
    backend.broken = raised
    with pytest.raises(InvalidInput, match=rf"cannot be compiled by 'of_this_test' \(.*{words}.*write compile=False"):
        ask(4).folded()


def test_a_run_says_it(backend: Watched, tmp_path: Path) -> None:
    """And where it cannot, it ends before anything is explained."""
    model = xai.wrap(toys.torch_net(), modalities=IMAGE, name="net", compile=NAME)
    asked = {"explainers": ["captum.saliency"], "metrics": ["deletion"], "controls": False, "progress": False}
    xai.compare(model, toys.images(3), out=tmp_path / "run", layout="NHWC", **asked)
    (entry,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["models"]
    assert entry["compile"]["backend"] == NAME
    assert entry["compile"]["difference"] < 1e-5
    assert f"torch.compile ({NAME}) makes of the network" in (tmp_path / "run" / "report.md").read_text()
    backend.broken = ValueError("no")
    torch._dynamo.reset()
    other = xai.wrap(toys.torch_net(), modalities=IMAGE, name="net", compile=NAME)
    with pytest.raises(InvalidInput, match="cannot be compiled"):
        xai.compare(other, toys.images(3), out=tmp_path / "other", layout="NHWC", **asked)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_what_there_is_not() -> None:
    net = toys.torch_net()
    with pytest.raises(InvalidInput, match=r"a backend of torch.compile, got 'faster'; there are .*inductor"):
        TorchModel(net, IMAGE, compile="faster")
    with pytest.raises(InvalidInput, match=r"is TorchScript, which torch.compile leaves as it is"):
        TorchModel(torch.jit.trace(net, torch.rand(1, 3, 32, 32)), IMAGE, compile=True)
    with pytest.raises(InvalidInput, match="compile is of a network that sees whole images"):
        xai.wrap(net, modalities=IMAGE, window=16, compile=True)
    done = crossxai("compare", "examples/first.toml", "--compile")
    assert "--compile belong to --model" in " ".join(done.output.replace("│", " ").split())


@pytest.mark.deep
def test_inductor() -> None:
    """Torch's own compiler, where there is one of C++: the same curves."""
    import shutil

    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    question, plain = ask(12, compile=True), ask(12, compile=False)
    maps = np.random.default_rng(0).normal(size=(12, 32, 32, 1)).astype(np.float32)
    given = [Attribution((maps,), question.modalities, question.ids, "random")]
    own, expected = (evaluate(q, given, [Deletion(9)])[0][0].value for q in (question, plain))
    np.testing.assert_allclose(own, expected, atol=1e-5)
    assert question.model.folded(question.few).compiled_difference < 3e-4  # type: ignore[attr-defined]
