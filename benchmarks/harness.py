"""How much deletion and insertion cost beyond the model's own forward passes: harness time over bare forward time.

    python benchmarks/harness.py [--images 16] [--side 96] [--batch-size 32] [--steps 24] [--repeats 5]

Bare forward is the framework alone on one prepared batch, as many images as the harness scores. The two alternate within
one run, after a warm-up, so that a busy machine slows both; the table gives medians and the ratio of each repeat's pair.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

import crossxai  # before any framework: makes their import order safe
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, passes

Forward = Callable[[], object]


def torch_resnet18(images: np.ndarray) -> tuple[object, Forward]:
    import torch

    from crossxai.adapters.torch import TorchModel
    from crossxai.models import resnet18_torch

    module = resnet18_torch.build(n_classes=2, seed=0).eval()
    batch = torch.from_numpy(images).movedim(-1, 1)  # torch's channels_last layout, the fast one on a CPU

    def forward() -> object:
        with torch.inference_mode():
            return module(batch)

    return TorchModel(module, (crossxai.Modality.image(),)), forward


def keras_resnet18(images: np.ndarray) -> tuple[object, Forward]:
    import tensorflow as tf

    from crossxai.adapters.tensorflow import KerasModel
    from crossxai.models import resnet18_keras

    model = resnet18_keras.build(n_classes=2)
    batch = tf.constant(images)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec((None, *images.shape[1:]))])
    return KerasModel(model, (crossxai.Modality.image(),)), lambda: graph(batch).numpy()


MODELS = {"PyTorch ResNet-18": torch_resnet18, "Keras ResNet-18": keras_resnet18}


def measure(build: Callable[[np.ndarray], tuple[object, Forward]], options: argparse.Namespace) -> list[str]:
    """One row of the table: images, seconds and images per second of both sides, ratio with its range."""
    rng = np.random.default_rng(0)
    n, side, size = options.images, options.side, options.batch_size
    images = rng.random((n, side, side, 3), dtype=np.float32)
    model, forward = build(rng.random((size, side, side, 3), dtype=np.float32))
    target = crossxai.Target.classes(np.zeros(n, dtype=int), 2, link="softmax")
    question = crossxai.Question(model, (images,), target, batch_size=size)
    maps = rng.normal(size=(n, side, side, 1)).astype(np.float32)
    answers = [crossxai.Attribution((maps,), question.modalities, question.ids, "random")]
    metrics = [Deletion(options.steps), Insertion(options.steps)]
    copies = passes(question, answers, metrics)
    batches = copies / size

    def bare() -> None:
        for _ in range(math.ceil(batches)):
            forward()

    def harness() -> None:
        evaluate(question, answers, metrics)

    forward(), harness()  # warm-up: allocation, tracing, thread pools
    # The last batch of the harness is not full: count the bare seconds for the images it scored, not for whole batches.
    pairs = [(seconds(bare) * batches / math.ceil(batches), seconds(harness)) for _ in range(options.repeats)]
    ratios = sorted(h / b for b, h in pairs)
    base, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [
        str(copies),
        f"{base:.2f} s ({copies / base:.0f}/s)",
        f"{whole:.2f} s ({copies / whole:.0f}/s)",
        f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} … {ratios[-1]:.3f})",
    ]


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    columns = ("model", "images scored", "bare forward", "deletion + insertion", "ratio (range)")
    table = Table(*columns, title=f"{options.side} px, batches of {options.batch_size}, medians of {options.repeats}")
    for name, build in MODELS.items():
        try:
            row = measure(build, options)
        except ImportError as error:  # a torch-only or TensorFlow-only environment still gets its half
            row = [f"not run: {error}"]
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
