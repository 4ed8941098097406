"""Writes the README's tables, the plots and other pages' tables, from the result files and nothing else.

python -m benchmarks.report             of the device measured last: README.md, docs/images/*.svg, other pages' tables
python -m benchmarks.report --print     the tables on standard output, nothing written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import plots
from benchmarks.networks import instruction_set_table
from benchmarks.pages import pages, readme_tables
from benchmarks.results_files import RESULTS, newest
from benchmarks.tables import Results, render_search
from mtfa_fast.files import write_beside

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--device", help="a folder of the results; default: the one measured last")
    parser.add_argument("--print", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    device = options.device or newest(options.results)
    if device is None:
        parser.error(f"--results: {options.results} has no results; run python -m benchmarks.run")
    results = Results(options.results, device)
    if options.print:
        print(readme_tables(results), instruction_set_table(results), render_search(results), sep="\n", end="")
        return 0
    for path in plots.draw(results, IMAGES):
        print(path)
    for path, text in pages(results):
        with write_beside(path) as file:
            file.write(text)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
