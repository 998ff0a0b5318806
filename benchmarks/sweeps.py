"""Figures `mlp` and `dcgan`: a sweep of 16 trials, from the command to its summary, seconds.

Three programs, each a fresh process in an empty folder: `gansweep run`, the stock composition and
the hand-written loops. All of them log losses, draw four grids of samples, keep the networks and
score each trial at its end. A round takes minutes and averages over 16 trials already, so one is
the usual number; `--rounds 3` gives medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import workloads
from benchmarks.measure import NOT_AVAILABLE, Case, Ratio, alternate
from benchmarks.packs import ALONE, knows_packs
from benchmarks.plan import Plan
from benchmarks.programs import Finished, baseline, gansweep_run

OURS, UNPACKED = "gansweep", "gansweep, pack: 1"
STOCK, LEAN, LOOPS = "stock composition", "stock, extras off", "hand-written loops"

WIDTHS = [64, 128, 256]
MLP_G_STEPS, DCGAN_G_STEPS = 1000, 300


def run_mlp(plan: Plan) -> Iterator[Case]:
    usual = WIDTHS[:1] if plan.quick else WIDTHS
    for width in [plan.width] if plan.width else usual:
        g_steps = 200 if plan.quick else MLP_G_STEPS
        yield measure(
            "mlp",
            "wgan",
            width,
            g_steps,
            plan,
            more=width == 64 and plan.width is None and not plan.quick,
        )


def run_dcgan(plan: Plan) -> Iterator[Case]:
    g_steps = 10 if plan.quick else DCGAN_G_STEPS
    yield measure("dcgan", "dcgan", 32, g_steps, plan, more=False)


def measure(figure: str, model: str, width: int, g_steps: int, plan: Plan, *, more: bool) -> Case:
    """The three programs alternately.

    more: also the stock one without Lightning's extras, and gansweep with one trial at a time.
    """
    case = Case(figure, f"16 {model} trials of width {width}, {g_steps} g_steps", "s")
    tree = workloads.sweep(model, width, g_steps)
    programs: dict[str, Callable[[], Finished]] = {
        OURS: lambda: gansweep_run(tree),
        LOOPS: lambda: baseline("loops", model, width=width, g_steps=g_steps),
        STOCK: lambda: baseline("stock", model, width=width, g_steps=g_steps),
    }
    if more:
        programs[LEAN] = lambda: baseline("stock", model, width=width, g_steps=g_steps, lean=True)
        if knows_packs():
            programs[UNPACKED] = lambda: gansweep_run(tree, ALONE)
        else:
            case.notes[UNPACKED] = NOT_AVAILABLE
    scores: dict[str, list[float]] = {}

    def contender(name: str) -> Callable[[int], float]:
        def seconds(turn: int) -> float:
            done = programs[name]()
            scores[name] = done.scores
            return done.seconds

        return seconds

    case.times = alternate(
        {name: contender(name) for name in programs},
        plan.rounds_of(1),
        say=lambda text: plan.say(f"{case.name}: {text}"),
    )
    case.ratios = [Ratio(name, OURS) for name in programs if name != OURS]
    # That they train the same thing: the best score of each program's last sweep.
    for name, found in scores.items():
        finite = [score for score in found if score is not None and score == score]
        case.facts[f"best score/swd, {name}"] = f"{min(finite):.4g} of {len(found)} trials"
    return case
