"""Compiles every Triton kernel for GPUs that are not here and prints one JSON line each; exit code 1 on a bad one.

Run as a program, without TRITON_INTERPRET: Triton's own helpers are decorated when it is imported, so a process
that interprets cannot compile. Bad is: register spills, a stack frame, more shared memory than a block may have,
for the Hopper convolution anything but the tensor cores and bulk copies it is there for, and for the kernels that should
be as fast as memory more instructions than a multiprocessor can issue in that time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from mtfa_fast.backends.triton import (
    attention_gate,
    bigru,
    detect_runs,
    gated_pool,
    max_pool,
    median_filter,
    residual_block,
    stem,
    upsample_add,
    upsample_add_gate,
)

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
# An H200 copies 4.3 TB/s; its 132 multiprocessors issue four instructions of a warp a cycle, 1.83 GHz being the clock of its
# data sheet's 989 TFLOP/s. So at 90 % of the copy bandwidth there is time for a quarter of an instruction a byte.
PER_BYTE = 132 * 4 * 1.83e9 / (0.9 * 4.3e12)
SHARED_LIMIT = {80: 163, 90: 227, 100: 227}  # KiB that a block may ask for


@dataclass(frozen=True)
class Job:
    """A kernel with argument types: ``pointers`` for those that have no other, 32-bit integers otherwise."""

    name: str
    kernel: Any
    pointers: str
    constants: dict[str, Any]
    warps: int
    pointer: str = "*bf16"
    types: dict[str, str] = field(default_factory=dict)
    targets: tuple[int, ...] = (80, 90, 100)
    moves: float = 0.0  # bytes that a warp must read and write, where memory should be the limit on sm_90

    def source(self) -> ASTSource:
        names = self.kernel.arg_names
        signature = {
            name: "constexpr"
            if name in self.constants
            else self.types.get(name, self.pointer if name in self.pointers.split() else "i32")
            for name in names
        }
        aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in names if signature[n].startswith("*")}
        return ASTSource(self.kernel, signature, self.constants, aligned)


def element_wise() -> list[Job]:
    """Channels-last at the paper's 64 channels, and contiguous."""
    jobs = []
    gate_backward = "grad low skip features grad_low grad_skip grad_features"
    tiles = {
        "channels-last": {"C": 64, "ROWS": 1, "WIDTH": 1024},
        "contiguous": {"C": 1, "ROWS": 8, "WIDTH": 128},
    }
    for layout, tile in tiles.items():
        jobs += [
            Job(f"upsample_add {layout}", upsample_add._forward, "low skip out", tile, 4),
            Job(f"upsample_add_backward {layout}", upsample_add._backward, "grad grad_low", tile, 4),
            Job(f"upsample_add_gate {layout}", upsample_add_gate._forward, "low skip features out", tile, 4),
            Job(f"upsample_add_gate_backward {layout}", upsample_add_gate._backward, gate_backward, tile, 8),
        ]
    block = {"BLOCK": 1024}
    gate_gradients = "grad logits features grad_logits grad_features"
    return [
        *jobs,
        Job("attention_gate", attention_gate._forward, "logits features out", block, 4),
        Job("attention_gate_backward", attention_gate._backward, gate_gradients, block, 4),
    ]


def ends() -> list[Job]:
    """What stands before and between the residual blocks."""
    shape = {"C": 64, "SIDE": 64, "PIXELS": stem.PIXELS}
    whole = dict.fromkeys(("x", "mean", "std", "w", "bias"), "*fp32")
    gate = {"PROJECTED": True, "POOL": 8, "PIXELS": gated_pool.PIXELS}
    # Of a pixel: the stem reads a number and writes its channels; the gate reads two maps and a quarter, writes an eighth.
    pixels, pool_pixels = stem.PIXELS / 4, gated_pool.PIXELS / gated_pool.warps(64)
    two, eight = ({"C": 64, "DOWN": down, "ACROSS": across, "BLOCK": 1024} for down, across in ((2, 2), (1, 8)))
    return [
        Job("stem", stem._stem, "y", shape, 4, types=whole, moves=pixels * (4 + 64 * 2)),
        Job("max_pool 2 x 2", max_pool._pool, "x y", two, 4),
        Job("max_pool 1 x 8", max_pool._pool, "x y", eight, 4),
        *(
            Job(
                f"gated_pool {c} channels",
                gated_pool._gated_pool,
                "low skip features w bias out",
                {**gate, "C": c},
                gated_pool.warps(c),
                moves=pool_pixels * 64 * 2 * (2 + 1 / 4 + 1 / 8) if c == 64 else 0.0,
            )  # fmt: skip
            for c in (32, 64, 128)
        ),
    ]


def decisions() -> list[Job]:
    jobs = []
    for width in (32, 256):
        tile = {"BITS": 32, "OUTPUTS": 4096 // width, "WIDTH": width}
        jobs.append(Job(f"median_filter up to {width}", median_filter._median, "x out", tile, 4, "*fp32"))
    majority = {"OUTPUTS": 128, "WIDTH": 32}
    runs_types = {"runs": "*i32", "counts": "*i32", "threshold": "fp32"}
    return [
        *jobs,
        Job("median_filter bool", median_filter._majority, "x out", majority, 4, "*u8"),
        Job("detect_runs", detect_runs._runs, "p", {"FRAMES": 128, "WIDTH": 32}, 4, "*fp32", runs_types),
    ]


def recurrences() -> list[Job]:
    side, warps, stages = bigru._configuration(64)
    shape = {"H": 64, "SIDE": side, "STAGES": stages}
    return [
        Job("bigru", bigru._forward, "gi w_hh b_hn out", shape, warps, "*fp32"),
        Job("bigru_backward", bigru._backward, "d_out out gates w_hh d_gi d_hn", shape, warps, "*fp32"),
    ]


def convolutions() -> list[Job]:
    common = {"RESIDUAL": True, "C": 64}
    pointers = "x w bias residual y"
    tile = "tensordesc<bf16[1,2,128,64]>"
    described = {"x": tile, "residual": tile, "y": tile, "w": "tensordesc<bf16[64,64]>"}
    by_pointer = {**common, "BT": 1, "BD": 128, "STAGES": 3}
    wide = {"RESIDUAL": True, "C": 128, "BT": 1, "BD": 64, "STAGES": 3}
    single = {**by_pointer, "STAGES": 2}
    by_descriptor = {**common, "BT": 2, "BD": 128, "STAGES": 4}
    return [
        Job("residual_block", residual_block._convolve, pointers, by_pointer, 4),
        Job("residual_block 128 channels", residual_block._convolve, pointers, wide, 4),
        Job("residual_block float32", residual_block._convolve, pointers, single, 4, "*fp32"),
        Job(
            "residual_block descriptor",
            residual_block._convolve_by_descriptor,
            "bias",
            by_descriptor,
            8,
            types=described,
            targets=(90, 100),
        ),
    ]


def resources(kernel: Any, target: GPUTarget) -> dict[str, Any]:
    """What ptxas says about the kernel's PTX: without a driver Triton does not know."""
    arch = re.search(r"^\.target (\S+?)[,\s]", kernel.asm["ptx"], re.M)
    assert arch is not None
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder, "kernel.ptx")
        ptx.write_text(kernel.asm["ptx"])
        newer = tuple(int(n) for n in triton.__version__.split(".")[:2]) >= (3, 9)
        options = ["--regAllocOptLevel=2"] if newer else []  # as Triton itself calls it
        command = [get_ptxas(target.arch).path, "-v", *options, f"--gpu-name={arch[1]}", ptx, "-o", f"{ptx}.o"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    numbers = {
        "registers": r"Used (\d+) registers",
        "stack": r"(\d+) bytes stack frame",
        "spill_stores": r"(\d+) bytes spill stores",
        "spill_loads": r"(\d+) bytes spill loads",
    }
    found = {name: int(re.search(pattern, log)[1]) for name, pattern in numbers.items()}  # type: ignore[index]
    return {**found, "shared": kernel.metadata.shared, "serialised": sorted(set(re.findall(r"\((C75\d\d)\)", log)))}


def code_of(kernel: Any) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        path = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
        return subprocess.run(
            [TOOLS / "cuobjdump", "-sass", file.name], capture_output=True, text=True, check=True, env=path
        ).stdout


def instructions(code: str) -> int:
    """Of a kernel without loops: what a warp executes, or more."""
    names = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z]\w*)", code, re.M)
    return sum(name != "NOP" for name in names)


def check(job: Job, arch: int) -> dict[str, Any]:
    target = GPUTarget("cuda", arch, 32)
    kernel = triton.compile(job.source(), target=target, options={"num_warps": job.warps})
    used = resources(kernel, target)
    bad = [name for name in ("stack", "spill_stores", "spill_loads", "serialised") if used[name]]
    if used["shared"] > SHARED_LIMIT[arch] * 1024:
        bad.append("shared")
    code = code_of(kernel) if arch == 90 and (job.moves or "descriptor" in job.name) else ""
    if job.moves and code:
        used["instructions"] = instructions(code)
        used["per_byte"] = round(used["instructions"] / job.moves, 3)
        if not 0 < used["per_byte"] <= PER_BYTE:
            bad.append(f"more than {PER_BYTE:.3f} instructions a byte")
    if "descriptor" in job.name and code:
        bad += [f"no {name}" for name in ("HGMMA", "UTMALDG", "UTMASTG") if name not in code]
    return {"kernel": job.name, "sm": arch, **used, "bad": bad}


def main() -> int:
    failed = 0
    for job in (*element_wise(), *ends(), *decisions(), *recurrences(), *convolutions()):
        for arch in job.targets:
            try:
                row = check(job, arch)
            except Exception as error:  # the row says which kernel and target, the others still follow
                row = {"kernel": job.name, "sm": arch, "bad": [f"{type(error).__name__}: {error}"[:2000]]}
            failed += bool(row["bad"])
            print(json.dumps(row), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
