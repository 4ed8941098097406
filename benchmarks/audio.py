"""From audio: the log-mel spectrogram, and a wave file to events, beside what is usually put together for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.contest import Contest, with_thresholds
from mtfa_fast import __version__
from mtfa_fast.audio import features
from mtfa_fast.backends.reference.log_mel import log_mel as torch_log_mel
from mtfa_fast.checking.comparison import (
    INT8_PROBABILITY_BOUND,
    PROBABILITY_BOUND,
    PROBABILITY_PERCENTILE,
    Check,
    compare,
)
from mtfa_fast.checking.reference import Reference
from mtfa_fast.checking.verification import probe
from mtfa_fast.detector import Detector
from mtfa_fast.events.result import Event, Result
from mtfa_fast.measuring.contestants import Contestant
from mtfa_fast.measuring.rows import Entry, Row, race
from mtfa_fast.weights import Weights

SHARES = (0.2, 0.8)  # of a class's frames between which its threshold lies


def log_mel_rows(contest: Contest) -> list[Row]:
    """The spectrogram of the clip's samples."""
    config = contest.plan.config.features
    wave = probe(contest.plan.config, (contest.plan.frames - 1) * config.hop / config.sample_rate)
    exact, stock = (Reference(contest.weights, precision).log_mel(wave) for precision in ("fp64", "fp32"))
    window, mel = features.analysis_window(config), features.mel_matrix(config)

    def entry(name: str, version: str, settings: str, call: Callable[[], np.ndarray]) -> Entry:
        row = Row(name, "log-mel", 1, len(exact), "fp32", version, settings)
        return Entry(row, lambda: (compare("log-mel", name, call(), exact, stock), call))

    def with_torch() -> np.ndarray:
        torch.set_num_threads(contest.threads)
        with torch.inference_mode():
            return _stock_log_mel(wave, window, mel, contest.plan.config.features)

    entries = [
        entry(
            "mtfa-fast",
            f"mtfa-fast {__version__}",
            f"{contest.threads} threads",
            lambda: features.log_mel(wave, config, threads=contest.threads),
        ),
        entry("torch", f"torch {torch.__version__}", f"stft and matmul, {contest.threads} threads", with_torch),
    ]
    try:
        librosa = import_module("librosa")
    except ImportError:
        contest.missing["librosa"] = "not installed (librosa)"
    else:

        def with_librosa() -> np.ndarray:
            power = librosa.feature.melspectrogram(
                y=wave,
                sr=config.sample_rate,
                n_fft=config.fft_length,
                hop_length=config.hop,
                win_length=config.window_length,
                window="hamming",
                center=True,
                pad_mode="constant",
                n_mels=config.mel_bands,
            )
            return np.log(power + np.float32(config.log_floor)).T

        entries.append(entry("librosa", f"librosa {metadata.version('librosa')}", "melspectrogram", with_librosa))
    return race(entries, **contest.short_timing)


def wave_rows(contest: Contest, peer: Contestant | None) -> list[Row]:
    """A 16-bit wave file of the clip's length, from disk to a list of events."""
    plan = contest.plan
    rate, frames = plan.config.features.sample_rate, plan.frames
    seconds = (frames - 1) * plan.config.features.hop / rate
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        soundfile.write(path, probe(plan.config, seconds), rate, subtype="PCM_16")
        wave = soundfile.read(path, dtype="float32")[0]
        exact = _answer(contest.weights, wave, "fp64")
        weights = with_thresholds(contest.weights, [clear_level(exact[:, k]) for k in range(exact.shape[1])])
        truth = Result(exact, weights.config, "", len(wave) / rate)
        entries = [_ours(contest, weights, ours, path, wave, truth) for ours in contest.ours]
        if peer:
            entries.append(_theirs(contest, weights, peer, path, wave, truth))
        return race(entries, **contest.timing)


def clear_level(probabilities: np.ndarray) -> float:
    """A threshold for a network that was never trained: the middle of the widest gap between its probabilities."""
    low, high = (round(share * (len(probabilities) - 1)) for share in SHARES)
    inner = np.sort(probabilities)[low : high + 1]
    widest = int(np.argmax(np.diff(inner)))
    return float((inner[widest] + inner[widest + 1]) / 2)


def _ours(contest: Contest, weights: Weights, ours: Contestant, path: Path, wave: np.ndarray, truth: Result) -> Entry:
    precision: Any = ours.precision
    detector = Detector(weights, precision=precision, threads=contest.threads)
    row = Row(ours.name, "wave to events", 1, len(truth.probabilities), precision, ours.version, ours.settings)

    def ready() -> tuple[Check, Callable[[], object]]:
        found = detector(path)
        check = _check(weights, wave, ours, found.probabilities, found.events, truth)
        return check, lambda: detector(path).events

    return Entry(row, ready)


def _theirs(contest: Contest, weights: Weights, peer: Contestant, path: Path, wave: np.ndarray, truth: Result) -> Entry:
    """The fastest peer between PyTorch's spectrogram and SciPy's median filter, as such systems are built."""
    from scipy.signal import medfilt

    config = weights.config
    window, mel = weights.tensors["features.window"], weights.tensors["features.mel"]
    frames = len(truth.probabilities)
    network = peer.prepare("network", 1, frames)
    settings = f"soundfile, torch log-mel, {peer.settings}, scipy medfilt"
    row = Row(peer.name, "wave to events", 1, frames, peer.precision, peer.version, settings)

    def run() -> tuple[np.ndarray, list[Event]]:
        samples, rate = soundfile.read(path, dtype="float32")
        torch.set_num_threads(contest.threads)
        with torch.inference_mode():
            spectrogram = _stock_log_mel(samples, window, mel, config.features)
        found = network(spectrogram[None])[0]
        hop, events = config.features.hop / rate, []
        for k, c in enumerate(config.classes):
            active = medfilt((found[:, k] > np.float32(c.threshold)).astype(np.float32), c.filter_frames)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], active, [0]])))
            for first, last in edges.reshape(-1, 2).tolist():
                end, score = min(last * hop, len(samples) / rate), found[first:last, k].max()
                if score >= np.float32(c.minimum_score):
                    events.append(Event(c.name, first * hop, end, float(score)))
        return found, events

    def ready() -> tuple[Check, Callable[[], object]]:
        found, events = run()
        return _check(weights, wave, peer, found, events, truth), run

    return Entry(row, ready)


def _stock_log_mel(wave: np.ndarray, window: np.ndarray, mel: np.ndarray, config: Any) -> np.ndarray:
    samples, shape, bands = (torch.from_numpy(array) for array in (wave, window, mel))
    found: np.ndarray = torch_log_mel(samples, shape, bands, config.hop, config.fft_length, config.log_floor).numpy()
    return found


def _answer(weights: Weights, wave: np.ndarray, precision: str) -> np.ndarray:
    reference = Reference(weights, precision)
    return reference.probabilities(reference.log_mel(wave))


def _check(
    weights: Weights, wave: np.ndarray, contestant: Contestant, got: np.ndarray, events: Any, truth: Result
) -> Check:
    """The probabilities' error; infinite where the events do not follow from frames that are right."""
    exact, name, near = truth.probabilities, contestant.name, PROBABILITY_BOUND
    if contestant.yardstick == "int8":
        near = INT8_PROBABILITY_BOUND
        off = float(np.percentile(np.abs(got - exact), PROBABILITY_PERCENTILE))
        check = Check("wave to events", name, off, near)
    else:
        check = compare("wave to events", name, got, exact, _answer(weights, wave, contestant.yardstick))
    limits = np.array([c.threshold for c in truth.config.classes])
    differs = (got > limits.astype(got.dtype)) != (exact > limits)
    clear = np.abs(exact - limits) > near
    want, have = ({(e.label, round(e.onset, 6), round(e.offset, 6)) for e in found} for found in (truth.events, events))
    note = f"{len(want & have)} of {len(want)} events identical"
    wrong = (differs & clear).any() or (not differs.any() and want != have)
    return Check(check.stage, name, float("inf") if wrong else check.error, check.bound, note)
