"""What estimated areas cost and how far off they are: 60 images of the embedded histology, ResNet-18, curves of 100 steps.

    python benchmarks/auto_steps.py [--images 60] [--steps 100] [--points 12] [--repeats 300] [--precision 0.001]

The full curves are scored once; that is the truth, and the price to compare with. One estimate runs for real. The repeats
replay the draws of other seeds on the full curves, which gives the same numbers (checked on the real one) without more passes.
"wanted" is the half-width that would cover the truth in 95 % of the repeats if it were known: 1.96 × their spread.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import crossxai  # noqa: F401 - before any framework: makes their import order safe
from crossxai import Question, Target
from crossxai.attribution import Scores
from crossxai.evaluation.curves import Deletion, Insertion, evaluate
from crossxai.evaluation.curves.auto import Draws, estimate
from crossxai.evaluation.curves.estimates import Design, Mean, mean_of
from crossxai.experiment import loading
from crossxai.experiment.loading import load_model
from crossxai.experiment.specification import Experiment, ModelSpec
from crossxai.explainers import get


def ask(images: int) -> tuple[Question, tuple[float, ...]]:
    """The embedded samples and the network trained on them, explaining the logit of its own prediction."""
    spec = ModelSpec(name="resnet18", framework="torch")
    experiment = Experiment.model_validate(
        {
            "data": {"source": "embedded", "n": images},
            "models": [spec],
            "explainers": [{"name": "controls.random"}],
            "metrics": [{"name": "deletion"}],
        }
    )
    samples, _ = loading.samples(experiment)
    subject = load_model(spec, Path())
    values = samples.inputs["image"]
    chosen = np.concatenate([subject.model.predict((v,)) for v in np.array_split(values, 4)]).argmax(axis=1)
    return Question(subject.model, (values,), Target.classes(chosen, 2), samples.ids), subject.mean["image"]


def replay(question: Question, scores: Scores, points: int, seed: int) -> Mean:
    """What `estimate` says with that seed, from the full curves."""
    assert scores.curve is not None
    assert scores.fractions is not None
    design = Design(scores.fractions, (points - 2) // 2)
    drawn = design.draw(Draws(question, seed).offsets)
    rows = np.arange(len(question))[:, None, None]
    ends = np.repeat(scores.curve[:, None, [0, -1]], 2, axis=1)
    return mean_of(design.areas(ends, drawn, scores.curve[rows, drawn]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--points", type=int, default=12, help="masked images per sample and curve, both ends included")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--precision", type=float, default=0.001, help="half-width asked for in the second table")
    parser.add_argument("--explainers", nargs="+", default=["gradcam.gradcam", "controls.random"])
    options = parser.parse_args()
    question, mean = ask(options.images)
    maps = [get(name)(question) for name in options.explainers]
    measured = replace(question, target=replace(question.target, link="softmax"))
    fill = {"dataset_mean": list(mean)}
    metrics = [Deletion(options.steps, fill), Insertion(options.steps, fill)]
    estimate(measured[:2], [replace(m, values=(m.values[0][:2],), ids=m.ids[:2]) for m in maps], metrics)  # warm-up

    start = time.perf_counter()
    full = evaluate(measured, maps, metrics)
    between = time.perf_counter()
    found = estimate(measured, maps, metrics, points=options.points)
    end = time.perf_counter()
    columns = (
        "curve",
        "full mean",
        "one estimate ± half-width",
        "mean |error|",
        "bias ± se",
        "covered",
        "half-width / wanted",
    )
    title = (
        f"{options.images} images, {options.steps} steps: {found.passes} of {found.full_passes} passes "
        f"({found.passes / found.full_passes:.1%}), {end - between:.1f} of {between - start:.1f} s"
    )
    table = Table(*columns, title=title)
    for name, row, estimates in zip(options.explainers, full, found.table, strict=True):
        for scores, one in zip(row, estimates, strict=True):
            np.testing.assert_allclose(replay(measured, scores, options.points, 0).mean, one.mean, atol=1e-5)
            runs = [replay(measured, scores, options.points, seed) for seed in range(options.repeats)]
            errors = np.array([run.mean for run in runs]) - scores.value.mean()
            wanted = 1.96 * errors.std()
            half = np.mean([(run.high - run.low) / 2 for run in runs])
            table.add_row(
                f"{name} {scores.metric}",
                f"{scores.value.mean():.4f}",
                f"{one.mean:.4f} ± {(one.high - one.low) / 2:.4f}",
                f"{np.abs(errors).mean():.5f}",
                f"{errors.mean():+.5f} ± {errors.std() / np.sqrt(len(errors)):.5f}",
                f"{np.mean([run.low <= scores.value.mean() <= run.high for run in runs]):.1%}",
                f"{half / wanted:.2f}",
            )
    console = Console(width=150)
    console.print(table)

    asked = estimate(measured, maps, metrics, points=options.points, precision=options.precision)
    table = Table(
        "curve", "error", "half-width", "passes a sample", title=f"precision ± {options.precision:g} asked for"
    )
    for row, estimates in zip(full, asked.table, strict=True):
        for scores, one in zip(row, estimates, strict=True):
            error, half = one.mean - scores.value.mean(), (one.high - one.low) / 2
            table.add_row(f"{one.explainer} {one.metric}", f"{error:+.5f}", f"{half:.5f}", f"{one.points.mean():.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
