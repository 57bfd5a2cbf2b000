"""A question on a twin of its network in torch or in Keras, for methods that hook or rewrite layers."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import Any

import numpy as np

from crossxai.errors import Unsupported
from crossxai.model import Array, Inputs
from crossxai.porting import Twin, twin, unread
from crossxai.question import Question, Rows


class TorchTwinScores:
    """A question's scores, as `module(*inputs, rows) -> (m,)`, a torch.nn.Module whose steps are all submodules.
    inputs: the free modalities, images channels first unless `channels_last`; rows: the sample that each copy was made
    from, which recovers its held modalities and its target's weights. `rebuilt`: the twin; `seen`: the scores of every
    forward pass, in order. Raises `Unsupported` for a model that gives no graph."""

    def __init__(self, question: Question, channels_last: bool = False) -> None:
        import torch

        check_link(question)
        self.question, self.channels_last = question, channels_last
        self.rebuilt: Twin = twin(question.model, question.inputs, "torch")
        self.dtype = getattr(torch, str(self.rebuilt.graph.dtype))
        self.module: Any = _module(self)
        self.seen: list[Array] = []
        self._lost: list[tuple[Array, Rows]] = []  # scores that are NaN or infinite, and whose they are

    def inputs(self, rows: Rows) -> tuple[Any, ...]:
        """The free modalities of some samples as tensors that want gradients."""
        return tuple(self.tensor(v[rows]).requires_grad_() for v in self.question.values)

    def tensor(self, values: Array) -> Any:
        """An array of a modality, channels last, in the layout and the dtype of this module."""
        import torch

        moved = values if self.channels_last or values.ndim < 3 else np.moveaxis(values, -1, 1)
        return torch.tensor(np.ascontiguousarray(moved), dtype=self.dtype)

    def layer(self, wanted: str, who: str) -> Any:
        """The layer of the twin that an explainer draws its map at, "" for the last one; `Unsupported` if there is none."""
        name = self.question.layers.choose_plain(wanted, who)
        if name not in self.rebuilt.layers:
            model = self.question.model.name
            raise Unsupported(f"{who}: layer {name!r} has no counterpart in the torch twin of model {model!r}")
        return self.rebuilt.layers[name]

    def require_rules(self, ops: Collection[str], who: str) -> None:
        """Raise `Unsupported` unless a method has a rule for every operation of the network; a softmax over the last axis."""
        for node in self.rebuilt.graph.nodes:
            if node.op not in ops or (node.op == "softmax" and node.settings.get("axis", -1) != -1):
                raise Unsupported(
                    f"{who} has no rule for {node.op} (node {node.name!r} of model {self.question.model.name!r}): its map would "
                    "be none of that method's; methods that take gradients or scores alone need none"
                )

    def rows(self, rows: Rows) -> Any:
        """The row numbers that `module` takes, as a tensor."""
        import torch

        return torch.from_numpy(np.asarray(rows, np.int64))

    def arrays(self, tensors: Any) -> Inputs:
        """Maps in this module's layout, as arrays with channels last."""
        first = not self.channels_last
        return tuple(
            (t.detach().movedim(1, -1) if first and t.ndim > 2 else t.detach()).contiguous().numpy() for t in tensors
        )

    def note(self, scores: Array, rows: Rows) -> None:
        """Keep the scores of a pass in `seen`, and in mind which samples have none."""
        self.seen.append(scores)
        bad = ~np.isfinite(scores)
        if bad.any():
            self._lost.append((scores[bad], rows[bad]))

    def gap(self, scores: Array) -> Array:
        """|scores of the twin - scores of the model|, (n,), given the twin's; one forward pass of the model. Raises
        `BrokenAssumption` where a score of either, copies and baselines included, is not finite: a map may not show it."""
        own, rows = self.question.score(), np.arange(len(self.question))
        pairs = [(scores, rows), (own, rows), *self._lost]
        every, whose = (np.concatenate(column) for column in zip(*pairs, strict=True))
        self.question.finite(every, whose)
        return np.asarray(np.abs(scores - own))


def check_link(question: Question) -> None:
    """Raise `Unsupported` for log-odds, which no library has a rule for as a layer."""
    if question.target.link == "log_odds":
        raise Unsupported(
            "rebuilds the network as a module, on which log-odds are no layer that the library knows: explain the raw output "
            '(link="identity"), or wrap the network without its softmax or sigmoid'
        )


def _module(owner: TorchTwinScores) -> Any:
    import torch
    from torch import nn

    question, rebuilt = owner.question, owner.rebuilt
    spatial_output = question.target.weights.ndim > 2
    axis = 1 if spatial_output else -1
    weights = torch.tensor(question.target.weights, dtype=owner.dtype)
    weights = weights.movedim(-1, 1) if spatial_output else weights
    names = dict(zip(rebuilt.graph.inputs, (m.name for m in question.model.modalities), strict=True))
    lost = {names[node] for node in unread(rebuilt.graph)}

    class Weigh(nn.Module):
        """sum(weights · outputs), one weight array per row."""

        rows: Any

        def forward(self, outputs: Any) -> Any:
            return (outputs * weights[self.rows]).flatten(1).sum(1)

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = rebuilt.module
            link = {"softmax": nn.Softmax(axis), "sigmoid": nn.Sigmoid()}.get(question.target.link)
            if link is not None:
                self.link = link
            self.weigh = Weigh()

        def forward(self, *inputs: Any) -> Any:
            *free, rows = inputs
            given = iter(free)
            every, nothing = [], []
            for modality, own in zip(question.model.modalities, question.inputs, strict=True):
                if modality.name in question.free:
                    value = next(given)
                    nothing += [value.flatten(1)[:, :0].sum(1)] * (modality.name in lost)
                    every.append(value.movedim(-1, 1) if owner.channels_last else value)
                else:  # wants a gradient, because hooks are set on tensors that do
                    held = own[rows.numpy()]
                    held = np.moveaxis(held, -1, 1) if modality.spatial else held
                    every.append(torch.tensor(np.ascontiguousarray(held), dtype=owner.dtype, requires_grad=True))
            outputs = self.network(*every)
            self.weigh.rows = rows
            scores = self.weigh(self.link(outputs) if hasattr(self, "link") else outputs)
            # Zeros, which lead to modalities that nothing reads: libraries fail without a path.
            scores = sum(nothing, scores)
            owner.note(scores.detach().numpy().copy(), rows.numpy())
            return scores

    return Scored().eval()


class KerasTwinScores:
    """A question's scores by the twin of its model, or by a copy of the twin: flat, ordinary layers, in float32.

    `rebuilt`: the twin. `operator`: (a network like the twin, copies of the one free modality, targets) → scores, where the
    first column of targets is the row that each copy was made from, which recovers its held modalities and its target's
    weights. `seen` (n,): the score of every row's last copy, as that network gave it.
    Raises `Unsupported` for a model that gives no graph.
    """

    def __init__(self, question: Question) -> None:
        import tensorflow as tf

        check_link(question)
        self.question = question
        self.rebuilt: Twin = twin(question.model, question.inputs, "keras", "float32")
        self.seen = np.full(len(question), np.nan, np.float32)
        self._inputs = [tf.constant(values, tf.float32) for values in question.inputs]
        self._weights = tf.constant(question.target.weights, tf.float32)

    def operator(self, model: Any, inputs: Any, targets: Any) -> Any:
        """The scores (m,) of a network like the twin, which TensorFlow can differentiate."""
        import tensorflow as tf

        rows = tf.cast(targets[:, 0], tf.int32)
        given = [
            tf.reshape(inputs, (-1, *own.shape[1:])) if modality.name in self.question.free else tf.gather(own, rows)
            for modality, own in zip(self.question.model.modalities, self._inputs, strict=True)
        ]
        outputs = model(given[0] if len(given) == 1 else given, training=False)
        link = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "identity": tf.identity}[self.question.target.link]
        weighed = link(outputs) * tf.gather(self._weights, rows)
        scores = tf.reduce_sum(weighed, axis=range(1, len(self._weights.shape)))
        # Zeros, which lead to the modality where nothing reads it: the library fails without a path.
        scores += tf.reduce_sum(tf.reshape(inputs, [len(rows), -1])[:, :0], axis=1)
        twin = weakref.proxy(self)  # TensorFlow keeps the function as long as the process lives
        tf.numpy_function(lambda *noted: twin._note(*noted), [scores, rows], [])
        return scores

    def _note(self, scores: Array, rows: Any) -> None:
        self.seen[rows] = scores

    def gap(self) -> Array:
        """|scores seen - scores of the model|, (n,), by one forward pass of the model; raises as that of `TorchTwinScores`."""
        own, rows = self.question.score(), np.arange(len(self.question))
        self.question.finite(np.concatenate([self.seen, own]), np.concatenate([rows, rows]))
        return np.asarray(np.abs(self.seen - own))
