"""Question: why does this model give this score on these inputs? The seam between frameworks and explainers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from crossxai.assumptions import trust
from crossxai.assumptions.cam_layers import CamLayers
from crossxai.assumptions.facts import Fact
from crossxai.assumptions.trust import require_finite
from crossxai.attention import AttentionMap, Attentive
from crossxai.batching import DEFAULT_BATCH_SIZE, Clock, batched
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.measures import Measure
from crossxai.model import Array, Differentiable, Foldable, Inputs, Layered, Modality, Model, check_inputs, equal
from crossxai.on_demand import OnDemand
from crossxai.outputs import check_target

Rows = npt.NDArray[np.intp]
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A model, its inputs and a target; explainers and metrics ask it for scores and gradients, and nothing else.

    What its scores rely on (the model gives the same outputs twice, samples do not see each other, gradients are right) is
    measured once per model, kind of input and batch size, by nine passes on two samples and one of a whole batch; for a target
    with a link, what the outputs are, by one or two more.

    Parameters
    ----------
    model : Model, such as a `TorchModel`, a `KerasModel` or a `FunctionModel`
    inputs : tuple of arrays (n, *axes), one per modality of the model, raw values, float32 or float64
    target : Target or another measure, what is explained or measured, one score per sample; see `measures`
    ids : tuple of n str, optional, stable sample names, which seed every random draw; "0" … "n - 1" if not given
    free : tuple of str, optional
        Names of the modalities that are explained, all if not given; the others keep their own values.
    batch_size : int
        The most samples that a model sees at once, which bounds memory; halved when memory runs out. Not given, it is 32, and
        in a metric's long streams what measures fastest, up to 64.
    check : {"on", "off"}, "off" does not measure what scores rely on, and every result says so
    part_of : Question, optional
        The question about all samples, where this one is about some of them, as in a shard of a run. The model is measured on
        those, and what compares samples with each other looks at them, through `whole`.

    Raises
    ------
    InvalidInput: if the inputs do not fit the modalities or the target
    """

    model: Model
    inputs: Inputs
    target: Measure
    ids: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    batch_size: int = DEFAULT_BATCH_SIZE
    check: Literal["on", "off"] = "on"
    part_of: Question | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (hasattr(self.model, "predict") and hasattr(self.model, "modalities")):
            raise InvalidInput(
                f"a question takes a Model, got {type(self.model).__name__}: wrap it, for example in "
                "crossxai.adapters.torch.TorchModel"
            )
        # By names: `isinstance` would ask for the weights, which not every measure has.
        if not all(hasattr(type(self.target), name) for name in ("score", "cotangent", "out")):
            raise InvalidInput(f"target: write Target.classes(labels, n_classes), got {type(self.target).__name__}")
        modalities = self.model.modalities
        check_inputs(self.model, self.inputs)
        sizes = {len(values) for values in self.inputs} | {len(self.target)}
        if len(sizes) > 1:
            raise InvalidInput(f"inputs and target hold different numbers of samples: {sorted(sizes)}")
        if not len(self):
            raise InvalidInput("there is no sample to explain: the inputs are empty")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InvalidInput(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(len(self))))
        elif not len(self.ids) == len({i for i in self.ids if isinstance(i, str)}) == len(self):
            raise InvalidInput(f"ids must be {len(self)} different strings, got {self.ids!r}")
        if not self.free:
            object.__setattr__(self, "free", tuple(m.name for m in modalities))
        names = [m.name for m in modalities]
        for name in self.free:
            if name not in names:
                raise UnknownName("modality", name, names)
        if self.check not in ("on", "off"):
            raise InvalidInput(f'check is "on" or "off", got {self.check!r}')

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __eq__(self, other: object) -> bool:
        """The same model, and equal inputs, targets and settings."""
        return equal(self, other) if isinstance(other, Question) and self.model is other.model else False

    def __hash__(self) -> int:
        return hash((id(self.model), self.ids, self.free))

    def __deepcopy__(self, memo: dict[int, Any]) -> Question:
        """The same question with arrays of its own, to the same model: the model holds locks and stays the same."""
        return replace(self, inputs=deepcopy(self.inputs, memo), target=deepcopy(self.target, memo))

    def __getitem__(self, rows: Rows | slice | Sequence[int]) -> Question:
        """The same question about some of the samples."""
        if isinstance(rows, int | np.integer):
            raise InvalidInput(f"a question keeps its sample axis: write question[[{rows}]]")
        index = np.arange(len(self))[rows]
        return replace(
            self,
            inputs=tuple(values[index] for values in self.inputs),
            target=self.target[index],
            ids=tuple(self.ids[i] for i in index),
        )

    def part(self, rows: Rows | slice | Sequence[int]) -> Question:
        """The same question about some of the samples, which knows all of them."""
        return replace(self[rows], part_of=self)

    @property
    def whole(self) -> Question:
        """The question about all samples, of which this one may be a part."""
        return self if self.part_of is None else replace(self.part_of, model=self.model, free=self.free)

    def only(self, *names: str) -> Question:
        """The same question with just these modalities free; the others are held at each sample's own values."""
        if not names:
            raise InvalidInput(f"name the modalities to explain: {', '.join(m.name for m in self.model.modalities)}")
        return replace(self, free=names)

    def folded(self) -> Question:
        """The same question to a copy of the model that scores faster, its batch norms folded; itself if there is none.

        For long streams of scores. Scores agree to rounding (3e-4 of what outputs vary by, measured on the first samples,
        four or as many as a batch holds).
        """
        if not isinstance(self.model, Foldable):
            return self
        self.trusted()
        try:  # what holds of a model holds of its copy
            return replace(self, model=self.model.folded(self.few), check="off")
        except (Unsupported, MemoryError):  # nothing to fold, or no room for a copy: the model itself will do
            return self

    def trusted(self, gradients: bool = False) -> None:
        """Raise `BrokenAssumption`, in words, unless the model does what scores (and gradients) rely on, as measured."""
        if self.check == "off":
            return
        check_target(self.model, self._probed, self.target)
        trust.require(self._facts(gradients))

    def notes(self, gradients: bool = False) -> tuple[str, ...]:
        """What a reader of a result should know about the model, or that nothing was checked."""
        if self.check == "off":
            return ("what the answer relies on was not checked, as asked",)
        return tuple(fact.found for fact in self._facts(gradients) if fact.verdict == "note")

    def _facts(self, gradients: bool) -> Iterator[Fact]:
        """What scores rely on, and gradients, which are not measured where the scores are broken."""
        yield from trust.scores_of(self.model, self._probed, self.batch_size)
        if gradients and isinstance(self.model, Differentiable):
            facts = trust.gradients_of(self.model, self._probed)
            yield from (facts[name] for name in self.free)

    @property
    def _probed(self) -> Inputs:
        """The samples on which the model is measured; the first where some of their inputs are on demand."""
        inputs: tuple[Any, ...] = self.inputs if self.part_of is None else self.part_of.inputs
        n = min((len(v.head) for v in inputs if isinstance(v, OnDemand)), default=len(inputs[0]))
        return tuple(v.head if isinstance(v, OnDemand) else v[:n] for v in inputs)

    @property
    def few(self) -> Inputs:
        """The first samples, four or as many as a batch holds, on which a copy of the model is compared with it."""
        return tuple(v[: min(4, self.batch_size)] for v in self._probed)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The free modalities, in the model's order."""
        return tuple(m for m in self.model.modalities if m.name in self.free)

    @property
    def values(self) -> Inputs:
        """The inputs of the free modalities."""
        return tuple(v for m, v in zip(self.model.modalities, self.inputs, strict=True) if m.name in self.free)

    def parts(self) -> Iterator[Question]:
        """This question once per free modality, for explainers that take one array."""
        return (self.only(m.name) for m in self.modalities)

    @property
    def one(self) -> tuple[Modality, Array]:
        """The single free modality and its values; raises `Unsupported` if there are several."""
        if len(self.modalities) != 1:
            raise Unsupported(f"takes one modality at a time, {len(self.modalities)} are free: use question.only(name)")
        return self.modalities[0], self.values[0]

    def rng(self, row: int, seed: int) -> np.random.Generator:
        """A generator for one sample that depends on its name and the seed, never on batch or order."""
        return np.random.default_rng([seed, zlib.crc32(self.ids[row].encode())])

    def score(self, inputs: Inputs | None = None, rows: npt.ArrayLike | None = None) -> Array:
        """Scores (m,) of copies of the free modalities; rows[j] is the sample that copy j was made from."""
        values, index = self._copies(inputs, rows)
        return self.score_stream(index, lambda part: tuple(v[part] for v in values))

    def score_stream(
        self, rows: npt.ArrayLike, make: Callable[[Rows], Inputs], progress: Callable[[int], object] | None = None
    ) -> Array:
        """Scores (m,) of copies that `make(positions)` builds batch by batch, so that they never all exist at once.

        progress: called with the number of copies of each batch that is scored; its streams choose their batch size by
        measurement, if none is given.
        """
        index = self._rows(rows)

        def work(part: Rows) -> Array:
            scores = self.target.score(self.model.predict(self._full(make(part), index[part])), index[part])
            # A copy: a model may return a view of its inputs, a measure one of the outputs, and `make` may use arrays again.
            return np.array(scores)

        scores = self.stream(len(index), work, progress)
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def stream(
        self,
        n: int,
        work: Callable[[Rows], T],
        progress: Callable[[int], object] | None = None,
        clock: Clock | None = None,
    ) -> list[T]:
        """What `work(positions)` gives for copies 0 … n - 1 batch by batch, once the model does what their scores rely on.

        progress: as of `score_stream`; clock: of a device that does not wait for one batch before it is given the next.
        """
        self.trusted()

        def told(part: Rows) -> T:
            result = work(part)
            if progress is not None:
                progress(len(part))
            return result

        return batched(n, self.batch_size, told, measure=progress is not None, clock=clock)

    def score_and_grad(self, inputs: Inputs | None = None, rows: npt.ArrayLike | None = None) -> tuple[Array, Inputs]:
        """Scores (m,) and their gradients at each free modality, one forward and one backward pass per copy."""
        model = self.model
        if not isinstance(model, Differentiable):
            raise Unsupported(f"needs gradients, which model {model.name!r} does not give")
        values, index = self._copies(inputs, rows)
        self.trusted(gradients=True)

        def work(part: Rows) -> tuple[Array, ...]:
            here = index[part]
            full = self._full(tuple(v[part] for v in values), here)
            outputs, grads = model.vjp(full, lambda y: self.target.cotangent(y, here))
            free = tuple(g for m, g in zip(model.modalities, grads, strict=True) if m.name in self.free)
            return self.target.score(outputs, here), *free

        scores, *gradients = self._passes(index, work)
        return scores, tuple(gradients)

    def layer_score_and_grad(
        self, layer: str, inputs: Inputs | None = None, rows: npt.ArrayLike | None = None
    ) -> tuple[Array, Array, Array]:
        """Scores (m,) of copies, a layer's activation (m, y, x, channel) and the gradient of the scores at it."""
        how, model = self.layers.layout(layer), self._layered()
        values, index = self._copies(inputs, rows)
        self.trusted()
        if self.check == "on":
            trust.require([trust.layer_gradient_of(model, self._probed, layer)])

        def work(part: Rows) -> tuple[Array, Array, Array]:
            here = index[part]
            full = self._full(tuple(v[part] for v in values), here)
            outputs, activation, gradient = model.layer_vjp(full, lambda y: self.target.cotangent(y, here), layer)
            return self.target.score(outputs, here), how.space(activation), how.space(gradient)

        scores, activations, gradients = self._passes(index, work)
        return scores, activations, gradients

    def layer_score(self, layer: str) -> tuple[Array, Array]:
        """Scores (n,) and a layer's activation (n, y, x, channel), from one forward pass."""
        how, model = self.layers.layout(layer), self._layered()
        self.trusted()

        def work(part: Rows) -> tuple[Array, Array]:
            outputs, activation = model.read(tuple(v[part] for v in self.inputs), layer)
            return self.target.score(outputs, part), how.space(activation)

        scores, activations = self._passes(np.arange(len(self)), work)
        return scores, activations

    def score_replaced(self, layer: str, rows: npt.ArrayLike, make: Callable[[Rows], Array]) -> Array:
        """Scores (m,) of samples rows[j] whose activation at a layer is replaced by those (…, y, x, channel) that
        `make(positions)` builds batch by batch, so that they never all exist at once; one forward pass each, and one more where
        a layer has tokens that stand for no place, which keep their own values."""
        how, model, index = self.layers.layout(layer), self._layered(), self._rows(rows)
        self.trusted()

        def work(part: Rows) -> Array:
            own = tuple(values[index[part]] for values in self.inputs)
            others = model.read(own, layer)[1] if how.tokens is not None and how.tokens.prefix else np.empty(0)
            changed = make(part)
            if how.tokens is not None and not how.tokens.prefix:
                others = np.empty((len(changed), *how.flat(changed.shape[1:])), changed.dtype)
            return self.target.score(model.replace(own, layer, how.restored(changed, others)), index[part])

        scores = batched(len(index), self.batch_size, work)
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def attention_score(self, gradients: bool = False) -> tuple[Array, tuple[AttentionMap, ...]]:
        """Scores (n,) and every attention layer's probabilities in order of execution, from one forward pass; gradients: with
        the gradient of the scores at them."""
        model = self.model
        if not isinstance(model, Attentive):
            raise Unsupported(f"needs attention, which model {model.name!r} does not give")
        self.trusted()

        def work(part: Rows) -> tuple[Array, tuple[AttentionMap, ...]]:
            full = tuple(v[part] for v in self.inputs)
            weigh = (lambda y: self.target.cotangent(y, part)) if gradients else None
            outputs, maps = model.attention_vjp(full, weigh)
            return self.target.score(outputs, part), maps

        scores, maps = zip(*batched(len(self), self.batch_size, work), strict=True)
        every = self.finite(np.concatenate(scores), np.arange(len(self)))
        return every, tuple(AttentionMap.concatenate(column) for column in zip(*maps, strict=True))

    def cam_layer(self, layer: str = "") -> str:
        """The layer to draw the free modality's activation map at: the one named, else the best one, as `CamLayers.choose`."""
        return self.layers.choose(layer)

    def cam_layers(self) -> dict[str, tuple[int, ...]]:
        """Where the free modality's activation map can be drawn: layer -> (y, x, channel), in order of execution."""
        return self.layers.drawable()

    @property
    def layers(self) -> CamLayers:
        """The layers as the one free modality sees them; raises `Unsupported` without inner layers or with several free."""
        model, (free, _) = self._layered(), self.one
        return CamLayers(model, self._probed, free, self.whole.target, self.check == "on")

    def _passes(self, rows: Rows, work: Callable[[Rows], tuple[Array, ...]]) -> tuple[Array, ...]:
        """What `work(positions)` gives batch by batch, joined; scores of the samples rows[j] come first, and are finite."""
        scores, *others = zip(*batched(len(rows), self.batch_size, work), strict=True)
        return self.finite(np.concatenate(scores), rows), *(np.concatenate(parts) for parts in others)

    def finite(self, scores: Array, rows: Rows) -> Array:
        """The scores; raises `BrokenAssumption` where one is NaN or infinite, beside which a gradient may look ordinary."""
        if self.check == "on":
            require_finite(self.model.name, self.ids, scores, rows)
        return scores

    def _layered(self) -> Layered:
        if not isinstance(self.model, Layered):
            raise Unsupported(f"needs inner layers, which model {self.model.name!r} does not give")
        return self.model

    def _rows(self, rows: npt.ArrayLike) -> Rows:
        index = np.asarray(rows, dtype=np.intp)
        if index.ndim != 1 or (index.size and (index.min() < 0 or index.max() >= len(self))):
            raise InvalidInput(f"rows must be sample numbers 0 … {len(self) - 1}, got {index.tolist()}")
        return index

    def _copies(self, inputs: Inputs | None, rows: npt.ArrayLike | None) -> tuple[Inputs, Rows]:
        values = self.values if inputs is None else inputs
        index = self._rows(np.arange(len(values[0])) if rows is None else rows)
        if len(values) != len(self.free) or any(len(v) != len(index) for v in values):
            raise InvalidInput(
                f"expected one array per free modality {self.free} with {len(index)} copies, "
                f"got shapes {[v.shape for v in values]}"
            )
        return values, index

    def _full(self, values: Inputs, rows: Rows) -> Inputs:
        """All modalities of the model: the free ones as given, the held ones at their samples' own values."""
        given = iter(values)
        return tuple(
            next(given) if m.name in self.free else own[rows]
            for m, own in zip(self.model.modalities, self.inputs, strict=True)
        )
