"""How Xplique asks a question: operators that TensorFlow can trace, and masks that depend on a seed alone.

Xplique repeats `targets` as it repeats inputs and needs no model when an `operator(model, inputs, targets)` is given: the
targets carry row numbers, and the operator asks the question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from crossxai.errors import CrossXAIError
from crossxai.question import Question


class Asking:
    """Xplique's operators (model, inputs, row numbers) → scores; what the question raises is kept for the caller."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.failure: CrossXAIError | None = None

    def _ask(self, x: Any, targets: Any) -> Any:
        return self._kept(self.question.score, x, targets).astype(np.float32)

    def _ask_both(self, x: Any, targets: Any) -> Any:
        scores, (gradients,) = self._kept(self.question.score_and_grad, x, targets)
        return scores.astype(np.float32), gradients.astype(np.float32)

    def _kept(self, ask: Callable[..., Any], x: Any, targets: Any) -> Any:
        try:
            return ask((x.astype(self.question.values[0].dtype),), targets[:, 0].astype(np.intp))
        except CrossXAIError as error:
            self.failure = error
            raise

    def score(self, _model: Any, inputs: Any, targets: Any) -> Any:
        """Scores alone, for perturbation methods."""
        import tensorflow as tf

        return tf.ensure_shape(tf.numpy_function(self._ask, [inputs, targets], tf.float32), (inputs.shape[0],))

    def gradient(self, _model: Any, inputs: Any, targets: Any) -> Any:
        """Scores that can be differentiated; one pass gives both."""
        import tensorflow as tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def score(x: Any) -> Any:
            scores, gradients = tf.numpy_function(self._ask_both, [x, targets], (tf.float32, tf.float32))
            gradients = tf.ensure_shape(gradients, x.shape)

            def backward(upstream: Any) -> Any:
                return gradients * tf.reshape(upstream, (-1, *[1] * (len(x.shape) - 1)))

            return tf.ensure_shape(scores, (x.shape[0],)), backward

        return score(inputs)


@contextmanager
def seeded(rise: Any, seed: int) -> Iterator[None]:
    """Masks that depend on the seed alone; TensorFlow's global seed and the class are left as found.

    Xplique draws inside tf.functions, whose random state belongs to their traces and so to the calls before; run eagerly,
    the same two functions follow the global seed.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context

    # Seeding restarts TensorFlow's own stream of seeds: keep its place, or the user's next draw would be an old one.
    state = vars(context.context())
    before = {key: state[key] for key in ("_seed", "_rng") if key in state}
    traced = {name: vars(rise)[name] for name in ("_get_masks", "_apply_masks")}
    for name, function in traced.items():
        setattr(rise, name, staticmethod(function.__func__.python_function))
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        state.update(before)
        for name, function in traced.items():
            setattr(rise, name, function)
