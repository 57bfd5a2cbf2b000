"""A question on a Keras twin of its model, for methods that rewrite layers: one operator (model, inputs, rows) → scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.explainers.torch_twin import check_link
from crossxai.model import Array
from crossxai.porting import Twin, twin
from crossxai.question import Question


class TwinScores:
    """A question's scores by the twin of its model, or by a copy of the twin: flat, ordinary layers, in float32.

    `found`: the twin. `operator`: (a network like the twin, copies of the one free modality, targets) → scores, where the
    first column of targets is the row that each copy was made from, which recovers its held modalities and its target's
    weights. `seen` (n,): the score of every row's last copy, as that network gave it.
    Raises `Unsupported` for a model that gives no graph.
    """

    def __init__(self, question: Question) -> None:
        import tensorflow as tf

        check_link(question)
        self.question = question
        self.found: Twin = twin(question.model, question.inputs, "keras", "float32")
        self.seen = np.full(len(question), np.nan, np.float32)
        self._inputs = [tf.constant(values, tf.float32) for values in question.inputs]
        self._weights = tf.constant(question.target.weights, tf.float32)

    def operator(self, model: Any, inputs: Any, targets: Any) -> Any:
        """The scores (m,) of a network like the twin, which TensorFlow can differentiate."""
        import tensorflow as tf

        rows = tf.cast(targets[:, 0], tf.int32)
        given = [
            inputs if modality.name in self.question.free else tf.gather(own, rows)
            for modality, own in zip(self.question.model.modalities, self._inputs, strict=True)
        ]
        outputs = model(given[0] if len(given) == 1 else given, training=False)
        link = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "identity": tf.identity}[self.question.target.link]
        weighed = link(outputs) * tf.gather(self._weights, rows)
        scores = tf.reduce_sum(weighed, axis=range(1, len(self._weights.shape)))
        # Zeros, which lead to the modality where nothing reads it: the library fails without a path.
        scores += tf.reduce_sum(tf.reshape(inputs, [len(rows), -1])[:, :0], axis=1)
        tf.numpy_function(self._note, [scores, rows], [])
        return scores

    def _note(self, scores: Array, rows: Any) -> None:
        self.seen[rows] = scores

    def gap(self) -> Array:
        """|scores seen - scores of the model|, (n,); one forward pass of the model.

        Raises `BrokenAssumption` where a score of either is NaN or infinite, beside which a map may look ordinary.
        """
        own, rows = self.question.score(), np.arange(len(self.question))
        self.question.finite(np.concatenate([self.seen, own]), np.concatenate([rows, rows]))
        return np.asarray(np.abs(self.seen - own))
