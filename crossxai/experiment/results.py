"""Run and Evaluation: results as tables, maps, figures and a page, which show themselves in a notebook."""

from __future__ import annotations

import html
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidInput, MissingDependency, UnknownName
from crossxai.files import Result, read_result, remote
from crossxai.files.maps import with_run
from crossxai.files.stores import is_url
from crossxai.model import Modality
from crossxai.report.analysis import summarised
from crossxai.report.contents import Contents, gather
from crossxai.report.run import RunRecord
from crossxai.report.score_files import no_scores, score_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CATEGORIES = ("model", "framework", "label", "explainer", "library", "profile", "metric", "degenerate", "status",
              "versus_random")  # fmt: skip
PAGE = "report.html"


class Run:
    """A finished or stopped comparison: the folder of its files, read when it is used.

    Parameters
    ----------
    folder : path or URL
        What `crossxai.compare` or the command `crossxai compare` wrote. Of a URL, a copy is made here, until Python ends.

    Raises
    ------
    InvalidFile
        Where a file is missing or damaged, or of another run.
    """

    def __init__(self, folder: str | Path) -> None:
        with remote.folder(folder, lasting=True) as here:
            self.folder = here.resolve()
            if is_url(folder):
                remote.fetched(self.folder, *remote.RUN)
            self._contents  # noqa: B018 - damaged files are reported now

    @cached_property
    def _contents(self) -> Contents:
        return gather(self.folder)

    @property
    def models(self) -> tuple[str, ...]:
        """The models' names."""
        return self._contents.run.models

    @property
    def page(self) -> Path:
        """The report, one file of HTML."""
        return self.folder / PAGE

    @property
    def scores(self) -> pd.DataFrame:
        """One row per model, explainer, metric and sample."""
        return pd.concat([*score_frames(self._contents.run)] or [no_scores()], ignore_index=True)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per model, explainer and metric: mean, interval, n, and the difference to the random control."""
        rows = []
        for row in self._contents.rows:
            about = {"model": row.model, "label": row.label, "library": row.library, "status": row.status}
            for metric in self._contents.run.metrics:
                cell = row.cells.get(metric)
                own, test = (cell.summary, cell.versus) if cell else (None, None)
                line: dict[str, Any] = {**about, "metric": metric}
                line |= {key: getattr(own, key, np.nan) for key in ("mean", "low", "high", "n")}
                line |= {key: getattr(test, key, np.nan) for key in ("difference", "p_holm")}
                rows.append({**line, "versus_random": getattr(test, "verdict", "")})
        return typed(pd.DataFrame(rows))

    @property
    def findings(self) -> str:
        """What the page says in words, one line per finding."""
        lines = "\n".join(f"- {finding.headline}" for finding in self._contents.findings)
        return lines.replace("**", "").replace("`", "")  # the page's marks for code and emphasis

    @cached_property
    def maps(self) -> Maps:
        """`Attribution` by explainer: `run.maps["captum.saliency"]`; of several models `run.maps["a", "captum.saliency"]`."""
        return Maps(self._contents.run, self.folder)

    @property
    def left_out(self) -> dict[str, str]:
        """The reason by file, of those that could not be used as samples."""
        return dict(self._contents.run.samples.left_out)

    @property
    def refused(self) -> dict[Any, str]:
        """The reason by explainer, of those that could not answer; keys as those of `maps`."""
        return self.maps.refused

    def plot(
        self, kind: str = "grid", *, model: str = "", modality: str = "", samples: Sequence[int] | None = None
    ) -> Figure:
        """A figure of one model.

        Parameters
        ----------
        kind : {"grid", "curves", "ranking"}
            Explainers × samples over the images; mean curves of deletion and insertion with their intervals; or each explainer's
            difference to the random control.
        model, modality : str
            The first if not given.
        samples : sequence of int, optional
            The samples of the grid, by their place; the first six if not given.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from crossxai.report import plots

        run = self._contents.run.mapped if kind == "grid" else self._contents.run
        model = model or run.models[0]
        if model not in run.models:
            raise UnknownName("model of this run", model, run.models)
        own = {label: e for label, e in run.of(model).items() if e.status == "ok"}
        if kind == "grid":
            place = _place(modality, run.samples.modalities, "run")
            name = run.samples.modalities[place].name
            maps = {label: e.maps[name] for label, e in own.items() if name in e.maps}
            if (kept := self._contents.run.kept) is not None and not len(kept):
                raise InvalidInput(
                    'no maps were kept (keep_maps = "none"): run again with keep_maps = "all" or "sample:200"'
                )
            images, ids = run.samples.inputs[name], run.samples.ids
            return plots.plot_grid(
                maps, images, run.samples.modalities[place], titles=ids, samples=samples, title=model
            )
        if kind not in ("curves", "ranking"):
            raise UnknownName("kind of figure", kind, ("grid", "curves", "ranking"))
        panels = {
            metric: {label: e.scores[metric] for label, e in own.items() if metric in e.scores} for metric in run.curves
        }
        return (plots.plot_curves if kind == "curves" else plots.plot_ranking)(panels, title=model, groups=run.groups)

    def open(self) -> Path:
        """Show the page in the browser; returns its path."""
        webbrowser.open(self.page.as_uri())
        return self.page

    def __repr__(self) -> str:
        run = self._contents.run
        counts = (
            f"{len(run.models)} models × {len(run.labels)} explainers × {len(run.metrics)} metrics on {run.n} samples"
        )
        return f"Run({counts}; {remote.shown(self.folder)}{', ' + run.stopped if run.stopped else ''})"

    def __eq__(self, other: object) -> bool:
        return self.folder == other.folder if isinstance(other, Run) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.folder)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line.removeprefix('- '))}</li>" for line in self.findings.splitlines())
        return f"<p>{html.escape(repr(self))}</p><ul>{items}</ul>{_table(self.summary)}"


class Maps(Mapping[Any, Attribution]):
    """The maps of a run: `Attribution` by the explainer's label, and of several models by (model, label). Where memory does not
    hold all of them, each is read when it is asked for."""

    def __init__(self, run: RunRecord, folder: Path) -> None:
        self.refused: dict[Any, str] = {}
        self._example = run.models[0] if len(run.models) > 1 else ""
        self._run, self._folder = run, folder
        self._results: dict[Any, Result] = {}
        self._made: dict[Any, Attribution] = {}
        for e in run.explanations:
            key = (e.model, e.label) if self._example else e.label
            if e.status == "ok":
                self._results[key] = e
            else:
                self.refused[key] = e.reason

    def __getitem__(self, key: Any) -> Attribution:
        if key not in self._results:
            return self._missing(key)
        if key in self._made:
            return self._made[key]
        e = self._results[key]
        maps = e.attribution
        if self._run.drawn:
            maps = read_result(self._folder / "explanations" / e.model / f"{e.label}.h5").attribution
        made = replace(with_run(maps, self._folder, e.model, self._run.samples), explainer=e.label)
        if not self._run.drawn:
            self._made[key] = made
        return made

    def __contains__(self, key: object) -> bool:
        return key in self._results

    def __iter__(self) -> Iterator[Any]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def _missing(self, key: Any) -> Attribution:
        if key in self.refused:
            raise InvalidInput(f"{key} has no map: {self.refused[key]}")
        if self._example and isinstance(key, str):
            raise InvalidInput(f"the run has several models: write maps[{self._example!r}, {key!r}]")
        raise UnknownName("map", str(key), map(str, self))

    def __repr__(self) -> str:
        return f"Maps({', '.join(map(str, self))})"


@dataclass(frozen=True)
class Evaluation(Mapping[str, Mapping[str, Scores]]):
    """Scores of maps: `Scores` by explainer and metric, as in `evaluation["captum.saliency"]["deletion"]`.

    Attributes
    ----------
    ids : tuple of str
        The samples' names.
    entries : mapping of mappings
        Explainer → metric → `Scores`.
    notes : tuple of str
        What was measured, and what was changed in the inputs.
    groups : tuple of str
        The group of each sample, by which intervals go; () where each stands for itself.
    """

    ids: tuple[str, ...]
    entries: Mapping[str, Mapping[str, Scores]]
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __getitem__(self, explainer: str) -> Mapping[str, Scores]:
        if explainer not in self.entries:
            raise UnknownName("explainer of this evaluation", str(explainer), self.entries)
        return self.entries[explainer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def scores(self) -> pd.DataFrame:
        """One row per explainer, metric and sample."""
        return self._frame(lambda own: pd.DataFrame({"sample": self.ids, "value": own.value}).to_dict("records"))

    @property
    def summary(self) -> pd.DataFrame:
        """One row per explainer and metric: the mean with its 95 % interval, and of how many samples."""

        def means(own: Scores) -> list[dict[str, Any]]:
            summary = summarised(own, self.groups or None)
            return [{key: getattr(summary, key) for key in ("mean", "low", "high", "n")}]

        return self._frame(means)

    def _frame(self, lines: Callable[[Scores], list[Any]]) -> pd.DataFrame:
        """The lines of every explainer and metric, after their names."""
        rows = [
            {"explainer": name, "metric": metric, "higher_is_better": own.higher_is_better, **line}
            for name, by_metric in self.entries.items()
            for metric, own in by_metric.items()
            for line in lines(own)
        ]
        return typed(pd.DataFrame(rows))

    def plot(self) -> Figure:
        """Mean curves with their intervals, a panel per metric that has one; returns a matplotlib `Figure`."""
        from crossxai.report import plots

        panels: dict[str, dict[str, Scores]] = {}
        for name, by_metric in self.entries.items():
            for metric, scores in by_metric.items():
                if scores.curve is not None:
                    panels.setdefault(metric, {})[name] = scores
        return plots.plot_curves(panels, groups=self.groups or None)

    def __repr__(self) -> str:
        metrics = list(dict.fromkeys(m for by_metric in self.entries.values() for m in by_metric))
        groups = f" of {len(set(self.groups))} groups" if self.groups else ""
        return f"Evaluation({', '.join(self.entries)}: {', '.join(metrics)} of {len(self.ids)} samples{groups})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{_table(self.summary)}"


def _place(modality: str, modalities: Sequence[Modality], of: str) -> int:
    """The place of a modality by its name; the first if none is named."""
    names = [m.name for m in modalities]
    if modality and modality not in names:
        raise UnknownName(f"modality of this {of}", modality, names)
    return names.index(modality) if modality else 0


def plot_attribution(
    attribution: Attribution, modality: str = "", samples: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """Maps of one modality over their inputs, where those are known."""
    from crossxai.report import plots

    place = _place(modality, attribution.modalities, "attribution")
    images = None if attribution.inputs is None else attribution.inputs[place]
    maps = {attribution.explainer: attribution.values[place]}
    return plots.plot_grid(
        maps, images, attribution.modalities[place], titles=attribution.ids, samples=samples, title=title
    )


def attribution_html(attribution: Attribution) -> str:
    """What was explained, its notes, and the first four samples."""
    from crossxai.report.plots.style import png_uri

    picture = png_uri(plot_attribution(attribution, samples=range(min(4, len(attribution)))), dpi=90)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in attribution.notes)
    words = html.escape(repr(attribution))
    return f'<p>{words}</p><ul>{notes}</ul><img alt="{words}" src="{picture}"/>'


def scores_html(scores: Scores) -> str:
    """The mean with its interval."""
    own = summarised(scores)
    interval = f"{own.mean:.3f} ({own.low:.3f} to {own.high:.3f}), {own.n} samples"
    better = "higher is better" if scores.higher_is_better else "lower is better"
    return f"<p><b>{html.escape(scores.metric)}</b> ({better}): {interval}</p>"


def to_xarray(attribution: Attribution) -> Any:
    """A data set with a variable per modality; the last axis of a map that is one per pixel has no names."""
    try:
        import xarray
    except ImportError as error:
        raise MissingDependency("xarray", "xarray", "to_xarray") from error
    variables = {}
    for modality, values in zip(attribution.modalities, attribution.values, strict=True):
        named = values.shape[-1] == len(modality.features)
        axes = [f"{modality.name}_{axis}" for axis in modality.axes]
        names = {axes[-1]: list(modality.features)} if named else {}
        variables[modality.name] = xarray.DataArray(
            values, dims=("sample", *axes), coords={"sample": list(attribution.ids), **names}
        )
    about = {"explainer": attribution.explainer, "profile": attribution.profile, "notes": list(attribution.notes)}
    return xarray.Dataset(variables, attrs=about)


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with names as categories, in order of appearance, and numbers as numbers."""
    for column in set(CATEGORIES) & set(frame.columns):
        values = frame[column].fillna("").astype(str)
        frame[column] = pd.Categorical(values, categories=list(dict.fromkeys(values)))
    if "n" in frame:
        frame["n"] = pd.to_numeric(frame["n"]).astype("Int64")
    return frame


def _table(summary: pd.DataFrame) -> str:
    """A row per explainer, a column per metric."""
    index = [c for c in ("model", "label", "explainer") if c in summary.columns]
    wide = summary.pivot_table(index=index, columns="metric", values="mean", observed=True, sort=False)
    return str(wide.to_html(float_format="{:.3f}".format, border=0))
