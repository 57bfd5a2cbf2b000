"""What deletion and insertion cost beyond the model's own forward passes, and beside a plain loop, Xplique, Quantus and torchcam.

    python benchmarks/harness.py [--sides 96 224] [--frameworks torch keras] [--images 16] [--steps 24] [--repeats 5]

ResNet-18, batches of 32, one fresh process per framework and side. "Bare" is the framework alone on one prepared batch, as many
images as the harness scores. The plain loop masks one image at a step and asks the model, one at a time; Xplique's Deletion
and Insertion (through its TorchWrapper on PyTorch), Quantus' PixelFlipping and, on PyTorch, torchcam's DeletionInsertionMetric
give the same curves as what they are compared with, which is checked. All take turns within one run, after a warm-up, so that a
busy machine slows all; medians are shown, and the range of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import crossxai  # before any framework: makes their import order safe
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, passes, presets

BATCH = 32
CLASSES = 2
Forward = Callable[[np.ndarray], np.ndarray]


def torch_model() -> tuple[Any, Any, Any, Forward, Callable[[np.ndarray], Callable[[], object]]]:
    """The model for the harness, for Xplique and for Quantus; a forward pass; and one of a prepared batch."""
    import torch
    from xplique.wrappers import TorchWrapper

    from crossxai.adapters.torch import TorchModel
    from crossxai.studies.networks import torch_networks

    module = torch_networks.resnet18(n_classes=CLASSES, seed=0).eval()

    def forward(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(images).movedim(-1, 1)).numpy()

    def prepared(images: np.ndarray) -> Callable[[], object]:
        batch = torch.from_numpy(images).movedim(-1, 1)  # torch's channels_last layout, the fast one on a CPU

        def run() -> object:
            with torch.inference_mode():
                return module(batch)

        return run

    wrapped = TorchWrapper(module, "cpu", is_channel_first=True, requires_grad=False)
    return TorchModel(module, (crossxai.Modality.image(),)), wrapped, module, forward, prepared


def keras_model(side: int) -> tuple[Any, Any, Any, Forward, Callable[[np.ndarray], Callable[[], object]]]:
    """As `torch_model`."""
    import keras
    import tensorflow as tf

    from crossxai.adapters.tensorflow import KerasModel
    from crossxai.studies.networks import keras_networks

    keras.utils.set_random_seed(0)
    model = keras_networks.resnet18(n_classes=CLASSES, size=side)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec((None, side, side, 3))])

    def prepared(images: np.ndarray) -> Callable[[], object]:
        batch = tf.constant(images)
        return lambda: graph(batch).numpy()

    adapted = KerasModel(model, (crossxai.Modality.image(),))
    return adapted, model, model, lambda images: graph(tf.constant(images)).numpy(), prepared


def plain(forward: Forward, images: np.ndarray, maps: np.ndarray, steps: int) -> np.ndarray:
    """Deletion and insertion into black for class 0, as one would write them in a notebook: curves (2, n, steps + 1)."""
    curves = np.zeros((2, len(images), steps + 1))
    for i, (image, relevance) in enumerate(zip(images, maps, strict=True)):
        order = np.argsort(-relevance.ravel(), kind="stable")
        for step, count in enumerate(np.linspace(0, len(order), steps + 1, dtype=int)):
            for kind, hidden in enumerate((order[:count], order[count:])):
                masked = image.copy().reshape(-1, 3)
                masked[hidden] = 0
                curves[kind, i, step] = forward(masked.reshape(1, *image.shape))[0, 0]
    return curves


def quantus_flipping(model: Any, images: np.ndarray, maps: np.ndarray, step: int, first: bool) -> Callable[[], Any]:
    from quantus import PixelFlipping

    metric = PixelFlipping(
        features_in_step=step, normalise=False, abs=False, disable_warnings=True, display_progressbar=False
    )
    labels, device = np.zeros(len(images), int), "cpu" if first else None
    whole = np.moveaxis(np.broadcast_to(maps, images.shape), -1, 1)  # Quantus wants maps channels first in any case
    return lambda: metric(
        model=model,
        x_batch=np.moveaxis(images, -1, 1).copy() if first else images.copy(),
        y_batch=labels,
        a_batch=whole.copy(),
        channel_first=first,
        batch_size=BATCH,
        device=device,
        softmax=True,
    )


class Given:
    """Maps (n, y, x) in place of torchcam's extractor, as its metric asks for them."""

    def __init__(self, model: Any, maps: np.ndarray) -> None:
        import torch

        self.model, self.maps = model, torch.from_numpy(maps)

    def __call__(self, *_: Any, **__: Any) -> list[Any]:
        return [self.maps]

    def fuse_cams(self, maps: list[Any]) -> Any:
        return maps[0]

    def _hooks_off(self) -> AbstractContextManager[None]:
        return nullcontext()


def torchcam_areas(module: Any, images: np.ndarray, maps: np.ndarray) -> Callable[[], list[float]]:
    """Mean deletion and insertion of class 0."""
    import torch
    from torchcam.metrics import DeletionInsertionMetric

    extractor, batch = Given(module, maps[..., 0]), torch.from_numpy(np.moveaxis(images, -1, 1).copy())

    def turn() -> list[float]:
        metric = DeletionInsertionMetric(extractor, batch_size=BATCH)
        metric.update(batch, 0)
        return [*metric.summary().values()]

    return turn


def measure(framework: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every turn of one framework and side, and how many images were scored."""
    from xplique import metrics as xplique

    rng = np.random.default_rng(0)
    n, steps = options.images, options.steps
    images = rng.random((n, side, side, 3), dtype=np.float32)
    maps = rng.normal(size=(n, side, side, 1)).astype(np.float32)
    adapted, for_xplique, for_quantus, forward, prepared = torch_model() if framework == "torch" else keras_model(side)
    bare = prepared(rng.random((BATCH, side, side, 3), dtype=np.float32))
    target = crossxai.Target.classes(np.zeros(n, dtype=int), CLASSES)
    question = crossxai.Question(adapted, (images,), target, batch_size=BATCH)
    probable = crossxai.Question(adapted, (images,), crossxai.Target(target.weights, "softmax"), batch_size=BATCH)
    answers = [crossxai.Attribution((maps,), question.modalities, question.ids, "random")]
    both = [Deletion({"linspace": steps}, "zero"), Insertion({"linspace": steps}, "zero")]
    step = side * side * 3 // steps
    flipping = [Deletion({"pixels": step}, "minimum", unit="element", ties="unstable", endpoints="no_start")]

    one_hot = np.eye(CLASSES, dtype=np.float32)[np.zeros(n, dtype=int)]
    options_of = {"batch_size": BATCH, "baseline_mode": 0.0, "steps": steps, "max_percentage_perturbed": 1.0}
    theirs = [kind(for_xplique, images, one_hot, **options_of) for kind in (xplique.Deletion, xplique.Insertion)]
    turns: dict[str, Callable[[], Any]] = {
        "bare": lambda: [bare() for _ in range(math.ceil(passes(question, answers, both) / BATCH))],
        "ours": lambda: evaluate(question, answers, both)[0],
        "loop": lambda: plain(forward, images, maps[..., 0], steps),
        "xplique": lambda: [metric(maps) for metric in theirs],
        "ours, PixelFlipping": lambda: evaluate(probable, answers, flipping)[0],
        "quantus": quantus_flipping(for_quantus, images, maps, step, framework == "torch"),
    }
    if framework == "torch":
        its = presets.get("torchcam")
        turns["ours, torchcam's steps"] = lambda: evaluate(question, answers, its)[0]
        turns["torchcam"] = torchcam_areas(for_quantus, images, maps)
    found = {name: turn() for name, turn in turns.items()}  # warm-up, and the same curves
    if framework == "torch":
        areas = [scores.value.mean() for scores in found["ours, torchcam's steps"]]
        np.testing.assert_allclose(areas, found["torchcam"], rtol=1e-4, atol=1e-4)
    for i, metric in enumerate(both):
        np.testing.assert_allclose(found["ours"][i].curve, found["loop"][i], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(metric.total(found["ours"][i]), found["xplique"][i], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["ours, PixelFlipping"][0].curve, found["quantus"], rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.repeats):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - start)
    count = passes(question, answers, both)
    # The last batch of the harness is not full: count the bare seconds for the images it scored, not for whole batches.
    seconds["bare"] = [s * count / BATCH / math.ceil(count / BATCH) for s in seconds["bare"]]
    return {"passes": count, "seconds": seconds}


def row(framework: str, side: int, found: dict[str, Any]) -> list[str]:
    """One row of the table."""
    seconds, count = found["seconds"], found["passes"]

    def ratio(one: str, other: str) -> str:
        pairs = sorted(a / b for a, b in zip(seconds[one], seconds[other], strict=True))
        return f"{statistics.median(pairs):.2f} ({pairs[0]:.2f} … {pairs[-1]:.2f})"

    base, whole = (statistics.median(seconds[name]) for name in ("bare", "ours"))
    return [
        f"{framework}, {side} px",
        str(count),
        f"{base:.2f} s ({count / base:.0f}/s)",
        f"{whole:.2f} s ({count / whole:.0f}/s)",
        ratio("ours", "bare"),
        ratio("loop", "ours"),
        ratio("xplique", "ours"),
        ratio("quantus", "ours, PixelFlipping"),
        ratio("torchcam", "ours, torchcam's steps") if "torchcam" in seconds else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 224], help="heights and widths in pixels")
    parser.add_argument("--frameworks", nargs="+", choices=["torch", "keras"], default=["torch", "keras"])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument(
        "--steps", type=int, default=24, help="a third of them, times a whole number, must be all pixels"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="measure here and print the seconds, for one of each")
    options = parser.parse_args()
    if options.alone:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.frameworks[0], options.sides[0], options)))
        return
    columns = ("model", "images scored", "bare forward", "deletion + insertion")
    ratios = ("ours / bare", "plain loop / ours", "Xplique / ours", "Quantus / ours", "torchcam / ours")
    table = Table(*columns, *ratios, title=f"ResNet-18, batches of {BATCH}, medians of {options.repeats} (range)")
    for framework in options.frameworks:
        for side in options.sides:
            words = [f"--{name}={getattr(options, name)}" for name in ("images", "steps", "repeats")]
            command = [sys.executable, __file__, "--alone", "--sides", str(side), "--frameworks", framework, *words]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            table.add_row(*row(framework, side, json.loads(done.stdout.splitlines()[-1])))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
