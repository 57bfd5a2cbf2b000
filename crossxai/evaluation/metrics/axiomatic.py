"""What a map must satisfy by definition: contributions that add up, and indifference to where the input's zero lies.

Shifted: a model of inputs moved by a constant, which the model moves back, so that it computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Attribution, Axis, Explainer, Needs, Range, Scores
from crossxai.documentation import Documented
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.masking import Masking
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.reexplaining import ReexplainingMetric
from crossxai.model import Array, Inputs, Modality, Model
from crossxai.porting.graph import Graph, Node
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class CompletenessGap(Documented):
    """Distance of the map's sum from the score's change between baseline and input, in the score's units; lower is better.

    Parameters
    ----------
    baseline : str, mapping, callable or None
        A fill, see `fills`; None is the explainer's own parameter `baseline`, zero if it has none.
    modality : str
        The one whose map is summed and that goes to its baseline, "" for all modalities of the map together. Maps that were
        made one modality at a time are complete each for itself: name it.
    relative : bool
        Divide by |f(x) - f(b)|, NaN where that is 0.

    Notes
    -----
    |Σ map - (f(x) - f(b))|, of the score that was explained, not the one that other metrics measure. extras: "sum" and
    "difference". A map that is not finite has no sum: NaN.
    """

    baseline: fills.FillLike | None = None
    modality: str = ""
    relative: bool = False

    name: ClassVar[str] = "completeness_gap"
    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "scores"
    asks: ClassVar[str] = "explained"
    axis: ClassVar[Axis] = "axiomatic"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Sundararajan et al. 2017"
    invariant_to: ClassVar[str] = "nothing"

    def __post_init__(self) -> None:
        if self.baseline is not None:
            object.__setattr__(self, "baseline", fills.resolve(self.baseline))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Gaps (n,), from two forward passes per sample."""
        maps = attribution.modalities
        if self.modality:
            maps = (ranks.modality_of(question, self.modality, self.name),)
        n, total = len(question), np.zeros(len(question))
        for modality in maps:
            relevance = ranks.units(question, attribution, modality).reshape(n, -1).astype(np.float64)
            usable = ranks.usable(relevance)
            total += np.where(usable, np.where(usable[:, None], relevance, 0).sum(axis=1), np.nan)
        (fill, described), names = self._fill(attribution.params), {m.name for m in maps}
        masking, rows = Masking(question), np.arange(n)
        empty = {m.name: partial(fills.filled, fill, m) for m in question.model.modalities if m.name in names}
        codes = np.concatenate([masking.untouched(rows), masking.everything(rows, masking.fill(empty))], axis=1)
        masking.score(codes)
        scores = masking.read(codes)
        difference = scores[:, 0] - scores[:, 1]
        gap = np.abs(total - difference)
        if self.relative:
            gap = np.where(difference != 0, gap / np.where(difference != 0, np.abs(difference), 1), np.nan)
        extras: dict[str, Array] = {"sum": total, "difference": difference}
        params = {
            "baseline": described,
            "modality": self.modality,
            "relative": self.relative,
            "link": question.target.link,
        }
        return Scores(self.name, gap, self.higher_is_better, extras=extras, params=params)

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that this metric cannot judge, without asking the model."""
        if self.modality:
            ranks.modality_of(question, self.modality, self.name)
        if self.baseline is not None:
            for modality, values in zip(question.modalities, question.values, strict=True):
                if self.modality in ("", modality.name):
                    fills.filled(self.baseline, modality, values[:1])

    def passes(self, question: Question) -> int:
        """Forward passes per sample: the input and its baseline."""
        return 2

    def _fill(self, params: Mapping[str, Any]) -> tuple[fills.Fill, object]:
        """What the map was measured from, and its description."""
        own = params.get("baseline")
        if self.baseline is None and isinstance(own, int | float) and not isinstance(own, bool) and math.isfinite(own):
            return lambda values: np.full_like(values, own), own
        named = own if self.baseline is None and isinstance(own, str | Mapping) else "zero"
        fill = fills.resolve(named if self.baseline is None else self.baseline)
        return fill, fills.describe(fill)


@dataclass(frozen=True, kw_only=True)
class InputShift(ReexplainingMetric):
    """Relative change of a map when the inputs move by a constant and the model moves them back; lower is better.

    Parameters
    ----------
    shift : float
        The constant s, in raw units, not 0; the declared range moves along.

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
    invariant_to: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.shift, int | float) and not isinstance(self.shift, bool)
        if not number or not math.isfinite(self.shift) or self.shift == 0:
            raise InvalidInput(f"{self.name}: shift must be a finite number other than 0, got {self.shift!r}")

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return 1

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        model = Shifted(question.model, modality.name, self.shift)
        moved = replace(question, model=model, inputs=model.moved(question.inputs))
        answer = explainer(moved)
        declared = next(m for m in model.modalities if m.name == modality.name)
        own, new = self.of(question, attribution, modality), self.of(moved, answer, declared)
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
    SAME = ("streams", "output_axes")

    def __init__(self, inner: Model, modality: str, shift: float) -> None:
        self.inner, self.shift = inner, shift
        self.name = inner.name
        self.place = [m.name for m in inner.modalities].index(modality)
        moved = [
            replace(m, range=(m.range[0] + shift, m.range[1] + shift)) if m.name == modality and m.range else m
            for m in inner.modalities
        ]
        self.modalities = tuple(moved)
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
