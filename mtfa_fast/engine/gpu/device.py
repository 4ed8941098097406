"""What a device needs around the network: streams, copies to and from the host, exact float32 where asked for.

On a CPU there are no streams and no copies; everything else is the same code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .graphs import Capture, cuda_capture

Pending = Callable[[], Tensor]


class Device:
    """``working()`` is where everything happens that touches the device: one thread at a time, on one stream."""

    def __init__(self, device: str | torch.device, *, exact: bool) -> None:
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        if str(self.device) == "cuda":  # without an index, which tensors always have
            self.device = torch.device("cuda", torch.cuda.current_device())
        self._exact = exact
        self._lock = threading.RLock()
        if self.is_cuda:
            self._compute, self._copies = (torch.cuda.Stream(self.device) for _ in range(2))

    def capture(self) -> Capture | None:
        """How functions become CUDA graphs here; None on a CPU."""
        if not self.is_cuda:
            return None
        with torch.cuda.device(self.device):
            return cuda_capture(self._compute)

    @contextmanager
    def working(self) -> Iterator[None]:
        """No gradients, nobody's autocast, the compute stream; float32 without tf32 if the engine is exact."""
        stream = torch.cuda.stream(self._compute) if self.is_cuda else nullcontext()
        where = torch.cuda.device(self.device) if self.is_cuda else nullcontext()
        with (
            self._lock,
            where,
            stream,
            torch.inference_mode(),
            torch.autocast(self.device.type, enabled=False),
            without_tf32() if self._exact and self.is_cuda else nullcontext(),
        ):
            yield

    def upload(self, array: np.ndarray) -> Tensor:
        """A float32 array on the device: through pinned memory, on the stream for copies, beside what is computed."""
        host = torch.from_numpy(np.ascontiguousarray(array, np.float32))
        if not self.is_cuda:
            return host.clone()  # the caller may use the array again
        pinned = host.pin_memory()  # the slow part, and other threads may work meanwhile
        with self.working():
            with torch.cuda.stream(self._copies):
                there = pinned.to(self.device, non_blocking=True)
            there.record_stream(self._compute)
            # Inside, because a graph that is being captured on the compute stream must not be made to wait for us.
            self._compute.wait_stream(self._copies)
        return there

    def download(self, x: Tensor) -> Pending:
        """Starts the copy to the host; calling the answer waits for it. Call inside :meth:`working`."""
        if not self.is_cuda:
            return lambda: x
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        host.copy_(x, non_blocking=True)
        done = torch.cuda.Event()
        done.record(self._compute)

        def wait() -> Tensor:
            done.synchronize()
            return host

        return wait

    @contextmanager
    def called_from(self, *tensors: Tensor) -> Iterator[Callable[[Any], Any]]:
        """``working()`` for tensors of the caller's stream; what it yields hands a result over to that stream."""
        if not self.is_cuda:
            with self.working():
                yield lambda result: result
            return
        caller = torch.cuda.current_stream(self.device)
        with self.working():
            self._compute.wait_stream(caller)
            for tensor in tensors:
                tensor.record_stream(self._compute)

            def hand_over(result: Tensor) -> Tensor:
                caller.wait_stream(self._compute)
                result.record_stream(caller)
                return result

            yield hand_over

    def synchronize(self) -> None:
        if self.is_cuda:
            self._compute.synchronize()

    def free(self) -> None:
        """Gives unused memory back, after an allocation failed."""
        if self.is_cuda:
            self._compute.synchronize()
            torch.cuda.empty_cache()

    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.is_cuda else self.device.type


@contextmanager
def without_tf32() -> Iterator[None]:
    """Convolutions, GRUs and matrix products in float32 as it is. torch has an older and a newer set of switches."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = []
    for owner in (cudnn, matmul):
        try:
            switches.append((owner, "allow_tf32", owner.allow_tf32))
        except RuntimeError:  # the newer switches were used, and differ
            owners = (cudnn.conv, cudnn.rnn) if owner is cudnn else (matmul,)
            switches += [(part, "fp32_precision", part.fp32_precision) for part in owners]
    try:
        for switched, name, _ in switches:
            setattr(switched, name, False if name == "allow_tf32" else "ieee")
        yield
    finally:
        for switched, name, value in switches:
            setattr(switched, name, value)
