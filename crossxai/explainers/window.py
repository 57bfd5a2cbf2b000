"""WindowMethod: what occlusion shares, whichever library slides the window."""

from __future__ import annotations

from dataclasses import dataclass

from crossxai.errors import InvalidInput
from crossxai.explainers.method import Method
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class WindowMethod(Method):
    """patch, stride: pixels along each side (columns, for tables). baseline: what a window is filled with, in raw space."""

    patch: int = 16
    stride: int = 8
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.stride <= self.patch:
            given = f"stride {self.stride}, patch {self.patch}"
            raise InvalidInput(f"{self.name}: 0 < stride ≤ patch is needed, got {given}")

    def check_space(self, question: Question, tables: bool = False) -> None:
        """Raise `InvalidInput` if the window is larger than an image (or than a table, where it slides over columns)."""
        for modality, values in zip(question.modalities, question.values, strict=True):
            space = values.shape[1:] if tables and not modality.spatial else values.shape[1:-1]
            if any(size < self.patch for size in space):
                raise InvalidInput(f"{self.name}: patch {self.patch} is larger than modality {modality.name!r} {space}")
