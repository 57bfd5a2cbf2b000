"""Run and Evaluation: results as tables, maps, figures and a page, which show themselves in a notebook."""

from __future__ import annotations

import html
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidInput, MissingDependency, UnknownName
from crossxai.evaluation import statistics
from crossxai.report.contents import SCORES, Contents, gather, score_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CATEGORIES = (
    "model",
    "framework",
    "label",
    "explainer",
    "library",
    "profile",
    "metric",
    "degenerate",
    "status",
    "versus_random",
)
PAGE = "report.html"


class Run:
    """A finished or stopped comparison: the folder of its files, read when it is used.

    Parameters
    ----------
    folder : path
        What `crossxai.compare` or the command `crossxai compare` wrote.

    Attributes
    ----------
    folder : Path
        Where samples, predictions, maps, scores and the page are.
    scores : pandas.DataFrame
        One row per model, explainer, metric and sample.
    summary : pandas.DataFrame
        One row per model, explainer and metric: mean with its interval, and the difference to the random control.
    findings : str
        What the page says in words, one line per finding.
    maps : Mapping
        `Attribution` by explainer, as in `run.maps["captum.saliency"]`; of several models `run.maps["a", "captum.saliency"]`.
    refused : Mapping
        The reason by explainer, of those that could not answer; keys as those of `maps`.

    Raises
    ------
    InvalidFile
        Where a file is missing or damaged, or of another run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
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
        return typed(pd.DataFrame(score_rows(self._contents), columns=SCORES))

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
        return "\n".join(f"- {_plain(finding.headline)}" for finding in self._contents.findings)

    @property
    def maps(self) -> Maps:
        """The maps by explainer."""
        return Maps(self._contents)

    @property
    def refused(self) -> dict[Any, str]:
        """The reasons of the explainers that could not answer."""
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

        run = self._contents.run
        model = model or run.models[0]
        if model not in run.models:
            raise UnknownName("model of this run", model, run.models)
        own = {label: e for label, e in run.of(model).items() if e.status == "ok"}
        if kind == "grid":
            shown = {m.name: m for m in run.samples.modalities}
            name = modality or next(iter(shown))
            if name not in shown:
                raise UnknownName("modality of this run", name, shown)
            maps = {label: e.maps[name] for label, e in own.items() if name in e.maps}
            return plots.plot_grid(
                maps, run.samples.inputs[name], shown[name], titles=run.samples.ids, samples=samples, title=model
            )
        if kind not in ("curves", "ranking"):
            raise UnknownName("kind of figure", kind, ("grid", "curves", "ranking"))
        panels = {
            metric: {label: e.scores[metric] for label, e in own.items() if metric in e.scores} for metric in run.curves
        }
        return (plots.plot_curves if kind == "curves" else plots.plot_ranking)(panels, title=model)

    def open(self) -> Path:
        """Show the page in the browser; returns its path."""
        webbrowser.open(self.page.as_uri())
        return self.page

    def __repr__(self) -> str:
        run = self._contents.run
        counts = (
            f"{len(run.models)} models × {len(run.labels)} explainers × {len(run.metrics)} metrics on {run.n} samples"
        )
        return f"Run({counts}; {self.folder}{', ' + run.stopped if run.stopped else ''})"

    def __eq__(self, other: object) -> bool:
        return self.folder == other.folder if isinstance(other, Run) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.folder)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(line.removeprefix('- '))}</li>" for line in self.findings.splitlines())
        return f"<p>{html.escape(repr(self))}</p><ul>{items}</ul>{_table(self.summary)}"


class Maps(Mapping[Any, Attribution]):
    """The maps of a run: `Attribution` by the explainer's label, and of several models by (model, label)."""

    def __init__(self, contents: Contents) -> None:
        run = contents.run
        self._run, self._several = run, len(run.models) > 1
        self._files = {self._key(e.model, e.label): e for e in run.explanations if e.status == "ok"}
        self.refused = {self._key(e.model, e.label): e.reason for e in run.explanations if e.status != "ok"}

    def _key(self, model: str, label: str) -> Any:
        return (model, label) if self._several else label

    def __getitem__(self, key: Any) -> Attribution:
        if key not in self._files:
            if key in self.refused:
                raise InvalidInput(f"{key} has no map: {self.refused[key]}")
            if self._several and isinstance(key, str):
                raise InvalidInput(f"the run has several models: write maps[{self._run.models[0]!r}, {key!r}]")
            raise UnknownName("map", str(key), map(str, self._files))
        attribution = self._files[key].labelled
        return replace(attribution, inputs=tuple(self._run.samples.inputs[m.name] for m in attribution.modalities))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"Maps({', '.join(map(str, self._files))})"


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
    """

    ids: tuple[str, ...]
    entries: Mapping[str, Mapping[str, Scores]]
    notes: tuple[str, ...] = ()

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
        rows = [
            {
                "explainer": name,
                "metric": metric,
                "higher_is_better": scores.higher_is_better,
                "sample": i,
                "value": value,
            }
            for name, by_metric in self.entries.items()
            for metric, scores in by_metric.items()
            for i, value in zip(self.ids, scores.value.tolist(), strict=True)
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
        return plots.plot_curves(panels)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per explainer and metric: the mean with its 95 % interval, and of how many samples."""
        rows = []
        for name, by_metric in self.entries.items():
            for metric, scores in by_metric.items():
                own = statistics.summarise(scores.value)
                about = {"explainer": name, "metric": metric, "higher_is_better": scores.higher_is_better}
                rows.append({**about, "mean": own.mean, "low": own.low, "high": own.high, "n": own.n})
        return typed(pd.DataFrame(rows))

    def __repr__(self) -> str:
        metrics = list(dict.fromkeys(m for by_metric in self.entries.values() for m in by_metric))
        return f"Evaluation({', '.join(self.entries)}: {', '.join(metrics)} of {len(self.ids)} samples)"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{_table(self.summary)}"


def plot_attribution(
    attribution: Attribution, modality: str = "", samples: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """Maps of one modality over their inputs, where those are known."""
    from crossxai.report import plots

    names = [m.name for m in attribution.modalities]
    place = names.index(modality) if modality in names else 0
    if modality and modality not in names:
        raise UnknownName("modality of this attribution", modality, names)
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
    own = statistics.summarise(scores.value)
    interval = f"{own.mean:.3f} ({own.low:.3f} to {own.high:.3f}), {own.n} samples"
    better = "higher is better" if scores.higher_is_better else "lower is better"
    return f"<p><b>{html.escape(scores.metric)}</b> ({better}): {interval}</p>"


def to_xarray(attribution: Attribution) -> Any:
    """A data set with a variable per modality; the last axis of a map that is one per pixel has no names."""
    try:
        import xarray
    except ImportError as error:
        raise MissingDependency("xarray", "dev", "to_xarray") from error
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


def _plain(words: str) -> str:
    """A sentence of the page without its marks for code and emphasis."""
    return words.replace("**", "").replace("`", "")


def _table(summary: pd.DataFrame) -> str:
    """A row per explainer, a column per metric."""
    index = [c for c in ("model", "label", "explainer") if c in summary.columns]
    wide = summary.pivot_table(index=index, columns="metric", values="mean", observed=True, sort=False)
    return str(wide.to_html(float_format="{:.3f}".format, border=0))
