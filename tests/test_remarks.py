"""Notes: what explainers say of their own maps reaches files and report; answers show themselves in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from test_report import findings, write_run

from crossxai import Attribution, Modality
from crossxai.attribution import Scores
from crossxai.files import Result, Samples, read_result, read_samples, write_result, write_samples
from crossxai.report import write_report
from crossxai.report.plots import style


def test_notes_go_through_files_into_the_report(tmp_path: Path) -> None:
    write_run(tmp_path, n=4, size=12)
    said = {
        "gradcam.gradcam": {"notes": ("layer features.7 (y, x, channel as measured), grid 7 × 7",)},
        "captum.saliency": {
            "extras": {"unreached.image": np.ones(4, bool), "zero_gradient": np.array([1, 0, 0, 0], bool)}
        },
    }
    for label, changes in said.items():
        path = tmp_path / "explanations" / "pytorch" / f"{label}.h5"
        result = read_result(path)
        write_result(path, replace(result, attribution=replace(result.attribution, **changes)))
        assert read_result(path).attribution.notes == changes.get("notes", ())
    write_report(tmp_path)
    found = findings(tmp_path)
    assert found["notes"]["facts"]["notes"] == [
        note("captum.saliency", kind="unreached", modality="image", samples=4, n=4),
        note("captum.saliency", kind="zero_gradient", samples=1, n=4),
        note("gradcam.gradcam", text="layer features.7 (y, x, channel as measured), grid 7 × 7"),
    ]
    said = found["notes"]["points"]
    assert len(said) == 3
    assert "of 1 of 4 samples" in said[1]
    assert "`gradcam.gradcam` on pytorch: layer features.7 (y, x, channel as measured), grid 7 × 7." in said
    assert "unchecked" not in found


def note(label: str, **fields: Any) -> dict[str, Any]:
    empty = {"text": "", "kind": "", "modality": "", "samples": 0, "n": 0}
    return {"labels": [label], "models": ["pytorch"], **empty, **fields}


def test_files_without_notes_are_read(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=12)
    path = tmp_path / "explanations" / "pytorch" / "captum.saliency.h5"
    with h5py.File(path, "a") as file:
        del file.attrs["notes"]
    assert read_result(path).attribution.notes == ()


def test_a_report_says_that_nothing_was_checked(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=12)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "check": "off"}))
    page = write_report(tmp_path)
    finding = findings(tmp_path)["unchecked"]
    assert finding["tone"] == "warning"
    for path in (page, page.with_suffix(".md")):
        assert finding["headline"].partition("`")[0] in path.read_text(encoding="utf-8")


def test_answers_show_themselves_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, n=3, size=12)
    maps = Attribution((np.zeros((3, 12, 12, 1)),), (Modality.image(),), ("a", "b", "c"), "captum.saliency")
    scores = Scores("deletion", np.array([0.25, 0.75, np.nan]), False, np.zeros((3, 5)), np.linspace(0, 1, 5))
    assert repr(maps) == "Attribution(captum.saliency, native: image (3, 12, 12, 1))"
    assert repr(scores) == "Scores(deletion, lower is better: mean 0.5 of 2 samples, 1 without a value)"
    explanation = read_result(tmp_path / "explanations" / "pytorch" / "captum.saliency.h5")
    for answer in (read_samples(tmp_path / "samples.h5"), explanation):
        assert len(repr(answer)) < 200
        assert "\n" not in repr(answer)


def test_a_volume_says_which_slice_is_shown(tmp_path: Path) -> None:
    volume = Modality("ct", ("z", "y", "x", "channel"), ("hu",), (0.0, 1.0))
    values = np.random.default_rng(0).random((2, 6, 8, 9, 1), np.float32)
    write_samples(tmp_path / "samples.h5", Samples(("a", "b"), (volume,), {"ct": values}, np.arange(2), ("no", "yes")))
    maps = Attribution((values,), (volume,), ("a", "b"), "captum.occlusion")
    write_result(
        tmp_path / "explanations" / "m" / "captum.occlusion.h5", Result("m", "torch", maps.explainer, "captum", maps)
    )
    (tmp_path / "manifest.json").write_text('{"models": [{"name": "m"}]}')
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert text.count(">slice z = 4 of 6</span>") == 4  # below each input and beside each map
    assert 'data-titles="slice z = 1 of 6|slice z = 2 of 6|' in text
    assert "slice y = 5 of 8 · slice x = 5 of 9" in text
    assert style.slice_shown(Modality.image(), values[0, 0]) == ""
    assert style.plane(values[0, ..., 0]).tolist() == values[0, 3, ..., 0].tolist()
