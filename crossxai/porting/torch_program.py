"""A rebuilt torch network as a program of torch.export, which runs without the code that made it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from crossxai.errors import Unsupported
from crossxai.porting.building import first_line
from crossxai.porting.to_torch import TorchGraph
from crossxai.porting.torch_source import agree, examples
from crossxai.process import foreign


def program(alone: nn.Module, network: TorchGraph) -> Any:
    """The torch.export.ExportedProgram of the network that the file builds, for any number of samples of the size at hand.

    Raises `Unsupported` if torch cannot export it, or if the program gives other outputs than the network for three samples.
    """
    any_number = tuple({0: torch.export.Dim.AUTO} for _ in network.inputs)
    try:
        made = torch.export.export(alone, examples(network, 2), dynamic_shapes=any_number)
        with torch.no_grad():
            given = examples(network, 3)
            outputs, theirs = made.module()(*given), alone(*given)
    except foreign() as error:  # AssertionError: of a program that is for two samples alone
        raise Unsupported(f"torch.export cannot write it: {type(error).__name__}: {first_line(error)}") from error
    if not agree(outputs, theirs):
        raise Unsupported("what torch.export writes gives other outputs than the network")
    return made
