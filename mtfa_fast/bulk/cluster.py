"""Ray: embedded on this machine, or a cluster's; how many workers fit into it."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .. import _core
from ..extras import needs

CONNECT_SECONDS = 5.0  # for an address to answer; Ray itself tries for two minutes
_STORE_BYTES = 100_000_000  # of an embedded object store: only numbers go through it
# An HTTP/2 client's first words, which a gRPC server such as Ray's answers at once with its settings (frame type 4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_TYPE, _SETTINGS, _HEADER = 3, 4, 9
_QUIET = {  # where the user has not decided otherwise
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def ray() -> Any:
    """The package, told to be quiet and to report nothing to anybody. ImportError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with needs("ray", "bulk needs"), needs("pyarrow", "bulk needs"):
        import ray.data
    return ray


def require_reachable(address: str | None) -> None:
    """ConnectionError where no Ray answers at ``HOST:PORT``, ValueError where it is none."""
    address = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if address in (None, "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(
            f"address: got {address!r}, allowed: auto, or HOST:PORT of the head node (port 6379 by default); "
            "from outside a cluster: ray job submit -- mtfa-fast bulk ... --address auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return
            connection.sendall(_PREFACE)
            answer = connection.recv(_HEADER, socket.MSG_WAITALL)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ConnectionError(f"address: no Ray at {address}: {reason}") from None
    if len(answer) < _HEADER or answer[_FRAME_TYPE] != _SETTINGS:
        raise ConnectionError(f"address: no Ray at {address}: something else answers there")


@contextmanager
def cluster(address: str | None, workers: int | None, cpus: int, gpus: int) -> Iterator[int]:
    """Ray until the end of the block, and how many workers of so many CPUs and GPUs; the caller's, if he has one.

    ConnectionError where there is none at ``address``, ValueError where not one worker fits.
    """
    package = ray()
    with ExitStack() as stack:
        if not package.is_initialized():
            with _handlers_kept():
                _start(package, address, (workers or 0) * cpus, stack)
        nodes = [node["Resources"] for node in package.nodes() if node["Alive"]]
        room = sum(_fits(node, cpus, gpus) for node in nodes)
        if not room and (address is None or workers is None):
            most = max((node.get("CPU", 0) for node in nodes), default=0)
            got = f"cpus: got {cpus}" + (f" with {gpus} GPU" if gpus else "")
            found = f"{most:g} CPUs, {max((node.get('GPU', 0) for node in nodes), default=0):g} GPUs"
            raise ValueError(f"{got} for a worker, allowed: what one node has; the largest: {found}")
        yield workers or room


def _start(package: Any, address: str | None, cpus: int, stack: ExitStack) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        scratch = tempfile.mkdtemp(prefix="mtfa-ray-", dir=_short())
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        options |= {
            "num_cpus": cpus or _core.default_threads(),
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": scratch,
        }
    stack.callback(package.shutdown)  # before its folder goes
    try:
        package.init(address=address or "local", **options)
    except (ConnectionError, SystemExit) as error:  # Ray ends the process of whom it cannot connect
        if address is None:
            raise
        text = str(error).partition(". ")[0] if isinstance(error, ConnectionError) else "it does not answer"
        raise ConnectionError(f"address: no Ray at {address!r}: {text}") from None


def _short() -> str:
    """A folder for sockets, whose paths have at most 107 bytes; Ray adds some 80."""
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= 16 else "/tmp"


def _fits(node: dict[str, float], cpus: int, gpus: int) -> int:
    by_gpu = math.floor(node.get("GPU", 0) / gpus) if gpus else math.inf
    return int(min(math.floor(node.get("CPU", 0) / cpus), by_gpu))


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray puts its own handler of SIGTERM in place of the program's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
