"""Finished mixtures in the official places: found, screened, and what is missing is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtfa_fast.data.layout import find_mixture_sets, open_mixture_set
from mtfa_fast.data.recipes import MixtureParameters, load_sources, read_recipes
from mtfa_fast.data.synthesis import synthesize
from tests.source_folder import CLASSES, linked_copy, make_sources

FEW = MixtureParameters(mixtures_per_class=4, event_presence_prob=0.5, seed=8)
STAND_ALONE = "TUT-rare-sound-events-2017-development/data"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A stand-alone data set of two subsets, with its sources."""
    data = tmp_path_factory.mktemp("sets") / STAND_ALONE
    for subset in ("devtest", "devtrain"):
        make_sources(data / "source_data", subset=subset, backgrounds=2)
    for subset in ("devtest", "devtrain"):
        synthesize(load_sources(data.parent, subset), data, FEW)
    return data.parents[1]


@pytest.fixture
def root(original, tmp_path):
    return linked_copy(original, tmp_path / "copy")


def one(root: Path) -> Path:
    return root / STAND_ALONE / "mixture_data" / "devtest" / FEW.hash


@pytest.mark.parametrize("place", ["", "TUT-rare-sound-events-2017-development", STAND_ALONE])
def test_stand_alone_sets_are_found_from_any_of_their_folders(original, place):
    sets = find_mixture_sets(original / place)
    assert [s.subset for s in sets] == ["devtest", "devtrain"]
    for s in sets:
        assert s.classes == CLASSES and len(s.mixtures()) == 12
        mixtures = s.mixtures()
        assert [m.label for m in mixtures] == [c for c in CLASSES for _ in range(4)]
        assert [len(m.events) for m in mixtures if m.label == "gunshot"].count(1) == 2
        assert all((m.ebr in (-6.0, 0.0, 6.0)) if m.events else m.ebr is None for m in mixtures)
        assert {m.label for m in s.mixtures(["gunshot"])} == {"gunshot"}
    assert open_mixture_set(original / place, "devtrain") == sets[1]
    assert open_mixture_set(one(original)) == sets[0]


def test_the_baseline_systems_shape_is_the_same_set(root):
    expected = open_mixture_set(root, "devtest").mixtures()
    data_set = root / "TUT-rare-sound-events-2017-development"
    folder = data_set / "generated_data" / f"mixtures_devtest_{FEW.hash}"
    folder.parent.mkdir()
    shutil.move(one(root), folder)
    shutil.rmtree(data_set / "data" / "mixture_data")
    for label in CLASSES:  # there the file column is the path below the data set's folder
        path = folder / "meta" / f"event_list_devtest_{label}.csv"
        text = path.read_text().replace("mixture_", f"generated_data/{folder.name}/audio/mixture_")
        path.write_text(text)
    found = open_mixture_set(data_set)
    assert found.folder == folder and len(found.mixtures()) == 12
    assert [(m.path.name, m.events, m.ebr) for m in found.mixtures()] == [
        (m.path.name, m.events, m.ebr) for m in expected
    ]


def test_mixtures_over_backgrounds_that_hold_their_class_are_left_out(root):
    """The patch of June 2017, whether the mixtures were made before the screening was known or after."""
    before = open_mixture_set(root, "devtest").mixtures()
    recipes = read_recipes(one(root) / "meta" / "mixture_recipes_devtest_babycry.yaml")
    marked = {r["mixture_audio_filename"] for r in recipes if r["bg_path"] == "audio/b000.wav"}
    assert 0 < len(marked) < 4
    screening = root / STAND_ALONE / "source_data" / "bgs" / "bg_screening.csv"
    screening.write_text("filename,babycry,glassbreak,gunshot\naudio/b000.wav,x,,\naudio/b001.wav,,,\n")
    expected = [m.path.name for m in before if m.path.name not in marked]
    assert [m.path.name for m in open_mixture_set(root, "devtest").mixtures()] == expected

    fresh = synthesize(load_sources(root, "devtest"), root / "fresh", FEW)
    assert fresh.screened == len(marked) and fresh.written == 12 - len(marked)
    assert [m.path.name for m in open_mixture_set(root / "fresh").mixtures()] == expected
    assert sorted(p.name for p in (fresh.folder / "audio").iterdir()) == sorted(expected)
    assert len(read_recipes(fresh.folder / "meta" / "mixture_recipes_devtest_babycry.yaml")) == 4


def test_a_set_without_recipes_is_read_without_ratios(root):
    for path in (one(root) / "meta").glob("*.yaml"):
        path.unlink()
    mixtures = open_mixture_set(one(root)).mixtures()
    assert len(mixtures) == 12 and {m.ebr for m in mixtures} == {None}


def test_what_is_missing_is_named(root, tmp_path):
    folder = one(root)
    first = open_mixture_set(folder).mixtures(["gunshot"])[0].path
    first.rename(first.with_name(first.name + "_old_dontuse"))
    (folder / "meta" / "event_list_devtest_babycry.csv").unlink()
    broken = open_mixture_set(folder)
    with pytest.raises(ValueError, match="no event list of babycry, there are glassbreak, gunshot"):
        broken.mixtures(["babycry"])
    with pytest.raises(ValueError, match=rf"1 of 8 mixtures \(first {first.name}\) listed but not in audio/"):
        broken.mixtures()
    shutil.rmtree(folder / "audio")
    with pytest.raises(ValueError, match=r"8 of 8 mixtures .* listed but not in audio/"):
        broken.mixtures()
    with pytest.raises(ValueError, match="several sets, allowed: one of the folders"):
        open_mixture_set(root)
    with pytest.raises(ValueError, match="no evaltest mixtures, there are devtest, devtrain"):
        open_mixture_set(root, "evaltest")


def test_a_list_of_another_class_is_refused(root):
    path = one(root) / "meta" / "event_list_devtest_gunshot.csv"
    path.write_text(path.read_text().replace("\tgunshot", "\tglassbreak"))
    with pytest.raises(ValueError, match=r"event_list_devtest_gunshot\.csv: .*got an event of 'glassbreak'"):
        open_mixture_set(one(root)).mixtures()


def test_folders_without_mixtures_say_what_they_hold(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_mixture_sets(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no set of mixtures, allowed"):
        find_mixture_sets(tmp_path / "empty")
    for path in root.rglob("event_list_*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"has no event lists: its synthesis or extraction was not finished"):
        find_mixture_sets(root)
    shutil.rmtree(root / STAND_ALONE / "mixture_data")
    with pytest.raises(ValueError, match="holds source data, of which mtfa-fast synthesize makes mixtures"):
        find_mixture_sets(root)
