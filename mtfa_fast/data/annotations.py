"""Event lists: what is where in which file. Read as the DCASE framework reads them, written as it writes them.

======= ==========================================================================
fields  meaning
======= ==========================================================================
1       file (without events)
3       onset, offset, label (of the one file that the list belongs to)
4       file, onset, offset, label
5       file, scene, onset, offset, label; or file, onset, offset, label, identifier
======= ==========================================================================

A line that names ``onset``, ``offset`` and ``label`` is a header and gives the columns' order; where lists were joined
there are several. A header alone is a list without events. A line whose onset is ``None`` says that its file holds no
event (the baseline system writes ``file None 0 30``). The JSON of ``mtfa-fast detect`` is read, too, and label tracks
of Audacity, whose lines of frequencies (they begin with a backslash) are passed over.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..events.span import LabelledSpan
from ..files import write_beside

_FIELDS: dict[int, list[tuple[str, ...]]] = {
    3: [("onset", "offset", "label")],
    4: [("file", "onset", "offset", "label")],
    5: [("file", "scene", "onset", "offset", "label"), ("file", "onset", "offset", "label", "identifier")],
}
_HEADER_NAMES = {
    "filename": "file",
    "event_onset": "onset",
    "start": "onset",
    "start_time": "onset",
    "end": "offset",
    "end_time": "offset",
    "event_offset": "offset",
    "event_label": "label",
    "class": "label",
}


class Annotation(NamedTuple):
    """One event of a recording; times in seconds from its start."""

    label: str
    onset: float
    offset: float


Annotations = dict[str, list[Annotation]]  # file as the list names it -> its events, in the list's order


def read_annotations(path: str | os.PathLike[str], *, file: str | None = None) -> Annotations:
    """Read an event list. Lines without a file column belong to ``file``, by default the list's name without suffix.

    Columns are separated by tabs, else commas, semicolons or spaces. Raises FileNotFoundError, or ValueError
    naming the file and line: no text, another number of fields, times that are not 0 <= onset <= offset, no label.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not an event list, not UTF-8 text ({error.reason})") from None
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(path, text)
    found: Annotations = {}
    columns: tuple[str, ...] | None = None
    try:
        rows = _rows(text)
    except csv.Error as error:
        raise ValueError(f"{path}: not an event list ({error})") from None
    for number, fields in rows:
        where = f"{path}:{number}"
        if names := _header(fields):
            columns = names
            continue
        if fields[0] == "\\":
            continue
        name, event = _event(fields, columns, where)
        events = found.setdefault(name if name is not None else file or path.stem, [])
        if event is not None:
            events.append(event)
    return found


def write_annotations(path: str | os.PathLike[str], lists: Mapping[str, Iterable[LabelledSpan]]) -> None:
    """Write ``file<TAB>onset<TAB>offset<TAB>label`` lines, a file without events as its name alone.

    This is the form of DCASE submissions, of the official event lists and of sed_eval. Times are written in
    full, so that reading gives the same numbers. ValueError for a name with a tab or line break.
    """
    lines = []
    for file, events in lists.items():
        rows = [[file, repr(float(e.onset)), repr(float(e.offset)), e.label] for e in events]
        for row in rows or [[file]]:
            if any(mark in field for field in row for mark in "\t\r\n") or not all(row):
                raise ValueError(f"event list: got {row!r}, allowed: fields of text without tabs and line breaks")
            lines.append("\t".join(row) + "\n")
    with write_beside(path) as out:
        out.writelines(lines)


def by_name(lists: Mapping[str, Sequence[LabelledSpan]]) -> dict[str, list[LabelledSpan]]:
    """The same lists under the files' bare names, which is how lists of different folders are compared.

    ValueError if two files share one.
    """
    named: dict[str, list[LabelledSpan]] = {}
    for file, events in lists.items():
        name = file.replace("\\", "/").rpartition("/")[2]
        if name in named:
            raise ValueError(f"event list: two files are called {name!r}, allowed: different names")
        named[name] = list(events)
    return named


def by_name_of(lists: Mapping[str, Sequence[LabelledSpan]], files: Iterable[str]) -> dict[str, list[LabelledSpan]]:
    """:func:`by_name`, where a list's name without suffix means the one of ``files`` that has it: label tracks name no
    file and are called as their recording is."""
    bare, stems = set(files), dict[str, list[str]]()
    for file in sorted(bare):
        stems.setdefault(PurePath(file).stem, []).append(file)
    named: dict[str, list[LabelledSpan]] = {}
    for name, events in by_name(lists).items():
        meant = stems.get(name, [])
        named.setdefault(meant[0] if name not in bare and len(meant) == 1 else name, []).extend(events)
    return named


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for delimiter in ("\t", ",", ";", None):
        split = [(number, _split(line, delimiter)) for number, line in lines]
        # A name may hold a comma or a space; only in a header and between times does it separate columns.
        known = split and _header(split[0][1]) is not None
        if known or (delimiter == "\t" and "\t" in text) or any(_has_times(fields) for _, fields in split):
            return split
    return [(number, [line.strip()]) for number, line in lines]


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    # Tabs need no quotes, so there a quote belongs to the name.
    parts = line.split("\t") if delimiter == "\t" else next(csv.reader([line], delimiter=delimiter))
    fields = [part.strip() for part in parts]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()  # a separator at the end of the line
    return fields


def _has_times(fields: list[str]) -> bool:
    return len(fields) >= 3 and any(_is_number(a) and _is_number(b) for a, b in itertools.pairwise(fields))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _header(fields: list[str]) -> tuple[str, ...] | None:
    names = tuple(_HEADER_NAMES.get(field.lower(), field.lower()) for field in fields)
    return names if {"onset", "offset", "label"} <= set(names) else None


def _event(fields: list[str], columns: tuple[str, ...] | None, where: str) -> tuple[str | None, Annotation | None]:
    """File (None where the line has none) and event (None where the line says that there is none)."""
    if len(fields) == 1:
        return fields[0], None
    if columns is None:
        layouts = _FIELDS.get(len(fields), [])
        if not layouts:
            raise ValueError(f"{where}: got {len(fields)} fields, allowed: 1, 3, 4 or 5 ({' | '.join(fields)})")
        scene_first = len(layouts) > 1 and _is_number(fields[2]) and _is_number(fields[3])
        columns = layouts[0] if len(layouts) == 1 or scene_first else layouts[1]
    elif len(fields) < len(columns) - (columns[-1] == "time"):  # which stands empty where no clock is known
        raise ValueError(f"{where}: got {len(fields)} fields, allowed: {len(columns)}, as in the header")
    row = dict(zip(columns, fields, strict=False))
    name = row.get("file")
    if name == "":
        raise ValueError(f"{where}: file: got nothing, allowed: a file name")
    if row["onset"].lower() in ("none", ""):
        return name, None
    return name, _checked(row["label"], row["onset"], row["offset"], where)


def _checked(label: object, onset: object, offset: object, where: str) -> Annotation:
    times = []
    for name, value in (("onset", onset), ("offset", offset)):
        try:
            times.append(float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {name}: got {value!r}, allowed: seconds") from None
    if not 0 <= times[0] <= times[1] < math.inf:
        raise ValueError(f"{where}: got {times[0]} to {times[1]} s, allowed: 0 <= onset <= offset")
    if not isinstance(label, str) or not label:
        raise ValueError(f"{where}: label: got {label!r}, allowed: text")
    return Annotation(label, times[0], times[1])


def _from_json(path: Path, text: str) -> Annotations:
    found: Annotations = {}
    try:
        data: Any = json.loads(text)
        for entry in [data] if isinstance(data, dict) else data:
            file, events = str(entry["file"]), entry["events"]
            where = f"{path}: {file}"
            found[file] = [_checked(e["label"], e["onset"], e["offset"], where) for e in events]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not the JSON of mtfa-fast detect ({type(error).__name__}: {error})") from None
    return found
