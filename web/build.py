"""Makes the page that detects in the browser, one file that needs no server and no network:

    python web/build.py -o index.html

Needs emscripten (apt install emscripten), cmake and this package with NumPy; the weights and the example are in it.
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mtfa_fast import __version__  # noqa: E402
from mtfa_fast.weights import Weights, find  # noqa: E402


def compiled(folder: Path) -> tuple[str, bytes]:
    """The core as WebAssembly: the JavaScript that loads it, and the module."""
    # Where Debian keeps the modules of Node that its emscripten needs; another Node does not look there by itself.
    modules = os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), "/usr/share/nodejs"]))
    configure = ["emcmake", "cmake", "-S", str(ROOT), "-B", str(folder)]
    for command in (configure, ["cmake", "--build", str(folder), "--target", "mtfa_fast_browser", "--parallel"]):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NODE_PATH": modules})
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr}")
    made = folder / "web" / "mtfa_fast_browser"
    return made.with_suffix(".js").read_text(), made.with_suffix(".wasm").read_bytes()


def page(loader: str, wasm: bytes, weights: Path, recording: Path) -> str:
    """The page's text; what it holds in base64 it decodes itself."""

    def text(name: str) -> str:
        return (ROOT / "web" / name).read_text()

    def base64_of(data: bytes) -> str:
        return base64.b64encode(data).decode()

    loaded = Weights.load(weights)
    parameters = sum(t.size for name, t in loaded.tensors.items() if not name.startswith("features."))
    worker = loader + text("worker.js")
    assert "</script" not in worker + text("page.js")
    return Template(text("page.html")).substitute(
        style=text("page.css"),
        script=text("page.js"),
        worker=worker,
        wasm=base64_of(wasm),
        weights=base64_of(weights.read_bytes()),
        recording=base64_of(recording.read_bytes()),
        version=__version__,
        bands=loaded.config.features.mel_bands,
        parameters=f"{parameters:,}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the page that detects in the browser.")
    parser.add_argument("-o", "--output", type=Path, default=Path("index.html"), help="the page to be written")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "web", help="folder of the compiled core")
    parser.add_argument("--weights", default="rare-events", help="weight file, or the name of shipped weights")
    options = parser.parse_args()
    loader, wasm = compiled(options.build)
    options.output.write_text(page(loader, wasm, find(options.weights), ROOT / "examples" / "rare_events.flac"))
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, of it {len(wasm) / 1e6:.2f} MB WebAssembly")


if __name__ == "__main__":
    main()
