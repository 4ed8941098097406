"""What benchmarks/gpu.sh found, in a few lines of plain text; the verdicts on its aims come last. Needs no torch.

python benchmarks/gpu_summary.py FILE.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FACTS = ("batch", "steps", "bands", "hidden", "dtype")
RATES = ("clips/s", "TFLOP/s", "GB/s")
MEMORY_BOUND = ("upsample_add,", "attention_gate,", "upsample_add_gate,", "stem,", "max_pool", "gated_pool,")
OURS = "engine, bf16, CUDA graph"


def rows_of(path: Path) -> list[Row]:
    """A line that was cut off when its process was killed is left out."""
    found = []
    for text in path.read_text().splitlines():
        with suppress(ValueError):
            found.append(json.loads(text))
    return found


def line(row: Row) -> str:
    facts = " ".join(f"{key} {str(row[key]).removeprefix('torch.')}" for key in FACTS if key in row)
    head = f"{row['step']:9} {row['name'][:60]:60} {facts}"
    if "problem" in row:
        return f"{head} FAILED: {row['problem'][:150]}"
    if row.get("passed") is False:
        return f"{head} WRONG: {row.get('error', row.get('reason', row.get('largest')))} of {row.get('bound', '')}"
    if "ms" not in row:
        return f"{head} {row.get('reason', '')}"
    rates = " ".join(f"{row[unit]:.4g} {unit}" for unit in RATES if unit in row)
    return f"{head}: {row['ms']:.4g} ms ({row['ms_20']:.4g} to {row['ms_80']:.4g}) {rates}"


def times(rows: list[Row], step: str, batch: int, **facts: Any) -> dict[str, float]:
    """Milliseconds by name, the fastest where a contender ran twice."""
    found: dict[str, float] = {}
    for row in rows:
        wanted = {"step": step, "batch": batch, **facts}
        if "ms" in row and all(row.get(key) == value for key, value in wanted.items()):
            found[row["name"]] = min(row["ms"], found.get(row["name"], row["ms"]))
    return found


def against(found: dict[str, float], ours: str, rivals: list[str]) -> tuple[float, str]:
    """How many times faster than the fastest rival, and which that is; NaN where one of the two has no time."""
    there = [name for name in rivals if name in found]
    if ours not in found or not there:
        return float("nan"), "nothing to compare"
    best = min(there, key=lambda name: found[name])
    return found[best] / found[ours], best


def verdicts(rows: list[Row]) -> Iterator[str]:
    for step, batch, aim in (("network", 32, 2.0), ("latency", 1, 3.0)):
        found = times(rows, step, batch)
        compiled = [name for name in found if "torch.compile" in name]
        for label, rivals in (("torch.compile", compiled), ("every rival", [name for name in found if name != OURS])):
            ratio, best = against(found, OURS, rivals)
            yield f"network, batch {batch}: {ratio:.2f} times {label} ({best}); aim {aim:g}"
    found = times(rows, "gru", 1, hidden=64, dtype="torch.float32")
    ratio, _ = against(found, "recurrence alone", ["torch.nn.GRU (cuDNN)"])
    whole, _ = against(found, "ops.bigru, cuda", ["torch.nn.GRU (cuDNN)"])
    yield f"GRU layer, batch 1, float32: recurrence {ratio:.2f}, layer {whole:.2f} times cuDNN's layer; aim 2.5"
    copies = [row["GB/s"] for row in rows if row["step"] == "roofline" and "GB/s" in row]
    if copies:
        for row in rows:
            if "GB/s" in row and row["name"].endswith("triton") and row["name"].startswith(MEMORY_BOUND):
                share = row["GB/s"] / max(copies)
                yield f"{row['name']} {row.get('dtype', '')}: {share:.0%} of the copy bandwidth; aim 90 %"
    probes = {row["name"]: row for row in rows if row["step"] == "probe"}
    wrong = [name for name, row in probes.items() if name.endswith("base offset 0") and row.get("wrong")]
    shifts = f"descriptors with base offset 0 wrong for {wrong or 'no shift'}" if probes else "no probe"
    trial = next((row for row in probes.values() if "reason" in row), {})
    yield f"Hopper block: {'right' if trial.get('passed') else trial.get('reason', 'not tried')}; {shifts}"


def wants_base_offset(rows: list[Row]) -> bool:
    """Whether descriptors that start inside the swizzle pattern are right with their own base offset and not with 0."""
    wrong = {row["name"]: row["wrong"] for row in rows if row["step"] == "probe" and "wrong" in row}
    given = [wrong.get(f"dx {dx}, base offset {dx}") for dx in (1, 2)]
    plain = [wrong.get(f"dx {dx}, base offset 0") for dx in (1, 2)]
    return given == [0, 0] and any(plain)


def main() -> None:
    rows = rows_of(Path(sys.argv[1]))
    if "--wants-base-offset" in sys.argv:
        sys.exit(not wants_base_offset(rows))
    print("\n==== rows")
    shown = dict.fromkeys(line(row) for row in rows if row["step"] not in ("script", "probe"))
    print("\n".join(shown))
    print(
        "\n==== steps: "
        + ", ".join(f"{r['name']} {r['exit']} ({r['seconds']} s)" for r in rows if r["step"] == "script")
    )
    print("\n==== aims")
    for verdict in verdicts(rows):
        print(verdict)


if __name__ == "__main__":
    main()
