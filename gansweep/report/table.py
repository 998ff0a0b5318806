"""The ranked table of a sweep, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from gansweep.report.groups import Group
from gansweep.report.ranking import PointResult, mean_of

STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "diverged": "red",
    "failed": "red",
    "running": "cyan",
}


def ranked_table(
    results: Sequence[PointResult],
    *,
    metric: str,
    also: Sequence[str] = (),
    limit: int | None = None,
) -> Table:
    """Rank, point, metric with its standard error over seeds, g_steps, states, and what is wrong.

    `also`: further metrics, each a column. The last column is there where anything is wrong.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("point", overflow="fold")
    for each in (metric, *also):
        table.add_column(each, justify="right", overflow="fold")
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
            format_mean(result.mean, result.error),
            *(format_mean(*mean_of(result.trials, each)) for each in also),
            f"{steps[0]}" if len(steps) == 1 else f"{steps[0]}-{steps[-1]}",
            str(len(result.trials)),
            states,
            *([", ".join(result.diagnoses)] if diagnosed else []),
        )
    if limit is not None and len(results) > limit:
        table.add_row("", f"... and {len(results) - limit} more", *[""] * (len(also) + 4))
    return table


def group_table(groups: Sequence[Group], *, keys: Sequence[str]) -> Table:
    """Rank, group, and of each metric the median over the group's points, and the best point."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column(", ".join(keys), overflow="fold")
    for metric in groups[0].medians if groups else ():
        table.add_column(f"{metric}: median", justify="right", overflow="fold")
        table.add_column("best", justify="right")
    table.add_column("points", justify="right")
    table.add_column("without a value", justify="right")
    for place, group in enumerate(groups, start=1):
        cells = [
            format_mean(value)
            for metric, median in group.medians.items()
            for value in (median, group.bests[metric])
        ]
        table.add_row(
            str(place), escape(group.name), *cells, str(len(group.points)), str(group.lost)
        )
    return table


def format_mean(mean: float | None, error: float | None = None) -> str:
    """`0.1234 ± 0.0012`, or a dash where there is no value."""
    if mean is None:
        return "-"
    return f"{mean:.4g}" if error is None else f"{mean:.4g} ± {error:.1g}"
