"""Mixtures: drawn as the official ones, mixed at the asked level, the same bytes every time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mtfa_fast.data.annotations import read_annotations
from mtfa_fast.data.recipes import MixtureParameters, draw, load_sources, read_recipes
from mtfa_fast.data.sources import BackgroundSource, EventSource, SourceSet
from mtfa_fast.data.synthesis import MISSING_SAMPLES, mixture, synthesize
from tests.source_folder import CLASSES, NO_RECORDINGS, RATE, SHARED, make_sources

SMALL = MixtureParameters(mixtures_per_class=6, seed=3)


@pytest.fixture(scope="module")
def made(devtest_sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("mixtures")
    return synthesize(load_sources(devtest_sources, "devtest"), output, SMALL, jobs=2)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def official_lists(events: int, backgrounds: int, known: dict[int, BackgroundSource], subset: str) -> SourceSet:
    """Lists of the official lengths. No audio is needed to draw from them."""
    entries = tuple(EventSource("babycry", Path(f"{i}.wav"), 0.0, 1.0 + i / 100, str(i)) for i in range(events))
    blanks = [BackgroundSource(Path(f"b{i}.wav"), f"b{i}.wav", "park", str(i)) for i in range(backgrounds)]
    return SourceSet({"babycry": entries}, tuple(known.get(i, b) for i, b in enumerate(blanks)), Path(), subset)


class Silence:
    """Stands for audio that is not at hand, where only the recipe matters."""

    def __init__(self, missing: int = 0) -> None:
        self.missing = missing

    def background(self, source):
        return np.zeros(30 * RATE - self.missing, np.float32)


def test_a_coder_may_have_lost_some_samples():
    drawn = draw(official_lists(3, 3, {}, "devtest"), MixtureParameters())["babycry"]
    empty = next(d for d in drawn if d.event is None)
    assert len(mixture(empty, Silence(MISSING_SAMPLES), "devtest")[0]) == 30 * RATE
    with pytest.raises(ValueError, match=r"background of 29\.990 s, allowed: at least 30 s"):
        mixture(empty, Silence(MISSING_SAMPLES + 1), "devtest")


def test_the_official_parameters_have_the_official_hash():
    assert MixtureParameters().hash == "20b255387a2d0cddc0a3dff5014875e7"
    assert MixtureParameters(500, 0.5, (-6, 0, 6), 42).hash == MixtureParameters().hash
    assert MixtureParameters(seed=43).hash != MixtureParameters().hash
    assert MixtureParameters(ebrs=(1.5,), mixtures_per_class=2).text == (
        "ebrs: [1.5]\nevent_presence_prob: 0.5\nmixtures_per_class: 2\nseed: 42\n"
    )


def test_names_of_official_mixtures_are_reproduced():
    # The patch's list of affected files (affected_files.txt of the official synthesizer) names these mixtures. The
    # training set has 106 cries and 844 backgrounds, the test set 42 and 277; all three mixtures hold no event.
    train = BackgroundSource(Path("x.wav"), "audio/a012_30_60.wav", "residential_area", "a012")
    test = BackgroundSource(Path("y.wav"), "audio/a131_210_240.wav", "city_center", "a131")
    for sizes, index, background, subset, names in [
        (
            (106, 844),
            36,
            train,
            "devtrain",
            [
                "mixture_devtrain_babycry_066_71268bdc57bb18f02637aeb63ae1ce00.wav",
                "mixture_devtrain_babycry_152_71268bdc57bb18f02637aeb63ae1ce00.wav",
            ],
        ),
        ((42, 277), 99, test, "devtest", ["mixture_devtest_babycry_161_48703813b6307ecd546ad49af284628a.wav"]),
    ]:
        drawn = draw(official_lists(*sizes, {index: background}, subset), MixtureParameters())["babycry"]
        without_event = [d for d in drawn if d.event is None and d.background is background]
        made = [mixture(d, Silence(), subset)[1]["mixture_audio_filename"] for d in without_event]
        assert set(names) <= set(made)


@pytest.mark.parametrize("quirk", [False, True])
def test_draws(quirk):
    sources = official_lists(20, 30, {}, "devtest")
    drawn = draw(sources, MixtureParameters(200, 0.4, (-3, 9), 5), replicate_quirk=quirk)["babycry"]
    present = [d for d in drawn if d.event]
    assert (len(drawn), len(present)) == (200, 80)
    assert [d.number for d in drawn] == list(range(200))
    assert {d.ebr for d in present} == {-3.0, 9.0} and {d.ebr for d in drawn if not d.event} == {-math.inf}
    assert all(0 <= d.onset <= 30 - d.event.seconds for d in present)
    onsets: dict[str, set[float]] = {}
    for d in present:
        onsets.setdefault(d.event.name, set()).add(d.onset)
    assert sum(map(len, onsets.values())) == (len(onsets) if quirk else 80)
    independent = {d.number: d.onset for d in draw(sources, MixtureParameters(200, 0.4, (-3, 9), 5))["babycry"]}
    last = {d.event.name: independent[d.number] for d in present}  # the k-th event goes to the k-th mixture
    if quirk:
        assert all(d.onset == last[d.event.name] for d in present)


@pytest.mark.parametrize("real", [False, True])
def test_measured_levels_are_the_asked_ones(real, devtest_sources, made, tmp_path):
    if real and not SHARED.is_dir():
        pytest.skip(NO_RECORDINGS)
    source, output = (SHARED, tmp_path) if real else (devtest_sources, made.folder)
    if real:
        output = synthesize(load_sources(source, "devtest"), tmp_path, SMALL).folder
    bgs = source / ("backgrounds" if real else "bgs")
    checked = 0
    for label in CLASSES:
        lists = read_annotations(output / "meta" / f"event_list_devtest_{label}.csv")
        recipes = read_recipes(output / "meta" / f"mixture_recipes_devtest_{label}.yaml")
        assert list(lists) == [r["mixture_audio_filename"] for r in recipes]
        for recipe in recipes:
            path = output / "audio" / recipe["mixture_audio_filename"]
            info = soundfile.info(path)
            assert (info.frames, info.samplerate, info.channels, info.subtype) == (30 * RATE, RATE, 1, "PCM_24")
            wave, _ = soundfile.read(path)
            background, rate = soundfile.read(bgs / recipe["bg_path"])
            if rate != RATE:
                continue  # not to be told from the mixture without the same resampler
            start, end = 0, 0
            if recipe["event_present"]:
                event, _ = soundfile.read(source / "events" / recipe["event_path"])
                event = event[int(recipe["segment_start_seconds"] * RATE) : int(recipe["segment_end_seconds"] * RATE)]
                start = int(recipe["event_start_in_mixture_seconds"] * RATE)
                end = start + len(event)
                added = wave[start:end] / 0.2 - background[start:end]
                rms = [math.sqrt(np.mean(x**2)) for x in (added, background[start:end])]
                assert 20 * math.log10(rms[0] / rms[1]) == pytest.approx(recipe["ebr"], abs=0.01)
                assert np.corrcoef(added, event)[0, 1] > 0.9999  # the event itself, at its place
                (annotated,) = lists[recipe["mixture_audio_filename"]]
                assert annotated.label == label
                assert annotated.onset == recipe["event_start_in_mixture_seconds"]
                assert annotated.offset - annotated.onset == pytest.approx(len(event) / RATE, abs=2 / RATE)
                checked += 1
            outside = np.delete(wave - 0.2 * background, np.s_[start:end])
            assert np.abs(outside).max() < 2**-22
    assert checked >= 4


def test_same_seed_same_bytes(devtest_sources, made, tmp_path):
    """Whatever the number of threads, the classes asked for, and interruptions are."""
    expected = files(made.folder)
    assert (made.written, made.kept, len(expected)) == (18, 0, 18 + 6 + 1)
    sources = load_sources(devtest_sources, "devtest")

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(sources, tmp_path, SMALL, classes=["glassbreak"], progress=interrupt)
    there = files(tmp_path / "mixture_data" / "devtest" / SMALL.hash)
    assert there and all(expected[name] == data for name, data in there.items())  # whole files only
    assert not any("event_list" in name for name in there)
    again = synthesize(sources, tmp_path, SMALL, classes=["glassbreak"])
    assert again.kept >= 4 and again.kept + again.written == 6
    synthesize(sources, tmp_path, SMALL, jobs=3)
    assert files(again.folder) == expected
    untouched = synthesize(sources, tmp_path, SMALL)
    assert (untouched.written, untouched.kept) == (0, 18)


def test_another_set_in_the_same_place_is_refused_and_overwritten_when_asked(devtest_sources, tmp_path):
    parameters = MixtureParameters(2, 1.0, seed=1)
    sources = load_sources(devtest_sources, "devtest")
    first = synthesize(sources, tmp_path, parameters, classes=["gunshot"])
    before = files(first.folder)
    other = load_sources(make_sources(tmp_path / "other", backgrounds=2, events=5, seed=9), "devtest")
    with pytest.raises(ValueError, match="lists other mixtures of the same parameters"):
        synthesize(other, tmp_path, parameters, classes=["gunshot"])
    assert files(first.folder) == before
    synthesize(other, tmp_path, parameters, classes=["gunshot"], overwrite=True)
    fresh = synthesize(other, tmp_path / "fresh", parameters, classes=["gunshot"])
    assert files(first.folder) == files(fresh.folder) != before  # and nothing of the old set is left


def test_clipping_mixtures_are_divided_by_their_peak_and_named(devtest_sources, tmp_path):
    done = synthesize(
        load_sources(devtest_sources, "devtest"), tmp_path, MixtureParameters(2, 0.5, (60,), 1), classes=["gunshot"]
    )
    lists = read_annotations(done.folder / "meta" / "event_list_devtest_gunshot.csv")
    (loud,) = [name for name, events in lists.items() if events]
    assert done.normalised == [loud]
    assert np.abs(soundfile.read(done.folder / "audio" / loud)[0]).max() == pytest.approx(1.0, abs=1e-6)


def test_recipes_hold_the_official_fields(made):
    text = (made.folder / "meta" / "mixture_recipes_devtest_gunshot.yaml").read_text()
    recipes = yaml.safe_load(text)
    always = {"bg_path", "bg_classname", "event_present", "ebr", "mixture_audio_filename", "annotation_string"}
    event = {"event_path", "event_class", "event_start_in_mixture_seconds", "event_length_seconds", "scaling_factor"}
    event |= {"segment_start_seconds", "segment_end_seconds"}
    for recipe in recipes:
        assert set(recipe) == (always | event if recipe["event_present"] else always)
        fields = recipe["annotation_string"].split("\t")
        assert fields[0] == recipe["mixture_audio_filename"] and len(fields) == (4 if recipe["event_present"] else 1)
        assert recipe["event_present"] or recipe["ebr"] == -math.inf
    assert (made.folder / "parameters.yaml").read_text() == SMALL.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: soundfile.write(r / "bgs/audio/b000.wav", np.ones(29 * RATE) / 9, RATE),
            r"b000\.wav: background of 29",
        ),
        (lambda r: (r / "bgs/audio/b000.wav").write_bytes(b"RIFF"), r"b000\.wav: cannot be read as audio"),
        (lambda r: soundfile.write(r / "bgs/audio/b000.wav", np.zeros(30 * RATE), RATE), r"b000\.wav: silent from"),
        (lambda r: soundfile.write(r / "events/gunshot/gunshot_0.wav", np.zeros(RATE * 2), RATE), "gunshot_0.*silence"),
        (
            lambda r: soundfile.write(r / "events/gunshot/gunshot_0.wav", np.ones(RATE // 9), RATE),
            "beyond the file's end",
        ),
        (lambda r: (r / "events/gunshot/gunshot_0.wav").unlink(), r"gunshot_0\.wav, which does not exist"),
        (lambda r: relist(r, "gunshot", [0.0, 31.0]), r"gunshot_0\.wav: event of 31\.000 s, allowed: at most 30 s"),
        (lambda r: relist(r, "gunshot", [2.0, 1.0]), r"gunshot\[0\]: segment: got \[2\.0, 1\.0\]"),
        (lambda r: (r / "cv_setup/events_devtest.yaml").unlink(), r"events_devtest\.yaml"),
    ],
)
def test_unusable_sources_are_named(tmp_path, damage, message):
    root = make_sources(tmp_path / "sources", backgrounds=1, events=1)
    damage(root)
    with pytest.raises(ValueError, match=message):
        synthesize(load_sources(root, "devtest"), tmp_path / "out", MixtureParameters(2, 1.0, seed=1))
    left = [p.name for p in (tmp_path / "out").rglob("*")]
    assert not any("event_list_devtest_gunshot" in name or ".part" in name for name in left)


def relist(root: Path, label: str, segment: list[float]) -> None:
    path = root / "cv_setup" / "events_devtest.yaml"
    listed = yaml.safe_load(path.read_text())
    listed[label][0]["segment"] = segment
    path.write_text(yaml.safe_dump(listed))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"mixtures_per_class": 0}, "mixtures_per_class: got 0"),
        ({"event_presence_prob": 1.5}, "event_presence_prob: got 1.5"),
        ({"ebrs": ()}, "ebrs: got ()"),
        ({"ebrs": (math.nan,)}, "ebrs: got"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        MixtureParameters(**bad)


def test_bad_arguments_are_named(devtest_sources, tmp_path):
    sources = load_sources(devtest_sources, "test")
    with pytest.raises(ValueError, match="classes: got dog, allowed: babycry, glassbreak, gunshot"):
        synthesize(sources, tmp_path, SMALL, classes=["dog"])
    with pytest.raises(ValueError, match="jobs: got 0"):
        synthesize(sources, tmp_path, SMALL, jobs=0)
    with pytest.raises(ValueError, match="split: got 'evaltest'"):
        load_sources(devtest_sources, "evaltest")
    with pytest.raises(ValueError, match="no source folder"):
        load_sources(tmp_path, "devtest")
