"""`crossxai merge`: the finished shards of a run become the files that the run without shards would have written."""

from __future__ import annotations

import datetime
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidFile, InvalidInput, StorageFailed
from crossxai.evaluation.metrics.completeness import of_parts
from crossxai.experiment import progress, sharding
from crossxai.experiment.run import LEFT_OUT, remove_others, require_ours
from crossxai.experiment.sharding import Shard
from crossxai.files import Result, ours, read_result, writable_folder
from crossxai.files.atomic import disk_errors, move, remove, require_written, write_text
from crossxai.files.joining import Part, join_predictions, join_result, join_samples
from crossxai.files.remote import RUN, fetched
from crossxai.files.tasks import PLAN

SHOWN = 5
"""Missing shards that are named one by one."""
SAME = ("settings", "seed", "check", "task", "target", "data", "crossxai", "versions", "batch_size", "chosen")
"""Entries of manifests in which shards of one run agree."""
REDUCED = 2**-6
"""In place of `sharding.ROUNDING`, in reduced precision, which machines round in their own ways."""


def merge(out: Path) -> Path:
    """Join all shards in a run's folder into one run there, and return the folder; raises `InvalidInput` or `InvalidFile` where
    some are missing, or do not belong together. Nothing is replaced before everything is written."""
    require_ours(out)
    folders = _complete(out)
    manifests = [sharding.read_manifest(folder) or {} for folder in folders]
    _check_same(manifests, out)
    parts = [
        Part(folder, m["shard"]["end"] - m["shard"]["first"]) for folder, m in zip(folders, manifests, strict=True)
    ]
    manifest = _manifest(manifests)
    writable_folder(out)
    for folder in folders:
        fetched(folder, *RUN)
    labels = {path.stem for folder in folders for path in folder.glob("explanations/*/*.h5")}
    with _staged(out) as staging, _naming(folders, manifests, out):
        join_samples(staging, parts)
        for entry in manifest["models"]:
            if not entry.get("failed"):
                join_predictions(staging, entry["name"], parts)
            for label in sorted(labels):
                result, kept = _result(folders, entry, label)
                join_result(staging, parts, result, kept)
        _copy_failures(manifest, folders, staging)
        if (folders[0] / LEFT_OUT).is_file():
            shutil.copyfile(folders[0] / LEFT_OUT, staging / LEFT_OUT)
        write_text(staging / "manifest.json", json.dumps(manifest, indent=1))
        for name in ("manifest.json", PLAN, LEFT_OUT):
            remove(out / name)
        progress.Failures(out)  # takes those of an earlier run away
        remove_others(out, (m["name"] for m in manifest["models"]), labels)
        for stale in (out / "predictions" / f"{m['name']}.h5" for m in manifest["models"] if m.get("failed")):
            if ours(stale):
                remove(stale)
        files = [path.relative_to(staging) for path in staging.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == "manifest.json"):  # last of all
            move(staging / path, out / path)
    return out


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside the files to come, which is gone afterwards."""
    staging = out / f".merging-{secrets.token_hex(4)}"
    for stray in out.glob(".merging-*"):  # of a merge that was killed
        shutil.rmtree(stray, ignore_errors=True)
    try:
        with disk_errors(f"cannot write in {out}"):
            staging.mkdir()
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _naming(folders: Sequence[Path], manifests: Sequence[Mapping[str, Any]], out: Path) -> Iterator[None]:
    """What is wrong with a file of a shard becomes an error that says what makes it again."""
    try:
        yield
    except StorageFailed:
        raise
    except InvalidFile as error:
        for folder, manifest in zip(folders, manifests, strict=True):
            if str(folder) in str(error):
                require_written(folder / "manifest.json")
                about = manifest["shard"]
                again = _command(about.get("command", ""), Shard(about["number"], about["of"]), out)
                raise InvalidFile(f"{error}; make this shard again: {again}") from error
        raise


def _command(command: str, shard: Shard, out: Path) -> str:
    return f"{command or 'crossxai compare …'} --shard {shard} --out {out}"


def _complete(out: Path) -> list[Path]:
    """The folders of all shards, in order; raises `InvalidInput`, which names those that are missing and what makes them."""
    present = sharding.present(out)
    if not present:
        raise InvalidInput(
            f"{out / sharding.FOLDER} holds no shards: crossxai compare … --shard 1/4 --out {out} makes the first"
        )
    counts = sorted({count for count, _ in present})
    if len(counts) > 1:
        numbers = {count: [number for c, number in present if c == count] for count in counts}
        held = "; ".join(f"of {count} there is {', '.join(map(str, own[:SHOWN]))}" for count, own in numbers.items())
        raise InvalidInput(
            f"{out / sharding.FOLDER} holds parts of several divisions, which overlap ({held}): remove the folders of all but one"
        )
    (count,) = counts
    missing = [n for n in range(1, count + 1) if not sharding.read_manifest(present.get((count, n), Path("/nowhere")))]
    if missing:
        known = (sharding.read_manifest(folder) for folder in present.values())
        command = next((m["shard"].get("command") for m in known if m), "")
        lines = [f"  {_command(command, Shard(n, count), out)}" for n in missing[:SHOWN]]
        begun = [str(n) for n in missing if (count, n) in present]
        which = f"{len(missing)} of {count} shards are missing" + (f", {', '.join(begun)} begun" if begun else "")
        more = (
            f"\n  … and {len(missing) - SHOWN} more: {', '.join(map(str, missing[SHOWN:]))}" if missing[SHOWN:] else ""
        )
        raise InvalidInput(f"{which}. Make them, and merge again:\n" + "\n".join(lines) + more)
    return [present[count, n] for n in range(1, count + 1)]


def _check_same(manifests: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Raise `InvalidInput` where a shard is one of another experiment, version, model or set of samples."""
    first = manifests[0]
    reduced = {one["name"] for one in first["models"] if one.get("precision")}
    for manifest in manifests[1:]:
        about = manifest["shard"]
        shard = Shard(about["number"], about["of"])
        for one, other in ((first.get(key), manifest.get(key)) for key in SAME):
            if one != other:
                raise _different(shard, *_differing(one, other), out)
        for one, other in zip(first["models"], manifest["models"], strict=True):
            for key in ("name", "framework", "weights_sha256"):
                if one.get(key) != other.get(key) and not (one.get("failed") or other.get("failed")):
                    raise _different(shard, f"{one['name']}: {key}", one.get(key), other.get(key), out)
        if about["samples"] != first["shard"]["samples"]:
            raise _different(shard, "samples", first["shard"]["samples"], about["samples"], out)
        for name, own in about["outputs"].items():
            before = np.array(first["shard"]["outputs"].get(name, own))
            spread, share = before[3] - before[2], REDUCED if name in reduced else sharding.ROUNDING
            if not np.allclose(before, own, rtol=share, atol=share * spread, equal_nan=True):
                raise _different(shard, f"the outputs of {name} (mean, sd, ends)", before.tolist(), own, out)


def _different(shard: Shard, what: str, one: Any, other: Any, out: Path) -> InvalidInput:
    one, other = (str(value) if len(str(value)) < 80 else f"{str(value)[:77]}…" for value in (one, other))
    return InvalidInput(
        f"shard {shard} is not of the run of shard 1/{shard.count}: {what} is {other}, there {one}. Make one of them again after "
        f"removing its folder, {shard.folder(out)}, say"
    )


def _differing(one: Any, other: Any, place: str = "") -> tuple[str, Any, Any]:
    """The first place at which two manifests differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [key for key in (*one, *other) if one.get(key) != other.get(key)]
        return _differing(one.get(keys[0]), other.get(keys[0]), f"{place}.{keys[0]}".lstrip("."))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        row = next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        return _differing(one[row], other[row], f"{place}.{row}".lstrip("."))
    return place, one, other


def _manifest(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of the whole run: what failed or was refused anywhere did so in the run."""
    merged = {key: value for key, value in manifests[0].items() if key != "shard"}
    merged["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    merged["seconds"] = sum(manifest["seconds"] for manifest in manifests)
    merged["models"] = []
    for place, entry in enumerate(manifests[0]["models"]):
        every = [manifest["models"][place] for manifest in manifests]
        made = next((one for one in every if not one.get("failed")), entry)
        own = {**made, "refused": _first_reasons(every)}
        if reasons := _reasons([one.get("failed", "") for one in every]):
            own["failed"] = reasons
        merged["models"].append(own)
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for manifest in manifests:
        for row in manifest["failures"]:
            place_of = (row["model"], row["explainer"], row["metric"])
            same = [r["reason"] for m in manifests for r in m["failures"] if _key(r) == place_of]
            rows.setdefault(
                place_of, {**row, "reason": row["reason"] + _where(manifest["shard"], len(same), len(manifests))}
            )
    merged["failures"] = [*rows.values()]
    merged["merged"] = {"shards": len(manifests)}
    return merged


def _key(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["model"], row["explainer"], row["metric"]


def _where(about: Mapping[str, Any], n: int, count: int) -> str:
    """Which shard a reason is of, where not all of them have one."""
    return "" if n == count else f" (in shard {about['number']}/{count})"


def _first_reasons(every: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for entry in every:
        for metric, reason in entry.get("refused", {}).items():
            reasons.setdefault(metric, reason)
    return reasons


def _reasons(each: Sequence[str]) -> str:
    """The first of the shards' reasons, and which shard it is of unless all have one; "" where none has."""
    first = next((place for place, reason in enumerate(each) if reason), None)
    if first is None:
        return ""
    return each[first] + _where({"number": first + 1}, sum(map(bool, each)), len(each))


def _result(folders: Sequence[Path], entry: dict[str, Any], label: str) -> tuple[Result, list[int]]:
    """An explainer's result on all samples, without its maps, and how many of these each shard has. It has maps and scores if it
    has them in every shard, as in a run without shards, where one sample that fails fails them all."""
    every = [read_result(folder / "explanations" / entry["name"] / f"{label}.h5", maps=False) for folder in folders]
    ids = tuple(name for one in every for name in one.ids)
    worst = next((status for status in ("failed", "unsupported") if any(one.status == status for one in every)), "ok")
    if worst != "ok":
        first = next(one for one in every if one.status == worst)
        none = Attribution(
            (), (), ids, first.attribution.explainer, first.attribution.profile, first.attribution.params
        )
        reason = _reasons([one.reason if one.status == worst else "" for one in every])
        lost = replace(first, attribution=none, scores={}, score_hashes={}, degenerate=(), reason=reason)
        return lost, [0] * len(every)
    if len(kinds := {one.keep_maps for one in every}) > 1:
        raise InvalidInput(
            f"shards kept other maps of {label} ({', '.join(sorted(kinds))}): run the same command for all"
        )
    own = every[0].attribution
    attribution = replace(
        own,
        ids=ids,
        seconds=sum(one.attribution.seconds for one in every),
        notes=tuple(dict.fromkeys(note for one in every for note in one.attribution.notes)),
        extras={name: _joined([one.attribution.extras[name] for one in every], every) for name in own.extras},
    )
    names = [
        name
        for name in every[0].scores
        if all(name in one.scores for one in every) and not _refused(entry, name, label)
    ]
    scores = {name: _scores([one.scores[name] for one in every]) for name in names}
    refused = {metric: why for one in every for metric, why in one.refused.items()}
    for name, (own_scores, reason) in {name: of_parts(one, label) for name, one in scores.items()}.items():
        scores[name] = own_scores
        if reason:
            del scores[name]
            refused[f"{name} of {label}"] = entry["refused"][f"{name} of {label}"] = reason
    shared = set.intersection(*(set(one.score_hashes.items()) for one in every))
    joined = replace(
        every[0],
        attribution=attribution,
        samples=ids if every[0].rows is not None else (),
        rows=_rows(every),
        refused=refused,
        degenerate=tuple(kind for one in every for kind in one.degenerate),
        scores=scores,
        score_hashes={
            name: key for name, key in every[0].score_hashes.items() if name in scores and (name, key) in shared
        },
    )
    return joined, [len(one.ids if one.rows is None else one.rows) for one in every]


def _rows(every: Sequence[Result]) -> Any:
    """The places of samples with maps among all; None for all."""
    if every[0].rows is None:
        return None
    before = np.cumsum([0, *(len(one.ids) for one in every)])
    return np.concatenate([start + one.rows for start, one in zip(before, every, strict=False)])


def _refused(entry: Mapping[str, Any], metric: str, label: str) -> bool:
    return metric in entry["refused"] or f"{metric} of {label}" in entry["refused"]


def _joined(values: Sequence[Any], every: Sequence[Result]) -> Any:
    """Extras of all samples, where there is one for each; else the first shard's."""
    lengths = [len(one.ids) for one in every]
    return np.concatenate(values) if [np.shape(v)[:1] for v in values] == [(n,) for n in lengths] else values[0]


def _scores(every: Sequence[Scores]) -> Scores:
    """Scores of all samples; of none, with the reason, where a shard has none."""
    n = sum(len(one.value) for one in every)
    if reason := _reasons([str(one.params.get("refused", "")) for one in every]):
        return Scores(every[0].metric, np.full(n, np.nan), every[0].higher_is_better, params={"refused": reason})
    extras = {key: np.concatenate([one.extras[key] for one in every]) for key in every[0].extras}
    value = np.concatenate([one.value for one in every])
    curve, fractions = _curves(every)
    return replace(every[0], value=value, curve=curve, fractions=fractions, extras=extras)


def _curves(every: Sequence[Scores]) -> tuple[Any, Any]:
    """Curves of all samples, as long as the longest; shorter ones stay at their last point, as within a run. A shard without a
    usable map has none, and no number there."""
    known = [one for one in every if one.curve is not None]
    if not known:
        return None, None
    drawn = [one for one in known if not np.isnan(np.asarray(one.curve)).all()] or known[:1]
    first = np.asarray(drawn[0].fractions)
    points = max(np.asarray(one.curve).shape[1] for one in drawn)
    curves, fractions = [], []
    for one in every:
        own = any(one is other for other in drawn)
        curves.append(_prolonged(one.curve if own else [np.nan], len(one.value), points))
        fractions.append(_prolonged(one.fractions if own else first, len(one.value), points))
    shared = first.ndim == 1 and all(np.array_equal(np.asarray(one.fractions), first) for one in drawn)
    return np.concatenate(curves), first if shared else np.concatenate(fractions)


def _prolonged(values: Any, n: int, points: int) -> Any:
    """Values (points,) or (n, points) as (n, more points)."""
    rows = np.broadcast_to(values, (n, np.shape(values)[-1]))
    return np.pad(rows, ((0, 0), (0, points - rows.shape[1])), mode="edge")


def _copy_failures(manifest: Mapping[str, Any], folders: Sequence[Path], staging: Path) -> None:
    """The traceback of each failure, of the first shard that has it."""
    for row in manifest["failures"]:
        source = next((folder / row["traceback"] for folder in folders if (folder / row["traceback"]).is_file()), None)
        if source is not None:
            place = staging / row["traceback"]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
