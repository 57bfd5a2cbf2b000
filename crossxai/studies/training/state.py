"""The file that a training under way leaves beside its checkpoint to be: arrays and JSON, of either framework."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import DAMAGED_NPZ
from crossxai.files.atomic import replacing, sweep
from crossxai.studies.training.learner import State

META = "meta"


@dataclass(frozen=True)
class StateFile:
    """path: the file. identity: of the training; a file of another one is none."""

    path: Path
    identity: str

    def write(self, arrays: State, meta: dict[str, Any]) -> None:
        """Put this state in the place of the last."""
        held = json.dumps({"identity": self.identity, **meta})
        with replacing(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **{**arrays, META: np.array(held)})

    def read(self) -> tuple[State, dict[str, Any]] | None:
        """The last state, or None if there is none, it is damaged, or of another training: then training begins anew."""
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                meta = json.loads(str(archive[META][()]))
                if meta.get("identity") != self.identity:
                    return None
                return {name: archive[name] for name in archive.files if name != META}, meta
        except (*DAMAGED_NPZ, KeyError):
            return None

    def remove(self) -> None:
        """The training is over. A state of another one stays."""
        if self.read() is not None:
            self.path.unlink(missing_ok=True)
        sweep(self.path)
