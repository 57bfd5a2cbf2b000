"""How Xplique reads a question: `targets`, which it repeats as it repeats inputs, carry row numbers and the question's number,
and operators look the question up: they hold nothing, and what TensorFlow traced for one serves the next. A Keras model on a
device is asked by tensors that stay there. Maps are float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from crossxai.errors import CrossXAIError
from crossxai.explainers.method import Maps, Method
from crossxai.explainers.native import patched
from crossxai.explainers.tensor_scores import device_scores
from crossxai.model import Array
from crossxai.process import foreign, require
from crossxai.question import Question


class NumberedQuestion:
    """A question under a number that rides in `targets`; what the question raises is kept for the caller."""

    def __init__(self, question: Question) -> None:
        self.question, self.there = question, device_scores(question, "tensorflow")
        self.failure: CrossXAIError | None = None
        self.number = next(_NUMBERS) % 2**24  # float32 holds these exactly
        _BY_NUMBER[self.number] = self

    @property
    def rows(self) -> Array:
        """What stands in for `targets`: (n, 2), sample number and question number."""
        rows = np.arange(len(self.question), dtype=np.float32)
        return np.stack([rows, np.full_like(rows, self.number)], axis=1)

    @property
    def operator(self) -> Any:
        """Xplique's operator for perturbation methods: scores alone."""
        return _score if self.there is None else self._score_there

    def differentiating(self, kind: Any, **options: Any) -> Any:
        """One of Xplique's gradient methods on this question. On the host all share tf.functions: each instance would trace its
        own (20 ms); on a device nothing is traced but the model, and batches are the question's: Xplique's pass the host."""
        method = kind(None, operator=_gradient, **options)
        ours = _traced() if self.there is None else (self._gradient_there, self._gradient_there)
        method.gradient, method.batch_gradient = ours
        return method

    def check(self) -> None:
        """Raise what scores on the device ask for, see `TensorScores.check`; those of the host have been looked at."""
        if self.there is not None:
            self.there.check()

    def call(self, verb: Callable[..., Any], x: Array, targets: Array) -> Any:
        """Scores, or scores and gradients, of copies x of the rows that the targets name; volumes come as planes."""
        own = self.question.values[0]
        copies = x.astype(own.dtype, copy=False).reshape(len(x), *own.shape[1:])
        try:
            return verb((copies,), targets[:, 0].astype(np.intp))
        except CrossXAIError as error:
            self.failure = error
            raise

    def _score_there(self, _model: Any, inputs: Any, targets: Any) -> Any:
        import tensorflow as tf

        assert self.there is not None
        return tf.cast(self.there.score(*self._copies_there(inputs, targets)), tf.float32)

    def _gradient_there(self, _model: Any, inputs: Any, targets: Any, _batch_size: int | None = None) -> Any:
        import tensorflow as tf

        assert self.there is not None
        _, (gradients,) = self.there.score_and_grad(*self._copies_there(inputs, targets))
        return tf.cast(tf.reshape(gradients, inputs.shape), tf.float32)

    def _copies_there(self, inputs: Any, targets: Any) -> tuple[list[Any], Any]:
        """Copies of the free modality in its own shape, and the samples that they were made from."""
        import tensorflow as tf

        own = self.question.values[0].shape[1:]
        return [tf.reshape(inputs, (-1, *own))], targets[:, 0]


_NUMBERS = count()
_BY_NUMBER: WeakValueDictionary[int, NumberedQuestion] = WeakValueDictionary()


def _score(_model: Any, inputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(_scores, [inputs, targets], tf.float32), (inputs.shape[0],))


def _gradient(_model: Any, inputs: Any, targets: Any) -> Any:
    """Xplique's operator for gradient methods: scores that can be differentiated; one pass gives both."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def scores(x: Any) -> Any:
        values, gradients = tf.numpy_function(_scores_and_gradients, [x, targets], (tf.float32, tf.float32))
        gradients = tf.ensure_shape(gradients, x.shape)

        def backward(upstream: Any) -> Any:
            return gradients * tf.reshape(upstream, (-1, *[1] * (len(x.shape) - 1)))

        return tf.ensure_shape(values, (x.shape[0],)), backward

    return scores(inputs)


def _scores(x: Array, targets: Array) -> Array:
    numbered = _BY_NUMBER[int(targets[0, 1])]
    return np.asarray(numbered.call(numbered.question.score, x, targets), np.float32)


def _scores_and_gradients(x: Array, targets: Array) -> tuple[Array, Array]:
    numbered = _BY_NUMBER[int(targets[0, 1])]
    scores, (gradients,) = numbered.call(numbered.question.score_and_grad, x, targets)
    return scores.astype(np.float32, copy=False), gradients.astype(np.float32, copy=False).reshape(x.shape)


@cache
def _traced() -> tuple[Any, Any]:
    commons = require("xplique.commons", "xplique", "Xplique")
    return commons.get_gradient_functions(None, _gradient)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class XpliqueMethod(Method, kinds=("image", "table")):
    """What Xplique's methods share. It knows images and tables, and reduces channels of 4-D arrays alone: methods to which
    neighbours mean nothing get a volume as an image, its planes one below the other; the others refuse it."""

    def explain(self, question: Question) -> Maps:
        numbered = NumberedQuestion(question)
        library = require("xplique.attributions", "xplique", self.name)
        try:
            (maps,), extras = self._explain(library, question, numbered)
        except CrossXAIError:
            raise
        except foreign() as error:
            if numbered.failure is not None:
                raise numbered.failure from error
            numbered.check()  # what fits scores fails of those that are not finite
            raise
        numbered.check()
        return (in_space(maps, question.values[0]),), extras

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        raise NotImplementedError


def planes(values: Any) -> Any:
    """Volumes (n, z, y, x, c) as images (n, z · y, x, c); everything else as it is."""
    return values.reshape(len(values), -1, *values.shape[3:]) if values.ndim == 5 else values


def in_space(maps: Array, values: Array) -> Array:
    """Maps of `planes(values)` in the volumes' own space; others as they are."""
    return maps.reshape(*values.shape[:-1], maps.shape[-1]) if values.ndim == 5 else maps


def swapped(owner: Any, **functions: Callable[..., Any]) -> AbstractContextManager[None]:
    """Static functions of a library's class, exchanged inside and put back afterwards."""
    return patched([owner], **{name: staticmethod(function) for name, function in functions.items()})


@contextmanager
def seeded(owner: Any, seed: int) -> Iterator[None]:
    """Draws that depend on the seed alone; TensorFlow's own seed is left as found, and so is the class `owner` (or
    None), whose traced static functions run eagerly inside, as they would have a random state of their own."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    functions = {} if owner is None else {name: getattr(owner, name) for name in vars(owner)}
    eager = {name: f.python_function for name, f in functions.items() if hasattr(f, "python_function")}
    # Seeding restarts TensorFlow's own stream of seeds: keep its place, or the user's next draw would be an old one.
    state = vars(context.context())
    with swapped(owner, **eager):
        before = {key: state[key] for key in ("_seed", "_rng") if key in state}
        tf.random.set_seed(seed)
        try:
            yield
        finally:
            state.update(before)
