"""Makes the pictures of the example recording anew: run it when the shipped weights or the drawing changed.

    python docs/make_pictures.py

figure.png is what `mtfa-fast visualize` draws, page.html what `--html` writes; page.png and page-dark.png are that
page in Chromium (Debian: chromium-driver).
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests")]

from browser import MISSING, Browser  # noqa: E402

from mtfa_fast import Weights  # noqa: E402
from mtfa_fast.visualization import View, reference_of, save_figure, save_page  # noqa: E402

CLIP = DOCS.parent / "examples" / "rare_events.flac"


def main() -> None:
    reference = reference_of(CLIP, CLIP.with_suffix(".txt"))
    view = View.of(CLIP, Weights.load("rare-events"), reference=reference)
    for event in view.result:
        print(f"{event.onset:7.2f} {event.offset:7.2f} {event.score:.3f} {event.label}")
    save_figure(view, DOCS / "figure.png")
    save_page(view, DOCS / "page.html")
    if MISSING:
        print(f"page.png stays as it was: no {MISSING}")
        return
    with Browser() as browser:
        browser.open(DOCS / "page.html")
        browser.wait("document.documentElement.dataset.ready === 'yes'")
        browser.wait("document.getElementById('audio').readyState > 1")
        browser.run("document.getElementById('audio').currentTime = 5.2")
        browser.wait("Math.abs(document.getElementById('seek').value - 5.2) < 0.02")
        height = browser.run("return Math.ceil(document.documentElement.scrollHeight)")
        size = {"width": 1180, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.devtools("Emulation.setDeviceMetricsOverride", **size)
        for name, scheme in (("page.png", "light"), ("page-dark.png", "dark")):
            browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.screenshot(DOCS / name)


if __name__ == "__main__":
    main()
