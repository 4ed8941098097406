"""Chunks mixed as tensors: what a plan says is heard, and as often as the sampler in NumPy would have it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from scipy.stats import ks_2samp

from mtfa_fast.audio.features import analysis_window, mel_matrix
from mtfa_fast.backends.reference.log_mel import log_mel
from mtfa_fast.data import augment as aug
from mtfa_fast.data.augment import AugmentConfig
from mtfa_fast.data.batches import MARGIN, prefetch
from mtfa_fast.data.distractors import Distractors
from mtfa_fast.data.more_events import add_events
from mtfa_fast.data.sources import SourceAudio, SourceSet
from mtfa_fast.training.plan import Curve, Piece, Planner, Room, chunk_samples, draw_knocks
from mtfa_fast.training.render import Renderer, gains, saturate, twice
from mtfa_fast.training.sampler import ChunkSampler
from mtfa_fast.training.sounds import SoundBank
from tests.source_folder import HORNS, make_horns
from tests.training.numpy_sampler import NumpySampler

CPU = torch.device("cpu")
RATE = HORNS.sample_rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_horns(tmp_path_factory.mktemp("data") / "source_data").parent


def sampler(
    sources: Path | SourceSet,
    augmentation: AugmentConfig | None = None,
    others: Distractors | None = None,
    batch_size: int = 3,
    **options: object,
) -> ChunkSampler:
    if isinstance(sources, Path):
        sources = SourceSet.load(sources, "train", ("horn",))
    on = augmentation or AugmentConfig()
    settings: dict = {"frames": 64, "seed": 5, "augment": on, **options}
    samples = chunk_samples(settings["frames"], HORNS)
    bank = SoundBank.load(sources, SourceAudio(RATE), samples, CPU, others, balanced=on.balance_sources)
    return ChunkSampler(Planner(bank.catalogue, HORNS, **settings), bank, batch_size)


def bands(waves: torch.Tensor) -> np.ndarray:
    window, mel = (torch.from_numpy(x) for x in (analysis_window(HORNS), mel_matrix(HORNS)))
    return log_mel(waves, window, mel, HORNS.hop, HORNS.fft_length, HORNS.log_floor)[:, MARGIN:-MARGIN].numpy()


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Distractors:
    """Tones at 3 kHz in one kind, at 1 kHz in another."""
    root = tmp_path_factory.mktemp("others")
    for name, hz in (("high/a", 3_000), ("low/a", 1_000), ("low/b", 1_000)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(12_000) / RATE)
        soundfile.write(root / f"{name}.wav", tone, RATE, subtype="FLOAT")
    return Distractors.load(root, RATE)


def test_targets_lie_where_the_event_is_heard(folder: Path) -> None:
    chunks = sampler(folder, presence=1.0, ebrs=(30.0,), batch_size=16)
    batch = chunks.batch(chunks.draw(0))
    frames = bands(batch.waves)
    assert frames.shape[1] == batch.targets.shape[1] == 64 and batch.targets.dtype == torch.float32
    level = frames.mean(2)
    for loud, target in zip(level > (level.min(1) + level.max(1))[:, None] / 2, batch.targets[:, :, 0], strict=True):
        heard, asked = np.flatnonzero(loud), np.flatnonzero(target)
        assert abs(heard[0] - asked[0]) <= 1 and abs(heard[-1] - asked[-1]) <= 1 and len(asked) >= 12


def test_a_plain_chunk_is_the_recipes_mixture(folder: Path) -> None:
    """Without augmentation: 0.2 * (background + gain * event), the gain from what lies under the event."""
    chunks = sampler(folder, presence=1.0, batch_size=8)
    plan = chunks.draw(0)
    found, sounds = chunks.batch(plan).waves, chunks.bank.sounds.double().numpy() / 2**15
    for piece in plan.events:
        first, end = plan.backgrounds[piece.chunk], piece.onset + piece.length
        mixture = sounds[first : first + chunks.planner.samples].copy()
        event, under = sounds[piece.first : piece.first + piece.length], mixture[piece.onset : end]
        gain = 10 ** (piece.decibels / 20) * np.sqrt(np.mean(under**2) / np.mean(event**2))
        mixture[piece.onset : end] += gain * event
        np.testing.assert_allclose(found[piece.chunk], 0.2 * mixture, atol=1e-7)
    assert {p.decibels for p in plan.events} <= {-6.0, 0.0, 6.0} and len(plan.events) == 8


def test_batches_depend_on_seed_step_and_rank_alone(folder: Path, others: Distractors) -> None:
    first, second = (sampler(folder, AugmentConfig.all(), others) for _ in range(2))
    for step in (3, 0, 7):
        first.batch(first.draw(step))
    mine, same = (chunks.batch(chunks.draw(5)) for chunks in (first, second))
    for field in ("waves", "targets", "log_gain", "hidden"):
        assert torch.equal(getattr(mine, field), getattr(same, field))
    another = sampler(folder, AugmentConfig.all(), others, seed=6)
    for chunks, key in ((second, (6,)), (second, (5, 1)), (another, (5,))):
        assert (chunks.batch(chunks.draw(*key)).waves - mine.waves).abs().max() > 1e-4
    assert [step for step, _ in prefetch(first, range(4))] == [0, 1, 2, 3]


def test_hard_chunks_come_back(folder: Path) -> None:
    chunks = sampler(folder, AugmentConfig.all(), batch_size=8)
    before = chunks.batch(chunks.draw(3))
    chunks.hard, chunks.hard_share = [(3, 0, 6)], 0.25
    again = chunks.draw(9)
    assert again.keys == [(3, 0, 6)] * 2 + [(9, 0, i) for i in range(2, 8)]
    assert torch.equal(chunks.batch(again).targets[0], before.targets[6])
    torch.testing.assert_close(chunks.batch(again).waves[:2], before.waves[[6, 6]], rtol=0, atol=1e-5)


def test_augmented_chunks_are_sound(folder: Path) -> None:
    chunks = sampler(folder, AugmentConfig.all(), batch_size=40, presence=1.0)
    batch = chunks.batch(chunks.draw(0))
    assert torch.isfinite(batch.waves).all() and batch.waves.abs().max() <= 1.0
    assert torch.isfinite(batch.log_gain).all() and batch.log_gain.any() and not batch.log_gain.all()
    assert 0.02 < batch.hidden.float().mean() < 0.3 and 0.1 < batch.targets.mean() < 0.8
    quiet = sampler(folder, AugmentConfig.all(), presence=0.0)
    batch = quiet.batch(quiet.draw(0))
    assert not batch.targets.any() and batch.waves.any()
    plain = sampler(folder)
    assert plain.batch(plain.draw(0)).log_gain is None and plain.batch(plain.draw(0)).hidden is None


def test_distractors_are_heard_and_are_no_events(folder: Path, others: Distractors) -> None:
    on = AugmentConfig(distractors=True, background_mix=True)
    with_, without = (sampler(folder, on, o, batch_size=40, presence=0.0) for o in (others, None))
    batch, plain = with_.batch(with_.draw(0)), without.batch(without.draw(0))
    assert not batch.targets.any()
    for hz in (1_000, 3_000):
        bin_ = round(hz * batch.waves.shape[1] / RATE)
        tonal = [torch.fft.rfft(x.waves).abs()[:, bin_ - 3 : bin_ + 4].max() for x in (batch, plain)]
        assert tonal[0] > 10 * tonal[1]


def test_more_events_are_events(folder: Path, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 3_000 * np.arange(2_400) / RATE)
    (tmp_path / "horn").mkdir()
    soundfile.write(tmp_path / "horn/1.wav", tone, RATE)
    sources = SourceSet.load(folder, "train", ("horn",))
    more = add_events(sources, tmp_path)
    only = dataclasses.replace(more, events={"horn": more.events["horn"][len(sources.events["horn"]) :]})
    chunks = sampler(only, batch_size=8, presence=1.0, ebrs=(6.0,))
    batch = chunks.batch(chunks.draw(0))
    assert float(batch.targets.sum(1).min()) * HORNS.hop / RATE == pytest.approx(0.3, abs=2 * HORNS.hop / RATE)
    spectrum = torch.fft.rfft(batch.waves).abs().mean(0)
    assert abs(int(spectrum.argmax()) * RATE / batch.waves.shape[1] - 3_000) < 10


# --- each effect against its definition ---


def renderer(wave: np.ndarray, rate: int = 44_100, doubled: bool = False) -> Renderer:
    sounds = torch.from_numpy(np.rint(wave * 2**15).astype(np.int16))
    return Renderer(sounds, 1, rate, len(sounds) if doubled else 0)


@pytest.mark.parametrize("doubled", [False, True])
def test_speed_is_soxrs(doubled: bool) -> None:
    """At any speed: the same wave as of a resampler of high quality, up to 8 kHz within 1 % of its level."""
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(0.1 * rng.standard_normal(40_000))
    spectrum[round(8_000 / 44_100 * 40_000) :] = 0
    low = np.fft.irfft(spectrum, 40_000) * np.hanning(40_000)
    make = renderer(low, doubled=doubled)
    for speed in (0.85, 1.0371, 1.18):
        length = round(len(low) / speed)
        (found,) = make.disguised([Piece(0, 0, len(low), length, length, speed=speed)])
        made = round(2.0 * speed * (length - 1)) / (length - 1) / 2.0  # the speed that ends with a sample
        wanted = soxr.resample(low, 44_100 * made, 44_100, quality="VHQ")
        n = min(len(found), len(wanted))
        error = np.sqrt(np.mean((found.numpy()[:n] - wanted[:n]) ** 2) / np.mean(wanted**2))
        assert len(found) == length and error < 0.01, (speed, error)


def test_nothing_beyond_half_the_rate_is_folded_back() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 20_000 * np.arange(44_100) / 44_100) * np.hanning(44_100)
    (found,) = renderer(tone).disguised([Piece(0, 0, 44_100, 38_348, 38_348, speed=1.15)])
    assert found.std() < 0.05 * tone.std()


def test_microphones_are_filter_waves() -> None:
    rng = np.random.default_rng(3)
    knots = rng.normal(0.0, aug.EVENT_FILTER_DB, aug.KNOTS)
    hz = np.linspace(0.0, 22_050.0, 32_769)
    wanted = np.interp(
        np.log2(np.maximum(hz, 1.0)), np.log2(np.geomspace(*aug.KNOT_HZ, aug.KNOTS)), knots
    ) - 80.0 * np.clip(np.log2(np.maximum(hz, 1.0) / 5_000.0) * 3.0, 0.0, 1.0)
    found = gains([Curve(knots, 5_000.0, 3.0), Curve(knots)], len(hz), 44_100, CPU)
    decibels = 20 * np.log10(found.numpy())
    error = np.abs(decibels[0] - wanted)
    assert error.max() < 0.7 and error[1_000:7_000].max() < 0.02  # knees are round within 5 Hz
    assert np.abs(decibels[1, 20_000:] - knots[-1]).max() < 6 * aug.EVENT_FILTER_DB
    flat = Curve(np.zeros(aug.KNOTS))
    wave = 0.1 * rng.standard_normal(3_000)
    (same,) = renderer(wave).disguised([Piece(0, 0, 3_000, 3_000, 3_000, curve=flat)])
    np.testing.assert_allclose(same, np.clip(wave, -1, 1), atol=2e-5)


def test_overload_keeps_the_peak() -> None:
    tone = torch.sin(torch.arange(9_000) / 7.0) * 0.3
    loud = saturate(tone, 4.0)
    torch.testing.assert_close(loud, torch.tanh(tone * 4.0 / tone.abs().max()) * tone.abs().max() / np.tanh(4.0))
    assert not saturate(torch.zeros(9), 3.0).any()


def test_a_room_is_its_impulse_response() -> None:
    click = np.r_[0.5, np.zeros(99)]
    make = renderer(click)
    room = Room(0.3, -3.0, 400, 13_230, 77)
    (wet,) = make.disguised([Piece(0, 0, 100, 100, 13_330, room=room)])
    tail = make.noise[77 : 77 + 13_230].double().numpy() * np.exp(-6.9 * np.arange(13_230) / 44_100 / 0.3)
    tail *= 10 ** (-3 / 20) / np.sqrt(np.sum(tail**2))
    tail[:400], tail[0] = 0.0, 1.0
    np.testing.assert_allclose(wet[:13_230], 0.5 * tail, atol=1e-6)


def test_knocks_are_short() -> None:
    rng, make = np.random.default_rng(4), renderer(np.zeros(9))
    for longest in (7, 4_000, 88_200):
        knocks, samples = draw_knocks(rng, 44_100, longest)
        series = make.strokes(knocks, samples)
        assert 0 < len(series) <= longest and torch.isfinite(series).all() and series.any()
    drawn = [draw_knocks(rng, 44_100, 6_615) for _ in range(50)]
    stroke = torch.stack([make.strokes(k, n) for k, n in drawn]).square().sum(0)
    assert stroke[4_410:].sum() < 1e-2 * stroke.sum()  # silent again after 100 ms: no shot is


def test_doubled_sounds_are_the_sounds_between_their_samples() -> None:
    tone = np.sin(2 * np.pi * 900 * np.arange(4_096) / RATE) * np.hanning(4_096)
    wave = twice(torch.from_numpy(tone.astype(np.float32))[None])[0].numpy()
    passed = np.sinc(900 / RATE / 2) ** 2
    np.testing.assert_allclose(wave[::2], tone / passed, atol=2e-3)


# --- the whole against the sampler in NumPy ---


def summary(batch: object, log_mel_too: bool = True) -> dict[str, np.ndarray]:
    """Numbers of each chunk, by name."""
    waves = torch.as_tensor(batch.waves)  # type: ignore[attr-defined]
    frames = bands(waves)
    middle = frames.mean(1)
    found = {
        "level": waves.square().mean(1).log10().numpy(),
        "peak": (waves.abs().amax(1) / waves.square().mean(1).sqrt()).numpy(),
        "low": middle[:, 1],
        "high": middle[:, -2],
        "tilt": middle[:, -4:].mean(1) - middle[:, :4].mean(1),
        "spread": frames.std((1, 2)),
        "targets": np.asarray(batch.targets).mean((1, 2)),  # type: ignore[attr-defined]
    }
    for name in ("log_gain", "hidden"):
        if (value := getattr(batch, name)) is not None:
            found[name] = np.asarray(value).reshape(len(waves), -1).astype(np.float64).std(1)
    return found


@pytest.mark.parametrize("switch", ["", *(f.name for f in dataclasses.fields(AugmentConfig)), "all"])
def test_distributions_are_those_of_the_sampler_in_numpy(folder: Path, others: Distractors, switch: str) -> None:
    """Kolmogorov and Smirnov's test of every number of a summary, over 320 chunks of each sampler."""
    on = AugmentConfig.all() if switch == "all" else AugmentConfig(**({switch: True} if switch else {}))
    if switch == "knocks":
        on = AugmentConfig(knocks=True, distractors=True)
    sources = SourceSet.load(folder, "train", ("horn",))
    used = others if on.distractors or on.background_mix else None
    new = sampler(sources, on, used, batch_size=320, frames=48)
    old = NumpySampler(sources, SourceAudio(RATE), HORNS, 320, 48, 9, augment=on, others=used)
    mine, theirs = summary(new.batch(new.draw(0))), summary(old.batch(0))
    for name, values in mine.items():
        p = ks_2samp(values, theirs[name]).pvalue
        assert p > 1e-4, f"{name}: {values.mean():.3f}, {theirs[name].mean():.3f} in NumPy, p = {p:.1e}"
