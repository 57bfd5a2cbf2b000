"""Masking where the model runs: the host's scores, few bytes and no waiting, and all that streams of scores promise.

There need be no accelerator: the way of a device is taken on the CPU, and a wrapper counts what would cross to it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from tensorflow.python.framework.ops import _EagerTensorBase
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from crossxai import Attribution, InvalidInput, Largest, Modality, Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.tensorflow_backend import KerasBackend
from crossxai.adapters.torch import TorchModel
from crossxai.adapters.torch_backend import TorchBackend
from crossxai.attribution import Metric
from crossxai.batching import DEFAULT_BATCH_SIZE, ON_DEVICE, Clock, batched
from crossxai.devices import DeviceBackend
from crossxai.errors import OutOfMemory
from crossxai.evaluation import get
from crossxai.evaluation.curves import Deletion, Insertion, deletion, evaluate, passes
from crossxai.evaluation.curves import on_device as on_device_module

IMAGE, TABLE = Modality.image(), Modality.table(("age", "dose", "weight"))
SIDE, CLASSES = 12, 3
PIXELS = SIDE * SIDE
FRAMEWORKS = ["torch", "keras"]


class Crossing:
    """A backend that counts the bytes that are put on it, those that lie there at most, and how often someone waits."""

    def __init__(self, backend: DeviceBackend, clock: Clock | None = None) -> None:
        self.backend, self.clock = backend, clock
        self.bytes = self.puts = self.waits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def put(self, values: np.ndarray) -> Any:
        laid = self.backend.put(values)
        self.puts += 1
        self.bytes += (
            math.prod(laid.shape) * laid.dtype.itemsize if torch.is_tensor(laid) else 4 * math.prod(laid.shape)
        )
        return laid

    def take(self, tensors: list[Any]) -> np.ndarray:
        self.waits += 1
        return self.backend.take(tensors)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Crossing]]:
    """Makes all models take the way of a device, and gives the list of the backends that are made from then on."""
    made: list[Crossing] = []

    def begin(clock: Clock | None = None) -> list[Crossing]:
        def of_torch(self: TorchModel) -> Crossing:
            made.append(Crossing(TorchBackend(self.device, self.predict_there, self.dtype == torch.float64), clock))
            return made[-1]

        def of_keras(self: KerasModel) -> Crossing:
            made.append(Crossing(KerasBackend("CPU:0", self.predict_there, self.dtype == tf.float64), clock))
            return made[-1]

        monkeypatch.setattr(TorchModel, "device_backend", of_torch)
        monkeypatch.setattr(KerasModel, "device_backend", of_keras)
        return made

    return begin


class Two(nn.Module):
    """An image and a table, or an image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.dense = nn.Linear(4, CLASSES)
        self.other = nn.Linear(len(TABLE.features), CLASSES)

    def forward(self, image: torch.Tensor, table: torch.Tensor | None = None) -> torch.Tensor:
        own = self.dense(torch.tanh(self.convolution(image)).mean((2, 3)))
        return own if table is None else own + torch.tanh(self.other(table))


def keras_two(tables: bool) -> Any:
    keras.utils.set_random_seed(0)
    image, table = keras.Input((SIDE, SIDE, 3), name="image"), keras.Input((len(TABLE.features),), name="table")
    own = keras.layers.Dense(CLASSES)(
        keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="tanh")(image))
    )
    both = keras.layers.Add()([own, keras.layers.Dense(CLASSES, activation="tanh")(table)])
    return keras.Model([image, table] if tables else image, both if tables else own)


def ask(framework: str, n: int = 5, tables: bool = False, dtype: Any = np.float32, **options: Any) -> Question:
    rng = np.random.default_rng(0)
    inputs = (rng.random((n, SIDE, SIDE, 3)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype))[: 1 + tables]
    modalities = (IMAGE, TABLE)[: 1 + tables]
    torch.manual_seed(0)
    standardise = {"image": ((0.5, 0.4, 0.3), (0.2, 0.3, 0.2))}
    if framework == "torch":
        model: Any = TorchModel(Two().eval().to(torch.from_numpy(inputs[0]).dtype), modalities, standardise=standardise)
    else:
        model = KerasModel(keras_two(tables), modalities, standardise=standardise)
    target = Target.classes(np.arange(n) % CLASSES, CLASSES, "softmax")
    return Question(model, inputs, **{"target": target, "batch_size": 7, "check": "off", **options})


def some_maps(question: Question, number: int = 2) -> list[Attribution]:
    """Random maps, the last one rounded to whole numbers."""
    rng = np.random.default_rng(1)
    every = [[rng.normal(size=v.shape).astype(np.float32) for v in question.inputs] for _ in range(number)]
    every[-1] = [np.round(values) for values in every[-1]]  # full of ties, between 0 and -0 too
    exact = {"completeness_gap": np.zeros(len(question))}
    return [
        Attribution(tuple(own), question.modalities, question.ids, f"m{i}", extras=exact) for i, own in enumerate(every)
    ]


def assert_same(question: Question, metrics: list[Metric], made: list[Crossing], host: list[list[Any]]) -> None:
    """What the host found is what the device finds, to rounding."""
    limit = 1e-9 if question.model.dtype == torch.float64 else 2e-5  # correlations make more of it
    found = evaluate(question, some_maps(question), metrics)
    assert made
    for expected, own in zip(host, found, strict=True):
        for one, other in zip(expected, own, strict=True):
            np.testing.assert_allclose(other.value, one.value, rtol=limit, atol=limit, err_msg=one.metric)
            if one.curve is not None:
                np.testing.assert_allclose(other.curve, one.curve, rtol=limit, atol=limit, err_msg=one.metric)


UNITS: list[Metric] = [
    Deletion(6),
    Insertion(6),  # blurred
    Deletion(6, fill="mean", order="lerf", score="ratio"),
    Insertion(4, unit="element", fill={"dataset_mean": [0.2, 0.4, 0.6]}),
    Deletion(4, unit="element", fill="minimum"),
    Deletion(4, unit="patch", size=4, fill=lambda x: 1 - x),
    Insertion(4, unit="segment", size=6, fill="grey"),
    Deletion({"percentiles": [90, 50, 10]}, endpoints="neither"),
    Deletion(5, ties="stable", order="lerf", seed=1),
    Insertion(5, ties="flipped", fill={"blur": {"size": 5, "sigma": 2, "border": "zero"}}),
    Deletion(5, ties="unstable", unit="element", reduction="abs_sum"),
    Deletion(
        5, ties="stable", unit="element", order="lerf", fill={"blur": {"size": 3, "sigma": 2, "border": "reflect"}}
    ),
    Deletion(5, fill={"standardised": {"fill": "blur", "mean": [0.5] * 3, "sd": [0.2] * 3}}),
    Insertion("auto"),
    Deletion({"auto": {"of": 60, "precision": 0.01}}, fill="blur"),
]
BUILT: list[Metric] = [
    Deletion(3, fill="noisy_linear"),  # these two the host builds, in a stream with one that it does not
    Deletion(3, fill="mean", refill=True),
    Deletion(3),
]
OTHERS: list[Metric] = [
    get("faithfulness_correlation", subsets=30),  # subsets, more than one number per unit holds
    get("sensitivity_n", subsets=10),
    get("comprehensiveness"),
    get("irof"),
    get("road_morf"),
]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("metrics", [UNITS, BUILT, OTHERS], ids=["units", "built", "others"])
def test_the_hosts_scores(framework: str, metrics: list[Metric], on_device: Callable[..., list[Crossing]]) -> None:
    question = ask(framework, dtype=np.float64 if framework == "torch" else np.float32)
    host = evaluate(question, some_maps(question), metrics)
    assert_same(question, metrics, on_device(), host)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_several_modalities(framework: str, on_device: Callable[..., list[Crossing]]) -> None:
    """Each alone, both in one order, and one replaced whole; the other one's values stay."""
    question = ask(framework, tables=True)
    metrics = [
        Deletion(4, modality="image"),
        Insertion(2, fill="zero", modality="table"),
        get("joint_deletion", steps=5),
        get("joint_insertion", steps=5),
        get("modality_agreement"),
    ]
    host = evaluate(question, some_maps(question), metrics)
    assert_same(question, metrics, on_device(), host)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_other_questions(framework: str, on_device: Callable[..., list[Crossing]]) -> None:
    """In float32, of inputs in float64 too, and a measure that the host knows."""
    own = ask(framework)
    wide = Question(own.model, (own.inputs[0].astype(np.float64),), own.target, check="off", batch_size=7)
    largest = ask(framework, target=Largest(5, CLASSES))
    metrics: list[Metric] = [Deletion(4), Insertion(4)]
    hosts = [evaluate(question, some_maps(question), metrics) for question in (own, wide, largest)]
    made = on_device()
    for question, host in zip((own, wide, largest), hosts, strict=True):
        assert_same(question, metrics, made, host)


@pytest.mark.parametrize("link", ["identity", "sigmoid", "log_odds", "softmax"])
def test_links_and_maps_of_outputs(link: Any, on_device: Callable[..., list[Crossing]]) -> None:
    """A segmenter of probabilities whose regions are weighed; a softmax over them is refused, as on the host."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, CLASSES, 3, padding=1), nn.Softmax(dim=1)).eval()
    model = TorchModel(network, (IMAGE,), output_axes=("y", "x", "class"))
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)
    target = Target.regions(images[..., 0] > 0.5, [0, 1, 2], CLASSES, link)
    question = Question(model, (images,), target, batch_size=7, check="off")
    metrics: list[Metric] = [Deletion(4), Insertion(4)]
    if link == "softmax":
        on_device()
        with pytest.raises(InvalidInput, match="second softmax"):
            evaluate(question, some_maps(question), metrics)
        return
    host = evaluate(question, some_maps(question), metrics)
    assert_same(question, metrics, on_device(), host)


def test_folded_copies_stay_there(on_device: Callable[..., list[Crossing]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream's faster copy of the model is on the device, too."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = np.random.default_rng(0).random((4, SIDE, SIDE, 3), np.float32)
    question = Question(TorchModel(network.eval(), (IMAGE,)), (images,), Target.classes([0, 1, 2, 3], 4))
    metrics: list[Metric] = [Deletion(6), Insertion("auto")]
    host = evaluate(question, some_maps(question), metrics)
    monkeypatch.setattr(deletion, "LONG", 0)
    made = on_device()
    assert_same(question, metrics, made, host)
    networks = [
        crossing.backend._predict.__self__.module for crossing in made if crossing.puts
    ]  # the model whose method it is
    assert networks
    assert not any(isinstance(layer, nn.BatchNorm2d) for net in networks for layer in net.modules())


class Border(TorchFunctionMode):
    """Sees whatever a torch tensor is asked for that must wait for its device, or is made of numbers of the host."""

    WAITING = frozenset(
        {"item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__array__", "__index__"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.host = self.made = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        self.waits += name in self.WAITING
        self.host += name == "numpy"
        self.made += name in ("tensor", "as_tensor", "asarray")
        return function(*args, **(kwargs or {}))


CURVES: list[Metric] = [Deletion(24), Insertion(24), Deletion(24, fill="mean"), Insertion(12, unit="patch", size=3)]


def parts(question: Question, maps: int) -> int:
    """Bytes of the inputs; of their fills, a zero and a mean colour each and one matrix that blurs along both axes; of the
    numbers by which pixels are ranked and of the ranks of patches, of each map; of the order of ties, of the rank of
    everything, and of the target's weights."""
    (images,), n = question.inputs, len(question)
    weights = question.target.weights.size * (1 if isinstance(question.model, TorchModel) else 4)
    fills = (1 + 3) * 4 * n + 4 * SIDE**2
    return images.nbytes + fills + 2 * maps * 4 * PIXELS * n + 4 * PIXELS * n + 4 * n + weights


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_traffic(framework: str, on_device: Callable[..., list[Crossing]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What copies are made of crosses once, of a copy 16 bytes, and the stream waits once."""
    question, fetched, fetch = ask(framework, n=8, batch_size=16), [], _EagerTensorBase.numpy
    maps, made = some_maps(question), on_device()
    copies = passes(question, maps, CURVES)

    def numpy(tensor: Any) -> Any:
        fetched.extend([tensor] * bool(tensor.shape.rank))  # scalars of TensorFlow's own lie on the host
        return fetch(tensor)

    evaluate(question, maps, CURVES)  # TensorFlow has traced its graph
    with Border() as border, monkeypatch.context() as patch:
        patch.setattr(_EagerTensorBase, "numpy", numpy)
        evaluate(question, maps, CURVES)
    backend = made[-1]
    assert backend.bytes == parts(question, len(maps)) + 16 * copies
    assert backend.waits == 1
    if framework == "torch":  # nothing else crosses: an upload fills one array of the host, and waiting gives one
        assert (border.waits, border.host, border.made) == (1, backend.puts + 1, 0)
    else:
        assert len(fetched) == 1
    monkeypatch.setattr(on_device_module._Stream, "forget", lambda stream, _: stream._laid.clear())  # nothing is kept
    evaluate(question, maps, CURVES)
    assert made[-1].bytes > 1.2 * (parts(question, len(maps)) + 16 * copies)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_traffic_of_estimates(framework: str, on_device: Callable[..., list[Crossing]]) -> None:
    """Two rounds are two streams; what the host builds crosses whole, which the counter sees."""
    question = ask(framework, n=10)
    maps, made = some_maps(question), on_device()
    evaluate(question, maps, [Deletion({"auto": {"of": 60, "precision": 1e-9}})])
    assert [backend.waits for backend in made if backend.puts] == [1, 1]
    evaluate(question, maps, built := [Deletion(12, fill="noisy_linear")])
    assert made[-1].waits == 2  # the untouched and the filled image are made there, in a stream of their own
    assert made[-1].bytes > passes(question, maps, built) // 2 * question.inputs[0][0].nbytes
    evaluate(question, maps, [Deletion(12)])
    assert made[-1].bytes < passes(question, maps, [Deletion(12)]) // 2 * question.inputs[0][0].nbytes


def pretend(monkeypatch: pytest.MonkeyPatch, scores: Callable[[int], Any]) -> tuple[torch.device, list[int]]:
    """A GPU that is not there, of whose tensors torch knows shapes and devices alone. scores: what so many numbers are that are
    taken from there. Returns the device, and a list to which each taking adds how many tensors it took."""
    cuda, taken = torch.device("cuda:0"), list[int]()

    def put(backend: TorchBackend, values: np.ndarray) -> torch.Tensor:
        dtype = np.float32 if values.dtype == np.float64 else values.dtype
        return torch.empty(values.shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=cuda)

    def take(backend: TorchBackend, tensors: list[torch.Tensor]) -> Any:
        assert {tensor.device for tensor in tensors} == {cuda}
        taken.append(len(tensors))
        return scores(sum(tensor.numel() for tensor in tensors))

    monkeypatch.setattr(TorchBackend, "put", put)
    monkeypatch.setattr(TorchBackend, "take", take)
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)  # it is made there
    return cuda, taken


def test_nothing_waits_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch computes shapes and devices alone here, as of a GPU: what lies elsewhere, or has to know a number, is refused."""
    cuda, taken = pretend(monkeypatch, lambda n: np.zeros(n, np.float32))
    monkeypatch.setattr(TorchBackend, "clock", None)
    question = ask("torch")
    with FakeTensorMode():
        with cuda:
            module = Two().eval()
        model = TorchModel(module, (IMAGE,), device=cuda, standardise={"image": ((0.5,) * 3, (0.2,) * 3)})
        there = Question(model, question.inputs, question.target, batch_size=7, check="off")
        evaluate(there, some_maps(there), [*UNITS[:5], Insertion("auto"), BUILT[0]])
        with pytest.raises(DataDependentOutputException):
            model.predict_there([model.device_backend().put(question.inputs[0])])[0, 0].item()
    assert all(batches > 1 for batches in taken)
    assert taken


def test_memory_there(on_device: Callable[..., list[Crossing]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on the device does not grow with the number of samples."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = dict[int, int]()
    put = TorchBackend.put

    def kept(backend: TorchBackend, values: np.ndarray) -> torch.Tensor:
        laid = put(backend, values)
        alive.add(laid)
        most[n] = max(most.get(n, 0), sum(t.nbytes for t in alive))
        return laid

    monkeypatch.setattr(TorchBackend, "put", kept)
    on_device()
    for n in (8, 40):
        question = ask("torch", n=n)
        evaluate(question, some_maps(question), [Deletion(12), Insertion(12)])
    assert most[40] < 1.1 * most[8]


class Greedy(nn.Module):
    """Has room for a few samples at a time."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.most, self.sizes = error, 4, list[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return torch.tanh(x).mean((2, 3))


NO_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["torch", "cuDNN", "CUDA"])
def test_batches_are_halved(error: Exception, on_device: Callable[..., list[Crossing]]) -> None:
    """On the device as on the host, and a device that has no room for one sample says so."""
    model = TorchModel(Greedy(error).eval(), (IMAGE,))
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)
    question = Question(model, (images,), Target.classes([0, 1, 2], CLASSES), batch_size=16, check="off")
    host = evaluate(question, some_maps(question), [Deletion(5)])
    made = on_device()
    assert_same(question, [Deletion(5)], made, host)
    assert model.module.sizes[-3:] == [4, 4, 2]
    assert made[-1].waits == 1
    model.module.most = 0
    with pytest.raises(OutOfMemory, match="not even one sample"):
        evaluate(question, some_maps(question), [Deletion(5)])


class Paces:
    """A device on which a sample takes so long in batches of each size."""

    def __init__(self, paces: dict[int, float]) -> None:
        self.paces, self.sizes, self.waits = paces, list[int](), 0

    def mark(self) -> int:
        return len(self.sizes)

    def seconds(self, marks: list[int]) -> list[float]:
        self.waits += 1
        return [sum(self.paces[size] * size for size in self.sizes[a:b]) for a, b in pairwise(marks)]

    def work(self, part: np.ndarray) -> int:
        self.sizes.append(len(part))
        return len(part)


@pytest.mark.parametrize("best", ON_DEVICE)
def test_sizes_are_measured_without_waiting(best: int) -> None:
    """All sizes are tried before anybody waits, which is once; a small stream tries what a tenth of it suffices for."""
    clock = Paces({size: 1.0 if size == best else 2.0 for size in ON_DEVICE})
    batched(20_000, DEFAULT_BATCH_SIZE, clock.work, measure=True, clock=clock)
    assert clock.sizes[: 3 * len(ON_DEVICE)] == [size for size in ON_DEVICE for _ in range(3)]
    assert set(clock.sizes[3 * len(ON_DEVICE) : -1]) == {best}
    assert sum(clock.sizes) == 20_000
    assert clock.waits == 1
    short = Paces(dict.fromkeys(ON_DEVICE, 1.0))
    batched(1500, DEFAULT_BATCH_SIZE, short.work, measure=True, clock=short)
    assert short.sizes[:-1] == [32] * (len(short.sizes) - 1)


def test_measured_streams_wait_twice(on_device: Callable[..., list[Crossing]]) -> None:
    """Once for the batch size and once for the scores."""
    clock = Paces(dict.fromkeys(ON_DEVICE, 1.0))
    question = ask("torch", n=40, batch_size=DEFAULT_BATCH_SIZE)
    made = on_device(clock)
    clock.seconds = lambda marks: Paces.seconds(clock, [0, *marks[:-1]]) and [1.0] * (len(marks) - 1)
    evaluate(question, some_maps(question), [Deletion(24)])
    assert (clock.waits, made[-1].waits) == (1, 1)


def test_cpus_are_no_devices() -> None:
    """Nothing changes where NumPy shares the model's memory."""
    assert ask("torch").model.device_backend() is None
    assert ask("keras").model.device_backend() is None
