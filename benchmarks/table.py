"""The Markdown table of a results file: `python -m benchmarks.table build/benchmarks.json`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import COLUMNS, Case, lines, read_results


def markdown(cases: Sequence[Case], about: Mapping[str, Any]) -> str:
    """The table, with the machine in the line above it."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    device = f"{about['gpu']}, " if about["gpu"] else ""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *lines(cases)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    day = about["date"][:10]
    head = f"{device}{about['cpu']}, {about['cores']} cores, {versions}, {day}, {about['commit']}:"
    return f"{head}\n\n{table}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="what `python -m benchmarks` wrote")
    parser.add_argument("--only", nargs="+", help="these figures alone")
    arguments = parser.parse_args()
    about, cases = read_results(arguments.file)
    chosen = [case for case in cases if not arguments.only or case.figure in arguments.only]
    print(markdown(chosen, about))


if __name__ == "__main__":
    main()
