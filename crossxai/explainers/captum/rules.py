"""How Captum's hooks treat the layers of a twin: the rules it has, and those it lacks."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crossxai.errors import Unsupported
from crossxai.explainers.twins import TorchTwinScores
from crossxai.porting.graph import LINEAR

ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "elu", "sigmoid", "tanh", "softplus", "softmax", "gelu", "silu", "hard_sigmoid",
    "hard_silu", "mish", "selu", "softsign",
}  # fmt: skip
WITH_RULES = LINEAR | ACTIVATIONS | {"max_pool2d", "max_pool3d", "global_max_pool", "multiply"}
"""Ops that DeepLIFT and LRP have a rule for here, Captum's or ours."""
LRP_RULES = ("epsilon", "gamma", "alpha1_beta0")


def hookable_relus(twin: TorchTwinScores, name: str) -> None:
    """Make every ReLU6 of the twin a ReLU to Captum, which looks for that class; `Unsupported` if there is no ReLU at all."""
    import torch
    from torch import nn

    class Relu6(nn.ReLU):
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.relu6(x)

    _exchange(twin.module, lambda module: Relu6() if type(module) is nn.ReLU6 else module)
    if not any(isinstance(module, nn.ReLU) for module in twin.module.modules()):
        raise Unsupported(
            f"{name} changes the gradient at ReLUs, and model {twin.question.model.name!r} has none: use captum.saliency"
        )


def _exchange(module: Any, change: Any) -> None:
    for child_name, child in module.named_children():
        changed = change(child)
        if changed is not child:
            setattr(module, child_name, changed)
        else:
            _exchange(child, change)


def _copied() -> Any:
    """A layer that copies its input, so that a hook on the copy is a hook on nothing else."""
    from torch import nn

    class Copied(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.clone()

    return Copied()


def rescaling(kind: Any, twin: TorchTwinScores, complete: bool) -> Any:
    """Captum's DeepLift (or DeepLiftShap) on a twin, with its Rescale rule for activations it has none for. complete:
    contributions of all windows of a max-pool are added, where Captum's unpooling keeps one of those whose largest
    entry is the same; a softmax is rescaled entry by entry, where Captum subtracts a mean over the whole batch; and
    what comes before a layer is copied, as hooks on an activation's output, which another hook has read, would lose the
    rule of a max-pool after it."""
    from captum.attr._core.deep_lift import nonlinear
    from torch import nn

    extra = (nn.ReLU6, nn.GELU, nn.SiLU, nn.PReLU, nn.Hardsigmoid, nn.Hardswish, nn.Mish, nn.SELU, nn.Softsign)
    # The product with a constant is linear.
    twin.require_rules(WITH_RULES | {"constant"}, "DeepLIFT")

    class Rescaling(kind):  # type: ignore[misc]
        def _is_non_linear(self, module: Any) -> bool:
            return isinstance(module, extra) or bool(super()._is_non_linear(module))

        def _backward_hook(self, module: Any, grad_input: Any, grad_output: Any) -> Any:
            pools = isinstance(module, nn.MaxPool2d | nn.MaxPool3d)
            ours = isinstance(module, extra) or (complete and (pools or isinstance(module, nn.Softmax)))
            if not ours or not self.satisfies_attribute_criteria(module):
                return super()._backward_hook(module, grad_input, grad_output)
            rule = _max_pool if pools else nonlinear
            multipliers = rule(module, module.input, module.output, grad_input, grad_output, eps=self.eps)
            del module.input, module.output
            return multipliers

    method = Rescaling(twin.module)
    if complete:
        _exchange(
            twin.module, lambda module: nn.Sequential(_copied(), module) if method._is_non_linear(module) else module
        )
    return method


def _max_pool(module: Any, inputs: Any, outputs: Any, grad_input: Any, grad_output: Any, eps: float) -> Any:
    """Captum's rule for max-pooling with the contributions of overlapping windows added up: the difference of two maxima, a - b,
    is max(a, b) - b, owed to the input's largest entry, plus a - max(a, b), owed to the baseline's."""
    import torch

    volume = isinstance(module, torch.nn.MaxPool3d)
    pool: Any = torch.nn.functional.max_pool3d if volume else torch.nn.functional.max_pool2d
    x, x0 = inputs.chunk(2)
    y, y0 = outputs.chunk(2)
    largest = torch.max(y, y0)
    settings = module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode, True
    upstream, _ = grad_output.chunk(2)
    owed = torch.zeros_like(x).flatten(2)
    for entries, part in ((x, largest - y0), (x0, y - largest)):
        _, places = pool(entries, *settings)
        owed.scatter_add_(2, places.flatten(2), (upstream * part).flatten(2))
    difference = x - x0
    multipliers = torch.where(difference.abs() < eps, grad_input.chunk(2)[0], owed.view_as(x) / difference)
    return torch.cat([multipliers, multipliers])


def split_shared_activations(twin: TorchTwinScores) -> None:
    """Put a copy, which has a rule, before every activation whose input another layer reads too: on such a tensor Captum would
    add relevance, which it passes through activations, to gradients, of which it makes relevance at layers with rules."""
    from torch import nn

    network, nodes = twin.rebuilt.module, twin.rebuilt.graph.nodes
    readers = Counter(source for node in nodes for source in node.inputs)
    for node in nodes:
        if node.op in ACTIVATIONS and readers[node.inputs[0]] > 1:
            setattr(network, network.submodules[node.name], nn.Sequential(_copied(), network.layer(node.name)))


def attach_lrp_rules(twin: TorchTwinScores, rule: str, epsilon: float) -> None:
    """Give every layer of the twin a rule of its own, convolutions the one named; Captum takes them away after each call."""
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule
    from torch import nn

    class EqualShares(EpsilonRule):  # type: ignore[misc]
        """Half of the relevance of a product to each factor."""

        def _create_backward_hook_input(self, inputs: Any) -> Any:
            return super()._create_backward_hook_input(inputs / 2)

    captum_passes = (nn.ReLU, nn.Tanh)
    passing = (nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softmax, nn.Hardsigmoid,
               nn.Hardswish, nn.Mish, nn.SELU, nn.Softsign)  # fmt: skip
    favouring = {"gamma": GammaRule, "alpha1_beta0": Alpha1_Beta0_Rule}.get(rule)
    for module in twin.module.modules():
        if list(module.children()) or type(module) in captum_passes:
            continue
        if isinstance(module, passing):
            module.rule = IdentityRule()
        elif type(module).__name__ == "Multiply":
            module.rule = EqualShares(epsilon)
        elif favouring is not None and isinstance(module, nn.modules.conv._ConvNd):
            module.rule = favouring()
        else:
            module.rule = EpsilonRule(epsilon)
