"""What a run sets out to do, in plan.json until the manifest takes its place: how far a stopped run came can be told from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidFile
from crossxai.files import Explanation, read_explanation
from crossxai.files.atomic import write_text

NAME = "plan.json"


def write(
    out: Path,
    draft: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, str]],
    metrics: Mapping[str, Mapping[str, str]],
) -> None:
    """draft: what the manifest will say, as far as it is known. tasks: model → explainer's label → hash of its task. metrics:
    model → metric's label → hash."""
    write_text(out / NAME, json.dumps({**draft, "tasks": tasks, "metrics": metrics}, indent=1))


def read(out: Path) -> dict[str, Any] | None:
    """The plan of a run that is not finished; None if there is none."""
    try:
        found = json.loads((out / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("tasks"), dict) else None


def belonging(plan: Mapping[str, Any], explanations: Iterable[Explanation]) -> list[Explanation]:
    """Those of the plan's own tasks, with the scores of its own metrics: a folder may hold those of an earlier run, too."""
    kept = []
    models = {m.get("name") for m in plan.get("models", [])}
    for e in explanations:
        if e.model not in plan["tasks"] and e.model in models and e.status == "failed":  # as a whole
            kept.append(e)
        if plan["tasks"].get(e.model, {}).get(e.label) == e.task:
            own = plan.get("metrics", {}).get(e.model, {})
            scores = {name: s for name, s in e.scores.items() if own.get(name) == e.judged.get(name, "")}
            kept.append(replace(e, scores=scores))
    return kept


def done(out: Path) -> str:
    """How far a run came, in words; "" if it did not get as far as its plan."""
    plan = read(out)
    if plan is None:
        return ""
    found = []
    for path in sorted((out / "explanations").glob("*/*.h5")):
        try:
            found.append(read_explanation(path))
        except InvalidFile:
            continue  # it is computed again
    return words(plan, belonging(plan, found))


def words(plan: Mapping[str, Any], found: list[Explanation]) -> str:
    """`7 of 24 explanations are done, 3 of them judged`."""
    total = sum(len(labels) for labels in plan["tasks"].values())
    judged = sum(bool(e.scores) or e.status != "ok" for e in found)
    return f"{len(found)} of {total} explanations are done, {judged} of them judged"
