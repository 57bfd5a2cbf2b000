"""The verbs of `import crossxai as xai`: wrap, check, explain, evaluate, compare, parity, port, certify."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from crossxai import plugins
from crossxai.adapters.describing import Layout
from crossxai.adapters.recognition import wrap as wrap
from crossxai.assumptions import checking
from crossxai.assumptions.checking import Check
from crossxai.attribution import Attribution
from crossxai.conventions.answers import Outside
from crossxai.conventions.certificate import certify as _certify
from crossxai.conventions.certificate_result import Certificate
from crossxai.conventions.parity import parity as _parity
from crossxai.conventions.result import Parity
from crossxai.conventions.retraining import SAMPLES, Retrained, retrain
from crossxai.data import arrays
from crossxai.errors import InvalidInput
from crossxai.experiment import merging, origin, preparing
from crossxai.experiment import recipe as recipes
from crossxai.experiment import run as runs
from crossxai.experiment.loading import about_network
from crossxai.experiment.ported import Ported, port_model, save_certificate
from crossxai.experiment.questions import predicted
from crossxai.experiment.recipe import Recipe
from crossxai.experiment.results import Evaluation, Run
from crossxai.experiment.sharding import Shard
from crossxai.explainers import as_explainer
from crossxai.files import remote
from crossxai.report import write_report

METRICS = ("deletion", "insertion")
Maps = Attribution | str | Path
Inputs = Any
"""An array or tensor, pictures, paths of pictures, a loader or data set; a tuple or dict of these for several modalities."""


def check(
    model: Any, inputs: Inputs, target: Any = None, labels: Any = None, *, samples: int = arrays.SAMPLES
) -> Check:
    """Measure what explainers and metrics rely on in a model, before anything goes wrong.

    Parameters
    ----------
    model, inputs, samples : as for `explain`; a few samples are enough
    target : Target or another measure, int or (n,) classes, optional
        What will be explained: says whether its scores are saturated or have no gradient on these samples.
    labels : (n,) whole numbers, optional
        The true classes: says whether the model is better than chance. A loader's own if not given.

    Returns
    -------
    Check, with one fact per row: what was measured, how, what it breaks and what to write instead

    Raises
    ------
    InvalidInput: if the inputs do not fit the model's modalities
    """
    model = wrap(model)
    batch = arrays.read(model, inputs, samples=samples, checked=False)
    batch.require_whole(labels=labels, target=target)
    given = batch.labels if labels is None else arrays.as_labels(labels)
    measure = None if target is None else preparing.question_of(model, batch, target)[0].target
    return checking.check(model, batch.inputs, measure, given)


def explain(
    model: Any,
    inputs: Inputs,
    explainer: Any = None,
    target: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    samples: int | None = None,
    layout: Layout | None = None,
    **params: Any,
) -> Attribution:
    """Explain a model's scores on some inputs: one map per modality and sample.

    Parameters
    ----------
    model : Model or anything that `wrap` takes
    inputs : array, tensor, pictures, paths, loader, or a tuple or dict of these
        Images in the model's value range and channels last unless `layout` says otherwise; 8-bit pictures are scaled.
    explainer : str, (str, dict), explainer, class or function
        A name as `crossxai list` shows it, with its parameters as keywords; or what other libraries call an explainer.
    target : None, int, (n,) whole numbers, Target or another measure
        The class to explain, one for all or one per sample; the class that the model predicts, or what the recipe says, if None.
    recipe : Recipe or path, optional
        In place of the explainer, its parameters and the target: what `Attribution.recipe` gave, a TOML file of it, or a file of
        maps, which are made again.
    samples : int, optional
        At most so many samples of a loader or folder, 16 if not given. Refused beside the name of an explainer that has a
        parameter of that name: ("reference.rise", {"samples": 500}) says how many masks it draws.
    layout : {"NHWC", "NCHW"}, optional, how these images are handed over; as the model was wrapped if not given
    **params : the explainer's parameters, and its profile ("native" or "canonical")

    Returns
    -------
    Attribution
        `.of("image")` is an array (n, height, width, channels or 1); `.notes` says what was explained and what was changed.

    Raises
    ------
    Unsupported: where the explainer cannot answer for this model, with the reason
    InvalidInput, UnknownName: where an argument is wrong, with what to write
    """
    model = wrap(model)
    chosen = None if recipe is None else recipes.alone(recipe, explainer, params)
    if chosen is None and explainer is None:
        raise InvalidInput('write what explains, such as "captum.saliency", or recipe="recipe.toml"')
    method = as_explainer(explainer, **params) if chosen is None else chosen.method()
    if samples is not None and isinstance(explainer, str) and hasattr(method, "samples"):
        raise InvalidInput(
            f"samples={samples} could be {explainer}'s own or the number of inputs that are read: write explainer="
            f'({explainer!r}, {{"samples": {samples}}}) for the first; for the second, explainer=({explainer!r}, {{}}) beside it'
        )
    batch = arrays.read(model, inputs, samples=samples or arrays.SAMPLES, layout=layout)
    batch.require_whole(target=target)
    if chosen is not None and target is None:
        question, outputs, notes = recipes.question_of(chosen, model, batch)
        record = chosen.made(method).content()
    else:
        outputs = predicted(model, batch.inputs, origin.declared_batch_size(model))
        question, sentence = preparing.question_of(model, batch, target, outputs)
        notes, record = (sentence, *batch.notes), recipes.record(method, target)
    return replace(origin.with_origin(method(question), question, outputs, notes, record), spaces=batch.spaces)


def evaluate(
    model: Any,
    inputs: Inputs = None,
    attributions: Maps | Sequence[Maps] | Mapping[str, Maps] = (),
    metrics: Sequence[Any] = METRICS,
    target: Any = None,
    *,
    groups: Sequence[Any] = (),
    samples: int = arrays.SAMPLES,
    layout: Layout | None = None,
    seed: int = 0,
    other_model: bool = False,
) -> Evaluation:
    """Measure maps by the same metrics, all in one stream through the model.

    Parameters
    ----------
    model, inputs, samples, layout : as they were explained; without inputs, those that came with the maps
    attributions : Attribution or path, sequence or mapping of them
        What `explain` returned, `Attribution.save` wrote, or `Attribution.of_array` made; a mapping gives them names.
    metrics : sequence of str, (str, dict) or metric, names as `crossxai list --metrics` shows them, with parameters
    target : None, int, (n,) whole numbers, Target or another measure
        What is measured; the probability of the class that was explained if None.
    groups : sequence of (n,) labels
        The group of each sample where they belong together, as patches of one patient do: intervals go by group.
    seed : int, for metrics that draw
    other_model : bool
        Whether the maps may be of another model, or of other samples; else outputs have to be those of the model that was
        explained, which may be in the other framework.

    Returns
    -------
    Evaluation, with `Scores` by explainer and metric; `.scores` and `.summary` are tables

    Raises
    ------
    InvalidInput, UnknownName, Unsupported
        Where an argument is wrong, the maps are of another model, or a metric cannot measure them, with the reason.
    """
    model = wrap(model)
    maps = preparing.listed_maps(attributions)
    stored = inputs is None
    given = origin.stored_inputs(maps) if stored else inputs
    batch = arrays.read(model, given, samples=samples, layout="NHWC" if stored else layout)
    batch.require_whole(target=target, groups=groups)
    matched = () if other_model else origin.check_match(model, batch.inputs, maps)
    question, unknown = preparing.question_of_maps(model, batch, maps, target)
    labels = arrays.as_groups(groups, len(batch))
    scores, sentence = preparing.measure(question, maps, metrics, seed)
    return Evaluation(question.ids, scores, (sentence, *unknown, *matched, *batch.notes), labels)


def compare(
    models: Any,
    inputs: Inputs,
    labels: Any = None,
    *,
    explainers: Sequence[Any] | None = None,
    metrics: Sequence[Any] | None = None,
    target: Literal["predicted", "label"] | int = "predicted",
    classes: Sequence[str] = (),
    groups: Sequence[Any] = (),
    out: str | Path | None = None,
    title: str = "Comparison of explanations",
    samples: int = arrays.SAMPLES,
    layout: Layout | None = None,
    controls: bool = True,
    check: Literal["on", "off"] = "on",
    seed: int = 0,
    progress: bool = True,
    shard: tuple[int, int] | None = None,
    keep_maps: str = "all",
) -> Run:
    """Compare explainers on one or several models: maps, scores, tests against controls, and a page.

    Writes the folder that `crossxai compare` writes for an experiment file; a run that was stopped goes on where it was.

    Parameters
    ----------
    models : Model or anything that `wrap` takes, or a sequence or mapping (name → model) of them
    inputs, samples, layout : as for `explain`; the layout is the one that the first model was wrapped with if not given
    labels : (n,) numbers, optional
        The true classes, or values of a regression; else a loader's own, else the classes that the first model predicts.
    explainers : sequence of str, (str, dict), explainer, class or function, optional
        Names with parameters, and what other libraries call explainers. If not given, one of each family that a model can answer;
        which and why is said beforehand and on the page.
    metrics : sequence of str, (str, dict) or metric, optional
        As for `evaluate`. If not given, deletion and insertion by `steps="auto"`, areas from a few points of each curve, with
        fills that fit the preprocessing.
    seed : as for `evaluate`; explainers that draw have it, too
    target : {"predicted", "label"} or int, the class that is explained: the model's own, the true one, or one for all
    classes : sequence of str, the classes' names; their numbers if not given
    groups : sequence of (n,) labels
        The group of each sample where they belong together, as patches of one patient do: intervals and tests go by group.
    out : path or URL, optional
        The run's folder, also in a bucket, such as "s3://bucket/run"; a temporary one, named by the result, if not given.
    title : str, the page's heading
    controls : bool
        Whether controls that never look at the model are added: random maps, and for images the centre and the edges.
    check : {"on", "off"}, "off" leaves out measuring that models do what explainers rely on, which page and files then say
    progress : bool, whether to say how far the run is
    shard : (int, int), optional
        (3, 64): the third of 64 parts of the samples alone, which goes into a folder of its own in `out`, without a page; `merge`
        joins all parts.
    keep_maps : str, "all", "float16", "none", or "sample:200"
        What is kept of maps once they are measured: all, in half precision, none, or those of 200 samples. Scores are of all.

    Returns
    -------
    Run, with tables (`scores`, `summary`), `findings` in words, `maps`, figures (`plot`) and the page (`open`)

    Raises
    ------
    InvalidInput, UnknownName
        Where an argument is wrong, before anything runs. What one explainer, metric or model cannot do is a row with its reason.
    """
    listed = models if isinstance(models, Mapping | list | tuple) else [models]
    wrapped = preparing.wrapped(listed)
    batch = arrays.read(next(iter(wrapped.values())), inputs, samples=samples, layout=layout)
    batch.require_whole(labels=labels, groups=groups)
    batch = batch if labels is None else replace(batch, labels=arrays.as_labels(labels))
    experiment, prepared = preparing.prepare(
        wrapped, batch, explainers, metrics, target=target, classes=classes, groups=groups, title=title, controls=controls,
        check=check, seed=seed, keep_maps=keep_maps,
    )  # fmt: skip
    if shard is not None and out is None:
        raise InvalidInput("shards of one run go into one folder: write out=…")
    part = None if shard is None else Shard(*shard)
    with remote.folder(out or tempfile.mkdtemp(prefix="crossxai-"), lasting=True) as folder:
        made = runs.run(experiment, folder, Console(stderr=True, quiet=not progress), prepared, part)
        if part is None:
            write_report(folder)
        return Run(made)


def merge(folder: str | Path) -> Run:
    """Join the shards that `compare(…, shard=…)` or `crossxai compare --shard` wrote into a folder, in whatever order.

    Parameters
    ----------
    folder : path or URL, the `out` of the shards

    Returns
    -------
    Run, as one without shards would be, with its page

    Raises
    ------
    InvalidInput: where shards are missing, overlap, or are of another experiment, version or set of samples
    InvalidFile: where a file is damaged or cannot be written
    """
    with remote.folder(folder, lasting=True) as here:
        merging.merge(here)
        write_report(here)
        return Run(here)


def parity(
    models: Any,
    inputs: Inputs,
    method: str | tuple[str, Mapping[str, Any]],
    target: Any = None,
    *,
    maps: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    modality: str = "",
    sanity: bool = False,
    training: Any = None,
    axioms: bool = False,
    samples: int = 4,
    layout: Layout | None = None,
) -> Parity:
    """Compare the libraries' maps of one method, and name the conventions that part them.

    Parameters
    ----------
    models : Model or anything that `wrap` takes, or a sequence or mapping (name → model) of them
        Models are compared first; one that is another function than the first is left out.
    inputs : array, tensor, pictures, paths or loader
    method : str or (str, mapping)
        Such as "integrated_gradients", or ("integrated_gradients", {"steps": 20}) with parameters, given to every library that
        has them; the keys of `crossxai.conventions.convention.CANONICAL`.
    target : None, int, (n,) whole numbers or Target
        The class to explain; the class that the first model predicts if None.
    maps : mapping of str to array or (array, str or mapping), optional
        Maps (n, y, x, channels or 1) of the first model that were made elsewhere, by name; with what they are said to be: an
        explainer whose defaults they have ("captum.saliency", or "captum.saliency@canonical" for that profile), or options by
        convention, such as {"layer": "layer3"}.
    out : path, optional
        A folder for the page and its numbers.
    modality : str, optional
        Of models with several inputs: the one whose maps are compared; the others stay as they are.
    sanity : bool
        Whether to draw each model's weights anew, too, train copies on shuffled labels, and measure how much of a map is left
        (Adebayo et al. 2018).
    training : (inputs, labels) or loader, optional
        The samples that `sanity` trains copies on, at most 64, and their labels: classes, or the values of a regression. The
        explained samples, with what each model itself predicts of them, if not given.
    axioms : bool
        Whether to measure, too, those axioms that cost explanations: who keeps what the method promises. On the first model.
    samples : int
        At most so many samples of a loader or folder.
    layout : {"NHWC", "NCHW"}, optional
        How these images are handed over; as the first model was wrapped if not given.

    Returns
    -------
    Parity
        `.pairs` with agreement, rung and cause of every two maps, `.models`, `.entries`, `.axioms`, `.unexplained`,
        `.meets(rung)`.

    Raises
    ------
    InvalidInput, UnknownName, BrokenAssumption
        Where an argument is wrong, or a model does not do what explainers rely on.
    """
    listed = models if isinstance(models, Mapping | list | tuple) else [models]
    wrapped = preparing.wrapped(listed)
    first = next(iter(wrapped.values()))
    batch = arrays.read(first, inputs, samples=samples, layout=layout)
    batch.require_whole(target=target)
    question, _ = preparing.question_of(first, batch, target)
    if modality:
        question = question.only(modality)
    questions = {name: replace(question, model=model) for name, model in wrapped.items()}
    if not isinstance(maps or {}, Mapping):
        raise InvalidInput(
            'maps are a mapping of names, such as {"mine": array} or {"mine": (array, "captum.saliency")}'
        )
    outside = {
        name: Outside(*given[:2]) if isinstance(given, tuple) else Outside(given)
        for name, given in (maps or {}).items()
    }
    name, params = plugins.name_and_params(method, "integrated_gradients")
    known = preparing.labelled_batch(first, training, batch, SAMPLES, layout) if sanity else batch

    def retrained(name: str) -> Retrained:
        return retrain(wrapped[name], known.inputs, known.labels, len(batch) if training is None else 0)

    result = _parity(questions, name, params, outside, sanity, axioms, retrained)
    if out is not None:
        from crossxai.report.parity import METHODS, write_parity  # draws, with matplotlib

        about = [{"name": label, **about_network(model)} for label, model in wrapped.items()]
        title = f"Do the libraries agree on {METHODS[name]}?"
        write_parity(Path(out), [result], title, about=about, samples="; ".join(batch.notes))
    return result


def port(
    model: Any,
    to: Literal["keras", "torch"],
    example: Inputs,
    target: Any = None,
    *,
    samples: int = 4,
    layout: Layout | None = None,
    out: str | Path | None = None,
) -> Ported:
    """Bring a model to the other framework, layer by layer, with a measured certificate.

    Parameters
    ----------
    model : Model or anything that `wrap` takes
    to : {"keras", "torch"}
    example : array, tensor, pictures, paths or loader
        Samples that the certificate is measured on; the network takes inputs of their size.
    target : None, int, (n,) whole numbers or Target
        What the gradients and maps of the certificate are of; the class that the model predicts if None.
    samples : int, at most so many samples of a loader or folder
    layout : {"NHWC", "NCHW"}, optional, how these images are handed over; as the model was wrapped if not given
    out : path, optional
        A folder for the network and its certificate; see `Ported.save`.

    Returns
    -------
    Ported
        `.module`, the network of ordinary layers, `.model`, the same wrapped, `.certificate`, `.save(folder)`.

    Raises
    ------
    Unsupported
        Where a layer has no translation, with its name and why.
    """
    model = wrap(model)
    batch = arrays.read(model, example, samples=samples, layout=layout)
    question, _ = preparing.question_of(model, batch, target)
    ported = port_model(question, to)
    if out is not None:
        ported.save(out, samples="; ".join(batch.notes))
    return ported


def certify(
    one: Any,
    other: Any,
    example: Inputs,
    target: Any = None,
    *,
    samples: int = 4,
    layout: Layout | None = None,
    out: str | Path | None = None,
) -> Certificate:
    """Measure whether two models, such as a network and somebody's port of it, are one function and explain alike.

    Parameters
    ----------
    one, other : Model or anything that `wrap` takes
    example, target, samples, layout : as of `port`
    out : path, optional
        A folder for certificate.html, a page for readers who know neither framework, and certificate.json.

    Returns
    -------
    Certificate
        `.holds`, `.lines`, `.layers`, `.first` (the first layer that differs), `.causes`, `.summary`.

    Raises
    ------
    InvalidInput, BrokenAssumption
        Where an argument is wrong, or a model does not do what explainers rely on.
    """
    first, second = wrap(one), wrap(other)
    batch = arrays.read(first, example, samples=samples, layout=layout)
    question, _ = preparing.question_of(first, batch, target)
    certificate = _certify(question, replace(question, model=second))
    if out is not None:
        save_certificate(Path(out) / "certificate.json", certificate, first, second, samples="; ".join(batch.notes))
    return certificate
