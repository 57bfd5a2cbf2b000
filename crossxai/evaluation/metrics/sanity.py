"""Sanity checks: whether a map depends on the trained weights and on the class, and not on where the input's zero lies.

Maps that stay the same with random weights explain something else than the model: edges, often. The controls stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Attribution, Axis, Explainer, Range, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.families import ReexplainingMetric, blocks, generators
from crossxai.evaluation.metrics.similarity import Similarity
from crossxai.evaluation.parameters import Count, finite
from crossxai.model import Array, Inputs, Modality, Model, Randomisable
from crossxai.porting.graph import Graph, Node
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Compared(ReexplainingMetric):
    """A metric of how similar a map is to another one."""

    similarity: Similarity = "spearman"

    higher_is_better: ClassVar[bool] = False
    axis: ClassVar[Axis] = "randomisation"
    range: ClassVar[Range] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity == "spearman":  # ranks do not change under a monotone rescaling, values do
            object.__setattr__(self, "invariant_to", "order")

    def check(self, question: Question) -> None:
        super().check(question)
        similarity.check_space(self.similarity, self.modality_of(question), self.name)


@dataclass(frozen=True, kw_only=True)
class ModelRandomisation(_Compared):
    """Likeness of a map to the maps of the model with its weights drawn anew, from the output down; lower is better.

    Parameters
    ----------
    stages : int
        How many depths, evenly from the top layer with weights to all of them, fewer if there are fewer layers.

    Notes
    -----
    The value is the mean over the stages. The curve runs over the share of layers drawn anew, and starts at 0 with the map
    itself. extras["all"]: the likeness with every layer drawn. How weights are drawn: `crossxai.adapters.checks`; Adebayo
    et al. draw from the initialiser instead, which a trained network does not name.
    """

    stages: Count = 5

    name: ClassVar[str] = "model_randomisation"
    source: ClassVar[str] = "Adebayo et al. 2018"
    curve_over: ClassVar[str] = "layers"
    together: ClassVar[bool] = True  # one copy of the network per depth, not per block

    def check(self, question: Question) -> None:
        super().check(question)
        if not isinstance(question.model, Randomisable):
            raise Unsupported(
                f"{self.name} needs weights that can be drawn anew, which model {question.model.name!r} does not have"
            )

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return len(self.depths(question)) - 1

    def depths(self, question: Question) -> list[int]:
        """Numbers of layers drawn anew, from 0."""
        model = question.model
        assert isinstance(model, Randomisable)
        layers = len(model.weighted(question.inputs))
        if not layers:
            raise Unsupported(f"{self.name}: model {model.name!r} has no layer with weights")
        depths: list[int] = np.unique(np.rint(np.linspace(0, layers, self.stages + 1)).astype(int)).tolist()
        return depths

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        own, model, depths = self.units_of(question, attribution, modality), question.model, self.depths(question)
        assert isinstance(model, Randomisable)
        curve = np.empty((len(question), len(depths)))
        curve[:, 0] = similarity.between(own, own, self.similarity)
        for stage, depth in enumerate(depths[1:], start=1):
            other = replace(question, model=model.randomised(question.inputs, depth, self.seed))
            for rows in blocks(question, explainer):
                moved = self.units_of(other[rows], explainer(other[rows]), modality)
                curve[rows, stage] = similarity.between(own[rows], moved, self.similarity)
        return self.scores(curve[:, 1:].mean(axis=1), curve, np.array(depths) / depths[-1], all=curve[:, -1])


@dataclass(frozen=True, kw_only=True)
class RandomLogit(_Compared):
    """Likeness of a map to the map of another class, drawn per sample; lower is better."""

    name: ClassVar[str] = "random_logit"
    source: ClassVar[str] = "Sixt et al. 2020"

    def check(self, question: Question) -> None:
        super().check(question)
        if question.target.weights.shape[-1] < 2:
            raise Unsupported(f"{self.name} needs another class to explain, the model gives one output")

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        weights = question.target.weights
        steps = [int(rng.integers(1, weights.shape[-1])) for rng in generators(question, self.seed)]
        rolled = np.stack([np.roll(w, step, axis=-1) for w, step in zip(weights, steps, strict=True)])
        other = replace(question, target=replace(question.target, weights=rolled))
        own, moved = self.units_of(question, attribution, modality), self.units_of(other, explainer(other), modality)
        return self.scores(similarity.between(own, moved, self.similarity))


@dataclass(frozen=True, kw_only=True)
class InputShift(ReexplainingMetric):
    """Relative change of a map when the inputs move by a constant and the model moves them back; lower is better.

    Parameters
    ----------
    shift : float, the constant s, in raw units, not 0; the declared range moves along

    Notes
    -----
    ‖Φ(f', x + s) - Φ(f, x)‖ / ‖Φ(f, x)‖ with f'(x) = f(x - s), over one relevance per unit. Methods that compare with a
    fixed baseline, or multiply by the input, are not invariant, and that is the finding: their zero is a choice. A map that
    is zero everywhere has no norm: NaN. extras["pearson"]: the correlation of the two maps.
    """

    shift: float = -1.0

    name: ClassVar[str] = "input_shift"
    higher_is_better: ClassVar[bool] = False
    axis: ClassVar[Axis] = "axiomatic"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Kindermans et al. 2019"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not finite(self.shift) or self.shift == 0:
            raise InvalidInput(f"{self.name}: shift must be a finite number other than 0, got {self.shift!r}")

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        model = Shifted(question.model, modality.name, self.shift)
        moved = replace(question, model=model, inputs=model.moved(question.inputs), part_of=None)
        again = explainer(moved)
        declared = next(m for m in model.modalities if m.name == modality.name)
        own, new = self.units_of(question, attribution, modality), self.units_of(moved, again, declared)
        usable = ranks.usable(own) & ranks.usable(new)
        own, new = (np.where(usable[:, None], v.reshape(len(v), -1).astype(np.float64), 0) for v in (own, new))
        size = np.linalg.norm(own, axis=1)
        far = np.where(size > 0, np.linalg.norm(new - own, axis=1) / np.where(size > 0, size, 1), np.nan)
        return self.scores(np.where(usable, far, np.nan), pearson=similarity.pearson(own, new))


class Shifted:
    """f'(x) = f(x - shift) on one modality, with all the verbs that f has (Kindermans et al. 2019, section 2).

    Gradients at the inputs, layers and attention are those of f, since a shift has derivative one.
    """

    VERBS = ("vjp", "activations", "layer_vjp", "read", "replace", "attention_vjp")
    SAME = ("streams", "output_axes", "computes")

    def __init__(self, inner: Model, modality: str, shift: float) -> None:
        self.inner, self.shift = inner, shift
        self.name = inner.name
        self.place = [m.name for m in inner.modalities].index(modality)
        self.modalities = tuple(
            replace(m, range=(m.range[0] + shift, m.range[1] + shift)) if m.name == modality and m.range else m
            for m in inner.modalities
        )
        # Set on the object, and only where the inner model has them: a protocol is recognised by its verbs.
        for verb in self.VERBS:
            if hasattr(inner, verb):
                setattr(self, verb, self._on_original(getattr(inner, verb)))
        for name in self.SAME:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "graph"):
            self.graph = self._written(inner.graph)

    def moved(self, inputs: Inputs) -> Inputs:
        """The inputs as this model takes them."""
        return self._by(inputs, self.shift)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs of the inner model for the inputs moved back."""
        return self.inner.predict(self._by(inputs, -self.shift))

    def _by(self, inputs: Inputs, shift: float) -> Inputs:
        return tuple(v + v.dtype.type(shift) if i == self.place else v for i, v in enumerate(inputs))

    def _on_original(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def called(inputs: Inputs, *arguments: Any) -> Any:
            return verb(self._by(inputs, -self.shift), *arguments)

        return called

    def _written(self, verb: Callable[[Inputs], Graph]) -> Callable[[Inputs], Graph]:
        def graph(inputs: Inputs) -> Graph:
            """The inner graph with the shift taken off right behind the input."""
            inner = verb(self._by(inputs, -self.shift))
            source = inner.inputs[self.place]
            name = f"{source}_shifted"
            constants = {"mean": np.asarray(self.shift, inner.dtype), "sd": np.asarray(1, inner.dtype)}
            nodes: list[Node] = []
            for node in inner.nodes:
                nodes.append(replace(node, inputs=tuple(name if x == source else x for x in node.inputs)))
                if node.name == source:
                    nodes.append(Node(name, "standardise", (source,), {}, constants))
            output = name if inner.output == source else inner.output
            return Graph(inner.inputs, tuple(nodes), output, inner.layers)

        return graph
