"""Figure and page of a recording: what is computed, where it is drawn, what the command refuses."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from mtfa_fast.audio.features import log_mel, mel_centres
from mtfa_fast.commands.cli import main
from mtfa_fast.config import ClassConfig
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.detector import Detector
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.nn.modules import pad_time
from mtfa_fast.visualization import View, figure, masks, page, reference_of, save_figure
from mtfa_fast.visualization.view import decision
from mtfa_fast.weights import Weights
from tests.networks import random_network
from tests.visualization.example_view import CONFIG, EVENTS, HOSTILE, REFERENCE, SECONDS, view


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Of torch: these networks are so small that a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of 16 channels and 16 bands, and 9.113 s of noise at another rate, in two channels."""
    place = tmp_path_factory.mktemp("recording")
    weights = to_weights(random_network(channels=16, bands=16, hidden=8))
    weights.save(place / "w.safetensors")
    noise = np.random.default_rng(1).normal(0, 0.1, (round(9.113 * 32_000), 2))
    soundfile.write(place / "noise.wav", noise, 32_000)
    return place


def test_masks_are_the_definition_whatever_the_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights.load(folder)
    whole = View.of(folder / "noise.wav", weights)
    assert np.array_equal(whole.log_mel, log_mel(whole.wave, weights.config.features))
    assert len(whole.log_mel) == 456 and whole.end == whole.result.duration == len(whole.wave) / 44_100
    net = random_network(channels=16, bands=16, hidden=8)
    for frames in (456, 453):
        spectrogram = whole.log_mel[:frames]
        with torch.inference_mode():
            padded = pad_time(net.normalize(torch.from_numpy(spectrogram))[None, None], 8)
            expected = [m.mean(1)[0, : -(-frames // 2**s)] for s, m in enumerate(net.attention.masks(net.stem(padded)))]
        monkeypatch.setattr(masks, "TILE_FRAMES", 128)
        tiled = masks.mask_means(weights, spectrogram)
        assert [m.shape for m in tiled] == [(frames, 16), (-(-frames // 2), 8), (114, 4), (57, 2)]
        for ours, right in zip(tiled, expected, strict=True):
            np.testing.assert_allclose(ours, right.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("start", "end"), [(4.03, 4.9), (0.0, 2.0), (8.5, 60.0)])
def test_a_part_is_cut_from_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch, start: float, end: float) -> None:
    weights = Weights.load(folder)
    whole = View.of(folder / "noise.wav", weights)
    part = View.of(folder / "noise.wav", weights, seconds=(start, end))
    assert np.array_equal(part.result.probabilities, Detector(weights)(folder / "noise.wav").probabilities)
    first, last = part.first, part.first + len(part.log_mel)
    assert first % 8 == 0 and 0 <= start - first * 0.02 < 0.16 and last * 0.02 >= part.end
    assert np.array_equal(part.log_mel, whole.log_mel[first:last])
    assert np.array_equal(part.probabilities, whole.probabilities[first:last])
    for s, (cut, mask) in enumerate(zip(part.masks, whole.masks, strict=True)):
        np.testing.assert_allclose(cut, mask[first >> s : -(-last // 2**s)], rtol=0, atol=1e-6)
    assert np.array_equal(part.wave, whole.wave[round(start * 44_100) : round(end * 44_100)])
    monkeypatch.setattr(sys.modules["mtfa_fast.visualization.view"], "HALO_FRAMES", 0)  # only the masks need it
    part = View.of(folder / "noise.wav", weights, seconds=(start, end), masks=False)
    assert np.array_equal(part.log_mel, whole.log_mel[first:last])


def test_networks_without_hourglass(folder: Path) -> None:
    for variant, shapes in (("res", []), ("resatt", [(456, 16)])):
        net = random_network(channels=16, bands=16, hidden=8, variant=variant)  # type: ignore[arg-type]
        shown = View.of(folder / "noise.wav", to_weights(net))
        assert [m.shape for m in shown.masks] == shapes
        assert len(figure(shown).axes) == 1 + len(shapes) + 3 + 1 + 1 + len(shapes)  # and the colour bars
        assert page(shown, audio="none").count("<img ") == 1 + len(shapes)


@pytest.mark.parametrize(("first", "start", "end"), [(0, 0.0, SECONDS), (48, 1.1, 5.0)])
def test_figure_puts_everything_at_its_time(first: int, start: float, end: float) -> None:
    shown = view(first, start, end)
    drawn = figure(shown)
    axes = drawn.axes[:8]  # spectrogram, 4 masks, 2 probabilities, events; then the colour bars
    drawn.draw_without_rendering()
    assert all(axis.get_xlim() == (start, end) for axis in axes)
    assert axes[-1].get_xlabel() == "time (s)" and drawn.axes[8].get_ylabel() == "dB"
    for scale, axis in enumerate([axes[0], *axes[1:5]]):
        [picture], scale = axis.images, max(0, scale - 1)
        left, right, bottom, top = picture.get_extent()
        columns, rows = -(-(321 - first) // 2**scale), 16 >> scale
        assert picture.get_array().shape == (rows, columns)
        np.testing.assert_allclose([left, right], [first * 0.02, (first + columns * 2**scale) * 0.02])
        assert (bottom, top) == (-0.5, 15.5)
        assert axis.get_ylabel() == "Hz"
        ticks = {t.get_text(): p for t, p in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
        assert {"1k", "200"} <= set(ticks) <= {"50", "100", "200", "500", "1k", "2k"}  # 5 kHz is beyond this rate
        for name, position in ticks.items():
            below = int(position)
            low, high = mel_centres(CONFIG.features)[[below, below + 1]]
            hz = float(name.replace("k", "000"))
            assert low <= hz <= high and position - below == pytest.approx((hz - low) / (high - low))
    assert np.array_equal(axes[0].images[0].get_array()[3], shown.decibels()[0][:, 3])  # low bands at the bottom
    assert axes[0].images[0].origin == "lower"
    for axis, kind in zip(axes[5:7], CONFIG.classes, strict=True):
        curve, threshold = axis.lines
        k = CONFIG.class_names.index(kind.name)
        assert np.array_equal(curve.get_ydata(), shown.result.probabilities[first:, k])
        np.testing.assert_allclose(np.asarray(curve.get_xdata()), (first + np.arange(321 - first) + 0.5) * 0.02)
        assert set(threshold.get_ydata()) == {kind.threshold}
        assert isinstance(axis.collections[0], PolyCollection)
    boxes = [p for p in axes[-1].patches if isinstance(p, Rectangle)]
    rows = {
        text.get_text(): round(y) for text, y in zip(axes[-1].get_yticklabels(), axes[-1].get_yticks(), strict=True)
    }
    assert list(rows) == ["loud", HOSTILE, "dog"]
    for kind, events in (("detected", EVENTS), ("reference", REFERENCE)):
        expected = sorted((rows[e.label], max(e.onset, start), min(e.offset, end)) for e in events if e.offset >= start)
        found = sorted(
            (round(b.get_y() + 0.19), b.get_x(), b.get_x() + b.get_width()) for b in boxes if b.get_gid() == kind
        )
        np.testing.assert_allclose(found, [e for e in expected if e[1] <= end], atol=1e-9)


def test_figure_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dataclasses.replace(view(), masks=(), reference=None)
    magic = {"png": b"\x89PNG", "SVG": b"<?xml", "pdf": b"%PDF"}
    for suffix, start in magic.items():
        save_figure(shown, tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"path: got .*a\.bmp', allowed: a name that ends in .png, .svg, .pdf"):
        save_figure(shown, tmp_path / "a.bmp")
    before = (tmp_path / "a.png").read_bytes()

    def full_disk(self: object, file: io.BytesIO, **_: object) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_figure(shown, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.SVG", "a.pdf", "a.png"]


def test_reference_of_a_recording(tmp_path: Path) -> None:
    own, many, empty = (tmp_path / name for name in ("own.txt", "many.tsv", "empty.txt"))
    own.write_text("0.5\t1.0\tdog\n")
    many.write_text("x/a.wav\t0.5\t1.0\tdog\nx/b.wav\nx/a.wav\t2\t3\tcat\n")
    empty.write_text("")
    assert reference_of("day/a.wav", own) == [Annotation("dog", 0.5, 1.0)]
    assert reference_of("day/a.wav", many) == [Annotation("dog", 0.5, 1.0), Annotation("cat", 2.0, 3.0)]
    assert reference_of("day/b.wav", many) == reference_of("day/b.wav", empty) == []
    with pytest.raises(ValueError, match=r"many\.tsv: names no c\.wav, only a\.wav, b\.wav"):
        reference_of("day/c.wav", many)


def visualize(*arguments: str) -> int:
    return main(["visualize", *arguments])


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.wav").symlink_to(folder / "noise.wav")
    (tmp_path / "w.safetensors").symlink_to(folder / "w.safetensors")
    (tmp_path / "events.txt").write_text("1.0\t2.0\tclass1\n")
    (tmp_path / "words.wav").write_text("words")
    return tmp_path


def test_command(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["noise.wav", "--weights", "w.safetensors", "-t", "0"]
    assert visualize(*common, "--html", "-a", "events.txt") == 0
    out, err = capsys.readouterr()
    assert out == "noise.mtfa.html\n" and re.fullmatch(r"3 events; \d\.\d MB\n", err)
    text = Path("noise.mtfa.html").read_text()
    assert text.count('class="event detected"') == 3 and text.count('class="event reference"') == 1
    monkeypatch.setitem(sys.modules, "torch", None)  # what an installation without the extras says
    assert visualize(*common) == 2
    assert "the masks need PyTorch" in (message := capsys.readouterr().err) and "mtfa-fast[torch]" in message
    assert visualize(*common, "--no-masks", "--seconds", "3.1", "4", "-o", "part.svg") == 0
    assert capsys.readouterr().out == "part.svg\n"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert visualize(*common, "--no-masks") == 2
    assert "mtfa-fast[plot]" in capsys.readouterr().err
    assert visualize(*common, "--no-masks", "-o", "again.html", "--audio", "none") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["words.wav"], "words.wav: cannot be decoded"),
        (["none.wav"], "none.wav"),
        (["noise.wav", "--annotation", "none.txt"], "none.txt"),
        (["noise.wav", "--annotation", "words.wav"], "words.wav"),
        (["noise.wav", "--seconds", "3", "2"], "seconds: got 3.0 to 2.0, allowed: 0 <= from < to"),
        (["noise.wav", "--seconds", "nan", "2"], "seconds: got nan to 2.0"),
        (["noise.wav", "--seconds", "9.2", "10"], "seconds: got 9.2 to 10.0, allowed: from < 9.113, the file's length"),
        (["noise.wav", "--threshold", "dog=0.5"], "threshold: got class dog, allowed: class0, class1, class2"),
        (["noise.wav", "-o", "a.txt"], "--output: got 'a.txt', allowed: a name that ends in .png, .svg, .pdf, .html"),
        (["noise.wav", "-o", "a.png", "--html"], "--output: got 'a.png', allowed: a name that ends in .html"),
        (["noise.wav", "-o", "no/a.png"], "--output: folder 'no' does not exist"),
        (["noise.wav", "--audio", "mp3"], "mp3"),
        (["noise.wav", "--weights", "words.wav"], "words.wav: not a readable safetensors file"),
    ],
)
def test_bad_input_is_named_and_nothing_written(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = set(os.listdir())
    weights = [] if "--weights" in arguments else ["--weights", "w.safetensors"]
    assert visualize(*arguments, *weights) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and out == ""
    assert set(os.listdir()) == before


@pytest.mark.parametrize("samples", [1, 700])
def test_recordings_shorter_than_a_frame(folder: Path, tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(samples), 44_100)
    shown = View.of(tmp_path / "short.wav", Weights.load(folder))
    assert shown.start == 0 and shown.end == pytest.approx(0.02) and [len(m) for m in shown.masks] == [1, 1, 1, 1]
    assert figure(shown).axes[0].get_xlim() == (0, shown.end)
    assert page(shown).count("data:audio/ogg") == 1


def test_a_minimum_score_is_named_beside_the_threshold() -> None:
    assert decision(ClassConfig("x", 0.25)) == "threshold 0.25"
    assert decision(ClassConfig("x", 0.25, 3, 0.8)) == "threshold 0.25, score at least 0.8"
