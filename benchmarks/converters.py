"""The networks and the converters that `porting_tools.py` lays side by side, one function each, so that all are used alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import crossxai  # noqa: F401 - before any framework: makes their import order safe
from crossxai import Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.model import Inputs, Model

FUSION = ("fusion_classifier", "fusion_regressor", "fusion_unet")
OF_TORCH = (
    "resnet18", "squeezenet1_1", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0",
    "convnext_tiny", "vit_b_16", "swin_t", "vit_tiny_patch16_224", "poolformer_s12", *FUSION,
)  # fmt: skip
OF_KERAS = (
    "ResNet50", "Xception", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny", *(f"keras:{name}" for name in FUSION),
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A network, what its adapter has to know, inputs, and inputs 32 pixels larger."""

    net: Any
    modalities: tuple[Modality, ...]
    output_axes: tuple[str, ...]
    inputs: Inputs
    larger: Inputs

    def wrap(self, net: Any, **options: Any) -> Model:
        """Behind an adapter; the original and what a tool made of it alike. A model of Keras 2 is known by its outputs alone."""
        if "keras.src.engine.training" in sys.modules:
            return FunctionModel(
                lambda *given: np.asarray(net(list(given))), self.modalities, output_axes=self.output_axes
            )
        if isinstance(net, nn.Module):
            from crossxai.adapters.torch import TorchModel as Adapter
        else:
            from crossxai.adapters.tensorflow import KerasModel as Adapter
        return Adapter(net, self.modalities, output_axes=self.output_axes, **options)

    def ask(self, model: Model, outputs: np.ndarray) -> Question:
        """What is explained: the class that the original predicts, a regression's value, or a whole mask."""
        if outputs.ndim > 2:
            return Question(model, self.inputs, Target.regions(np.ones(outputs.shape[:-1], bool), 0, outputs.shape[-1]))
        return Question(model, self.inputs, Target.classes(outputs.argmax(axis=1), outputs.shape[1]))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs as torch has them."""
        return tuple(torch.from_numpy(v).movedim(-1, 1).contiguous() for v in self.inputs)

    def shapes(self, sizes_open: bool) -> list[tuple[int | None, ...]]:
        """Of the tensors: any number of samples, and images of any size if sizes are open."""
        return [(None, x.shape[1], *((None, None) if sizes_open and x.ndim > 2 else x.shape[2:])) for x in self.tensors]


def write(name: str, folder: Path) -> Subject:
    """Make a network of the tests by its name, and write it where `read` finds it, in whatever environment a tool needs."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from networks import families

    model, inputs = families.model(name, "float32")
    margin = [(0, 0), (16, 16), (16, 16), (0, 0)]
    larger = tuple(np.pad(v, margin, mode="symmetric") if v.ndim == 4 else v for v in inputs)
    axes = ("y", "x", "class") if name.endswith("fusion_unet") else ("class",)
    made = Subject(model.network, model.modalities, axes, inputs, larger)
    if name in OF_KERAS:
        made.net.save(folder / "model.keras")
        made = replace(made, net=None)
    torch.save(made, folder / "subject.pt")
    return read(folder)


def read(folder: Path) -> Subject:
    """The network as its file holds it: Keras does not save every one whole."""
    made: Subject = torch.load(folder / "subject.pt", weights_only=False)
    if made.net is not None:
        return made
    import keras

    return replace(made, net=keras.saving.load_model(folder / "model.keras"))


class Rearranged(nn.Module):
    """A network that takes and gives images channels last, or its inputs as a list, as torch modules do it; of a Keras model on
    torch also its layers, which it does not show torch by itself, in evaluation mode, which Keras is told with each call."""

    def __init__(self, net: nn.Module, channels_last: bool = False) -> None:
        super().__init__()
        self.net, self.channels_last, self.keras = net, channels_last, hasattr(net, "get_config")
        self.layers = nn.ModuleList(net.layers if self.keras else ())
        for layer in self.layers:
            list(layer.named_parameters())  # Keras makes modules for them when it is asked, in training mode
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> Rearranged:
        """A copy of a Keras model is in training mode."""
        return Rearranged(deepcopy(self.net, memo), self.channels_last)

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.channels_last:
            inputs = tuple(x.movedim(1, -1) for x in inputs)
        if self.keras:  # takes a list, and is told that it is not trained
            inputs = (list(inputs) if len(inputs) > 1 else inputs[0],)
        output: Tensor = self.net(*inputs, **({"training": False} if self.keras else {}))
        return output.movedim(-1, 1) if self.channels_last else output


Way = Callable[[Subject, Path], Model]


class Tool(NamedTuple):
    """A converter: the packages it needs, what it reads, in what the result runs, and the ways to use it, best first."""

    packages: tuple[str, ...]
    reads: tuple[str, ...]
    runs_in: str
    ways: Mapping[str, Way]
    backend: str = "tensorflow"


def of_crossxai(given: Subject, _folder: Path) -> Model:
    from crossxai.porting import twin

    to: Any = "keras" if isinstance(given.net, nn.Module) else "torch"
    made = twin(given.wrap(given.net), given.inputs, to, trains=True)  # as `xai.port` does
    return given.wrap(made.module)


def by_onnx2keras(dynamo: bool, channels_last: bool, sizes_open: bool) -> Way:
    def convert(given: Subject, folder: Path) -> Model:
        import onnx
        from onnx2keras import onnx_to_keras

        names, file = [m.name for m in given.modalities], folder / "model.onnx"
        any_number: dict[str, Any] = (
            {"dynamic_shapes": tuple({0: torch.export.Dim.DYNAMIC} for _ in names), "verbose": False}
            if dynamo
            else {"dynamic_axes": {name: {0: "n"} for name in names}}
        )
        torch.onnx.export(given.net, given.tensors, file, input_names=names, dynamo=dynamo, **any_number)
        shapes = [shape[1:] for shape in given.shapes(True)] if sizes_open else None
        made = onnx_to_keras(onnx.load(file), names, shapes, change_ordering=channels_last, verbose=False)
        return given.wrap(made, data_format="channels_last" if channels_last else "channels_first")

    return convert


def in_a_wrapper(given: Subject, _folder: Path) -> Model:
    import keras

    ends = [keras.Input(shape[1:]) for shape in given.shapes(True)]
    with torch.no_grad():  # not every network can be asked for its shapes without values
        shape = tuple(given.net(*given.tensors).shape[1:])
    shape = (None, *(shape if len(shape) == 1 else (shape[0], None, None)))
    made = keras.Model(ends, keras.layers.TorchModuleWrapper(given.net, output_shape=shape)(*ends))
    return given.wrap(Rearranged(made))


def on_torch(given: Subject, folder: Path) -> Model:
    import keras

    net = keras.saving.load_model(folder / "model.keras")
    images = [place for place, layer in enumerate(net.layers) if len(getattr(layer.output, "shape", ())) == 4]
    axes = {f"layers.{place}": ("y", "x", "channel") for place in images}
    return given.wrap(Rearranged(net, channels_last=True), layer_axes=axes)


def by_onnx2torch(given: Subject, folder: Path) -> Model:
    from onnx2torch import convert

    given.net(list(given.inputs) if len(given.inputs) > 1 else given.inputs[0])  # it has to have been called
    given.net.export(folder / "model.onnx", format="onnx", verbose=False)
    return given.wrap(Rearranged(convert(folder / "model.onnx"), channels_last=True))


def by_nobuco(sizes_open: bool) -> Way:
    def convert(given: Subject, _folder: Path) -> Model:
        import nobuco

        last, tensors = nobuco.ChannelOrder.TENSORFLOW, given.tensors
        shapes = dict(zip(tensors, given.shapes(sizes_open), strict=True))
        how = {"inputs_channel_order": last, "outputs_channel_order": last, "trace_shape": sizes_open}
        made = nobuco.pytorch_to_keras(given.net, args=list(tensors), input_shapes=shapes, **how)
        return given.wrap(made)

    return convert


EXPORTERS = {True: "new", False: "old"}
TOOLS = {
    "CrossXAI": Tool(("crossxai",), ("torch", "Keras"), "the other framework", {"": of_crossxai}),
    "onnx2keras": Tool(
        ("onnx2keras", "onnx", "onnxscript"),
        ("torch",),
        "Keras on TensorFlow",
        {
            f"{EXPORTERS[dynamo]} exporter, {order}": by_onnx2keras(dynamo, *how)
            for order, how in {
                "channels last, sizes open": (True, True),
                "channels last": (True, False),
                "channels first": (False, False),
            }.items()
            for dynamo in EXPORTERS
        },
    ),
    "nobuco": Tool(
        ("nobuco",), ("torch",), "Keras 2", {"sizes open": by_nobuco(True), "sizes fixed": by_nobuco(False)}
    ),
    "TorchModuleWrapper": Tool(("keras",), ("torch",), "Keras on torch alone", {"": in_a_wrapper}, "torch"),
    "Keras on torch": Tool(("keras",), ("Keras",), "Keras on torch", {"": on_torch}, "torch"),
    "ONNX and onnx2torch": Tool(("tf2onnx", "onnx2torch", "onnx"), ("Keras",), "torch", {"": by_onnx2torch}),
}
