"""``mtfa-fast visualize``: one recording as the paper's figure 4, or as a page that plays it."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Annotated, Literal

from cyclopts import Parameter

from .common import UsageError, count, say, usage_errors
from .detect import parse_thresholds
from .options import ThreadsOption, ThresholdOption, WeightsOption
from .outputs import OverwriteOption, require_writable


def visualize(
    clip: Annotated[str, Parameter(help="A recording.")],
    /,
    *,
    weights: WeightsOption = "rare-events",
    output: Annotated[
        str | None,
        Parameter(alias="-o", help="Ends in .png, .svg, .pdf or .html; default: CLIP.mtfa.png in this folder."),
    ] = None,
    html: Annotated[bool, Parameter(help="A page that plays the recording; default output: CLIP.mtfa.html.")] = False,
    annotation: Annotated[
        str | None, Parameter(alias="-a", help="Event list to compare with: onset, offset and label a line.")
    ] = None,
    seconds: Annotated[
        tuple[float, float] | None, Parameter(help="Show from here to there; detection still hears everything.")
    ] = None,
    threshold: ThresholdOption = None,
    masks: Annotated[
        bool, Parameter(negative="--no-masks", help="The attention masks, which need torch; without: --no-masks.")
    ] = True,
    audio: Annotated[
        Literal["opus", "flac", "none"], Parameter(help="In the page: small, exact (and for old Safari), or no sound.")
    ] = "opus",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
) -> int:
    """Draw a recording: spectrogram, attention mask at four scales, probabilities with thresholds, events.

    Prints the name of the file it wrote.
    """
    target = _target(clip, output, html)
    require_writable("--output", target, inputs=[clip, *([annotation] if annotation else [])], overwrite=overwrite)
    with usage_errors():
        from ..visualization import View, reference_of, save_figure, save_page
        from ..visualization.figure import require_matplotlib
        from ..visualization.masks import require_torch
        from ..weights import Weights

        # What would fail at the end fails now.
        page = target.suffix.lower() == ".html"
        if not page:
            require_matplotlib()
        loaded = Weights.load(weights)
        if masks and loaded.config.network.variant != "res":
            require_torch()
        reference = reference_of(clip, annotation) if annotation else None
        view = View.of(
            clip,
            loaded,
            seconds=seconds,
            masks=masks,
            reference=reference,
            threshold=parse_thresholds(threshold or [], loaded.config),
            threads=threads,
        )
        if page:
            save_page(view, target, audio=audio)
        else:
            save_figure(view, target)
    say(f"{count(len(view.result), 'event')}; {os.path.getsize(target) / 1e6:.1f} MB")
    print(target)
    return 0


def _target(clip: str, output: str | None, html: bool) -> Path:
    """Where the picture goes. UsageError for a name that does not fit or a folder that does not exist."""
    if output is None:
        return Path(f"{PurePath(clip).stem}.mtfa.{'html' if html else 'png'}")
    target = Path(output)
    allowed = (".html",) if html else (".png", ".svg", ".pdf", ".html")
    if target.suffix.lower() not in allowed:
        raise UsageError(f"--output: got {output!r}, allowed: a name that ends in {', '.join(allowed)}")
    if not target.parent.is_dir():
        raise UsageError(f"--output: folder {str(target.parent)!r} does not exist")
    return target
