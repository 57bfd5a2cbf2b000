"""What explainers say of their own maps, and what a run left unchecked."""

from __future__ import annotations

import numpy as np

from crossxai.files import Explanation
from crossxai.report import words
from crossxai.report.run import Run, is_control, ok
from crossxai.report.wording import Finding, names, on

UNREACHED = "unreached."
"""Extras of this name and a modality: of which samples the score does not depend on it, as measured."""
ZERO = "zero_gradient"


def remarks(run: Run) -> list[Finding]:
    """The notes of explainers, each said once with who says it, that a run was stopped, and that nothing was checked."""
    found = []
    if run.stopped:
        text = f"This run was stopped before its end: {run.stopped}. The command that began it goes on with the rest."
        found.append(Finding("Stopped", text, run.lacking, 101, "warning"))
    if run.manifest.get("check", "on") == "off":
        text = 'The model’s assumptions were not checked, as asked (`check = "off"`).'
        trusted = "That the model answers the same twice, each sample by itself, and that its gradients are right, is not known."
        found.append(Finding("Not checked", text, (trusted,), 99, "warning"))
    said: dict[str, dict[str, list[str]]] = {}
    for explanation in filter(ok, run.explanations):
        if not is_control(explanation):
            for note in notes(explanation):
                said.setdefault(note, {}).setdefault(explanation.label, []).append(explanation.model)
    points: list[str] = []
    for note, labels in said.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for label, models in labels.items():
            groups.setdefault(tuple(models), []).append(label)
        points += [f"{names(who)}{on(models, run.models)}: {note}." for models, who in groups.items()]
    if points:
        found.append(Finding("Notes", "What explainers say of their own maps.", tuple(points), 22))
    return found


def notes(explanation: Explanation) -> list[str]:
    """An explanation's own notes, and those that its extras amount to."""
    found = [note.rstrip(".") for note in explanation.notes]
    for name, values in explanation.extras.items():
        if not name.startswith((UNREACHED, ZERO)):
            continue
        rows = [bool(np.any(value)) for value in values]
        if not any(rows):
            continue
        whose = "" if all(rows) else f" of {sum(rows)} of {words.count(len(rows), 'sample')}"
        if name.startswith(UNREACHED):
            modality = name.removeprefix(UNREACHED)
            found.append(
                f"the score{whose} does not depend on {modality} as measured: its map is zero because nothing reaches it"
            )
        else:
            found.append(f"the gradient of the score{whose} is zero everywhere")
    return list(dict.fromkeys(found))
