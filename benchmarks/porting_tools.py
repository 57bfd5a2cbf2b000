"""Which tools bring a network to the other framework, whether the result is the same function, and whether it can be explained.

    python benchmarks/porting_tools.py [--networks resnet18 MobileNetV2 …] [--tools CrossXAI onnx2keras …] [--limit 600]

CrossXAI beside converters that others made, on the same networks with random weights and batch-norm statistics, in float32.
The others are no dependencies of the project: one that is missing is a row that says so. They go into an environment of their
own, on top of this one's packages:

    python -m venv converters
    echo "$PWD"/.venv/lib/python3.11/site-packages > converters/lib/python3.11/site-packages/more.pth
    converters/bin/pip install onnx==1.23.2 onnxscript==0.7.2 onnx2keras==0.0.25 onnx2torch==1.5.15 tf2onnx==1.17.0
    converters/bin/python benchmarks/porting_tools.py --python nobuco=keras2/bin/python

nobuco needs Keras 2 and such an environment (here `keras2`) for itself: nobuco==0.17.0 "tensorflow-cpu<2.16"
"numpy<2" tensorflow-addons==0.23.0.

Each network and tool have a process of their own and a time limit, so that a crash is a row. Where a tool can be used in several
ways (both ONNX exporters of torch, sizes open or fixed), they are tried until one is right. Results are wrapped and explained by
the same lines, whoever made them. The columns:

- gap: the largest difference of outputs as a share of how far they vary (`crossxai.porting.certificate.gap`); right up to 1e-3.
- Grad-CAM, DeepLIFT: relative L2 to the original's map; equal up to 1e-3 and twice what rounding makes of the original's own map,
  else in bold. Grad-CAM looks at the layer that gives the same activation as the original's, or at the result's own choice if
  none does. "none": the original has no such map either.
- larger images: whether the result takes images 32 pixels larger and is right there; "none" if the original does not take them.
- seconds: of that way, export and checks of the tool included, imports not; with --certify also, after a +, those of the
  certificate of what CrossXAI made.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from converters import OF_KERAS, OF_TORCH, TOOLS, Subject, Tool, read, write

from crossxai import Question
from crossxai.conventions.agreement import distance
from crossxai.conventions.certificate import METHODS, certify
from crossxai.conventions.floor import in_float64
from crossxai.conventions.models import activations
from crossxai.errors import CrossXAIError
from crossxai.explainers import get
from crossxai.model import Model
from crossxai.porting.certificate import difference, gap, probe_inputs
from crossxai.process import foreign

RIGHT = 1e-3
ORIGINAL = "original"
EXPLAINED = ("Grad-CAM", "DeepLIFT")
Maps = list[np.ndarray]
Facts = dict[str, Any]


def maps(question: Question, method: str, at: Sequence[np.ndarray] = ()) -> tuple[Maps, Maps]:
    """The maps of a question; for Grad-CAM those of each image, at the layers with these activations, and their activations."""
    name, profile = METHODS[method]
    if method != "Grad-CAM":
        return list(get(name, profile=profile)(question).values), []
    found, seen = [], []
    for place, part in enumerate(part for part in question.parts() if part.modalities[0].spatial):
        layer, every = part.cam_layer(), activations(part)
        if at:
            drawable = [layer, *reversed(part.cam_layers())]
            same = (x for x in drawable if every[x].shape == at[place].shape and distance(every[x], at[place]) <= RIGHT)
            layer = next(same, layer)
        found.append(get(name, profile=profile, layer=layer)(part).values[0])
        seen.append(every[layer])
    return found, seen


def original(name: str, folder: Path) -> Facts:
    """Write what the network itself gives: outputs and maps, with what rounding makes of them, and a Keras model's file."""
    given = write(name, folder)
    model = given.wrap(given.net)
    arrays, facts = dict[str, np.ndarray](), Facts()
    for place, values in enumerate(probe_inputs(given.inputs, given.modalities)):
        arrays[f"outputs {place}"] = model.predict(values)
    try:
        arrays["larger"] = model.predict(given.larger)
    except (CrossXAIError, *foreign()) as error:
        facts["larger"] = {"reason": words(error)}
    question = given.ask(model, arrays["outputs 0"])
    for method in EXPLAINED:
        try:
            found, seen = maps(question, method)
        except CrossXAIError as error:
            facts[method] = {"reason": str(error)}
            continue
        exact = in_float64(question)
        facts[method] = {"rounding": 0.0 if exact is None else apart(found, maps(exact, method, seen)[0])}
        arrays |= {f"{method} {place}": values for place, values in enumerate(found)}
        arrays |= {f"layer {place}": values for place, values in enumerate(seen)}
    np.savez(folder / "original.npz", **arrays)
    (folder / "original.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def apart(one: Maps, other: Maps) -> float:
    return max(distance(a, b) for a, b in zip(one, other, strict=True))


def measure(tool: Tool, folder: Path, certificate: bool) -> Facts:
    """The way of the tool that is right, else the one that comes nearest, else what the last one said."""
    if missing := [package for package in tool.packages if importlib.util.find_spec(package) is None]:
        return {"error": f"not installed: {', '.join(missing)}"}
    given = read(folder)
    arrays = dict(np.load(folder / "original.npz"))
    outputs = [arrays[f"outputs {place}"] for place in range(3)]
    best, errors = Facts(), dict[str, str]()
    for way, convert in tool.ways.items():
        start = time.perf_counter()
        try:
            model = convert(given, folder)
            seconds = time.perf_counter() - start
            stored = iter(outputs)
            found = gap(lambda _: next(stored), model.predict, given.inputs, given.modalities)  # noqa: B023 - called here
        except Exception as error:  # whatever somebody else's converter raises is what its row says
            errors[way] = words(error)
            continue
        if not best or found < best["gap"]:
            best = {"way": way, "seconds": seconds, "gap": found, "model": model}
        if found <= RIGHT:
            break
    if not best:
        return {"error": errors[way], "errors": errors}
    model = best.pop("model")
    best |= explained(given.ask(model, outputs[0]), arrays, json.loads((folder / "original.json").read_text()))
    if "larger" in arrays:
        best["larger"] = takes(model, given, arrays["larger"])
    if certificate and tool is TOOLS["CrossXAI"]:
        start = time.perf_counter()
        found = certify(given.ask(given.wrap(given.net), outputs[0]), given.ask(model, outputs[0]))
        best["certificate"] = {"holds": found.holds, "seconds": time.perf_counter() - start}
    return best


def explained(question: Question, arrays: dict[str, np.ndarray], facts: Facts) -> Facts:
    """Per method: how far the maps are from the original's and whether that is rounding, or why there are none."""
    found = Facts()
    layers = [arrays[key] for key in sorted(arrays) if key.startswith("layer")]
    for method in EXPLAINED:
        if "reason" in facts[method]:
            found[method] = {"none": facts[method]["reason"]}
            continue
        try:
            made, _ = maps(question, method, layers)
        except (CrossXAIError, *foreign()) as error:
            found[method] = {"error": words(error)}
            continue
        off = apart(made, [arrays[key] for key in sorted(arrays) if key.startswith(method)])
        found[method] = {"off": off, "equal": off <= RIGHT + 2 * facts[method]["rounding"]}
    return found


def takes(model: Model, given: Subject, wanted: np.ndarray) -> bool:
    try:
        return difference(wanted, model.predict(given.larger)) <= RIGHT
    except (CrossXAIError, *foreign()):
        return False


def words(error: Exception) -> str:
    lines = [line.strip(" │║╭╮╰╯─") for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next(filter(None, lines), '')}"


def alone(name: str, tool: str, folder: Path, options: argparse.Namespace) -> Facts:
    """`original` or `measure` in a process of its own; what ends it is an error."""
    here, python = TOOLS.get(tool), options.python.get(tool, sys.executable)
    command = [
        python,
        "-W",
        "ignore",
        __file__,
        "--alone",
        str(folder),
        "--networks",
        name,
        "--tools",
        tool,
        *["--certify"] * options.certify,
    ]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": here.backend if here else "tensorflow"}
    try:
        done = subprocess.run(
            command, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=options.limit
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no end after {options.limit:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"error": f"process ended with {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measured(
    names: Sequence[str], tools: Sequence[str], options: argparse.Namespace
) -> Iterator[tuple[str, str, Facts]]:
    """(network, tool, what was found), one after the other, each network's original first."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            facts = alone(name, ORIGINAL, Path(folder), options)
            able = [what for what in (*EXPLAINED, "larger") if "reason" not in facts.get(what, {})]
            for tool in tools:
                if ("Keras" if name in OF_KERAS else "torch") in TOOLS[tool].reads:
                    found = facts if "error" in facts else alone(name, tool, Path(folder), options)
                    yield name, tool, found | {"able": able}


def cells(found: Facts) -> list[str]:
    """gap, Grad-CAM, DeepLIFT, larger images, seconds."""
    if "error" in found:
        return [found["error"].replace("|", "/")[:160], *[""] * 4]
    seconds = f"{found['seconds']:.1f}"
    if certificate := found.get("certificate"):
        seconds += f" + {certificate['seconds']:.0f}{'' if certificate['holds'] else ' (fails)'}"
    larger = {True: "yes", False: "no", None: "none"}[found.get("larger")]
    return [f"{found['gap']:.0e}", *(_map_cell(found[method]) for method in EXPLAINED), larger, seconds]


def _map_cell(found: Facts) -> str:
    if "none" in found:
        return "none"
    if "error" in found:
        return f"no: {found['error'].replace('|', '/')[:100]}"
    return f"{found['off']:.0e}" if found["equal"] else f"**{found['off']:.0e}**"


def summary(tool: str, rows: Sequence[Facts]) -> list[str]:
    """How many were converted and are right; of those that the original can, how many explain alike and take larger images."""
    made = [row for row in rows if "error" not in row]
    right = [row for row in made if row["gap"] <= RIGHT]
    return [
        tool,
        TOOLS[tool].runs_in,
        f"{len(made)} of {len(rows)}",
        str(len(right)),
        *(share([row.get(m, {}).get("equal", False) for row in right], rows, m) for m in EXPLAINED),
        share([row.get("larger", False) for row in right], rows, "larger"),
        f"{statistics.median(row['seconds'] for row in made):.1f}" if made else "",
    ]


def share(can: Sequence[bool], rows: Sequence[Facts], what: str) -> str:
    """How many results can, of how many originals."""
    able = sum(what in row["able"] for row in rows)
    return f"{sum(can)} of {able}" if able else "–"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown."""
    for row in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def versions(tools: Sequence[str]) -> str:
    packages = dict.fromkeys(
        ("torch", "torchvision", "timm", "tensorflow", "keras", *(p for t in tools for p in TOOLS[t].packages))
    )
    known = {d.metadata["Name"].replace("-", "_"): d.version for d in importlib.metadata.distributions()}
    return ", ".join(f"{package} {known.get(package, 'missing')}" for package in packages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=(*OF_TORCH, *OF_KERAS), default=(*OF_TORCH, *OF_KERAS))
    parser.add_argument("--tools", nargs="+", choices=(*TOOLS, ORIGINAL), default=tuple(TOOLS))
    parser.add_argument("--limit", type=float, default=600, help="seconds for one network and tool")
    parser.add_argument("--certify", action="store_true", help="measure what CrossXAI makes as `xai.certify` does, too")
    parser.add_argument(
        "--python", nargs="+", default=(), metavar="TOOL=PATH", help="the Python of tools that need their own"
    )
    parser.add_argument("--alone", type=Path, help="measure here, in this folder, and print what was found")
    options = parser.parse_args()
    options.python = dict(words.split("=", 1) for words in options.python)
    if options.alone:
        warnings.simplefilter("ignore")
        name, tool = options.networks[0], options.tools[0]
        run = (
            original(name, options.alone) if tool == ORIGINAL else measure(TOOLS[tool], options.alone, options.certify)
        )
        print("\n" + json.dumps(run))
        return
    found: dict[str, dict[str, Facts]] = {tool: {} for tool in options.tools}
    print(f"{date.today()}; {versions(options.tools)}", flush=True)
    for name, tool, facts in measured(options.networks, options.tools, options):
        print(f"{name} by {tool}: {json.dumps(facts)}", file=sys.stderr, flush=True)
        found[tool][name] = facts
    heads = ("gap", *EXPLAINED, "larger images", "seconds")
    table(
        ["network", "tool", *heads],
        [[n, t, *cells(f)] for n in options.networks for t in found for f in [found[t].get(n)] if f],
    )
    for reads in ("torch", "Keras"):
        some = [(t, [f for n, f in found[t].items() if (n in OF_KERAS) == (reads == "Keras")]) for t in found]
        heads = (
            "result runs in",
            "converted",
            "right",
            *(f"{m} equal" for m in EXPLAINED),
            "larger images",
            "seconds, median",
        )
        table([f"from {reads}", *heads], [summary(tool, rows) for tool, rows in some if rows])


if __name__ == "__main__":
    main()
