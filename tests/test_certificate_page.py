"""The page of a certificate says what the record says, whatever was measured, in words that hold for it; without a framework."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_page import Page

import crossxai as xai
from crossxai.conventions.certificate_result import Certificate, LayerPair, Line, MapPair
from crossxai.conventions.models import ModelParity
from crossxai.conventions.search import Switch
from crossxai.report.certificate import About, Network, certificate_html, parts, write_certificate

LINES = (
    Line("outputs", "samples", "float64", 3e-15),
    Line("outputs", "samples", "float32", 2e-6, 1e-6),
    Line("outputs", "noise", "float32", 1e-6),
    Line("gradients", "samples", "float32", 1e-5),
    Line("explanation", "occlusion", "float32", 1e-5),
    Line("explanation", "DeepLIFT", "float32", float("nan"), reason="needs <module>"),
    Line("training", "running statistics after one batch", "float64", 1e-16),
)
RNG = np.random.default_rng(0)
MAPS = tuple(RNG.random((2, 8, 8, 1)))
HOLDS = Certificate(
    "torch & co",
    "<keras>",
    LINES,
    tuple(LayerPair(f"conv{i}", f"conv2d_{i}", 1e-16 * i) for i in range(4)),
    "float64",
    ModelParity(2e-6, 1e-5),
    norms=(LayerPair("norm", "norm", 1e-16),),
    shapes={"image": (3, 8, 8, 3)},
    sha256="5" * 64,
    sample=1,
    maps=(MapPair("occlusion", xai.Modality.image(), RNG.random((8, 8, 3)), *MAPS),),
)
ABOUT = About(
    (Network("torch & co", "torch", "a" * 64, random=True), Network("<keras>", "tensorflow", "b" * 64)),
    "keras",
    {"model.keras": "c" * 64},
    command="crossxai certify a b",
)


def with_line(which: int, **changes: Any) -> Certificate:
    lines = list(LINES)
    lines[which] = replace(lines[which], **changes)
    return replace(HOLDS, lines=tuple(lines))


def written(certificate: Certificate, folder: Path, about: About = ABOUT) -> tuple[Page, str]:
    """The page, and its conclusion."""
    page = Page(write_certificate(folder / "c.json", certificate, about).read_text(encoding="utf-8"))
    ((_, conclusion),) = page.all("p", class_="conclusion")
    return page, conclusion


def test_the_page_of_a_port_that_holds(tmp_path: Path) -> None:
    page, conclusion = written(HOLDS, tmp_path)
    assert conclusion == (
        "The certificate holds: as far as measured, both networks are one function. Their outputs differ by at most 1 part in "
        "500,000 of how far outputs vary from sample to sample, which is rounding; computed in double precision, they agree to "
        "14 digits."
    )
    text = page.texts[0]
    assert all(digest * 64 in text for digest in "abc5")
    assert "torch & co has random weights" in text
    assert "its port to Keras" in text
    assert "DeepLIFT: needs <module>" in text  # a name is text, not an element
    assert [name for name, _, _ in page.elements].count("module") == 0
    assert "crossxai certify a b" in text
    assert "Further training: not both" not in text
    assert len(list(page.all("img"))) == 3  # layers, batch norms, maps
    assert all(given["src"].startswith("data:image/") for given, _ in page.all("img"))
    assert not list(page.all("a"))
    facts = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert facts["holds"]
    assert facts["samples"]["shapes"] == {"image": [3, 8, 8, 3]}
    assert facts["networks"][1]["weights"] == "b" * 64
    assert facts["files"] == {"model.keras": "c" * 64}
    assert facts["versions"]["numpy"] == np.__version__


def test_the_page_names_the_first_layer_that_differs(tmp_path: Path) -> None:
    layers = tuple(replace(p, distance=d) for p, d in zip(HOLDS.layers, (0.0, 1e-16, 0.02, float("inf")), strict=True))
    page, conclusion = written(replace(with_line(1, value=0.34), layers=layers), tmp_path)
    assert conclusion == (
        "The certificate fails: they are not the same function. Outputs differ by 34% of how far outputs vary from sample to "
        "sample (on samples), where rounding would make at most 1 part in 9,900. The first layer that differs is conv2, in "
        "<keras> conv2d_2."
    )
    ((_, layer_by_layer),) = page.all("section", id="layers")
    assert "Every layer before conv2 gives the same. That one differs by 2.0%" in layer_by_layer
    assert "2 of 4 layers are beyond the limit" in layer_by_layer
    opened = [text for given, text in page.all("details") if "open" in given]
    assert [text.partition(":")[0] for text in opened] == ["Outputs"]
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["layers"][3]["distance"] is None


INFINITE = float("inf")
OTHER_SHAPES = Certificate(
    "a", "b", (Line("outputs", "samples", "float32", INFINITE),), (), "float32", ModelParity(INFINITE, float("nan"))
)
FAILING = {
    "double precision": (
        with_line(0, value=3e-8),
        "Outputs differ by 1 part in 33 million of how far outputs vary from sample to sample (on samples, in double precision)",
    ),
    "gradients": (with_line(3, value=0.2), "Gradients at the inputs differ by 20% (on samples)"),
    "not a number": (with_line(3, value=float("nan")), "Gradients at the inputs differ beyond measure (on samples)."),
    "maps": (with_line(4, value=12.0), "Maps of occlusion differ by 12 times as much, where"),
    "training": (
        with_line(6, value=0.9),
        "both networks compute the same, and train otherwise. Their batch norms' statistics after one batch differ by 90%",
    ),
    "a convention": (
        replace(with_line(1, value=0.5), models=ModelParity(0.5, 0.5, causes=((Switch("channel_order", "bgr"),),))),
        "<keras> behaves as torch & co would with 1 other convention: the order of an image's colours (blue, green, red).",
    ),
    "shapes": (OTHER_SHAPES, "Their outputs have other shapes."),
    "a kind to come": (
        replace(HOLDS, lines=(*LINES, Line("layers", "of tomorrow", "float32", 0.5))),
        "Layers differ by 50% (on of tomorrow)",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_what_fails_is_said(what: str, tmp_path: Path) -> None:
    certificate, words = FAILING[what]
    _, conclusion = written(replace(certificate, layers=(), norms=(), maps=()), tmp_path)  # pictures take time
    assert words in conclusion
    assert "The certificate fails" in conclusion
    assert not re.search(r"nan|inf\b|None", conclusion)


def test_what_was_not_measured_is_said_with_its_reason(tmp_path: Path) -> None:
    bare = replace(HOLDS, lines=LINES[1:3], layers=(), layers_dtype="float32", norms=(), maps=())
    page, conclusion = written(bare, tmp_path)
    assert "could not be asked" in conclusion
    ((_, section),) = page.all("section", id="unmeasured")
    for name in ("Gradients", "Further training", "Double precision", "Layers"):
        assert f"{name}:" in section
    assert not list(page.all("img"))


def test_a_certificate_shows_itself() -> None:
    shown = Page(certificate_html(HOLDS)).texts
    assert any("The certificate holds" in text for text in shown)
    assert HOLDS._repr_html_() == certificate_html(HOLDS)


def test_a_table_and_an_image_have_a_row_each(tmp_path: Path) -> None:
    table = xai.Modality.table(("age", "dose"), name="table")
    pair = MapPair("occlusion", table, np.array([1.0, 2.0]), np.array([0.1, np.nan]), np.array([0.1, -0.2]))
    page, _ = written(replace(HOLDS, maps=(*HOLDS.maps, pair)), tmp_path)
    assert len(list(page.all("img"))) == 3


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.34, "34% of it"), (0.002, "0.2% of it"), (580.0, "580 times it"), (2e-6, "1 part in 500,000 of it"),
     (1e-9, "1 part in 1 billion of it"), (0.0, "less than 1 part in a million million of it"), (float("inf"), "beyond measure")],
)  # fmt: skip
def test_shares_can_be_pictured(share: float, words: str) -> None:
    assert parts(share, "it") == words
