"""Which files are samples: of a folder, with sub-folders or a CSV file of labels, of a pattern, or of a CSV file alone."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar

from crossxai.data import containers, csv_files
from crossxai.data.csv_files import Row, Table
from crossxai.data.declared import Files
from crossxai.data.odd import LeftOut, readable
from crossxai.data.pictures import PICTURES
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Modality

ARRAY = ".npy"
FILE, LABEL = "file", "label"
T = TypeVar("T")
FOLDERS = "labels are the names of the folders"


@dataclass(frozen=True)
class Entry:
    """A sample before any of its files is opened. place: its turn in the end; paths: by modality; row: of the CSV file and the
    table; problem: why it cannot be used, if that is known already."""

    name: str
    place: int
    paths: Mapping[str, Path]
    relative: Path
    row: Row
    label: str = ""
    mask: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """entries: in the order in which they are taken. tables: whose columns rows have. labelled: whether labels are known.
    alone: whether one file was asked for, which has to be readable. used: heads of
    columns that are no values of a table."""

    where: str
    entries: tuple[Entry, ...]
    tables: tuple[Table, ...] = ()
    labelled: bool = False
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    words: str = "of {where}"
    alone: bool = False
    used: tuple[str, ...] = ()


def is_files(path: Path) -> bool:
    """Whether a path stands for samples, and is not a picture itself."""
    known = (*csv_files.ENDINGS, *containers.ENDINGS)
    # These two take names that no file can have.
    return os.path.isdir(path) or path.suffix.lower() in known or (_pattern(path) and not os.path.exists(path))


def listing(declared: Files, modalities: Sequence[Modality]) -> Listing:
    """The samples of a folder, a pattern, a picture or a CSV file. Raises `InvalidInput` or `InvalidFile` with what is wrong."""
    path = declared.place
    table = table_of(declared)
    if path.suffix.lower() in csv_files.ENDINGS and not path.is_dir():
        return _of_table(csv_files.read(path), declared, modalities, table)
    if path.is_dir():
        there = [p for p in inside(path) if p.suffix.lower() in csv_files.ENDINGS]
        tables = [p for p in there if table is None or not p.samefile(table.path)]
        if len(tables) > 1:
            raise InvalidInput(f"{path} holds several tables ({', '.join(p.name for p in tables)}): name one of them")
        if tables:
            return _of_table(csv_files.read(tables[0]), declared, modalities, table)
        found = _of_folder(path, declared)
    elif _pattern(path) and not path.exists():
        matching = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
        matching = [p for p in matching if _is_sample(p) and not p.is_dir()]
        if not matching:
            raise InvalidInput(f"no picture ({', '.join(PICTURES)}) matches {path}")
        base = Path(os.path.commonpath([p.parent for p in matching]))
        found = _plain(matching, base, f"that match {path.name}", f"the pattern {path.name}")
    else:
        found = replace(_plain([path], path.parent, "", path.name), alone=True)
    return completed(found, declared, modalities, table)


def table_of(declared: Files) -> Table | None:
    """The table that is declared beside the files."""
    return csv_files.read(declared.path(declared.table)) if str(declared.table) else None


def completed(found: Listing, declared: Files, modalities: Sequence[Modality], table: Table | None) -> Listing:
    """Files of one modality with what a table, or the names of masks, say of them."""
    path = declared.place
    spatial = _spatial(modalities)
    if len(spatial) != 1:
        raise InvalidInput(
            f"{path} holds one picture a sample, and the model takes {len(spatial)} ({', '.join(spatial)}): write a "
            "CSV file with a column for each"
            if spatial
            else f"{path} holds pictures, and the model takes none: write a CSV file"
        )
    entries = [replace(e, paths={spatial[0]: e.paths[""]}) for e in found.entries]
    columns: tuple[str, ...] = ()
    if table is not None:
        key = _key(declared, table)
        entries = _joined(entries, table, key, None)
        columns = (key,)
    found = replace(found, entries=tuple(entries), tables=(table,) if table else (), used=columns)
    return _with_masks(_with_labels(found, declared), declared, path if path.is_dir() else path.parent)


def inside(folder: Path) -> list[Path]:
    """What a folder holds, by name; raises `InvalidFile`."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InvalidFile(f"{folder} cannot be looked into: {error.strerror or error}") from error


def _pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


def _is_sample(path: Path) -> bool:
    """Whether a name is that of a picture; what it leads to is found out when it is opened."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def _spatial(modalities: Sequence[Modality]) -> list[str]:
    return [m.name for m in modalities if m.spatial]


def _plain(paths: Sequence[Path], base: Path, words: str, where: str) -> Listing:
    entries = tuple(
        Entry(readable(p.relative_to(base)), place, {"": p}, p.relative_to(base), Row(readable(p.name), {}))
        for place, p in enumerate(paths)
    )
    return Listing(where, entries, words=words)


def _of_folder(path: Path, declared: Files) -> Listing:
    """A folder's pictures by name; else those of its sub-folders, whose names are labels; else its arrays, one a sample."""
    there = inside(path)
    pictures = [p for p in there if _is_sample(p)]
    if pictures and not all(p.is_dir() for p in pictures):
        return _plain(pictures, path, f"of {path.name}", path.name)
    masks = declared.path(declared.masks).resolve() if str(declared.masks) else None
    folders = [d for d in there if d.is_dir() and d.resolve() != masks]
    classes = {d.name: [p for p in inside(d) if _is_sample(p)] for d in folders}
    classes = {name: found for name, found in classes.items() if found}
    if not classes:
        if arrays := [p for p in there if p.suffix.lower() == ARRAY]:
            return _plain(arrays, path, f"of {path.name}", path.name)
        raise InvalidInput(f"{path} holds no picture ({', '.join(PICTURES)}), and no folder of its holds one")
    ordered = _plain([p for found in classes.values() for p in found], path, "by turns", path.name).entries
    if masks is not None and len(classes) == 1:  # pictures beside their masks
        return Listing(path.name, ordered, words=f"of {path.name}")
    rows = [[replace(e, label=name) for e in ordered if e.relative.parts[0] == name] for name in classes]
    turns = tuple(by_turns(rows))
    note = f"{FOLDERS} in {path.name}: {', '.join(map(readable, classes))}"
    return Listing(path.name, turns, labelled=True, notes=(note,), words="by turns")


def by_turns(rows: Iterable[Sequence[T]]) -> list[T]:
    """The first of each row, the second of each, and so on."""
    return [one for one in chain.from_iterable(zip_longest(*rows)) if one is not None]


def _of_table(own: Table, declared: Files, modalities: Sequence[Modality], table: Table | None) -> Listing:
    """The rows of a CSV file, whose columns name pictures, masks and labels, and hold the values of a table."""
    root = declared.path(declared.root) if str(declared.root) else own.path.parent
    base = os.path.normpath(root.absolute())
    columns: dict[str, str] = {}
    spatial = _spatial(modalities)
    for name in spatial:
        alone = len(spatial) == 1
        wanted = declared.images.get(name, name) if isinstance(declared.images, Mapping) else declared.images
        wanted = wanted if isinstance(declared.images, Mapping) or (wanted and alone) else FILE if alone else name
        write = 'images = "…" with the head of that column' if alone else f'images = {{ {name} = "…" }} with its head'
        columns[name] = own.require(wanted, f"which names the files of {name}", write)
    entries, seen = [], dict[tuple[str, ...], str]()
    for place, row in enumerate(own.rows):
        cells = tuple(row.cells[c] for c in columns.values())
        paths = {name: _under(root, cell) for name, cell in zip(columns, cells, strict=True)}
        problem = next((why for cell in cells if (why := _problem(base, cell))), "")
        if cells and not problem and cells in seen:
            problem = f"is named a second time, after {seen[cells]}"
        seen.setdefault(cells, row.name)
        first = Path(
            cells[0].replace("\\", "/") if cells else row.cells.get(own.head(declared.key or "id"), "") or row.name
        )
        shown = readable(cells[0]) if cells and cells[0] else row.name
        entries.append(Entry(shown, place, paths, first, row, problem=problem))
    joined: tuple[Table, ...] = (own,)
    used = tuple(columns.values())
    if table is not None:
        key = table.require(declared.key or FILE, "which joins it to the files", 'key = "…"')
        entries = _joined(entries, table, key, own.require(key, f"which joins it to {table.path.name}", 'key = "…"'))
        joined, used = (own, table), (*used, key)
    found = Listing(
        own.path.name, tuple(entries), joined, left_out=own.left_out, notes=own.notes, words=f"of {own.path.name}", used=used
    )  # fmt: skip
    if not own.rows:
        raise InvalidInput(f"{own.path} holds no row below its heads" + "".join(f"; {x}" for x in own.left_out[:1]))
    return _with_masks(_with_labels(found, declared), declared, root)


def _under(root: Path, cell: str) -> Path:
    path = root / cell
    return root / cell.replace("\\", "/") if "\\" in cell and not os.path.lexists(path) else path


def _problem(base: str, cell: str) -> str:
    """Why a file that a CSV file names is not to be opened; "" where it is."""
    if not cell:
        return "names no file"
    path = os.path.normpath(_under(Path(base), cell))
    if path.startswith(base.rstrip(os.sep) + os.sep):
        return ""
    return f'lies outside of {readable(Path(base).name) or base}: write root = "…", a folder that holds all files'


def _key(declared: Files, table: Table) -> str:
    wanted = declared.key or next((name for name in (FILE, "id") if table.head(name)), FILE)
    return table.require(wanted, "which holds the names of the files", 'key = "…" with the head of that column')


def _joined(entries: Sequence[Entry], table: Table, key: str, own: str | None) -> list[Entry]:
    """Entries with the cells of the table's row that has their key: a cell of their own, or their file's name."""
    known: dict[str, list[Row]] = {}
    for row in table.rows:
        known.setdefault(row.cells[key], []).append(row)
    joined = []
    for entry in entries:
        relative = entry.relative
        names = [str(relative.as_posix()), relative.name, str(relative.with_suffix("").as_posix()), relative.stem]
        names = names if own is None else [entry.row.cells[own]]
        name = next((name for name in names if name in known), names[-1])
        rows = known.get(name, [])
        if len(rows) == 1:
            row = Row(rows[0].name if own is None else entry.row.name, {**rows[0].cells, **entry.row.cells})
            joined.append(replace(entry, row=row))
        else:
            count = "no row" if not rows else f"{len(rows)} rows"
            why = f"{table.path.name} has {count} with {key} = {readable(name)!r}"
            joined.append(replace(entry, problem=entry.problem or why))
    return joined


def _with_labels(found: Listing, declared: Files) -> Listing:
    """Labels of a column of the CSV file or of the table; given for all rows or for none."""
    heads = [head for table in found.tables if (head := table.head(declared.labels or LABEL))]
    if not heads:
        if declared.labels and found.tables:
            found.tables[-1].require(
                declared.labels, "which holds the labels", 'labels = "…" with the head of that column'
            )
        if declared.labels:
            raise InvalidInput(
                f'labels = {declared.labels!r} is a column, and there is no table: write table = "….csv", too'
            )
        return found
    entries = [replace(e, label=e.row.cells.get(heads[0], "")) for e in found.entries]
    usable = [e for e in entries if not e.problem]
    named = [e for e in usable if e.label]
    if named and len(named) < len(usable):
        raise InvalidInput(f"{found.where} gives a label for {len(named)} of {len(usable)} rows: give all or none")
    notes = tuple(note for note in found.notes if not note.startswith(FOLDERS)) if named else found.notes
    return replace(found, entries=tuple(entries), labelled=bool(named), notes=notes, used=(*found.used, heads[0]))


def _with_masks(found: Listing, declared: Files, root: Path) -> Listing:
    """Each entry's mask: of a column, of a path with {}, or of a folder, by the picture's name."""
    masks = str(declared.masks)
    if not masks:
        return found
    if head := next((head for table in found.tables if (head := table.head(masks))), ""):
        base, entries = os.path.normpath(root.absolute()), []
        for entry in found.entries:
            cell = entry.row.cells.get(head, "")
            why = _problem(base, cell) if cell else ""
            entries.append(
                replace(
                    entry,
                    mask=_under(root, cell) if cell else None,
                    problem=entry.problem or (why and f"its mask {why}"),
                )
            )
        return replace(found, entries=tuple(entries), used=(*found.used, head))
    place = declared.path(masks)
    if found.alone and place.is_file():
        return replace(found, entries=tuple(replace(e, mask=place) for e in found.entries))
    if "{}" not in masks and not place.is_dir():
        heads = ", ".join(dict.fromkeys(head for table in found.tables for head in table.heads))
        there = f"; the columns are {heads}" if heads else ""
        raise InvalidInput(
            f"masks = {masks!r} is neither a folder nor a column, and holds no {{}} for a file's name{there}"
        )
    find = _by_pattern(str(place)) if "{}" in masks else _by_name(place, [e.relative.stem for e in found.entries])
    return replace(found, entries=tuple(replace(e, mask=find(e.relative)) for e in found.entries))


Find = Callable[[Path], Path | None]


def _by_pattern(pattern: str) -> Find:
    def find(relative: Path) -> Path | None:
        names = (relative.with_suffix("").as_posix(), relative.stem)
        return next((p for name in names if os.path.lexists(p := Path(pattern.replace("{}", name)))), None)

    return find


def _by_name(folder: Path, stems: Sequence[str]) -> Find:
    """By a picture's path in its folder; by its name alone where no other picture and no other mask has that name."""
    masks = list(_walk(folder))
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(masks)}
    pictures, names = Counter(stems), Counter(path.stem for path in masks)
    alone = {path.stem: path for path in masks if names[path.stem] == 1 and pictures[path.stem] <= 1}

    def find(relative: Path) -> Path | None:
        return known.get(relative.with_suffix("").as_posix()) or alone.get(relative.stem)

    return find


def _walk(folder: Path) -> Iterator[Path]:
    """The pictures of a folder and of its sub-folders, by name."""
    for path, _, names in sorted(os.walk(folder)):
        yield from (found for name in sorted(names) if _is_sample(found := Path(path) / name))
