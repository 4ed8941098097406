"""The page that detects in the browser: the same events as the command line, and nothing that leaves the machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtfa_fast import Detector
from tests.visualization.browser import MISSING, Browser

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "rare_events.flac"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("emcc") is None:
        pytest.skip("no emscripten to compile the core to WebAssembly with (apt install emscripten)")
    if MISSING:
        pytest.skip(f"no {MISSING} to look at the page with (apt install chromium-driver)")
    folder = tmp_path_factory.mktemp("web")
    command = [sys.executable, ROOT / "web" / "build.py", "-o", folder / "index.html", "--build", folder / "build"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return folder / "index.html"


def choose(browser: Browser, path: Path) -> None:
    """As a person who picks a file in the dialogue."""
    root = browser.devtools("DOM.getDocument")["root"]["nodeId"]
    node = browser.devtools("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.devtools("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def test_the_page_finds_what_the_command_line_finds(page: Path, tmp_path: Path) -> None:
    found = Detector.from_pretrained("rare-events")(EXAMPLE).events
    rows = [[e.label, f"{e.onset:.2f} s", f"{e.offset:.2f} s", f"{e.score:.3f}"] for e in found]
    assert len(rows) == 3
    table = "[...document.querySelectorAll('#events tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    with Browser(1200, 1300) as browser:
        browser.open(page)
        browser.wait("!document.getElementById('example').disabled", 60)
        browser.run("document.getElementById('example').click()")
        browser.wait("!document.getElementById('result').hidden", 120)
        assert browser.run(f"return {table}") == rows
        print(browser.run("return document.getElementById('status').textContent"))
        drawn = "const c = document.getElementById('spectrogram');"
        drawn += "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        assert browser.run(drawn) > 100  # a picture, not a black field
        browser.screenshot(tmp_path / "page.png")

        # No sound passes a threshold of one; the events are gone at once, and come back.
        for threshold, count in ((1, 2), (0.5, 3)):
            browser.run(
                "const slider = document.getElementById('threshold0'); slider.value = arguments[0];"
                "slider.dispatchEvent(new Event('input'))",
                threshold,
            )
            browser.wait(f"document.querySelectorAll('#events tbody tr').length === {count}")

        # The same file by hand, then one that is no sound: said, and what works goes on.
        choose(browser, EXAMPLE)
        browser.wait("document.getElementById('status').textContent.startsWith('rare_events.flac: 30.0 s')", 120)
        assert browser.run(f"return {table}") == rows
        (tmp_path / "noise.wav").write_bytes(b"no sound at all")
        choose(browser, tmp_path / "noise.wav")
        browser.wait("document.getElementById('status').className === 'wrong'")
        assert "cannot decode" in browser.run("return document.getElementById('status').textContent")
        assert not browser.run("return document.getElementById('choose').disabled")

        # Nothing leaves: the page's own policy refuses every request, and it made none.
        refused = "return fetch('https://example.org/').then(() => false, () => true)"
        assert browser.run(refused)
        complaints = [line for line in browser.console() if "example.org" not in line]
        assert complaints == []
        assert browser.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
