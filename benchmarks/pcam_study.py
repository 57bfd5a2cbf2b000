"""The PatchCamelyon study's evaluation: N images × 100 steps × {Grad-CAM, IG, LIME}, beside the bare passes and a plain loop.

    python benchmarks/pcam_study.py [--images 30] [--steps 100] [--frameworks torch tensorflow] [--repeats 3] [--looped 2]

The embedded ResNet-18 and test patches, deletion and insertion of each explainer's own maps, one fresh process per framework.
"Bare" is the framework alone on one prepared batch, as many images as the harness scores, of the same network. The plain loop,
for the first `--looped` images and integrated gradients, masks one image at one step and asks the model, as the study did; its
seconds per image scored are compared with the harness's, and its curves must be the same. All take turns within one run.
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
from pathlib import Path
from typing import Any

import numpy as np
from harness import BATCH, plain
from rich.console import Console
from rich.table import Table
from scipy.special import softmax

import crossxai  # before any framework: makes their import order safe
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, passes
from crossxai.experiment import loading
from crossxai.experiment import questions as asking
from crossxai.experiment.loading import load_model
from crossxai.experiment.specification import check
from crossxai.explainers import get

EXPLAINERS: dict[str, dict[str, Any]] = {
    "gradcam.gradcam": {"layer": "layer4"},
    "captum.integrated_gradients": {"steps": 50},
    "lime.image": {},
}


def bare_of(framework: str, question: crossxai.Question) -> tuple[Callable[[], object], Callable[[Any], Any]]:
    """A forward pass of one prepared batch by the framework alone, without standardisation; and one from images."""
    images = np.resize(question.inputs[0], (BATCH, *question.inputs[0].shape[1:]))
    if framework == "torch":
        import torch

        module = question.model.module  # type: ignore[attr-defined]
        batch = torch.from_numpy(images).movedim(-1, 1)

        def of_torch() -> object:
            with torch.inference_mode():
                return module(batch)

        return of_torch, question.model.predict
    import tensorflow as tf

    network = question.model.model  # type: ignore[attr-defined]
    graph = tf.function(
        lambda x: network(x, training=False), input_signature=[tf.TensorSpec((None, *images.shape[1:]))]
    )
    fixed = tf.constant(images)
    return lambda: graph(fixed).numpy(), question.model.predict


def measure(framework: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every turn, and how many images each scored."""
    content = {
        "data": {"n": options.images},
        "target": {"measure": "softmax"},
        "models": [{"name": "model", "framework": framework}],
        "explainers": [{"name": name} for name in EXPLAINERS],
        "metrics": [{"name": "deletion"}],
        "batch_size": BATCH,
        "folder": Path(),
    }
    experiment = check(content)
    samples, _ = loading.samples(experiment)
    subject = load_model(experiment.models[0], Path(), progress=False)
    question, measured, *_ = asking.questions(experiment, samples, subject, "model")
    explaining: dict[str, float] = {}
    answers = []
    for name, params in EXPLAINERS.items():
        start = time.perf_counter()
        options_of = {"samples": options.samples} if name == "lime.image" else params
        answers.append(get(name, **options_of)(question))
        explaining[name] = time.perf_counter() - start
    both = [Deletion({"linspace": options.steps}, "zero"), Insertion({"linspace": options.steps}, "zero")]
    bare, predict = bare_of(framework, measured)
    count = passes(measured, answers, both)

    images, maps = measured.inputs[0][: options.looped], answers[1].values[0][: options.looped].sum(axis=-1)
    chosen = measured.target.weights.argmax(axis=1)

    def looped() -> np.ndarray:
        """Curves (2, looped, steps + 1) of integrated gradients, whose maps have no ties that a seed would break."""
        found = []
        for i, (image, relevance) in enumerate(zip(images, maps, strict=True)):
            found.append(
                plain(
                    lambda x, i=i: softmax(predict((x,)), axis=1)[:, chosen[i], None],
                    image[None],
                    relevance[None],
                    options.steps,
                )
            )
        return np.concatenate(found, axis=1)

    turns: dict[str, Callable[[], Any]] = {
        "bare": lambda: [bare() for _ in range(math.ceil(count / BATCH))],
        "ours": lambda: evaluate(measured, answers, both),
        "loop": looped,
    }
    bare(), predict((images[:1],)), predict((np.resize(images, (BATCH, *images.shape[1:])),))  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    results: dict[str, Any] = {}
    for _ in range(options.repeats):
        for name, turn in turns.items():
            start = time.perf_counter()
            results[name] = turn()
            seconds[name].append(time.perf_counter() - start)
    for kind in range(2):
        ours = results["ours"][1][kind].curve[: options.looped]
        np.testing.assert_allclose(ours, results["loop"][kind], rtol=1e-3, atol=1e-4)
    seconds["bare"] = [s * count / BATCH / math.ceil(count / BATCH) for s in seconds["bare"]]
    steps = 2 * options.looped * (options.steps + 1)
    return {"passes": count, "looped": steps, "seconds": seconds, "explaining": explaining}


def row(framework: str, found: dict[str, Any]) -> list[str]:
    """One row of the table."""
    seconds, count = found["seconds"], found["passes"]
    base, whole = (statistics.median(seconds[name]) for name in ("bare", "ours"))

    def ratio(one: list[float], other: list[float]) -> str:
        pairs = sorted(a / b for a, b in zip(one, other, strict=True))
        return f"{statistics.median(pairs):.2f} ({pairs[0]:.2f} … {pairs[-1]:.2f})"

    looped = [s / found["looped"] * count for s in seconds["loop"]]
    return [
        framework,
        str(count),
        f"{base:.1f} s",
        f"{whole:.1f} s",
        ratio(seconds["ours"], seconds["bare"]),
        f"{statistics.median(looped):.0f} s",
        ratio(looped, seconds["ours"]),
        ", ".join(f"{s:.1f}" for s in found["explaining"].values()) + " s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--frameworks", nargs="+", choices=["torch", "tensorflow"], default=["torch", "tensorflow"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--looped", type=int, default=2, help="images that the plain loop takes")
    parser.add_argument("--samples", type=int, default=200, help="LIME's")
    parser.add_argument("--alone", action="store_true", help="measure here and print the seconds, for one framework")
    options = parser.parse_args()
    if options.alone:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.frameworks[0], options)))
        return
    columns = (
        "model",
        "images scored",
        "bare forward",
        "evaluation",
        "evaluation / bare",
        "plain loop",
        "loop / evaluation",
    )
    title = f"{options.images} patches x {options.steps} steps x {len(EXPLAINERS)} explainers, {options.repeats} turns (range)"
    table = Table(*columns, "Grad-CAM, IG, LIME", title=title)
    for framework in options.frameworks:
        words = [f"--{name}={getattr(options, name)}" for name in ("images", "steps", "repeats", "looped", "samples")]
        command = [sys.executable, __file__, "--alone", "--frameworks", framework, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        table.add_row(*row(framework, json.loads(done.stdout.splitlines()[-1])))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
