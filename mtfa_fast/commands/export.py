"""``mtfa-fast export``: the network as a file for another runtime, verified before it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from ..extras import needs
from .common import say, usage_errors
from .options import WeightsOption
from .outputs import OverwriteOption, require_writable


def export(
    weights: WeightsOption,
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="File to write: .onnx, or .pt2 for pt2 and aoti.")],
    form: Annotated[
        Literal["onnx", "pt2", "aoti"],
        Parameter(
            name="--format",
            help="onnx: plain operators for ONNX Runtime, OpenVINO and others. pt2: torch.export's program, which "
            "needs torch alone. aoti: AOTInductor's compiled package, for processes that import mtfa_fast.ops.",
        ),
    ] = "onnx",
    source: Annotated[
        Literal["log-mel", "samples"],
        Parameter(name="--from", help="The file's input: raw log-mel, or samples with the front end inside."),
    ] = "log-mel",
    lengths: Annotated[
        list[int] | None,
        Parameter(name="--length", help="Frames at which to verify; repeat for several. Default: six, 1 to 3000."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> int:
    """Write the network for another runtime, open the file there, and compare its answers with float64.

    Batch and length are free. The file's metadata holds classes, thresholds, filters and the front end. Prints each
    comparison. Exit code 1: the file missed the bound and was not kept.
    """
    require_writable("--output", output, inputs=[weights], overwrite=overwrite)
    with usage_errors(), needs("torch", "export needs"):
        from ..export import export as run
        from ..export.write import LENGTHS
        from ..weights import Weights

        try:
            checks = run(
                Weights.load(weights),
                output,
                form,
                source=source,
                lengths=lengths or LENGTHS,
                report=lambda check: print(f"{check.source:>18}  error {check.error:.1e}, allowed {check.bound:.1e}"),
            )
        except FloatingPointError as error:
            say(f"mtfa-fast: {error}")
            return 1
    say(f"{output}: {len(checks)} comparisons with float64 passed")
    return 0
