"""The ranked table of a sweep, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from gansweep.report.columns import Column, Fitted, first_of, texts
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

LEAST_NAME = 24
"""Characters of a point's name in a line, while another column can go."""

OF_A_POPULATION = (
    "a point is named by the settings that its trials began with: where one is a member of a "
    "population, what it took over since is the tag gansweep.lineage of its run"
)
"""A word below the table, where any trial has a lineage."""


def ranked_table(
    results: Sequence[PointResult],
    *,
    metric: str,
    also: Sequence[str] = (),
    limit: int | None = None,
) -> Fitted:
    """Rank, point, metric with its standard error over seeds, g_steps, states, and what is wrong.

    `also`: further metrics, each a column. The last column is there where anything is wrong.
    """
    shown = results[:limit]
    columns = [
        Column("#", texts(range(1, len(shown) + 1)), right=True, style="dim"),
        Column("point", texts(result.name for result in shown), least=LEAST_NAME),
        Column(metric, texts(format_mean(r.mean, r.error) for r in shown), right=True),
        *(
            Column(each, texts(format_mean(*mean_of(r.trials, each)) for r in shown), right=True)
            for each in also
        ),
        Column("g_steps", texts(_g_steps(result) for result in shown), right=True, leaves=2),
        Column("seeds", texts(len(result.trials) for result in shown), right=True, leaves=1),
        Column("state", [_states(result) for result in shown], leaves=4),
    ]
    if any(result.diagnoses for result in shown):
        diagnoses = [", ".join(result.diagnoses) for result in shown]
        columns.append(diagnosis_column(diagnoses, leaves=3))
    notes = [f"... and {len(results) - len(shown)} more"] if len(results) > len(shown) else []
    places = [n for n, each in enumerate(results, start=1) if each.is_open]
    if places and results[0].is_complete:
        which = f"{places[0]} to {places[-1]}" if len(places) > 1 else f"{places[0]}"
        shorter = ", also after fewer g_steps" if _is_overtaken(results) else ""
        notes.append(f"{which}: not trained to the end, and behind all that are{shorter}")
    return Fitted(columns, [*notes, *_of_several_budgets(results)])


def diagnosis_column(diagnoses: Iterable[str], *, leaves: int) -> Column:
    """What is wrong with each trial or point, in red: the first names where there is no room."""
    return Column(
        "diagnosis", texts(diagnoses), style="red", least=17, elide=first_of, leaves=leaves
    )


def group_table(groups: Sequence[Group], *, keys: Sequence[str]) -> Fitted:
    """Rank, group, and of each metric the median over the group's points, and the best point."""
    columns = [
        Column("#", texts(range(1, len(groups) + 1)), right=True, style="dim"),
        Column(", ".join(keys), texts(group.name for group in groups), least=LEAST_NAME),
    ]
    for place, metric in enumerate(groups[0].medians if groups else ()):
        medians = texts(format_mean(group.medians[metric]) for group in groups)
        bests = texts(format_mean(group.bests[metric]) for group in groups)
        columns.append(
            Column(f"{metric}: median", medians, right=True, leaves=6 if place else None)
        )
        columns.append(Column("best", bests, right=True, leaves=2 if place else 5))
    counts = texts(len(group.points) for group in groups)
    columns.append(Column("points", counts, right=True, leaves=1))
    counts = texts(group.lost for group in groups)
    columns.append(Column("without a value", counts, right=True, leaves=3))
    if any(group.unfinished for group in groups):
        counts = texts(group.unfinished for group in groups)
        columns.append(Column("unfinished", counts, right=True, leaves=4))
    return Fitted(columns, _of_several_budgets(p for group in groups for p in group.points))


def _of_several_budgets(results: Iterable[PointResult]) -> list[str]:
    """A word on values of which some come after fewer g_steps, though all trained to the end."""
    valued = (result for result in results if result.is_complete and result.mean is not None)
    steps = {trial.g_steps for result in valued for trial in result.trials}
    if len(steps) < 2:
        return []
    return [f"completed after {min(steps)} to {max(steps)} g_steps, and compared all the same"]


def _is_overtaken(results: Iterable[PointResult]) -> bool:
    """Whether a trial that has not trained to the end is further than one that has.

    As where a longer budget has begun with some.
    """
    ends = [t.g_steps for each in results if each.is_complete for t in each.trials]
    others = [t.g_steps for each in results if each.is_open for t in each.trials]
    return max(others, default=0) > min(ends, default=0)


def _g_steps(result: PointResult) -> str:
    steps = sorted({trial.g_steps for trial in result.trials})
    return f"{steps[0]}" if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"


def _states(result: PointResult) -> Text:
    return Text(", ").join(Text(state, STYLES.get(state, "white")) for state in result.states)


def format_mean(mean: float | None, error: float | None = None) -> str:
    """`0.1234 ± 0.0012`, or a dash where there is no value."""
    if mean is None:
        return "-"
    return f"{mean:.4g}" if error is None else f"{mean:.4g} ± {error:.1g}"
