"""From a folder of photographs to a report: one command of ours beside the same by hand with Captum and Quantus.

    python benchmarks/first_report.py [--size 96]

Twelve photographs of scikit-image of different sizes with a CSV of labels, a MobileNet v3 of torchvision with the weights of a
file; saliency, integrated gradients, Grad-CAM and a random map, deletion in 16 steps, a picture of the maps. Both start as
processes of their own, imports included, one after the other, in turn; the medians are shown. Lines that the user writes are
counted without blank ones, comments and imports. What the script by hand has not: intervals, tests against the control, checks
of the model, notes, a page.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage.data as photographs
import torch
import torchvision
from PIL import Image
from rich.console import Console
from rich.table import Table

NAMES = (
    *("astronaut", "cat", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry", "colorwheel"),
    *("camera", "coins", "moon", "brick"),
)
BY_HAND = Path(__file__).with_name("by_hand.py")


def written(place: Path) -> None:
    """The photographs, their labels and the network's weights."""
    (place / "photos").mkdir()
    rows = ["file,label"]
    for number, name in enumerate(NAMES):
        Image.fromarray(getattr(photographs, name)()).save(place / "photos" / f"{name}.png")
        rows.append(f"{name}.png,{number % 4}")
    (place / "photos" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=4).state_dict(), place / "own.pt")


def lines_of(path: Path) -> int:
    """Lines that somebody has to write: no blank ones, comments, docstrings or imports."""
    kept = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return sum(bool(line) and not line.startswith(("#", '"""', "import ", "from ")) for line in kept)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        written(place)
        ours = [
            *(sys.executable, "-m", "crossxai", "compare", "--model", "torchvision:mobilenet_v3_small@own.pt"),
            *("--data", "photos", "--size", str(given.size), "--out", "report"),
            *("--explainers", "captum.saliency,captum.integrated_gradients,gradcam.gradcam"),
            *("--metrics", "deletion", "--set", "metrics.deletion.params.steps=16"),
        ]
        ways = {
            "crossxai": (1, ours, "report/report.html"),
            "by hand": (
                lines_of(BY_HAND),
                [sys.executable, str(BY_HAND), "photos", "own.pt", str(given.size)],
                "maps.png",
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.repeats):
            for name, (_, command, result) in ways.items():
                subprocess.run(["rm", "-rf", "report", "maps.png"], cwd=place, check=True)
                start = time.perf_counter()
                done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
                seconds[name].append(time.perf_counter() - start)
                if done.returncode or not (place / result).is_file():
                    sys.exit(f"{name}, turn {turn}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        table = Table("", "lines written", "seconds", "ends with", title=f"{len(NAMES)} photographs at {given.size} px")
        for name, (lines, _, result) in ways.items():
            table.add_row(name, str(lines), f"{statistics.median(seconds[name]):.1f}", result)
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
