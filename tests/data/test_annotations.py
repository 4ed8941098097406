"""Event lists against the framework's own reader, dcase_util."""

from __future__ import annotations

import json

import dcase_util
import pytest

from mtfa_fast.data.annotations import Annotation, by_name, by_name_of, read_annotations, write_annotations
from mtfa_fast.events.result import Event

GUNSHOT = Annotation("gunshot", 1.5, 2.25)


@pytest.mark.parametrize(
    "text",
    [
        "a.wav\t1.5\t2.25\tgunshot\nb.wav\n",
        "a.wav\t1.5\t2.25\tgunshot\nb.wav\tNone\t0\t30\n",  # the baseline's line for an empty mixture
        "a.wav\tstreet\t1.5\t2.25\tgunshot\nb.wav\n",
        "a.wav\t1.5\t2.25\tgunshot\tid_7\nb.wav\n",
        "a.wav,1.5,2.25,gunshot\nb.wav\n",
        "a.wav;1.5;2.25;gunshot\nb.wav\n",
        "a.wav 1.5 2.25 gunshot\nb.wav\n",
        "\ufefffilename\tonset\toffset\tevent_label\r\na.wav\t1.5\t2.25\tgunshot\r\n\r\nb.wav\r\n",
        "file,onset,offset,label,score\na.wav,1.500,2.250,gunshot,0.9712\nb.wav\n",
        json.dumps(
            [
                {"file": "a.wav", "duration": 30.0, "events": [{"label": "gunshot", "onset": 1.5, "offset": 2.25}]},
                {"file": "b.wav", "duration": 30.0, "events": []},
            ]
        ),
    ],
)
def test_every_form_reads_the_same(tmp_path, text):
    path = tmp_path / "events.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_annotations(path) == {"a.wav": [GUNSHOT], "b.wav": []}


def test_lines_without_a_file_belong_to_the_list(tmp_path):
    path = tmp_path / "clip.txt"
    path.write_text("1.5\t2.25\tgunshot\n3\t4\tgunshot\n")  # also a label track of Audacity
    assert read_annotations(path) == {"clip": [GUNSHOT, Annotation("gunshot", 3.0, 4.0)]}
    assert set(read_annotations(path, file="clip.wav")) == {"clip.wav"}


def test_names_may_hold_separators_of_other_forms(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text('my clip, no. 2 "x.wav\t1.5\t2.25\tgunshot\n')
    assert read_annotations(path) == {'my clip, no. 2 "x.wav': [GUNSHOT]}
    path.write_text("my clip, no. 2.wav\n\nanother one here.wav\n")
    assert read_annotations(path) == {"my clip, no. 2.wav": [], "another one here.wav": []}


def test_what_is_written_is_read_by_dcase_util_and_by_us(tmp_path):
    path = tmp_path / "events.txt"
    lists = {"audio/a.wav": [Event("gunshot", 0.1 + 0.2, 1 / 3 + 1, 0.9), Annotation("babycry", 5.0, 6.0)], "b.wav": []}
    write_annotations(path, lists)
    theirs = dcase_util.containers.MetaDataContainer().load(filename=str(path))
    events = [(e.filename, e.event_label, e.onset, e.offset) for e in theirs if e.event_label]
    assert events == [(f, e.label, e.onset, e.offset) for f, es in lists.items() for e in es]
    assert [e.filename for e in theirs if not e.event_label] == ["b.wav"]
    assert read_annotations(path) == {
        f: [Annotation(e.label, e.onset, e.offset) for e in es] for f, es in lists.items()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.wav\t1.5\t2.25\tgunshot\nb.wav\t1.5\n", r":2: got 2 fields, allowed: 1, 3, 4 or 5"),
        ("a.wav\t1.5\tsoon\tgunshot\n", r":1: offset: got 'soon'"),
        ("a.wav\t2.5\t1.5\tgunshot\n", r":1: got 2.5 to 1.5 s, allowed: 0 <= onset <= offset"),
        ("a.wav\t-1\t1.5\tgunshot\n", r":1: got -1.0 to 1.5 s"),
        ("a.wav\tnan\t1.5\tgunshot\n", r":1: got nan to 1.5 s"),
        ("a.wav\t1\tinf\tgunshot\n", r":1: got 1.0 to inf s"),
        ("a.wav,1.5,2.25,\n,1,2,gunshot\n", r":1: onset: got 'a.wav'"),
        ("a.wav,1,2,gunshot\n,1,2,gunshot\n", r":2: file: got nothing"),
        ("file,onset,offset,label\na.wav,1,2\n", r":2: got 3 fields, allowed: 4, as in the header"),
        ('[{"file": "a.wav", "events": [{"label": "x", "onset": "soon", "offset": 2}]}]', r"a\.wav: onset: got 'soon'"),
        ('[{"file": "a.wav"}]', r"not the JSON of mtfa-fast detect"),
        ('{"file": "a.wav", "events": [{"label": "", "onset": 1, "offset": 2}]}', r"a\.wav: label: got ''"),
    ],
)
def test_bad_lists_are_refused_by_file_and_line(tmp_path, text, message):
    path = tmp_path / "events.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_annotations(path)
    assert str(path) in str(raised.value)


def test_binary_and_missing_files(tmp_path):
    path = tmp_path / "clip.flac"
    path.write_bytes(b"fLaC\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_annotations(path)
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "none.csv")


def test_names_that_would_break_the_list_are_not_written(tmp_path):
    path = tmp_path / "events.csv"
    with pytest.raises(ValueError, match="without tabs"):
        write_annotations(path, {"a\tb.wav": []})
    assert list(tmp_path.iterdir()) == []


def test_bare_names_must_differ():
    assert by_name({"x/a.wav": [GUNSHOT], "x\\b.wav": []}) == {"a.wav": [GUNSHOT], "b.wav": []}
    with pytest.raises(ValueError, match=r"two files are called 'a\.wav'"):
        by_name({"x/a.wav": [], "y/a.wav": []})


def test_lists_of_other_tools_are_read(tmp_path):
    path = tmp_path / "clip.csv"
    for text, expected in (
        ("file,onset,offset,label,score\n", {}),  # our own, without events
        ("filename,onset,event_label,offset\na.wav,1.5,gunshot,2.25\n", {"a.wav": [GUNSHOT]}),
        ("start\tend\tlabel\n1.5\t2.25\tgunshot\n", {"clip": [GUNSHOT]}),
        ("1.500000\t2.250000\tgunshot\n\\\t100.0\t2000.0\n", {"clip": [GUNSHOT]}),  # Audacity, with its frequencies
        # several of ours, joined
        ("file,onset,offset,label,score\n" * 2 + "a.wav,1.500,2.250,gunshot,0.9\n", {"a.wav": [GUNSHOT]}),
    ):
        path.write_text(text)
        assert read_annotations(path) == expected


def test_a_list_that_names_no_file_belongs_to_the_recording_of_its_name():
    lists = {"clip": [GUNSHOT], "both": [GUNSHOT], "x/other.wav": []}
    files = ["clip.wav", "both.wav", "both.flac", "other.wav"]
    assert by_name_of(lists, files) == {"clip.wav": [GUNSHOT], "both": [GUNSHOT], "other.wav": []}
