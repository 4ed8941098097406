"""Fuzzing with atheris: ``python -m tests.fuzz.run [--seconds 15] [TARGET ...]``; an input that fails is kept.

Each target runs in a process of its own, guided by the branches that its inputs reach, from the seeds of ``targets``.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("audio", "weights", "annotations", "recipes")


def fuzz(target: str, seconds: int, folder: Path, kept: Path) -> None:
    """Does not return: the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mtfa_fast"]):
        from tests.fuzz.targets import accepted, seeds
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=40000"]
    options += ["-print_final_stats=1", f"-artifact_prefix={kept}/{target}-", str(folder)]
    atheris.Setup([sys.argv[0], *options], lambda data: accepted(target, data) and None)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--seconds", type=int, default=15, help="for each target")
    parser.add_argument("--kept", default=".", help="folder for inputs that fail")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    wrong = set(arguments.targets) - set(NAMES)
    if wrong:
        parser.error(f"targets: got {', '.join(sorted(wrong))}, allowed: {', '.join(NAMES)}")
    if importlib.util.find_spec("atheris") is None:
        print("no fuzzing: atheris is not installed (it has no wheels for this Python or platform)")
        return 0
    if arguments.here:
        fuzz(arguments.targets[0], arguments.seconds, Path(arguments.here), Path(arguments.kept))
    failed = []
    for target in arguments.targets or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.fuzz.run", target, "--here", folder, "--kept", arguments.kept]
            done = subprocess.run([*command, "--seconds", str(arguments.seconds)], capture_output=True, text=True)
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{target}: {runs[0].split()[-1] if runs else 'no'} inputs, exit code {done.returncode}")
        if done.returncode:
            failed.append(target)
            print("\n".join((done.stdout + done.stderr).splitlines()[-40:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
