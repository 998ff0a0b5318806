"""The ranked table of a sweep, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from gansweep.report.ranking import PointResult

STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "diverged": "red",
    "failed": "red",
    "running": "cyan",
}


def ranked_table(results: Sequence[PointResult], *, metric: str, limit: int | None = None) -> Table:
    """Rank, point, metric with its standard error over seeds, g_steps, states, and what is wrong.

    The last column is there where anything is.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("point", overflow="fold")
    table.add_column(metric, justify="right")
    table.add_column("g_steps", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("state")
    diagnosed = any(result.diagnoses for result in results[:limit])
    if diagnosed:
        table.add_column("diagnosis", style="red")
    for place, result in enumerate(results[:limit], start=1):
        steps = sorted({trial.g_steps for trial in result.trials})
        states = ", ".join(f"[{STYLES.get(state, 'white')}]{state}[/]" for state in result.states)
        table.add_row(
            str(place),
            escape(result.name),
            format_mean(result),
            f"{steps[0]}" if len(steps) == 1 else f"{steps[0]}-{steps[-1]}",
            str(len(result.trials)),
            states,
            *([", ".join(result.diagnoses)] if diagnosed else []),
        )
    if limit is not None and len(results) > limit:
        table.add_row("", f"... and {len(results) - limit} more", "", "", "", "")
    return table


def format_mean(result: PointResult) -> str:
    """`0.1234 ± 0.0012`, or a dash where there is no value."""
    if result.mean is None:
        return "-"
    if result.error is None:
        return f"{result.mean:.4g}"
    return f"{result.mean:.4g} ± {result.error:.1g}"
