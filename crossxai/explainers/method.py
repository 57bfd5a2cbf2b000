"""Method: what all explainers share, so that each file holds only what its library does differently."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform, get_args, get_type_hints, runtime_checkable

import numpy as np

from crossxai.assumptions.trust import named
from crossxai.attention import Attentive
from crossxai.attribution import Attribution, Needs, Profile
from crossxai.documentation import complete
from crossxai.errors import (
    BrokenAssumption,
    CrossXAIError,
    InvalidInput,
    LibraryFailed,
    ModelFailed,
    UnknownName,
    Unsupported,
)
from crossxai.explainers.groups import FiniteQuestion
from crossxai.model import Array, Differentiable, Inputs, Layered
from crossxai.porting.graph import Traceable
from crossxai.process import differentiating, foreign
from crossxai.question import Question

SHARED = {
    "baseline": "float\n    What hidden entries are filled with, in raw input units (0 is black).",
    "patch": 'int\n    Side of the squares of "grid" in pixels; other segmentations have about one segment per patch².',
    "samples": "int\n    Perturbed copies of each sample.",
    "seed": "int\n    Seeds the draws of each sample, together with its name.",
    "layer": 'str\n    The layer to draw the map at; "" takes the last one with space that the score depends on.',
}
"""What parameters of many explainers mean, where a class documents nothing else."""

PROTOCOLS: Mapping[str, type] = {
    "gradients": Differentiable,
    "layers": Layered,
    "module": Traceable,
    "attention": Attentive,
}
"""What a model must be for each of `Needs`; any model is enough for the others."""
NATIVE: tuple[Profile, ...] = ("native",)
Passes = tuple[int, int]

FAMILIES = (
    "gradient",
    "path",
    "smoothing",
    "propagation",
    "activation map",
    "perturbation",
    "surrogate",
    "Shapley",
    "attention",
    "control",
)

Maps = tuple[Inputs, Mapping[str, Array]]
"""Maps, one per free modality, and extras by name: arrays (n, …) with the sample axis first."""


@runtime_checkable
class Windowed(Protocol):
    """A model that looks at its inputs window by window, and can have each window explained alone."""

    def explain_windows(self, question: Question, explain: Callable[[Question], Attribution]) -> Attribution:
        """One map per sample, of what `explain` says of its windows."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A frozen dataclass of parameters; subclasses name themselves, say what they need and implement `explain`.

    Parameters
    ----------
    profile : str, default 'native'
        "native", the library's own defaults, or "canonical", the documented definition on which libraries meet.
    """

    name: ClassVar[str]
    library: ClassVar[str]
    """What the name begins with, unless it says otherwise."""
    summary: ClassVar[str]
    needs: ClassVar[Needs]
    family: ClassVar[str] = ""
    """One of `FAMILIES`: how it works, for tables."""
    reference: ClassVar[str] = ""
    """The paper, as "Authors year"."""
    kinds: ClassVar[tuple[str, ...]] = ("image", "volume", "table")
    """The kinds of modality it explains; free modalities of other kinds get no map."""
    profiles: ClassVar[tuple[Profile, ...]] = ("native", "canonical")
    joint: ClassVar[bool] = False
    """Whether one call explains all free modalities; others are called once per modality, the rest held fixed."""
    fits: ClassVar[bool] = False
    """Whether it fits a model to the scores of copies, which must be finite for that."""
    least: ClassVar[Mapping[str, float]] = {"seed": 0}
    """The smallest values of parameters, beside those of the classes that it derives from."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Parameters that must be above 0."""
    choices: ClassVar[Mapping[str, Collection[str]]] = {}
    """Parameters that are one of some names."""
    conventions: ClassVar[Mapping[str, str]] = {}
    """What a profile does where libraries differ, as a clause; a report puts two libraries' clauses side by side."""
    constant_passes: ClassVar[Passes | None] = None
    """What `passes` gives where no question changes it; of methods on a twin, one forward pass is the model's, for the gap."""
    copied: ClassVar[int] = 1
    """Perturbed copies of one sample that exist at once; 4 is one batch of samples."""
    copied_by: ClassVar[str] = ""
    """The parameter, if there is one, that says how many perturbed copies of one sample exist at once."""
    original: ClassVar[str] = ""
    """What the library calls its class; `explainer` takes ours for it."""

    profile: Profile = "native"

    def __init_subclass__(cls, **facts: Any) -> None:
        """facts: class attributes of `Method` or of a base, as keywords of the class: `class Mine(Method, needs="scores")`."""
        super().__init_subclass__()
        known = {attribute for base in cls.__mro__ for attribute in vars(base).get("__annotations__", {})}
        for fact, value in facts.items():
            if fact not in known:
                raise UnknownName(f"class attribute of {cls.__name__}", fact, known)
            setattr(cls, fact, value)
        if (needs := vars(cls).get("needs")) is not None and needs not in get_args(Needs):
            raise UnknownName(f"need of {cls.__name__}", needs, get_args(Needs))
        for kind in vars(cls).get("kinds", ()):
            if kind not in Method.kinds:
                raise UnknownName(f"kind of modality of {cls.__name__}", kind, Method.kinds)
        _describe(cls)

    def __post_init__(self) -> None:
        if self.profile not in self.profiles:
            raise InvalidInput(f"{self.name} has no profile {self.profile!r}: write {' or '.join(self.profiles)}")
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "profile" and not _fits(value, hints[field.name]):
                raise InvalidInput(f"{self.name}: {field.name} is {_words(hints[field.name])}, got {value!r}")
        bounds: dict[str, float] = {}
        choices: dict[str, Collection[str]] = {}
        for base in reversed(type(self).__mro__):
            bounds |= vars(base).get("least", {})
            choices |= vars(base).get("choices", {})
        for param, low in bounds.items():
            if (value := getattr(self, param, low)) < low:
                raise InvalidInput(f"{self.name}: {param} must be at least {low}, got {value}")
        for param in self.positive:
            if (value := getattr(self, param)) is not None and value <= 0:
                raise InvalidInput(f"{self.name}: {param} must be positive, got {value}")
        for param, known in choices.items():
            if (value := getattr(self, param)) is not None and value not in known:
                raise UnknownName(f"{param} of {self.name}", value, known)

    @property
    def copies(self) -> int:
        """Perturbed copies of one sample that exist at once; keeps memory bounded whatever the number of samples."""
        return getattr(self, self.copied_by) if self.copied_by else self.copied

    def explainable(self, question: Question) -> Question:
        """The question about those free modalities that this method explains; `Unsupported` if there is none."""
        names = [m.name for m in question.modalities if m.kind in self.kinds]
        if not names:
            kinds = " and ".join(f"{kind}s" for kind in self.kinds)
            given = ", ".join(f"{m.name!r} (axes {', '.join(m.axes)})" for m in question.modalities)
            raise Unsupported(f"{self.name} explains {kinds}; there is only modality {given}")
        return question.only(*names)

    def parts(self, question: Question) -> list[Question]:
        """The questions that `explain` gets: the whole one if `joint`, else one per free modality."""
        return [question] if self.joint else list(question.parts())

    def ready(self, question: Question) -> Question:
        """The question that would be asked; raises `Unsupported` where the model lacks what this method needs, or is measured not
        to do what it relies on."""
        question = self.explainable(question)
        if self._lacks(question):
            if isinstance(question.model, Windowed):
                return question  # its windows are asked
            raise Unsupported(f"{self.name} needs {self.needs}, which model {question.model.name!r} does not give")
        if self.needs != "nothing":
            question.trusted(gradients=self.needs == "gradients")
        return question

    def _lacks(self, question: Question) -> bool:
        needed = PROTOCOLS.get(self.needs)
        return needed is not None and not isinstance(question.model, needed)

    def cost(self, question: Question) -> Passes:
        """(forward, backward) passes through the model per sample, all parts together; tests count them."""
        each = [self.passes(part) for part in self.parts(self.explainable(question))]
        return sum(forward for forward, _ in each), sum(backward for _, backward in each)

    def passes(self, question: Question) -> Passes:
        """(forward, backward) passes per sample that one call of `explain` makes: `samples`, if there is that parameter."""
        if self.constant_passes is not None:
            return self.constant_passes
        number = getattr(self, "samples", 1)
        backward = self.needs in ("gradients", "layers", "attention")
        return number * (backward or self.needs == "scores"), number * backward

    def explain(self, question: Question) -> Maps:
        """Maps of a few samples; called with all free modalities if `joint`, else with one."""
        raise InvalidInput(
            f"{self.name} does not explain: write def explain(self, question), which returns (maps,), {{}}"
        )

    def __call__(self, question: Question) -> Attribution:
        """Explain every sample of the question; raises `Unsupported` with the reason if that cannot be done."""
        start = time.perf_counter()
        question = self.ready(question)
        if isinstance(question.model, Windowed) and self._lacks(question):
            return question.model.explain_windows(question, self)
        if self.fits:
            question = FiniteQuestion(**{f.name: getattr(question, f.name) for f in fields(Question)}, who=self.name)
        parts = self.parts(question)
        with differentiating():
            explained = [self._explain_in_words(part) for part in parts]
        values = tuple(v for maps, _ in explained for v in maps)
        lost = np.flatnonzero(~np.all([np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in values], axis=0))
        no_map = (f"no map of {named(question.ids, lost)}: NaN or infinite",) if len(lost) else ()
        extras = dict(explained[0][1]) if len(parts) == 1 else {
            f"{key}.{part.free[0]}": extra
            for part, (_, of_part) in zip(parts, explained, strict=True)
            for key, extra in of_part.items()
        }  # fmt: skip
        return Attribution(
            values=values,
            modalities=question.modalities,
            ids=question.ids,
            explainer=self.name,
            profile=self.profile,
            params=self.parameters(),
            extras=extras,
            seconds=time.perf_counter() - start,
            notes=()
            if self.needs == "nothing"
            else (*no_map, *dict.fromkeys(n for part in parts for n in self.notes(part))),
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters, as an attribution records them."""
        return asdict(self)

    def notes(self, question: Question) -> tuple[str, ...]:
        """What a reader of the maps of one part should know: where they were drawn, and what the model was found to do."""
        drawn = tuple(question.layers.words(layer) for layer in self.drawn_at(question))
        try:
            return drawn + question.notes(gradients=self.needs in ("gradients", "module"))
        except (BrokenAssumption, ModelFailed):
            if self.needs != "module":
                raise
            return drawn + question.notes()  # a twin has gradients even where the model itself gives none

    def drawn_at(self, question: Question) -> Sequence[str]:
        """The layers that the maps of one part are drawn at."""
        return [question.cam_layer(getattr(self, "layer", ""))] if self.needs == "layers" else ()

    def _explain_in_words(self, question: Question) -> Maps:
        """The maps; what the library raises becomes an error of ours, with its place."""
        try:
            return self._in_chunks(question)
        except CrossXAIError:
            raise
        except foreign() as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            words = " ".join(str(error).split())[:300]
            raise LibraryFailed(
                f"{self.name} failed on model {question.model.name!r}: {type(error).__name__}: {words} (in {frame.name}, "
                f"{'/'.join(frame.filename.split('/')[-3:])}, line {frame.lineno})"
            ) from error

    def _in_chunks(self, question: Question) -> Maps:
        size = max(1, 4 * question.batch_size // self.copies)
        pieces = [self._checked(question[start : start + size]) for start in range(0, len(question), size)]
        if len(pieces) == 1:
            return pieces[0]
        maps = tuple(np.concatenate(column) for column in zip(*(maps for maps, _ in pieces), strict=True))
        return maps, {key: np.concatenate([extras[key] for _, extras in pieces]) for key in pieces[0][1]}

    def _checked(self, question: Question) -> Maps:
        """What `explain` returns; raises `InvalidInput` if it is not maps and extras."""
        pair: Any = self.explain(question)
        whole = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Mapping)
        if not whole or not isinstance(pair[0], Sequence) or len(pair[0]) != len(question.free):
            raise InvalidInput(
                f"{self.name}: explain must return (maps, extras): a tuple of one array for each of {', '.join(question.free)}, "
                f"and a dict, which may be empty; write return (maps,), {{}}. It returned {type(pair).__name__}"
            )
        return tuple(pair[0]), pair[1]


complete(Method)
Kind = TypeVar("Kind", bound=Method)


def _describe(kind: type[Method]) -> None:
    """Complete what a class says of itself: its library, and its docstring."""
    name = vars(kind).get("name")
    if isinstance(name, str) and "library" not in vars(kind):
        kind.library = name.partition(".")[0]
    complete(kind, SHARED)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def explainer(name: str, summary: str, reference: str = "") -> Callable[[type[Kind]], type[Kind]]:
    """Make a class an explainer of this name, a frozen dataclass; reference: the paper, as "Authors year"."""

    def declared(kind: type[Kind]) -> type[Kind]:
        kind.name, kind.summary, kind.reference = name, summary, reference
        kind.original = vars(kind).get("original", kind.__name__)
        _describe(kind)
        return dataclass(frozen=True, kw_only=True)(kind)

    return declared


def profiles(native: str = "", canonical: str = "") -> Callable[[type[Kind]], type[Kind]]:
    """Give a class the profiles for which there is a clause that says what each does where libraries differ."""
    clauses: dict[Profile, str] = {"native": native, "canonical": canonical}

    def declared(kind: type[Kind]) -> type[Kind]:
        kind.profiles = tuple(profile for profile, clause in clauses.items() if clause)
        kind.conventions = {profile: clauses[profile] for profile in kind.profiles}
        return kind

    return declared


def _fits(value: object, hint: Any) -> bool:
    """Whether a parameter is of its declared type: a whole number is a number, a boolean is not, nothing is NaN."""
    if hint is Any:  # checked by the class itself
        return True
    kinds = get_args(hint) or (hint,)
    if isinstance(value, bool) or value is None:
        return type(value) in kinds
    if isinstance(value, int | np.integer):
        return int in kinds or float in kinds
    if isinstance(value, float | np.floating):
        return float in kinds and bool(np.isfinite(value))
    return type(value) in kinds


def _words(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        bool: "true or false",
        type(None): "nothing",
    }
    return " or ".join(names.get(kind, str(kind)) for kind in get_args(hint) or (hint,))
