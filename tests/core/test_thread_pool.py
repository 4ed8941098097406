"""The C++ core's thread pool, also under ThreadSanitizer, which sees races that a run happens not to lose."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mtfa_fast import _core

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("csrc/core/thread_pool.cpp", "csrc/core/default_threads.cpp", "tests/core/cpp/thread_pool_test.cpp")


@pytest.mark.parametrize("flags", [["-O2"], ["-O1", "-fsanitize=thread"]], ids=["plain", "thread_sanitizer"])
def test_thread_pool(flags: list[str], tmp_path: Path) -> None:
    program = tmp_path / "thread_pool_test"
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, "-std=c++17", *flags, "-pthread", "-Icsrc", *SOURCES, "-o", str(program)]
    subprocess.run(command, cwd=ROOT, check=True)
    # By default ThreadSanitizer ends a child that starts threads; here that is what is tested.
    environment = {**os.environ, "TSAN_OPTIONS": "die_after_fork=0"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "thread pool: ok\n"


def test_default_threads_follow_affinity() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    allowed = os.sched_getaffinity(0)
    assert 1 <= _core.default_threads() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert _core.default_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)
