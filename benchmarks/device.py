"""What evaluating and explaining cost beyond forward passes where the model runs on a GPU, and beside what else one would use.

    python benchmarks/device.py [--models resnet18 resnet50 vit_b_16] [--images 64] [--repeats 3] [--minutes 8] [--quick]

Networks of torchvision with random weights, 224 px, on CUDA if there is a GPU, else on the CPU, which the table's title says
(--quick is small enough for it). "Bare" is the module alone on a prepared batch on the device, at the fastest of several batch
sizes. The plain loop masks one image at a step and asks the model, one at a time, and does so, as Quantus' PixelFlipping, for a
few images; torchcam's DeletionInsertionMetric masks on the device. All give the same curves as ours, which is checked. Captum's
integrated gradients and occlusion are its own on tensors of the device, at the bare batch size. Medians; rows for which no time
is left are named. bf16 is `precision="bf16"`, under torch.autocast, also of the bare module; the CPU's memory is the whole
process's, so far.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from harness import Given, plain
from rich.console import Console
from rich.table import Table

import crossxai  # before any framework: makes their import order safe

# isort: split
import torch
import torchvision
from captum import attr

from crossxai.adapters.checks import Precision
from crossxai.adapters.torch import TorchModel
from crossxai.adapters.torch_computing import autocast
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, passes, presets
from crossxai.explainers import get

CLASSES = 1000
FEW = 4
"""Images of the loop and of Quantus, whose seconds are scaled to all."""
SIZES = (8, 16, 32, 64, 128, 256, 512)
RATIOS = ("plain loop", "Quantus", "torchcam")
COLUMNS = ("model", "bare, images/s (batch)", "evaluate / bare", *(f"{name} / ours" for name in RATIOS))
MORE = ("ours / Captum: IG", "occlusion", "peak GiB: bare", "ours", "curves' difference to float32")


def seconds(turn: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median of some turns, each of which the device has ended; one before them warms up."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        turn()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def peak(turn: Callable[[], object], device: torch.device) -> float:
    """GiB that were held at most: of the GPU in this turn, of the CPU's process so far."""
    if device.type != "cuda":
        turn()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    turn()
    return torch.cuda.max_memory_allocated(device) / 2**30


def bare(
    module: torch.nn.Module, side: int, precision: Precision, device: torch.device, most: int
) -> tuple[float, int]:
    """Images per second at the best batch size, and that size."""
    best = (0.0, 0)
    for size in [size for size in SIZES if size <= most]:
        batch = torch.rand(size, side, side, 3, device=device).movedim(-1, 1)
        try:
            with torch.inference_mode(), autocast(device, precision):
                pace = size / seconds(lambda batch=batch: module(batch), 3, device)
        except torch.cuda.OutOfMemoryError:
            break
        best = max(best, (pace, size))
    return best


def rivals(module: torch.nn.Module, images: np.ndarray, maps: np.ndarray, steps: int, size: int, device: Any) -> Any:
    """Turns of others, with ours that gives the same curves: name → (turn, ours, images, whether they agree)."""
    from quantus import PixelFlipping
    from torchcam.metrics import DeletionInsertionMetric

    tensors = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to(device)
    question = ask(module, images, device, "identity")
    answers = [crossxai.Attribution((maps,), question.modalities, question.ids, "random")]
    both = [Deletion({"linspace": steps}, "zero"), Insertion({"linspace": steps}, "zero")]

    def forward(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(batch).movedim(-1, 1).to(device)).cpu().numpy()

    def torchcam() -> list[float]:
        given = Given(module, maps[..., 0])
        given.maps = given.maps.to(device)
        metric = DeletionInsertionMetric(given, batch_size=size)
        metric.update(tensors, 0)
        return [*metric.summary().values()]

    step = images[0].size // steps
    flip = PixelFlipping(features_in_step=step, normalise=False, abs=False, disable_warnings=True)
    labels, whole = np.zeros(FEW, int), np.moveaxis(np.broadcast_to(maps, images.shape), -1, 1)[:FEW].copy()
    probable = ask(module, images, device, "softmax")[:FEW]
    flipped = [Deletion({"pixels": step}, "minimum", unit="element", ties="unstable", endpoints="no_start")]
    few = [crossxai.Attribution((maps[:FEW],), probable.modalities, probable.ids, "random")]

    def quantus() -> Any:
        batch = np.moveaxis(images[:FEW], -1, 1).copy()
        words = {"channel_first": True, "batch_size": FEW, "device": str(device), "softmax": True}
        return flip(model=module, x_batch=batch, y_batch=labels, a_batch=whole.copy(), **words)

    def same(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)

    def curves() -> Any:
        return evaluate(question, answers, both)[0]

    return {
        "plain loop": (
            lambda: plain(forward, images[:FEW], maps[:FEW, ..., 0], steps),
            curves,
            len(images) / FEW,
            lambda ours, theirs: [same(s.curve[:FEW], own) for s, own in zip(ours, theirs, strict=True)],
        ),
        "Quantus": (
            quantus,
            lambda: evaluate(probable, few, flipped)[0][0].curve,
            1.0,
            same,
        ),
        "torchcam": (
            torchcam,
            lambda: [s.value.mean() for s in evaluate(question, answers, presets.get("torchcam"))[0]],
            1.0,
            same,
        ),
    }


def ask(
    module: torch.nn.Module, images: np.ndarray, device: Any, link: str, precision: Precision = "float32"
) -> crossxai.Question:
    """The question of class 0; the batch size is measured."""
    target = crossxai.Target.classes(np.zeros(len(images), int), CLASSES, link)
    model = TorchModel(module, (crossxai.Modality.image(),), device=device, precision=precision)
    return crossxai.Question(model, (images,), target)


def captum(module: torch.nn.Module, images: np.ndarray, steps: int, size: int, device: Any, repeats: int) -> list[str]:
    """Ours over Captum's own, for the same maps."""
    few, side = images[:FEW], images.shape[1]
    tensors, question = (
        torch.from_numpy(np.moveaxis(few, -1, 1).copy()).to(device),
        ask(module, few, device, "identity"),
    )
    question = crossxai.Question(question.model, (few,), question.target, batch_size=size)
    window, shape = {"patch": side // 8, "stride": side // 8}, (3, side // 8, side // 8)
    pairs = [
        (
            lambda: get("captum.integrated_gradients", steps=steps)(question),
            lambda: attr.IntegratedGradients(module).attribute(
                tensors, target=0, n_steps=steps, internal_batch_size=size
            ),
        ),
        (
            lambda: get("captum.occlusion", **window)(question),
            lambda: attr.Occlusion(module).attribute(
                tensors, shape, strides=shape, target=0, perturbations_per_eval=max(size // FEW, 1)
            ),
        ),
    ]
    words = []
    for ours, theirs in pairs:
        own, other = ours().values[0], theirs().detach().movedim(1, -1).cpu().numpy()
        alike = np.corrcoef(np.broadcast_to(own, other.shape).ravel(), other.ravel())[0, 1]
        assert alike > 0.99, alike
        words.append(f"{seconds(ours, repeats, device) / seconds(theirs, repeats, device):.2f}")
    return words


def row(name: str, precision: Precision, options: argparse.Namespace, device: Any, known: dict[str, Any]) -> list[str]:
    """One row of the table; known: the areas of each model in float32."""
    torch.manual_seed(0)
    size = {"image_size": options.side} if name.startswith("vit") else {}
    module = torchvision.models.get_model(name, num_classes=CLASSES, **size).eval()
    if name.startswith("vit"):
        torch.nn.init.normal_(module.heads.head.weight, std=0.02)  # torchvision's are all zero
    module = module.to(device, memory_format=torch.channels_last)
    rng, n, side = np.random.default_rng(0), options.images, options.side
    images, maps = rng.random((n, side, side, 3), np.float32), rng.normal(size=(n, side, side, 1)).astype(np.float32)
    pace, best = bare(module, side, precision, device, options.largest)
    question = ask(module, images, device, "identity", precision)
    answers = [crossxai.Attribution((maps,), question.modalities, question.ids, "random")]
    both = [Deletion({"linspace": options.steps}, "zero"), Insertion({"linspace": options.steps}, "zero")]
    batch = torch.rand(best, side, side, 3, device=device).movedim(-1, 1)

    def ours() -> Any:
        return evaluate(question, answers, both)[0]

    with torch.inference_mode(), autocast(device, precision):
        of_bare = peak(lambda: module(batch), device)
    of_ours, areas = peak(ours, device), np.concatenate([scores.curve for scores in ours()])
    taken = seconds(ours, options.repeats, device)
    words = [f"{name}, {precision}", f"{pace:.0f} ({best})"]
    words.append(f"{taken * pace / passes(question, answers, both):.2f}")
    if precision == "float32":
        known[name] = areas
        for turn, own, scale, agree in rivals(module, images, maps, options.steps, best, device).values():
            agree(own(), turn())
            here = taken if scale > 1 else seconds(own, options.repeats, device)
            words.append(f"{scale * seconds(turn, 1, device) / here:.2f}")
        words += captum(module, images, options.steps, best, device, options.repeats)
    else:
        words += [""] * (len(RATIOS) + 2)
    spread = np.ptp(known[name]) if name in known else np.nan
    off = np.abs(areas - known.get(name, np.nan)).max() / spread
    return [
        *words,
        f"{of_bare:.2f}",
        f"{of_ours:.2f}",
        "" if precision == "float32" else f"{off:.1%} of their range",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="of torchvision; these three, and of --quick the first")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument(
        "--steps", type=int, default=24, help="a third of them, times a whole number, must be all pixels"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--largest", type=int, default=512, help="the largest batch that is tried")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row is begun that would end later")
    parser.add_argument("--quick", action="store_true", help="4 images of 64 px, 6 steps, once: a minute on a CPU")
    options = parser.parse_args()
    options.models = options.models or ["resnet18", "resnet50", "vit_b_16"][: 1 if options.quick else None]
    if options.quick:
        options.images, options.side, options.steps, options.repeats, options.largest = FEW, 64, 6, 1, 32
    warnings.simplefilter("ignore")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU: there is no GPU"
    title = f"On {card}; {options.side} px, {options.images} images, {options.steps} steps of deletion and insertion"
    table, start, longest, left, known = Table(*COLUMNS, *MORE, title=title), time.monotonic(), 0.0, [], {}
    for precision in get_args(Precision):
        for name in options.models:
            began = time.monotonic()
            if began + longest - start > 60 * options.minutes:
                left.append(f"{name}, {precision}")
                continue
            table.add_row(*row(name, precision, options, device, known))
            longest = max(longest, time.monotonic() - began)
    Console(width=200).print(table)
    if left:
        print("no time was left for " + "; ".join(left))


if __name__ == "__main__":
    main()
