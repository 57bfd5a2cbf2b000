"""The gallery of a medical set: some of its samples side by side, with maps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput
from crossxai.report.galleries import Panel, chosen, gallery
from crossxai.report.overlays import Mask
from crossxai.studies.medical.samples import MedicalSet


def of_set(
    shown: MedicalSet,
    attribution: Attribution,
    said: Sequence[str] | None = None,
    predicted: Mask | None = None,
    title: str = "",
) -> Figure:
    """The gallery of a medical set: maps of all its samples, and which of them are shown as `chosen` says.

    said: a line about each sample, such as what the model answered. predicted: (n, y, x), the regions that it found.
    """
    if attribution.ids != shown.ids:
        raise InvalidInput(f"maps of {len(attribution)} samples, {shown.task} set of {len(shown)}: ask about its ids")
    mapped = {m.name: values for m, values in zip(attribution.modalities, attribution.values, strict=True)}
    images = [name for name in shown.inputs if name in shown.truth]
    tumours = shown.masks.get("tumour")
    sizes = None if tumours is None else tumours.sum(axis=(1, 2))
    panels = [
        Panel(
            shown.ids[i] if said is None else f"{shown.ids[i]}\n{said[i]}",
            {name: shown.inputs[name][i] for name in images},
            {name: mapped[name][i] for name in images if name in mapped},
            {name: shown.truth[name][i] for name in images},
            None if predicted is None else predicted[i],
            None if predicted is None or tumours is None else tumours[i],
        )
        for i in chosen(shown.task, shown.labels, sizes)
    ]
    return gallery(panels, title, dict.fromkeys(images, (0.0, 1.0)))
