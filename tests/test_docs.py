"""Every example in the README and in docs/ runs: Python as it stands, command lines where they are cheap.

A Python block after ``<!-- not run: reason -->`` is left out. Command lines are parsed, whatever they are; in a block
after ``<!-- runs -->`` or the README's ``<!-- command: detect -->`` they are run, with ``SOURCES`` made.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import mtfa_fast
from mtfa_fast import ops
from mtfa_fast.commands.cli import app, main
from mtfa_fast.experiments.config import Table1Config
from mtfa_fast.nn.modules import MTFA
from tests.source_folder import make_sources

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    ROOT / "mtfa_fast" / "weights" / "rare-events.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
# Names that an example takes from its reader.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"embedding.md": lambda: {"model": torch.nn.Sequential(MTFA(16))}}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("text")) + 1
            found.append(Block(page, line, match["mark"] or "", match["language"], match["text"]))
    return found


PYTHON = [b for b in blocks() if b.language == "python" and not b.mark.startswith("not run: ")]
SHELL = [b for b in blocks() if b.language == "sh"]


def commands(block: Block) -> list[list[str]]:
    """The arguments of every ``mtfa-fast`` in it; comments and other programs left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [arguments for program, *arguments in filter(None, words) if program == "mtfa-fast"]


def test_every_page_has_examples() -> None:
    pages = {b.page.name for b in PYTHON}
    assert {"README.md", "embedding.md", "numerics.md", "performance.md", "data.md", "live.md"} <= pages
    assert all(b.language for b in blocks() if "mtfa" in b.text.splitlines()[0]), "a block without a language"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python(block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "example", **GIVEN.get(block.page.name, dict)()}
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
    shown = capsys.readouterr().out
    if block.page.name == "README.md" and "print" in block.text:
        assert [line.split()[2] for line in shown.splitlines()] == ["babycry", "glassbreak", "gunshot"]


@pytest.mark.parametrize("block", [b for b in SHELL if commands(b)], ids=str)
def test_command_lines_are_understood(block: Block) -> None:
    for arguments in commands(block):
        app.parse_args(arguments, exit_on_error=False, print_error=False)


def test_the_command_of_table_1_is_that_of_its_file() -> None:
    (block,) = (b for b in SHELL if b.mark == "table1")
    (arguments,) = commands(block)
    _, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in bound.arguments.items()}
    settings = Table1Config(**given)
    result = json.loads((ROOT / "benchmarks" / "results" / "table1.json").read_text("utf-8"))
    asked = settings.identity() | {"variants": list(settings.variants), "seeds": list(settings.seeds)}
    assert json.loads(json.dumps(asked)) == result["settings"]


def test_the_model_cards_scores_are_those_of_their_file() -> None:
    """And the thresholds beside them the weight file's."""
    spec = importlib.util.spec_from_file_location("make_model_card", ROOT / "docs" / "make_model_card.py")
    assert spec is not None and spec.loader is not None
    card = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(card)
    text = card.CARD.read_text("utf-8")
    assert card.put(text, "scores", card.score_table(json.loads(card.SCORES.read_text("utf-8")))) == text


@pytest.mark.parametrize("block", [b for b in SHELL if b.mark in ("runs", "command: detect")], ids=str)
def test_command_lines_run(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    if "SOURCES" in block.text:
        for subset in ("devtrain", "devtest"):
            make_sources(tmp_path / "SOURCES", subset=subset)
    for arguments in commands(block):
        assert main(arguments) == 0, capsys.readouterr().err


def test_readme_shows_what_detect_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = (b.text for b in blocks() if b.page.name == "README.md" and b.text.lstrip().startswith("file "))
    assert main(["detect", "examples/rare_events.flac"]) == 0
    want, have = ([line.split() for line in text.splitlines() if line] for text in (shown, capsys.readouterr().out))
    assert [(row[0], row[-1]) for row in want] == [(row[0], row[-1]) for row in have]
    for one, other in zip(want[1:], have[1:], strict=True):  # other instruction sets round otherwise
        times = pytest.approx([float(x) for x in other[1:4]], abs=0.05)
        assert [float(x) for x in one[1:4]] == times, "the shipped weights find other times: renew the README's table"


def test_info_says_which_kernel_runs_and_why_another_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {f"op {name}" for name in ops.__all__ if name != "available_backends"} <= rows.keys()
    assert rows["op bigru"].startswith("cpu: cpu")
    assert rows["op log_mel"].startswith("cpu: reference (not cpu: mtfa_fast._core has no kernel for log_mel)")


def test_readme_names_everything_public() -> None:
    """Every public name of the package and of its ops, every command; and what it names is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    api = text[text.index("| name | what it does |") :].partition("\n\n")[0]
    named = set(re.findall(r"\w+", api))
    public = {name for module in (mtfa_fast, ops) for name in module.__all__ if not name.startswith("__")}
    assert public <= named, public - named
    assert set(re.findall(r"`(?:ops\.)?(\w+)[`(]", api)) <= public
    table = text[text.index("| command | what it does |") :].partition("\n\n")[0]
    commands = {name for name in app if not name.startswith("-")}
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == commands


def test_lines_can_be_read_everywhere() -> None:
    """At most 120 columns but in tables, and the pages that explain stay short."""
    texts = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8").splitlines() for page in PAGES}
    rows = ((name, number, line) for name, lines in texts.items() for number, line in enumerate(lines, 1))
    assert [f"{name}:{n}" for name, n, line in rows if len(line) > 120 and not line.startswith("|")] == []
    assert all(len(texts[f"docs/{name}.md"]) <= 120 for name in ("architecture", "performance", "numerics"))


def test_the_architecture_names_what_is_there() -> None:
    """Every file and folder that the page names, below the root or the package; and in the files what to look for."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/]+\.(?:pyi?|h|cpp)\b|\b\w+(?:/\w+)*/(?=[`\s])", text))
    assert {"mtfa_fast/audio/files.py", "csrc/core/", "engine/"} <= named
    homes = [ROOT / home for home in ("", "mtfa_fast", "mtfa_fast/engine/gpu", "csrc/core")]  # as the drawings shorten
    missing = [name for name in named if not any((home / name).exists() for home in homes)]
    assert not missing, missing
    table = text[text.index("## Where is") : text.index("## Where does")]
    for files, names in re.findall(r"^\| [^|]* \| (`[^|]*) \| ([^|]*) \|$", table, re.M):
        sources = "".join((ROOT / file).read_text("utf-8") for file in re.findall(r"`([^`]+)`", files))
        for name in re.findall(r"`([^`]+)`", names):
            assert re.search(rf"\b{name}\b", sources), f"{name} is not in {files}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_citation_is_of_this_version_and_the_readmes_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == mtfa_fast.__version__
    (paper,) = cited["references"]
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    text = (ROOT / "README.md").read_text("utf-8")
    entry = dict(re.findall(r"^  (\w+) = \{(.*)\}", text[text.index("@inproceedings") :], re.M))
    assert (entry["title"], entry["author"], entry["year"]) == (paper["title"], authors, str(paper["year"]))
    assert entry["doi"] == paper["doi"]
    (preprint,) = (i["value"].removeprefix("arXiv:") for i in paper["identifiers"])
    assert f"https://arxiv.org/abs/{preprint}" in text
