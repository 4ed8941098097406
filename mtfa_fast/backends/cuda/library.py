"""The compiled CUDA library ``mtfa_fast/_cuda.so``: found and loaded on first use, through ctypes.

It is plain C (csrc/cuda/*.h): any Python and any torch can call it, and it loads without a driver. What
kept it from loading is remembered, and every refusal repeats it.
"""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..support import Support

PATH = Path(__file__).resolve().parents[2] / "_cuda.so"
ABI = 1  # of csrc/cuda/library.cu; raised there with every change of a signature
CAPABILITY = (8, 0)  # the oldest GPU that the build compiles for

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

# Arguments of each function: p pointer, i int, q int64; the last two are the device's index and the stream.
SIGNATURES = {
    "mtfa_bigru_forward": "pppppiqqiiip",
    "mtfa_bigru_backward": "ppppppiqqiip",
    "mtfa_bigru_wide_forward": "pppppqqiip",
    "mtfa_bigru_wide_backward": "ppppppqqiip",
    "mtfa_residual_block_pack": "ppppiiipip",
    "mtfa_residual_block": "pppqqqiiip",
    "mtfa_shifted_descriptor": "pppiiip",
}
_TYPES: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int, "q": ctypes.c_int64}


def open_library(path: Path) -> ctypes.CDLL | str:
    """The library at ``path`` with its signatures declared, or the text of why it cannot be used."""
    if not path.is_file():
        return f"{path.name} was not built (it needs nvcc: MTFA_FAST_CUDA=1 makes the build say why)"
    try:
        library = ctypes.CDLL(str(path))
        abi = library.mtfa_cuda_abi()
        if abi != ABI:
            return f"{path} has interface {abi}, this version of mtfa-fast needs {ABI}: build it again"
        for name, signature in SIGNATURES.items():
            getattr(library, name).argtypes = [_TYPES[letter] for letter in signature]
        library.mtfa_cuda_error.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        return f"{path} does not load: {error}"
    return library


@cache
def load() -> ctypes.CDLL | str:
    """The library, or the text of why there is none."""
    return open_library(PATH)


def available() -> Support:
    """Whether the library is there and loads, whatever the GPU."""
    library = load()
    return Support.no(library) if isinstance(library, str) else Support.yes()


def runs_on(x: Tensor) -> Support:
    """Whether the library's kernels can run on ``x``'s device."""
    if not x.is_cuda:
        return Support.no(f"its kernels run on CUDA devices, x is on {x.device}")
    if torch.version.hip is not None:
        return Support.no("its kernels are for NVIDIA GPUs, this torch is built for ROCm")
    if not (answer := available()).ok:
        return answer
    if (found := capability(x.device.index)) < CAPABILITY:
        return Support.no(f"its kernels need compute capability 8.0 or later, the device has {found[0]}.{found[1]}")
    return Support.yes()


@cache
def capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def place(x: Tensor) -> tuple[int, int]:
    """Index of ``x``'s device and the stream to launch on: torch's current one there."""
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream


def guard(device: int) -> AbstractContextManager[Any]:
    """Makes the device torch's current one; the library runs in the context that torch made current."""
    return nullcontext() if torch.cuda.current_device() == device else torch.cuda.device(device)


def launch(name: str, on: Tensor, *args: Tensor | int | None) -> None:
    """Enqueues ``name`` on the device and current stream of ``on``. RuntimeError with CUDA's text if that fails.

    Tensors go as their data pointers, None as a null pointer.
    """
    library = load()
    if isinstance(library, str):
        raise RuntimeError(f"{name}: {library}")
    device, stream = place(on)
    with guard(device):
        code = getattr(library, name)(*(_argument(a) for a in args), device, stream)
    if code != 0:
        raise RuntimeError(f"{name}: CUDA error {code}: {library.mtfa_cuda_error(code).decode()}")


def _argument(value: Tensor | int | None) -> int | None:
    return value.data_ptr() if isinstance(value, Tensor) else value


def explain() -> dict[str, Any]:
    """What was found: path, whether it loads and why not, versions of runtime and driver, number of devices."""
    library = load()
    if isinstance(library, str):
        return {"path": str(PATH), "loaded": False, "reason": library}
    runtime, driver, devices = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    library.mtfa_cuda_versions(ctypes.byref(runtime), ctypes.byref(driver))
    code = library.mtfa_cuda_device_count(ctypes.byref(devices))
    return {
        "path": str(PATH),
        "loaded": True,
        "reason": "" if code == 0 else f"no device: CUDA error {code}: {library.mtfa_cuda_error(code).decode()}",
        "runtime": _version(runtime.value),
        "driver": _version(driver.value) if driver.value else None,
        "devices": devices.value if code == 0 else 0,
    }


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
