"""``mtfa-fast info``: what is installed, what would run here, and why."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from .options import WeightsOption

Row = tuple[str, str]


def info(*, weights: WeightsOption = "rare-events") -> int:
    """Show versions, the CPU's instruction set, threads, torch and CUDA, the weights, and what a GPU would run.

    Exit code 0 if everything that detection on the CPU needs is there, else 1.
    """
    rows = [*_versions(), *_torch()]
    ready = True
    try:
        rows.extend(_engine(weights))  # keeps what is known before the first failure
        rows.extend(_gpu(weights))
        rows.extend(_ops())
    except (ValueError, OSError, ImportError) as error:
        ready = False
        rows.append(("cannot detect", str(error)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0 if ready else 1


def _versions() -> Iterator[Row]:
    import numpy
    import soundfile

    from .. import __version__

    yield "mtfa-fast", __version__
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    yield "numpy", numpy.__version__
    yield "libsndfile", f"{soundfile.__libsndfile_version__} (soundfile {soundfile.__version__})"
    for package in ("soxr", "safetensors"):
        yield package, metadata.version(package)


def _torch() -> Iterator[Row]:
    if find_spec("torch") is None:
        yield "torch", "not installed (only the layer, training and CUDA need it): pip install 'mtfa-fast[torch]'"
        return
    import torch

    yield "torch", torch.__version__
    yield "triton", metadata.version("triton") if find_spec("triton") else "not installed: no fused GPU kernels"
    if not torch.backends.cuda.is_built():
        yield "cuda", "none: this torch is built without CUDA"
    elif not torch.cuda.is_available():
        yield "cuda", f"none: torch is built for CUDA {torch.version.cuda} but finds no device or driver"
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        size = f"{device.total_memory / 2**30:.0f} GiB"
        yield f"cuda:{index}", f"{device.name}, compute capability {device.major}.{device.minor}, {size}"


def _engine(source: str) -> Iterator[Row]:
    from .. import _core
    from ..engine.cpu import CpuEngine
    from ..measuring.machine import cpu_model
    from ..weights import Weights, find, shipped

    yield "cpu", cpu_model()
    yield "instruction sets", ", ".join(_core.available_isas())
    path, weights = find(source), Weights.load(source)
    yield "weights", f"{source} ({path}), {path.stat().st_size / 1e6:.1f} MB; shipped: {', '.join(shipped()) or 'none'}"
    network, features = weights.config.network, weights.config.features
    yield (
        "network",
        f"{network.variant}, {network.channels} channels, {network.hidden} GRU units, {features.sample_rate} Hz",
    )
    for c in weights.config.classes:
        score = f", score at least {c.minimum_score:g}" if c.minimum_score else ""
        told = ", scores calibrated" if c.calibration else ""
        yield "class", f"{c.name}: probability > {c.threshold:g}, median over {c.filter_frames} frames{score}{told}"
    explained = CpuEngine(weights).explain()
    for name, reason in explained.pop("reasons").items():
        explained[name] = reason
    for name, value in explained.items():
        yield name, str(value)


def _gpu(source: str) -> Iterator[Row]:
    """What ``--device cuda`` would run; nothing without torch, which its row has said already."""
    if find_spec("torch") is None:
        return
    import torch

    from ..backends.cuda import library
    from ..weights import Weights

    found = library.explain()
    runs = f"{found['path']}, CUDA {found.get('runtime')}" + (f" ({found['reason']})" if found["reason"] else "")
    yield "cuda kernels", runs if found["loaded"] else f"none: {found['reason']}"
    if not torch.cuda.is_available():
        yield "gpu engine", "cannot run here: torch finds no CUDA device"
        return
    from ..engine.gpu import GpuEngine

    try:
        for name, reason in GpuEngine(Weights.load(source)).explain()["reasons"].items():
            yield f"gpu {name.replace('_', ' ')}", reason
    except RuntimeError as error:  # the device's own words: busy, full, no kernel image
        yield "gpu engine", f"does not start: {error}"


def _ops() -> Iterator[Row]:
    """For each op and device the backend that is asked first, and why those before it are not there."""
    if find_spec("torch") is None:
        return
    import torch

    from .. import ops
    from ..ops._dispatch import LADDERS, load

    devices = [device for device in LADDERS if device == "cpu" or torch.cuda.is_available()]
    for op in ops.__all__:
        if op == "available_backends":
            continue
        answers = []
        for device in devices:
            absent: list[str] = []
            for backend in LADDERS[device]:
                found = load(backend, op)
                if not isinstance(found, str):
                    answers.append(f"{device}: {backend}" + (f" ({'; '.join(absent)})" if absent else ""))
                    break
                absent.append(f"not {backend}: {found}")
        yield f"op {op}", ", ".join(answers)
