"""The HTML page of a recording: self-contained, safe against names, and in a browser everything where it belongs."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from mtfa_fast.visualization import figure, images, page, save_page
from tests.visualization.browser import MISSING, Browser
from tests.visualization.example_view import CONFIG, EVENTS, HOSTILE, REFERENCE, SECONDS, view


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_page_needs_nothing_and_believes_no_name() -> None:
    text = page(view(source="day/" + HOSTILE + "\n\udce9.wav"))
    read = _Reader(text)
    scripts = [attributes for tag, attributes in read.tags if tag == "script"]
    assert scripts == [{}]
    addresses = [v for _, a in read.tags for k, v in a.items() if k in ("src", "href", "srcset", "action", "data")]
    assert addresses and all(v and v.startswith("data:") for v in addresses)
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", text)
    assert not any(name.startswith("on") for _, a in read.tags for name in a)
    assert read.words.count(HOSTILE + "\\n\\udce9.wav") == 2  # title and heading
    text.encode()  # nothing in it that UTF-8 lacks


def test_long_recordings_keep_their_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["mtfa_fast.visualization.view"], "MOST_COLUMNS", 100)
    read = _Reader(page(view(), audio="none"))
    polygons = [a["points"] or "" for tag, a in read.tags if tag == "polygon"]
    for points, peak in zip(polygons, (0.9, 0.3), strict=True):
        heights = [int(point.split(",")[1]) for point in points.split()]
        assert len(heights) == 4 + 81  # 321 frames in fours
        assert min(heights) == round(1000 * (1 - peak))
    axes = figure(view()).axes
    for curve, peak in zip((axis.lines[0].get_ydata() for axis in axes[5:7]), (0.9, 0.3), strict=True):
        assert len(np.asarray(curve)) == 81 and np.max(curve) == pytest.approx(peak)
    [picture] = axes[0].images
    assert picture.get_array().shape == (16, 81) and picture.get_extent()[1] == pytest.approx(4 * 81 * 0.02)
    main_tag = next(a for tag, a in read.tags if tag == "main")
    assert float(main_tag["data-column"] or 0) == pytest.approx(0.08)


def test_png_read_by_another_library() -> None:
    values = np.linspace(0, 1, 12).reshape(4, 3)  # 4 frames, 3 bands
    picture = images.indices(values, 0.0, 1.0)
    assert picture.shape == (3, 4) and picture[-1, 0] == 0 and picture[0, -1] == images.LEVELS - 1
    for palette in (images.magma(), images.veil()):
        pixels = imread(io.BytesIO(images.png(picture, palette)))
        channels = palette.shape[1]
        np.testing.assert_allclose(pixels[..., :channels] * 255, palette[picture], atol=0.01)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if MISSING:
        pytest.skip(f"no {MISSING} to check pages in (apt install chromium-driver)")
    with Browser() as opened:
        yield opened


WINDOWS = {"whole": (0, 0.0, SECONDS), "part": (48, 1.1, 5.0)}


@pytest.fixture(scope="module", params=WINDOWS)
def opened(request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The browser on a page, with the times that it shows."""
    first, start, end = WINDOWS[request.param]
    path = tmp_path_factory.mktemp("page") / "page.html"
    save_page(view(first, start, end), path)
    browser.open(path)
    browser.wait("document.documentElement.dataset.ready === 'yes' && document.getElementById('audio').duration > 0")
    return browser, start, end


def rectangles(browser: Browser, selector: str) -> list[dict[str, float]]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect().toJSON())"
    return browser.run(script, selector)  # type: ignore[no-any-return]


def test_boxes_stand_where_the_events_are(opened: tuple[Browser, float, float]) -> None:
    browser, start, end = opened
    lanes = rectangles(browser, ".track .lane")
    spectrogram, *classes = lanes
    assert len(classes) == 3

    def x(seconds: float) -> float:
        return spectrogram["left"] + (min(max(seconds, start), end) - start) / (end - start) * spectrogram["width"]

    for kind, events in (("detected", EVENTS), ("reference", REFERENCE)):
        expected = []
        for row, label in enumerate([*CONFIG.class_names, "dog"]):
            shown = [e for e in events if e.label == label and e.offset >= start and e.onset <= end]
            expected += [(row, e) for e in sorted(shown, key=lambda e: e.onset)]
        boxes = rectangles(browser, f".event.{kind}")
        assert len(boxes) == len(expected) > 0
        for box, (row, event) in zip(boxes, expected, strict=True):
            assert box["left"] == pytest.approx(x(event.onset), abs=0.5)
            assert box["width"] == pytest.approx(max(x(event.offset) - x(event.onset), 2), abs=1.5)  # never unseen
            assert classes[row]["top"] < box["top"] and box["bottom"] < classes[row]["bottom"]
    columns = (321 - round(start / 0.16 - 0.5) * 8) * 0.02
    [picture] = rectangles(browser, "#spectrogram")
    assert picture["width"] == pytest.approx(columns / (end - start) * spectrogram["width"], abs=0.5)
    assert picture["left"] == pytest.approx(
        spectrogram["left"] - (start - round(start / 0.16 - 0.5) * 0.16) / (end - start) * spectrogram["width"], abs=0.5
    )
    for curve, line, kind in zip(
        rectangles(browser, ".class svg"), rectangles(browser, ".class line"), CONFIG.classes, strict=True
    ):
        height = curve["bottom"] - line["top"]
        assert height / curve["height"] == pytest.approx(kind.threshold, abs=0.02)
    body = browser.run("return [document.body.scrollWidth, document.documentElement.clientWidth]")
    assert body[0] <= body[1]


def test_sound_and_cursor(opened: tuple[Browser, float, float]) -> None:
    browser, start, end = opened
    assert browser.run("return document.getElementById('audio').duration") == pytest.approx(end - start, abs=0.05)
    [lane] = rectangles(browser, ".track .spectrogram")

    def cursor() -> float:
        [line] = rectangles(browser, "#cursor")
        return start + (line["left"] - lane["left"]) / lane["width"] * (end - start)

    def sound() -> float:
        return float(browser.run("return document.getElementById('audio').currentTime")) + start

    # A click goes there, in any lane; keys move on; all lanes have one cursor.
    target = start + 0.25 * (end - start)
    for kind in ("mousePressed", "mouseReleased"):
        where = {"x": lane["left"] + lane["width"] / 4, "y": lane["top"] + 20, "button": "left", "clickCount": 1}
        browser.devtools("Input.dispatchMouseEvent", type=kind, **where)
    assert sound() == pytest.approx(target, abs=0.02) and cursor() == pytest.approx(target, abs=0.02)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        browser.devtools("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert sound() == pytest.approx(target + 0.5, abs=0.02) and cursor() == pytest.approx(target + 0.5, abs=0.02)
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", key="n", text="n")
    times = sorted(e.onset for e in (*EVENTS, *REFERENCE))
    assert cursor() == pytest.approx(next(t for t in times if t > target + 0.5), abs=0.02)
    [tall], lanes = rectangles(browser, "#cursor"), rectangles(browser, ".track .lane")
    assert tall["top"] < lanes[0]["top"] and tall["bottom"] >= lanes[-1]["bottom"]
    # The numbers beside the lanes are those under the cursor.
    shown = float(browser.run("return document.getElementById('value0').textContent"))
    assert shown == pytest.approx(float(view().result.probabilities[int(cursor() / 0.02 + 0.5), 0]), abs=0.001)
    # Playing moves the cursor with the sound, until the event that is played ends.
    before = cursor()
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", key=" ", text=" ")
    browser.wait(f"document.getElementById('audio').currentTime > {before - start + 0.1}")
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", key=" ", text=" ")
    browser.wait("document.getElementById('audio').paused")
    assert cursor() == pytest.approx(sound(), abs=0.02) and cursor() > before
    browser.run("document.querySelector('.hear[data-to=\"2.300\"]').click()")  # the event from 1.0 s to 2.0 s
    browser.wait("document.getElementById('audio').paused")
    assert 2.29 <= sound() < 4.5  # a busy machine looks rarely


def test_layers_zoom_and_console(opened: tuple[Browser, float, float]) -> None:
    browser, start, end = opened
    assert rectangles(browser, ".mask:not([hidden])") == []
    browser.run("document.getElementById('mask').click()")
    assert browser.run("return [...document.querySelectorAll('.mask:not([hidden])')].map(i => i.naturalWidth)") == [
        browser.run("return document.getElementById('spectrogram').naturalWidth")
    ]
    choose = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))"
    )
    browser.run(choose, "scale", "3")
    browser.run(choose, "opacity", "0.25")
    seen = "return [...document.querySelectorAll('.mask:not([hidden])')].map(i => [i.dataset.scale, i.style.opacity])"
    assert browser.run(seen) == [["3", "0.25"]]
    [narrow] = rectangles(browser, ".track")
    browser.run(choose, "zoom", "1")
    [wide] = rectangles(browser, ".track")
    assert wide["width"] == pytest.approx(2 * narrow["width"], abs=1)
    ticks = browser.run(
        "return [...document.querySelectorAll('.tick')].map(t => [Number(t.textContent), t.style.left])"
    )
    assert len(ticks) > 5
    for seconds, left in ticks:
        assert float(left.rstrip("%")) == pytest.approx((seconds - start) / (end - start) * 100, abs=0.01)
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.run("return document.title").startswith(HOSTILE)
    loaded = browser.run("return performance.getEntriesByType('resource').map(e => e.name.slice(0, 5))")
    assert set(loaded) <= {"data:"}
    assert browser.console() == []
