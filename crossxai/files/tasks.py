"""What tells one task of a run from another: hashes of samples and metrics; and plan.json, which says what a run sets out to do.

The plan stands in the manifest's place until the run is finished, so that the report knows how far a stopped run came.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Metric
from crossxai.errors import InvalidFile
from crossxai.files import Result, Samples, read_result
from crossxai.files.atomic import write_text
from crossxai.on_demand import OnDemand, blocks, sha256
from crossxai.target import SampleMasks

PLAN = "plan.json"


def fingerprint(samples: Samples) -> str:
    """sha256 over ids, labels and inputs."""
    digest = hashlib.sha256(repr(samples.ids).encode())
    digest.update(samples.labels.tobytes())
    for name, values in samples.inputs.items():
        digest.update(name.encode())
        for block in blocks(values):
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def version(package: str) -> str:
    """A package's installed version, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Those of the packages that are installed."""
    return {name: installed for name in packages if (installed := version(name))}


def content(metric: Metric) -> list[str]:
    """A metric's name and parameters as built, arrays by their hash, so that other masks or seeds are another metric."""
    values = {name: getattr(metric, name) for name in getattr(metric, "__dataclass_fields__", {})}
    digests = {name: sha256(v) if isinstance(v, np.ndarray | OnDemand) else repr(v) for name, v in values.items()}
    return [metric.name, *(f"{name}={digest}" for name, digest in digests.items())]


def plain(params: Any) -> Any:
    """Parameters as JSON can hold them: masks by their size and hash."""
    if isinstance(params, dict):
        return {name: plain(value) for name, value in params.items()}
    return repr(params) if isinstance(params, SampleMasks) else params


def digest(content: dict[str, Any]) -> str:
    """sha256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def write_plan(
    out: Path,
    draft: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, str]],
    metrics: Mapping[str, Mapping[str, str]],
) -> None:
    """draft: what the manifest will say, as far as it is known. tasks: model → explainer's label → hash of its task. metrics:
    model → metric's label → hash."""
    write_text(out / PLAN, json.dumps({**draft, "tasks": tasks, "metrics": metrics}, indent=1))


def read_plan(out: Path) -> dict[str, Any] | None:
    """The plan of a run that is not finished; None if there is none."""
    try:
        plan = json.loads((out / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return plan if isinstance(plan, dict) and isinstance(plan.get("tasks"), dict) else None


def belonging(plan: Mapping[str, Any], explanations: Iterable[Result]) -> list[Result]:
    """Those of the plan's own tasks, with the scores of its own metrics: a folder may hold those of an earlier run, too."""
    current = []
    models = {m.get("name") for m in plan.get("models", [])}
    for e in explanations:
        if e.model not in plan["tasks"] and e.model in models and e.status == "failed":  # as a whole
            current.append(e)
        if plan["tasks"].get(e.model, {}).get(e.label) == e.task:
            hashes = plan.get("metrics", {}).get(e.model, {})
            scores = {name: s for name, s in e.scores.items() if hashes.get(name) == e.score_hashes.get(name, "")}
            current.append(replace(e, scores=scores))
    return current


def done(out: Path) -> str:
    """How far a run came, in words; "" if it did not get as far as its plan."""
    plan = read_plan(out)
    if plan is None:
        return ""
    explanations = []
    for path in sorted((out / "explanations").glob("*/*.h5")):
        try:
            explanations.append(read_result(path))
        except InvalidFile:
            continue  # it is computed again
    return describe_progress(plan, belonging(plan, explanations))


def describe_progress(plan: Mapping[str, Any], explanations: list[Result]) -> str:
    """`7 of 24 explanations are done, 3 of them evaluated`."""
    total = sum(len(labels) for labels in plan["tasks"].values())
    evaluated = sum(bool(e.scores) or e.status != "ok" for e in explanations)
    return f"{len(explanations)} of {total} explanations are done, {evaluated} of them evaluated"
