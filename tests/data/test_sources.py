"""Sources of training: lists, what is held out, distractors, further events, cut recordings, effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mtfa_fast.audio.features import analysis_window, mel_matrix
from mtfa_fast.backends.reference.log_mel import log_mel
from mtfa_fast.data import augment
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.batches import MARGIN, frame_targets, prefetch
from mtfa_fast.data.distractors import Distractors
from mtfa_fast.data.layout import Mixture
from mtfa_fast.data.more_events import add_events
from mtfa_fast.data.recorded import RecordedChunks, chunk_starts, cut_mixtures
from mtfa_fast.data.sources import SourceAudio, SourceSet, classes_of
from tests.source_folder import HORNS as SMALL
from tests.source_folder import make_horns


def small_log_mel(waves: np.ndarray) -> np.ndarray:
    window, mel = (torch.from_numpy(x) for x in (analysis_window(SMALL), mel_matrix(SMALL)))
    return log_mel(torch.from_numpy(waves), window, mel, SMALL.hop, SMALL.fft_length, SMALL.log_floor).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_horns(tmp_path_factory.mktemp("data") / "source_data").parent


def test_frame_targets_floor_ceil_clip() -> None:
    assert frame_targets(2.7, 5.1, 10) == slice(2, 6)
    assert frame_targets(2.0, 5.0, 10) == slice(2, 5)
    assert frame_targets(-3.5, 4.2, 10, shift=2) == slice(0, 3)
    assert frame_targets(9.5, 30.0, 10) == slice(9, 10)
    assert frame_targets(12.0, 13.0, 10) == slice(10, 10)


def test_kinds_of_distractors_are_drawn_equally_often(tmp_path: Path) -> None:
    """Tones at 3 kHz in one kind, at 1 kHz in another that has three times the files: drawn equally often."""
    with pytest.raises(ValueError, match=r"distractors: .*no sound files"):
        Distractors.load(tmp_path)
    for name, hz in (("high/a", 3_000), ("low/a", 1_000), ("low/b", 1_000), ("low/more/c", 1_000)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(12_000) / 8_000)
        soundfile.write(tmp_path / f"{name}.wav", tone, 8_000, subtype="FLOAT")
    others = Distractors.load(tmp_path, 8_000)
    rng = np.random.default_rng(0)
    drawn = [others.draw(rng, 4_000) for _ in range(200)]
    assert {len(wave) for wave in drawn} == {4_000} and len(others.draw(rng, 99_999)) == 12_000
    high = np.mean([np.argmax(np.abs(np.fft.rfft(wave))) == 1_500 for wave in drawn])
    assert 0.4 < high < 0.6
    choice = np.random.default_rng(7)
    kind = others.kinds[choice.integers(2)]
    whole, _ = soundfile.read(kind[choice.integers(len(kind))], dtype="float32")
    start = choice.integers(0, 12_000 - 999 + 1)
    np.testing.assert_array_equal(others.draw(np.random.default_rng(7), 999), whole[start : start + 999])
    resampled = Distractors.load(tmp_path, 16_000).draw(rng, 8_000)
    assert len(resampled) == 8_000 and np.argmax(np.abs(np.fft.rfft(resampled))) in (500, 1_500)


def test_more_events_are_events(folder: Path, tmp_path: Path) -> None:
    """A tone that no listed event has is heard, under targets; files of one subfolder count as one source."""
    sources = SourceSet.load(folder, "train", ("horn",))
    with pytest.raises(ValueError, match=r"more_events: .*no sound files, allowed: .*horn"):
        add_events(sources, tmp_path)
    tone = 0.5 * np.sin(2 * np.pi * 3_000 * np.arange(2_400) / 8_000)
    for name in ("alone", "pack/1", "pack/2"):
        (tmp_path / "horn" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "horn" / f"{name}.wav", tone, 8_000)
    more = add_events(sources, tmp_path)
    before = len(sources.events["horn"])
    assert more.events["horn"][:before] == sources.events["horn"] and more.backgrounds == sources.backgrounds
    assert len({e.group for e in more.events["horn"][before:]}) == 2


def test_augmentations_do_what_they_say() -> None:
    rng = np.random.default_rng(2)
    tone = np.sin(2 * np.pi * 1_000 * np.arange(44_100) / 44_100).astype(np.float32)
    peaks = []
    for _ in range(8):
        faster = augment.change_speed(tone, rng)
        peak = np.argmax(np.abs(np.fft.rfft(faster * np.hanning(len(faster))))) * 44_100 / len(faster)
        assert peak * len(faster) == pytest.approx(1_000 * 44_100, rel=2e-3)  # shorter by as much as it is higher
        peaks.append(peak)
    assert min(peaks) < 950 and max(peaks) > 1_050 and min(peaks) > 840 and max(peaks) < 1_190
    noise = rng.standard_normal(44_100).astype(np.float32)
    limited = augment.filter_wave(noise, 44_100, rng, 0.0, limit=1.0)
    spectrum = np.abs(np.fft.rfft(limited)) ** 2
    assert limited.shape == noise.shape and spectrum[:3_000].mean() > 1e3 * spectrum[-1_000:].mean()


def test_held_out_sources_share_nothing_with_the_rest(folder: Path) -> None:
    sources = SourceSet.load(folder, "train", ("horn",))
    assert sources.backgrounds[0].marks == {"horn"} and not sources.backgrounds[1].marks
    kept, held = sources.cut(0.3, seed=1)
    assert {e.path for e in kept.events["horn"]} | {e.path for e in held.events["horn"]} == {
        e.path for e in sources.events["horn"]
    }
    assert not {e.group for e in kept.events["horn"]} & {e.group for e in held.events["horn"]}
    assert len(held.events["horn"]) == 4 and len(kept.backgrounds) + len(held.backgrounds) == 8
    assert sources.cut(0.3, seed=1)[1] == held and sources.cut(0.3, seed=2)[1] != held
    event = sources.events["horn"][3]
    assert len(SourceAudio(8_000).event(event)) == int(event.end * 8_000) - 2_000


def test_bad_source_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source folder"):
        SourceSet.load(tmp_path, "train")
    with pytest.raises(ValueError, match=r"'valid'.*train, test"):
        SourceSet.load(folder, "valid")
    with pytest.raises(ValueError, match=r"events_devtrain.yaml: no events of class 'babycry'.*horn"):
        SourceSet.load(folder, "train")
    lists = tmp_path / "cv_setup"
    lists.mkdir()
    (tmp_path / "events").mkdir()
    for text, message in (
        ("horn: [", "cannot be read"),
        ("[]", "a mapping"),
        ("horn: []", "no events of class 'horn'"),
        ("horn: [{audio_filename: a.wav}]", r"horn\[0\].*segment"),
        ("horn: [{audio_filename: a.wav, segment: [2, 1]}]", "0 <= start < end"),
        ("horn: [{audio_filename: a.wav, segment: [0, 1]}]", r"a\.wav, which does not exist"),
    ):
        (lists / "events_devtest.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            SourceSet.load(tmp_path, "test", ("horn",))


def test_recorded_chunks_are_slices_of_the_recording(tmp_path: Path) -> None:
    """The chunk's frames equal those of the whole recording's log-mel, at its ends and between."""
    rng = np.random.default_rng(3)
    mixtures, whole, targets = [], [], []
    for number, samples in enumerate((160 * 200 + 7, 160 * 40)):
        wave = rng.normal(0, 0.1, samples).astype(np.float32)
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, wave, 8_000, subtype="FLOAT")
        mixtures.append(Mixture(path, "horn", (Annotation("horn", 0.51, 0.7), Annotation("other", 0.0, 0.2))))
        whole.append(small_log_mel(wave[None])[0])
        target = np.zeros(len(whole[-1]), np.float32)
        target[25:35] = 1.0
        targets.append(target)
    chunks = RecordedChunks(mixtures, ("horn",), SMALL, batch_size=5, frames=64, shift=32, seed=4)
    assert len(chunks) == len(chunk_starts(201, 64, 32)) + 1 == 7
    starts = [(0, s) for s in (0, 32, 64, 96, 128, 137)] + [(1, 0)]
    seen = []
    for step in range(7):  # 35 chunks: every chunk five times
        batch = chunks.batch(chunks.draw(step))
        for frames, target in zip(small_log_mel(batch.waves)[:, MARGIN:-MARGIN], batch.targets[:, :, 0], strict=True):
            for number, start in starts:
                part = whole[number][start : start + 64]
                if np.abs(frames[: len(part) - 2] - part[:-2]).max() < 1e-3:
                    seen.append((number, start))
                    np.testing.assert_array_equal(target[: len(part)], targets[number][start : start + 64])
                    if number == 0:
                        np.testing.assert_allclose(frames, part, atol=1e-3)
    assert sorted(seen) == sorted(starts * 5)
    kept, held = cut_mixtures([*mixtures, *mixtures[:1] * 8], 0.2, 0)
    assert (len(kept), len(held)) == (8, 2)


def test_prefetch_hands_on_errors(folder: Path) -> None:
    class Broken:
        def draw(self, step: int, rank: int = 0) -> None:
            raise ValueError("a file is gone")

    with pytest.raises(ValueError, match="a file is gone"):
        list(prefetch(Broken(), range(3)))  # type: ignore[arg-type]


def test_ones_own_folder_needs_no_lists(tmp_path: Path) -> None:
    """Events from their first to their last sound, whatever silence or hum lies around them."""
    rate, rng = 16_000, np.random.default_rng(0)
    for name in ("events/bell/one", "events/bell/far/two", "events/.Trash/x", "backgrounds/yard"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        wave = 1e-3 * rng.standard_normal(3 * rate)
        wave[rate : rate + 8_000] += np.sin(np.arange(8_000)) * np.exp(-np.arange(8_000) / 4_000)
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * wave, rate)
    (tmp_path / "events" / "bell" / "._one.wav").write_bytes(b"\0\5\x16\7")
    assert classes_of(tmp_path, "train") == ("bell",)
    own = SourceSet.load(tmp_path, "train", ("bell",))
    assert [e.path.stem for e in own.events["bell"]] == ["two", "one"] and own.backgrounds[0].path.stem == "yard"
    for event in own.events["bell"]:
        assert event.start == pytest.approx(1.0, abs=0.011) and 1.3 < event.end <= 1.511
    with pytest.raises(ValueError, match=r"allowed: train, in .*, which has no cv_setup/"):
        SourceSet.load(tmp_path, "test", ("bell",))
    with pytest.raises(ValueError, match="no events of class 'dog'"):
        SourceSet.load(tmp_path, "train", ("dog",))
    soundfile.write(tmp_path / "events" / "bell" / "one.wav", np.zeros(rate), rate)
    with pytest.raises(ValueError, match=r"one\.wav: is silent"):
        SourceSet.load(tmp_path, "train", ("bell",))
