"""Whether two runs found the same ratios.

python -m benchmarks.run --out A && python -m benchmarks.run --out B && python -m benchmarks.compare A B

Prints each ratio of both runs and the largest difference. Exit code 0: all that both runs call agree within --within;
1: one does not, or a run calls none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_files import load, rows_of
from mtfa_fast.measuring.rows import Row, fastest
from mtfa_fast.measuring.text import is_ours
from mtfa_fast.measuring.timing import Ratio

WITHIN = 0.1


@dataclass(frozen=True)
class Pair:
    """The ratio of one row to the fastest of ours in both runs."""

    what: str
    base_seconds: tuple[float, float]  # of ours
    first: Ratio
    second: Ratio

    @property
    def called(self) -> bool:
        return self.first.resolved and self.second.resolved

    @property
    def difference(self) -> float:
        """Of the larger ratio from the smaller, as a share of it."""
        return max(self.first.middle, self.second.middle) / min(self.first.middle, self.second.middle) - 1


def pairs(first: Path, second: Path, device: str = "*") -> Iterator[Pair]:
    """Of every section that both folders (``--out`` of benchmarks.run) have for the same device, or for one device."""
    for path in sorted(first.glob(f"{device}/*.json")):
        device, section = path.parent.name, path.stem
        groups: dict[tuple[str, int, int], list[Row]] = {}
        for row in rows_of(load(first, device, section)):
            groups.setdefault((row.part, row.batch, row.frames), []).append(row)
        others = {_key(row): row for row in rows_of(load(second, device, section))}
        for shape, rows in groups.items():
            base = fastest(rows, among=is_ours) or fastest(rows)
            for row in rows if base else ():
                assert base is not None
                if row is base or _key(row) not in others or _key(base) not in others:
                    continue
                again = others[_key(base)]
                ratios = base.ratio(row), again.ratio(others[_key(row)])
                if ratios[0] and ratios[1] and base.times and again.times:
                    part, batch, frames = shape
                    what = f"{section}, {part}, {batch} x {frames}: {row.name} to {base.name}"
                    yield Pair(what, (base.times.median, again.times.median), ratios[0], ratios[1])


def _key(row: Row) -> tuple[str, str, int, int]:
    return row.name, row.part, row.batch, row.frames


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--within", type=float, default=WITHIN, help="default: %(default)s")
    options = parser.parse_args(arguments)
    found = list(pairs(options.first, options.second))
    called = [pair for pair in found if pair.called]
    for pair in sorted(found, key=lambda pair: (not pair.called, -pair.difference)):
        note = "" if pair.called else "  not called in both runs"
        print(f"{pair.difference:6.1%}  {pair.first!s:>12}  {pair.second!s:>12}  {pair.what}{note}")
    if not called:
        print(f"no ratio that both runs call; {len(found)} in both")
        return 1
    worst = max(called, key=lambda pair: pair.difference)
    print(
        f"{len(called)} ratios called in both runs, {len(found) - len(called)} not; "
        f"the largest difference is {worst.difference:.1%} ({worst.what})"
    )
    return 0 if worst.difference <= options.within else 1


if __name__ == "__main__":
    sys.exit(main())
