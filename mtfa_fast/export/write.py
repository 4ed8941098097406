"""Export: write a file, open it again in its runtime, compare it with float64, and only then let it have its name."""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from ..audio.features import log_mel
from ..checking.comparison import RECURRENT_FLOOR, TIMES_STOCK, Check, relative_error
from ..checking.verification import probe
from ..weights import Weights
from . import formats
from .graph import Exported, Source

Format = Literal["onnx", "pt2", "aoti"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "pt2": ".pt2", "aoti": ".pt2"}
LENGTHS = (1, 7, 8, 250, 1_501, 3_000)  # frames
BATCHES = (1, 3)


class _Kind(NamedTuple):
    write: Callable[[Weights, Source, Path], None]
    open: Callable[[Path], formats.Run]


_KINDS: dict[Format, _Kind] = {
    "onnx": _Kind(formats.write_onnx, formats.onnx_runtime),
    "pt2": _Kind(formats.write_pt2, formats.pt2),
    "aoti": _Kind(formats.write_aoti, formats.aoti),
}


def export(
    weights: Weights,
    path: str | os.PathLike[str],
    form: Format = "onnx",
    *,
    source: Source = "log-mel",
    lengths: Sequence[int] = LENGTHS,
    report: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Write the network of ``weights`` for another runtime and verify the file; the comparisons, all passed.

    ``form``: ``"onnx"`` (stock ONNX Runtime, OpenVINO, ...), ``"pt2"`` (``torch.export.load``, without this package) or
    ``"aoti"`` (AOTInductor, with ``mtfa_fast.ops`` imported). ``source``: the input, raw ``"log-mel"`` (B, T, D) or
    mono ``"samples"`` (B, n) at the config's rate; batch and length are free from 1 on. The output is probabilities
    (B, T, K) float32; thresholds, filters and minimum scores are in the file's metadata.

    The file is opened again in its runtime and compared with the float64 reference at ``lengths`` frames and batches of
    1 and 3, on a busy recording made for it: at most twice what stock PyTorch's float32 errs. A file that misses the
    bound is not left behind: FloatingPointError names the comparison. ValueError for a wrong argument or a suffix
    that is not the format's, FileNotFoundError for a folder that does not exist.
    """
    path = Path(path)
    if form not in FORMATS:
        raise ValueError(f"format: got {form!r}, allowed: {', '.join(FORMATS)}")
    if source not in get_args(Source):
        raise ValueError(f"source: got {source!r}, allowed: {', '.join(get_args(Source))}")
    if path.suffix != SUFFIXES[form]:
        raise ValueError(f"path: got {str(path)!r}, allowed: a name that ends in {SUFFIXES[form]}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: got {str(path)!r}, allowed: a file in a folder that exists")
    beside = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")  # runtimes look at the suffix
    kind, checks = _KINDS[form], []
    try:
        kind.write(weights, source, beside)
        for check in compare(kind.open(beside), weights, source, lengths):
            checks.append(check)
            if report:
                report(check)
            if not check.passed:
                raise FloatingPointError(
                    f"{form}: at {check.source} the error is {check.error:.2g}, allowed: {check.bound:.2g}; "
                    f"{path} is not written"
                )
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return checks


def compare(run: formats.Run, weights: Weights, source: Source, lengths: Sequence[int] = LENGTHS) -> Iterator[Check]:
    """What ``run`` answers, against the plain network in float64, for each length and batch size.

    The bound is twice what stock PyTorch errs at its worst of them: on one frame it can be luckier than anybody.
    """
    stock = Exported(weights, source, fast=False)
    exact = copy.deepcopy(stock).double()
    answers = []
    for batch, frames in ((batch, frames) for frames in lengths for batch in BATCHES):
        x = _inputs(weights, source, batch, frames)
        with torch.no_grad():
            wanted = exact(torch.from_numpy(x).double()).numpy()
            usual = relative_error(stock(torch.from_numpy(x)).numpy(), wanted)
        answers.append((f"{batch} x {frames} frames", relative_error(run(x), wanted), usual))
    bound = max(TIMES_STOCK * max(usual for _, _, usual in answers), RECURRENT_FLOOR)
    for what, error, _ in answers:
        yield Check("probabilities", what, error, bound)


def _inputs(weights: Weights, source: Source, batch: int, frames: int) -> np.ndarray:
    """The verification's probe, a recording that keeps every part of the network busy; each clip begins elsewhere."""
    f = weights.config.features
    n = (frames - 1) * f.hop + f.hop // 3
    wave = probe(weights.config, (n + batch * f.sample_rate) / f.sample_rate).astype(np.float32)
    clips = [wave[start : start + n] for start in range(0, batch * f.sample_rate, f.sample_rate)]
    if source == "log-mel":
        window, mel = weights.tensors["features.window"], weights.tensors["features.mel"]
        clips = [log_mel(clip, f, window=window, mel=mel) for clip in clips]
    return np.stack(clips)
