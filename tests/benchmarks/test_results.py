"""Results of the benchmarks: tables, pages and plots say what the files say, runs are compared, sections write rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare as compare_runs
from benchmarks import networks, pages, plots, report, run, tables
from benchmarks.contest import Contest, Plan
from benchmarks.results_files import device_name, load, newest, rows_of, save
from mtfa_fast.checking.comparison import Check
from mtfa_fast.config import Config, FeatureConfig, NetworkConfig
from mtfa_fast.measuring import timing
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.timing import Times

SMALL = Config(FeatureConfig(mel_bands=32), NetworkConfig(channels=16, hidden=16))
FRAMES = 37  # odd: everybody pads


@pytest.fixture(autouse=True)
def one_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of a test's machine does not matter."""
    monkeypatch.setattr("mtfa_fast.measuring.machine.COPY_BYTES", 2**22)
    monkeypatch.setattr(timing, "SLOT_SECONDS", 0.0)


def result_rows() -> list[Row]:
    check = Check("network", "", 2e-4, 4e-3, "note")
    times = {"mtfa-fast bf16": (0.2, 0.21, 0.19), "torch fp32": (1.0, 1.05, 0.95)}
    rows = [
        Row(name, "network", 1, 1501, name[-4:], "some 1.0", "2 threads", check, Times(rounds, 0.0, 0.5))
        for name, rounds in times.items()
    ]
    return [*rows, Row("OpenVINO bf16", "network", 1, 1501, "bf16", "", "", refused="wrong: error 1 beyond 0.1")]


FACTS: dict[str, Any] = {
    "device": "Some CPU (family 1, model 2)",
    "threads": 2,
    "versions": {"torch": "2.13"},
    "commit": "abc",
    "date": "2026-01-02T03:04:05+00:00",
    "rooflines": {"fp32": 2e11, "bf16": 4e11, "copy": 3e10},
    "load": 0.1,
    "missing": {},
}


def test_the_tables_are_those_of_the_files(tmp_path: Path) -> None:
    rows = result_rows()
    for section in ("headline", "lengths"):
        save(tmp_path, section, FACTS, rows)
    trunk = [Row(**row.__dict__ | {"part": "trunk"}) for row in rows]
    save(tmp_path, "stages", FACTS, trunk)
    device = device_name(FACTS)
    assert newest(tmp_path) == device
    older = FACTS | {"threads": 1, "date": "2025-01-02T03:04:05+00:00"}
    for section in ("headline", "search"):
        save(tmp_path, section, older, rows)
    assert newest(tmp_path) == device and newest(tmp_path, "search") == device_name(older)
    assert rows_of(load(tmp_path, device, "headline")) == [
        Row(**row.__dict__ | {"check": row.check and Check("network", "", 2e-4, 4e-3, "note")}) for row in rows
    ]
    results = tables.Results(tmp_path, device)
    table = tables.render(results)
    assert "| **mtfa-fast bf16** | 200 ms | – | 200 ms | 150 | 146% | 2e\u201104 | – |" in table
    assert "| torch fp32 | 1000 ms | – | 1000 ms | 30 | 58% | 2e\u201104 | 5.00x |" in table
    assert "wrong: error 1 beyond 0.1" in table and "Some CPU" in table

    text = tables.replaced(f"a\n{tables.START}\nold\n{tables.END}\nb\n", table)
    assert text == f"a\n{tables.START}\n{table}{tables.END}\nb\n"
    with pytest.raises(ValueError, match="got 0 and 0 markers"):
        tables.replaced("nothing", table)

    drawn = plots.draw(results, tmp_path / "one")
    assert [path.name for path in drawn] == ["speed.svg", "roofline.svg", "length.svg"]
    words = "mtfa-fast bf16, 1 x 1501: 200 ms, error 2.00e-04 of 4.00e-03; torch fp32, 1 x 1501: 1000 ms"
    assert words in drawn[0].read_text(encoding="utf-8")
    changed = (tmp_path / device / "headline.json").read_text(encoding="utf-8").replace('"p50": 0.2,', '"p50": 0.19,')
    (tmp_path / device / "headline.json").write_text(changed, encoding="utf-8")
    with pytest.raises(ValueError, match="p50"):
        results.rows("headline")


def test_tables_of_both_networks_say_what_8_bits_cost(tmp_path: Path) -> None:
    exact, rough = Check("network", "", 2e-7, 4e-7), Check("network", "", 0.03, 0.15, relative=4e-3)

    def row(name: str, seconds: float, part: str, settings: str = "") -> Row:
        precision = next(p for p in ("fp32", "int8") if p in name)
        check = rough if precision == "int8" else exact
        return Row(name, part, 1, 1501, precision, "", settings, check, Times((seconds,) * 3, 0.0, 0.5))

    part = "network, 32 channels"
    rows = [row("mtfa-fast fp32", 0.1, part), row("mtfa-fast int8", 0.05, part), row("OpenVINO int8", 0.08, part)]
    rows.append(Row("OpenVINO fp32", part, 1, 1501, "fp32", "", "", refused="wrong: error 1 beyond 0.1"))
    save(tmp_path, "headline", FACTS, [dataclasses.replace(row, part="network") for row in rows])
    save(tmp_path, "shipped", FACTS, rows)
    how = "avx2, products by vpmaddubsw, 2 threads"
    sets = [row("mtfa-fast fp32 avx2", 0.4, "network"), row("mtfa-fast int8 avx2", 0.2, "network", how)]
    save(tmp_path, "instruction_sets", FACTS, [*sets, row("ONNX Runtime int8", 0.3, "network")])
    results = tables.Results(tmp_path, device_name(FACTS))
    score = {"name": "OpenVINO int8", "error_rate": 0.3666, "f1": 0.8155, "identical": 12}
    scores = {"rows": [score], "mixtures": 300, "calibration": "9 recordings"}
    text = networks.shipped_table(results, scores, Config())
    assert "| the shipped network, 32 channels | whole network |" in text and "| to our fp32 | to our int8 |" in text
    assert "| OpenVINO int8 | 80 ms | 375 | 4e\u201103 | 0.367 | 81.5 | 12 | 0.80x | 1.60x |" in text
    assert "| **mtfa-fast fp32** | 100 ms | 300 | 2e\u201107 | \u2013 | \u2013 | \u2013 | \u2013 | 2.00x |" in text
    assert "| OpenVINO fp32 | wrong: error 1 beyond 0.1 | | | | | | | |" in text
    assert "of 300 test mixtures, 8-bit steps of all chosen on the same 9 recordings" in text
    assert "0.367" not in networks.shipped_table(results, None, Config())
    head = tables.render(results)
    assert "| OpenVINO int8 | \u2013 | \u2013 | 80 ms | 375 | \u2013 | 4e\u201103 | 0.80x | 1.60x |" in head
    assert "in **100 ms** in fp32" not in tables.proof(results), "nobody to compare with"
    assert "in **50 ms** in int8 (next best: OpenVINO int8, 1.60x)" in tables.proof(results)
    table = networks.instruction_set_table(results)
    assert "| instruction set, 8-bit products by | 64 channels: float | int8 | takes |" in table
    assert "| avx2, `vpmaddubsw` | 400 ms (fp32) | 200 ms | 2.00x |" in table
    assert "| ONNX Runtime | \u2013 | 300 ms | \u2013 |" in table


def test_pages_have_the_numbers_of_the_files() -> None:
    device = newest(report.RESULTS)
    assert device is not None
    for path, text in pages.pages(tables.Results(report.RESULTS, device)):
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m benchmarks.report"


def test_experiments_on_the_same_recordings_are_listed_by_their_steps() -> None:
    def result(steps: int, sha256: str, rates: list[float]) -> dict[str, Any]:
        part = {"mean": sum(rates) / len(rates), "standard_deviation": 0.25 if len(rates) > 1 else None}
        return {
            "settings": {"variants": ["res"], "steps_per_epoch": steps, "epochs": 3, "batch_size": 8, "seeds": rates},
            "data": {"train": {"sha256": sha256}, "test": {"sha256": sha256}},
            "rows": [{"variant": "res", "set": "test", "average": {"error_rate": part, "f1": part}}],
        }

    text = pages.budgets([result(100, "a", [0.5, 1.0]), result(10, "a", [0.75]), result(50, "b", [0.1])])
    assert text.splitlines()[0] == "| steps x chunks | seeds | ResRNN ER | ResRNN F1 % |"
    assert text.splitlines()[2:] == ["| 30 x 8 | 1 | 0.75 | 75 |", "| 300 x 8 | 2 | 0.75 ± 0.25 | 75 ± 25 |"]


def test_plots_show_the_numbers_of_the_files() -> None:
    device = newest(report.RESULTS)
    assert device is not None
    results = tables.Results(report.RESULTS, device)
    for name, section, part in plots.PLOTS:
        timed = [row for row in results.rows(section, part) if row.times]
        path = report.IMAGES / f"{name}.svg"
        assert path.exists() == bool(timed), f"{path.name}: run python -m benchmarks.report"
        if timed:
            assert plots.numbers(timed) in path.read_text(encoding="utf-8"), (
                f"{path.name}: run python -m benchmarks.report"
            )


def test_two_runs_are_compared_ratio_by_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, refused = result_rows()
    for name, factor in (("a", 1.0), ("b", 1.08), ("c", 1.2)):
        slower = dataclasses.replace(theirs, times=Times(tuple(factor * t for t in (1.0, 1.05, 0.95))))
        save(tmp_path / name, "headline", FACTS, [ours, slower, refused])
    assert compare_runs.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "8.0%         5.00x         5.40x  headline, network, 1 x 1501: torch fp32 to mtfa-fast bf16" in out
    assert "1 ratios called in both runs, 0 not" in out
    assert compare_runs.main([str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    sentence = pages.two_runs(tmp_path / "a", tables.Results(tmp_path / "c", device_name(FACTS)))
    assert sentence.startswith("Of 1 ratios that both runs call, 0 agree within 10 %. 20.0 % apart: headline, ")
    assert "torch fp32 to mtfa-fast bf16, 5.00x and 6.00x of 200 ms and 200 ms." in sentence
    assert "more are ranges" not in sentence
    noisy = dataclasses.replace(theirs, name="noisy", times=Times((0.2, 1.0, 9.0)))
    save(tmp_path / "c", "headline", FACTS, [ours, slower, noisy])
    save(tmp_path / "a", "headline", FACTS, [ours, theirs, noisy])
    sentence = pages.two_runs(tmp_path / "a", tables.Results(tmp_path / "c", device_name(FACTS)))
    assert " 1 more are ranges in one run or both, " in sentence and "at most 0.0 % apart (headline, " in sentence
    assert pages.two_runs(tmp_path / "nothing", tables.Results(tmp_path / "c", device_name(FACTS))) == ""
    assert compare_runs.main([str(tmp_path / "a"), str(tmp_path / "nothing")]) == 1
    assert "no ratio that both runs call" in capsys.readouterr().out


def test_sections_write_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """memory, cold, threads and search start many processes or sessions: they are tried by hand with --small."""
    parts = {
        "headline": {"network", "wave to events"},
        "shipped": {"network, 32 channels"},
        "instruction_sets": {"network", "network, 32 channels"},
        "batches": {"network"},
        "lengths": {"network"},
        "training": {"training step", "training step, 32 channels"},
    }
    assert run.main(["--small", "--only", ",".join(parts), "--threads", "1", "--out", str(tmp_path)]) == 0
    device = newest(tmp_path)
    assert device is not None
    for section, wanted in parts.items():
        content = load(tmp_path, device, section)
        assert content is not None and "commit" in content and content["versions"]["torch"]  # no commit outside git
        assert {row.part for row in rows_of(content)} == wanted
        for row in rows_of(content):
            assert row.refused == "" and row.check is not None and row.check.passed and row.times is not None, row
    assert "mtfa-fast" in capsys.readouterr().out


def test_a_chain_is_the_best_of_two_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    contest = Contest(Plan.small(), threads=1)
    names = [peer.name for peer in contest.peers]
    assert names[5:] == ["ONNX Runtime int8", "OpenVINO int8"]

    def stages(trunk: list[float], recurrent: list[float]) -> dict[str, list[Row]]:
        return {
            part: [
                Row(name, part, 1, 40, name.split()[-1], "", "", times=Times((seconds,) * 3))
                for name, seconds in [
                    ("mtfa-fast bf16", 0.1),
                    ("mtfa-fast int8", 0.1),
                    *zip(names, values, strict=False),
                ]
            ]
            for part, values in (("trunk", trunk), ("recurrent", recurrent))
        }

    contest.__dict__["stages"] = stages([3.0, 3.0, 3.0, 1.0, 2.0, 0.9, 0.8], [3.0, 3.0, 1.0, 2.0, 2.0])
    chains = contest.chains()
    assert [chain.name for chain in chains] == [f"{names[3]} + {names[2]}", f"{names[6]} + {names[2]}"]
    assert [chain.precision for chain in chains] == ["fp32", "int8"]
    for row in contest.compare(chains, "network", frames=FRAMES):
        assert row.times is not None, row.refused
    # ONNX Runtime's int8 has ONNX Runtime's float32 recurrent part already.
    contest.__dict__["stages"] = stages([3.0, 3.0, 1.0, 2.0, 2.0, 0.7, 0.8], [3.0, 3.0, 1.0, 2.0, 2.0])
    assert contest.chains() == []


def test_bad_options_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in ((["--only", "x"], "got x"), (["--small"], "another folder")):
        with pytest.raises(SystemExit):
            run.main(arguments)
        assert message in capsys.readouterr().err
