"""Classes and objects of Captum, pytorch-grad-cam and Xplique as explainers: the library's own call on the model's network."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from crossxai.assumptions.probes import rounding
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.explainers import native
from crossxai.explainers.functions import RULE, UserExplainer, as_maps, library_of
from crossxai.explainers.method import Maps
from crossxai.model import Array
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True, eq=False)
class _Object(UserExplainer):
    """A library's class, a function that makes an object of the network, or an object that exists already. Samples are
    explained one by one, so that none can depend on the others, and draws from global generators start from the
    sample's name. What the object's network gives must be the question's score."""

    verb: ClassVar[str]
    """The library's method that explains."""

    def build(self, network: Any, question: Question, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The library's object, and the options of the call."""
        if not inspect.isclass(self.given) and library_of(self.given):
            if len(question.free) < len(question.model.modalities):
                raise Unsupported(
                    f"{self.name} was built on the whole network and cannot hold a modality: give its class"
                )
            return self.given, options
        if not inspect.isclass(self.given):
            return self.given(network), options
        kind: Any = self.given
        ours = list(inspect.signature(kind).parameters)
        if ours[:1] not in (["forward_func"], ["model"]) or not hasattr(kind, self.verb):
            raise Unsupported(
                f"{self.name} is built of something else than a network: write lambda m: … that makes it of one"
            )
        call = inspect.signature(getattr(kind, self.verb)).parameters
        for option in options:
            if option not in (*ours, *call):
                raise UnknownName(f"parameter of {self.name}", option, {*ours, *call} - {"self"})
        first = {key: value for key, value in options.items() if key in ours}
        return kind(network, **first), {key: value for key, value in options.items() if key not in first}


@dataclass(frozen=True, kw_only=True, eq=False)
class _OnTorch(_Object):
    forward: ClassVar[str]
    """The object's attribute that is its network."""

    def explain(self, question: Question) -> Maps:
        torch, model = sys.modules.get("torch"), question.model
        if torch is None or not isinstance(getattr(model, "module", None), torch.nn.Module):
            raise Unsupported(
                f"{self.name} runs on a torch module, and model {model.name!r} is none: the names of `crossxai list` run on any"
            )
        labels, scores, network = (
            native.class_labels(question, self.name),
            question.score(),
            native.torch_network(question),
        )
        maps, extras = [], []
        with native.left_alone(network), native.quiet():
            method, options = self.build(network, question, dict(self.options))
            own = getattr(method, self.forward)
            self.require_precision(model, method)
            if self.differentiates(method):
                question.trusted(gradients=True)
            with native.left_alone(own):
                for row, label in enumerate(labels):
                    if network is not model.module:  # type: ignore[attr-defined]
                        network.row = row
                    tensors = self._tensors(own, question, row, int(label), float(scores[row]))
                    with native.seeded(int(question.rng(row, 0).integers(2**31))):
                        attributed, extra = self.attribute(method, tensors, int(label), options)
                    rows = tuple(v[row : row + 1] for v in question.values)
                    maps.append(as_maps(attributed, question.modalities, rows, self.name))
                    extras.append(extra)
                self.release(method)
        values = tuple(np.concatenate(column) for column in zip(*maps, strict=True))
        return values, {key: np.concatenate([extra[key] for extra in extras]) for key in extras[0]}

    def _tensors(self, own: Any, question: Question, row: int, label: int, score: float) -> list[Any]:
        """One sample's tensors, raw or standardised, whichever the object's network gives the question's score for."""
        import torch

        raw = [
            native.tensor(v[row : row + 1], m, question.model)
            for m, v in zip(question.modalities, question.values, strict=True)
        ]
        seen, share = [], max(1e-3, 4 * rounding(question.model, question.values[0]))
        for tensors in (raw, native.standardised(raw, question)):
            with torch.no_grad():
                outputs = own(*tensors)
            if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and label < outputs.shape[1]:
                seen.append(float(outputs[0, label]))
                if abs(seen[-1] - score) <= share * abs(score) + 1e-5:
                    return tensors
        gives = f"{seen[0]:.6g}" if seen else "no scores of classes"
        raise Unsupported(
            f"{self.name} explains another number: its network gives {gives} for output {label} of sample "
            f"{question.ids[row]!r}, the score is {score:.6g} (link {question.target.link!r}): make it of the module that the "
            "model wraps, or give its class; for a probability, make it of a network that ends in one"
        )

    def require_precision(self, model: Any, method: Any) -> None:
        """Raise `Unsupported` where the object cannot run the network in the model's precision."""
        if (precision := native.reduced(model)) and method is self.given:
            raise Unsupported(
                f"{self.name} was made of the network itself, which runs in float32, and model {model.name!r} computes in "
                f"{precision}: give its class"
            )

    def differentiates(self, method: Any) -> bool:
        """Whether the object takes gradients of its network."""
        raise NotImplementedError

    def attribute(
        self, method: Any, tensors: list[Any], label: int, options: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Array]]:
        """Maps of one sample, one per free modality, channels last, and extras."""
        raise NotImplementedError

    def release(self, method: Any) -> None:
        """Let go of what the object holds of its calls."""


def _layer(question: Question, name: str) -> Any:
    """A layer of the user's module."""
    layers = dict(question.model.module.named_modules())  # type: ignore[attr-defined]
    if name not in layers:
        raise UnknownName(f"layer of model {question.model.name!r}", name, layers)
    return layers[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Captum(_OnTorch, library="captum", verb="attribute", forward="forward_func"):
    def build(self, network: Any, question: Question, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if isinstance(options.get("layer"), str):
            options["layer"] = _layer(question, options["layer"])
        return super().build(network, question, options)

    def differentiates(self, method: Any) -> bool:
        import captum.attr

        return isinstance(getattr(method, "attribution_method", method), captum.attr.GradientAttribution)

    def attribute(
        self, method: Any, tensors: list[Any], label: int, options: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Array]]:
        import torch

        if self.differentiates(method):
            tensors = [t.requires_grad_() for t in tensors]
        attributed = method.attribute(tuple(tensors) if len(tensors) > 1 else tensors[0], target=label, **options)
        extras: dict[str, Array] = {}
        if options.get("return_convergence_delta"):
            attributed, delta = attributed
            extras["convergence_delta"] = delta.detach().cpu().numpy().reshape(1, -1)[:, :1]
        every = attributed if isinstance(attributed, tuple) else (attributed,)
        # Of layers in less precision; NumPy knows no bfloat16.
        every = tuple(v.float() if v.dtype == torch.bfloat16 else v for v in every)
        return [v.movedim(1, -1) if v.ndim > 3 else v for v in every], extras


@dataclass(frozen=True, kw_only=True, eq=False)
class _GradCam(_OnTorch, library="gradcam", joint=False, verb="__call__", forward="model"):
    def build(self, network: Any, question: Question, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        from pytorch_grad_cam.base_cam import BaseCAM

        if inspect.isclass(self.given):
            if not issubclass(self.given, BaseCAM):
                raise Unsupported(
                    f"{self.name} is no activation map of its own: see the names gradcam.… of `crossxai list`"
                )
            if "target_layers" not in options:
                options["target_layers"] = [_layer(question, question.cam_layer(options.pop("layer", "")))]
        method, call = super().build(network, question, options)
        known = {id(module) for module in network.modules()} | {id(m) for m in method.model.modules()}
        if not all(id(layer) in known for layer in method.target_layers):
            raise Unsupported(f"{self.name}: target_layers are no layers of the network that is explained")
        return method, call

    def require_precision(self, model: Any, method: Any) -> None:
        if precision := native.reduced(model):
            raise Unsupported(
                f"{self.name}: pytorch-grad-cam hands what layers give to NumPy, which has no bfloat16, and model "
                f"{model.name!r} computes in {precision}: the names gradcam.… of `crossxai list` run in it"
            )

    def differentiates(self, method: Any) -> bool:
        return bool(method.uses_gradients)

    def attribute(
        self, method: Any, tensors: list[Any], label: int, options: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Array]]:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        (image,) = tensors
        if not any(parameter.requires_grad for parameter in method.model.parameters()):
            image.requires_grad_()  # a frozen network has gradients at layers only so
        module = sys.modules[type(method).__module__]
        silent = SimpleNamespace(tqdm=lambda steps, **_options: steps)
        bars = {"tqdm": silent} if "tqdm" in vars(module) else {}
        with native.patched([module], **bars):
            attributed = method(image, [ClassifierOutputTarget(label)], **options)
        # Left there, the library would try to detach gradients that are views, and fail, when it is thrown away.
        method.activations_and_grads.activations = method.activations_and_grads.gradients = []
        return [attributed], {}

    def release(self, method: Any) -> None:
        if method is not self.given:
            method.activations_and_grads.release()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Xplique(_Object, library="xplique", verb="explain"):
    def explain(self, question: Question) -> Maps:
        model: Any = question.model
        if not hasattr(getattr(model, "model", None), "trainable_weights") or len(model.modalities) > 1:
            raise Unsupported(
                f"{self.name} runs on a Keras model of one input, and model {model.name!r} is none: the names of `crossxai list` "
                "run on any"
            )
        if "output_layer" in self.options:
            raise InvalidInput(
                f"{self.name}: output_layer explains another number: wrap the network up to that layer instead"
            )
        labels, network = native.class_labels(question, self.name), native.keras_network(model)
        (values,) = question.values
        targets = np.eye(question.target.out[0], dtype=np.float32)[labels]
        with native.layers_left_alone(network):
            method, options = self.build(network, question, dict(self.options))
            with nullcontext() if network is model.model else native.forgotten(type(method), network):
                return self._explain(method, question, values, targets, options)

    def _explain(self, method: Any, question: Question, values: Array, targets: Array, options: dict[str, Any]) -> Maps:
        if hasattr(method, "_set_channel_reducer"):
            question.trusted(gradients=True)
        own = np.asarray(method.inference_function(method.model, values.copy(), targets)).reshape(len(values), -1)
        scores = question.score()
        if own.shape[1] != 1 or not np.allclose(own[:, 0], scores, rtol=1e-3, atol=1e-5):
            raise Unsupported(
                f"{self.name} explains another number: its model gives {own[0]}, the score is {scores[0]:.6g} "
                f"(link {question.target.link!r}): make it of the model that is wrapped, or give its class"
            )
        attributed = np.asarray(method.explain(values.copy(), targets, **options))
        return as_maps([attributed], question.modalities, question.values, self.name), {}


KINDS: dict[str, type[UserExplainer]] = {"captum": _Captum, "gradcam": _GradCam, "xplique": _Xplique}


@dataclass(frozen=True, kw_only=True, eq=False)
class Factory(UserExplainer):
    """A function of the network that returns a library's object; which library, its first call shows."""

    def explain(self, question: Question) -> Maps:
        network = native.given_network(question)
        with native.left_alone(network):
            library = library_of(self.given(network))
        if library not in KINDS:
            raise InvalidInput(f"{self.name} returned no attribution object: {RULE}")
        kind = KINDS[library](given=self.given, options=self.options, label=self.label)
        explained = [kind.explain(part) for part in kind.parts(question)]
        return tuple(v for maps, _ in explained for v in maps), explained[0][1] if len(explained) == 1 else {}
