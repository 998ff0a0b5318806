"""The command line. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from gansweep import __version__

app = typer.Typer(
    name="gansweep",
    help="Experiment sweeps for generative adversarial networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path, typer.Argument(help="The sweep file (YAML).", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings over the file's: trial.budget.g_steps=100, or short, budget.g_steps=100; "
        "KEY=null removes.",
        metavar="KEY=VALUE",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(help="The sweep's name.", metavar="NAME")]
Uri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow's store. Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this folder.",
        show_default=False,
    ),
]
Root = Annotated[
    str,
    typer.Option(
        "--dir",
        help="Folder of plans, logs and checkpoints, one below per sweep; or s3://BUCKET/FOLDER, gs://.",
    ),
]
RUNS = "runs"
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Train trials that failed again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _trust(wanted: bool) -> bool:
    from gansweep import trust

    trust.own_code = not wanted
    return wanted


TrustedOnly = Annotated[
    bool,
    typer.Option(
        "--trusted-only",
        callback=_trust,
        help="Refuse import paths in the file, which run code: built-in names alone.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gansweep {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: File,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster: auto or HOST:PORT. Else a local Ray is started."),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="This command's share, where N of them train the sweep side by side: 1/N to N/N.",
            metavar="I/N",
            show_default=False,
        ),
    ] = None,
    tracking_uri: Uri = None,
    root: Root = RUNS,
    retry_failed: RetryFailed = False,
    trusted_only: TrustedOnly = False,
) -> None:
    """Train every trial of a sweep. The same command again goes on where it stopped."""
    from gansweep.imports import importing

    with importing():
        from gansweep.sweep.startup import start_ahead

        ray = None if address else start_ahead(file, overrides or [])
        from gansweep.commands.run import run_command
        from gansweep.sweep.share import Share

    code = run_command(
        file,
        overrides or [],
        address=address,
        uri=tracking_uri,
        root=root,
        retry_failed=retry_failed,
        share=Share.parse(share) if share is not None else None,
        ray=ray,
    )
    raise typer.Exit(code)


@app.command()
def submit(
    file: File,
    overrides: Overrides = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="The kind of cluster: ray, slurm or kubernetes.", show_default=False
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="The cluster's settings: infra/profiles/NAME.yaml here, or in the user's folder.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    array: Annotated[
        int | None,
        typer.Option(
            help="Slurm: so many jobs of one node, each with a share of the trials, and no Ray "
            "between them.",
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job; nothing is written or sent.")
    ] = False,
    tracking_uri: Uri = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--dir",
            help="Folder of plans, logs and checkpoints, one below per sweep; or "
            "s3://BUCKET/FOLDER, gs://.",
            show_default="the profile's storage, else runs",
        ),
    ] = None,
    retry_failed: RetryFailed = False,
    trusted_only: TrustedOnly = False,
) -> None:
    """Check a sweep, then run it as a batch job on a cluster."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.submit import submit_command

    wanted = {"--retry-failed": retry_failed, "--trusted-only": trusted_only}
    raise typer.Exit(
        submit_command(
            file,
            overrides or [],
            target=to,
            profile=profile,
            array=array,
            uri=tracking_uri,
            root=root,
            flags=[flag for flag, given in wanted.items() if given],
            dry_run=dry_run,
        )
    )


@app.command()
def jobs(json: AsJson = False) -> None:
    """List submitted jobs and how they stand."""
    from gansweep.commands.jobs import jobs_command

    raise typer.Exit(jobs_command(as_json=json))


JobId = Annotated[
    str, typer.Argument(help="The job's id, or its sweep's name for the latest.", metavar="JOB")
]


@app.command()
def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until it ends; exit code 1 unless all is well.")
    ] = False,
) -> None:
    """Print what a submitted job has said."""
    from gansweep.commands.jobs import logs_command

    raise typer.Exit(logs_command(job, follow=follow))


@app.command()
def cancel(job: JobId) -> None:
    """End a submitted job; to submit the same file again goes on."""
    from gansweep.commands.jobs import cancel_command

    raise typer.Exit(cancel_command(job))


@app.command()
def train(
    file: File,
    overrides: Overrides = None,
    tracking_uri: Uri = None,
    root: Root = RUNS,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Record the trial in MLflow.")
    ] = True,
    trusted_only: TrustedOnly = False,
) -> None:
    """Train one trial, the file's `trial:` with overrides, in this process and without Ray."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.train import train_command

    raise typer.Exit(
        train_command(file, overrides or [], uri=tracking_uri, root=root, record=record)
    )


@app.command()
def plan(
    file: File,
    overrides: Overrides = None,
    root: Root = RUNS,
    json: AsJson = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Train one trial of each shape of which nothing is known for some seconds, to "
            "estimate the time.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Workers to estimate the time with. Else as many as fit on this machine.",
            min=1,
            show_default=False,
        ),
    ] = None,
    trusted_only: TrustedOnly = False,
) -> None:
    """Print the trials of a sweep, their keys and resources, and how long they may take."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.plan import plan_command

    raise typer.Exit(
        plan_command(file, overrides or [], root=root, as_json=json, probes=probe, workers=workers)
    )


@app.command()
def explain(
    file: File,
    overrides: Overrides = None,
    trial: Annotated[
        str | None,
        typer.Option(help="One trial: its name, or the start of its key.", show_default=False),
    ] = None,
    json: AsJson = False,
    trusted_only: TrustedOnly = False,
) -> None:
    """Hold a sweep's settings against its preset, or its variant's published ones."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.explain import explain_command

    raise typer.Exit(explain_command(file, overrides or [], trial=trial, as_json=json))


@app.command()
def sample(
    what: Annotated[
        str,
        typer.Argument(
            help="A sweep's name, for its best trial, or a checkpoint file (.pt).", metavar="WHAT"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="A new folder, for PNG files; or a file .npz, for an array."
        ),
    ],
    count: Annotated[int, typer.Option(help="How many.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the latents.", min=0)] = 0,
    label: Annotated[
        int | None,
        typer.Option(help="Of this class alone; else each class in turn.", show_default=False),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(help="Of the sweep's trial whose key begins so.", show_default=False),
    ] = None,
    tracking_uri: Uri = None,
    root: Root = RUNS,
    trusted_only: TrustedOnly = False,
) -> None:
    """Write samples of a trained generator: of the best step where one was kept."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.sample import sample_command

    raise typer.Exit(
        sample_command(
            what,
            out=out,
            count=count,
            seed=seed,
            label=label,
            trial=trial,
            uri=tracking_uri,
            root=root,
        )
    )


@app.command()
def show(
    name: Name,
    tracking_uri: Uri = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Rank by this metric. Else by the sweep's own.", show_default=False),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="min or max, with --metric.", show_default=False),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="Further scores or metrics, each a column: modes,high_quality.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Keys of the space: medians over the points of equal values, as model.name.",
            show_default=False,
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Write a contact sheet of the last sample grids to this PNG file."),
    ] = None,
    root: Root = RUNS,
    json: AsJson = False,
) -> None:
    """List a sweep's trials from MLflow, the best first."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.show import show_command

    raise typer.Exit(
        show_command(
            name,
            uri=tracking_uri,
            root=root,
            metric=metric,
            mode=mode,
            scores=scores,
            by=by,
            sheet=sheet,
            as_json=json,
        )
    )


@app.command()
def sync(
    name: Name,
    tracking_uri: Uri = None,
    root: Root = RUNS,
) -> None:
    """Deliver to MLflow what a sweep's trials recorded while it was away."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.sync import sync_command

    raise typer.Exit(sync_command(name, uri=tracking_uri, root=root))


@app.command()
def ui(
    name: Annotated[
        str | None,
        typer.Argument(help="The sweep whose comparison to open.", metavar="NAME"),
    ] = None,
    tracking_uri: Uri = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            help="Further names by which browsers and trials may reach it, with commas between "
            "them. It answers to loopback's, and on another --host to this machine's own name and "
            "to private addresses.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve MLflow's pages and print the address of the sweep's comparison."""
    from gansweep.commands.ui import ui_command

    hosts = allowed_hosts.split(",") if allowed_hosts else []
    raise typer.Exit(ui_command(name, uri=tracking_uri, host=host, port=port, allowed_hosts=hosts))


@app.command()
def settings(
    section: Annotated[
        str | None,
        typer.Argument(help="Like model.wgan, network.dcgan, samples.", metavar="SECTION"),
    ] = None,
) -> None:
    """Explain the settings of a sweep file: defaults, valid values, meaning."""
    from gansweep.imports import importing

    with importing():
        from gansweep.commands.settings import settings_command

    raise typer.Exit(settings_command(section))


def main() -> None:
    """The console script: a person's mistake is one screen on stderr and exit code 2."""
    from gansweep.counting import counted
    from gansweep.errors import ConfigError, is_full_disk
    from gansweep.notes import tell_notes
    from gansweep.proxies import spare_loopback
    from gansweep.redaction import guard_log, redact
    from gansweep.storage import StorageError
    from gansweep.sweep.folder import find_modules_here

    _stand_in_for_closed_streams()
    guard_log()
    tell_notes()
    spare_loopback()
    pressed = _noted_interrupts()
    find_modules_here()  # which import paths in a sweep file may name
    try:
        app()
    except ConfigError as error:
        count = len(error.problems)
        print(f"gansweep: {counted(count, 'mistake')}, {error.outcome}:", file=sys.stderr)
        for problem in error.problems[:MOST_PROBLEMS]:
            print(f"  {problem.redacted()}", file=sys.stderr)
        if count > MOST_PROBLEMS:
            print(f"  ... and {count - MOST_PROBLEMS} more", file=sys.stderr)
        _exit(2)
    except StorageError as error:
        words = f"the object store is away: {redact(str(error))}: the same command goes on"
        print(f"gansweep: {words}", file=sys.stderr)
        _exit(INTERRUPTED)
    except SystemExit as ended:  # so ends every command
        _exit(ended.code)
    except Exception as error:  # MLflow's, say, which name the server with its password
        if pressed and _is_of_an_import(error):
            _exit(INTERRUPTED)
        if is_full_disk(error):
            words = f"{redact(str(error))}: make room, and the same command goes on"
            print(f"gansweep: {words}", file=sys.stderr)
            _exit(INTERRUPTED)
        from gansweep.tracking.mlflow.client import is_away, reason

        if is_away(error):
            words = f"the MLflow store does not serve: {reason(error)}: the same command goes on"
            print(f"gansweep: {words}", file=sys.stderr)
            _exit(INTERRUPTED)
        print(redact(traceback.format_exc()), file=sys.stderr, end="")
        _exit(1)


def _stand_in_for_closed_streams() -> None:
    """/dev/null, for what the shell has closed (`>&-`): a file would get its number, and output."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _noted_interrupts() -> list[int]:
    """Filled by Ctrl-C, which ends the command as ever.

    A package that it meets in the middle of its import may catch it, and fail later for the rest.
    """
    pressed: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if callable(signal.getsignal(signal.SIGINT)):  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, interrupt)
    return pressed


def _is_of_an_import(error: BaseException) -> bool:
    """Whether a module could not be imported, or what it does as it is imported went wrong."""
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, ImportError) or any(
        frame.f_code.co_name == "<module>" for frame, _ in frames
    )


def _exit(code: str | int | None) -> None:
    """End the process, and with it a Ray that is on its way up and not needed any more."""
    startup = sys.modules.get("gansweep.sweep.startup")
    if startup and startup.is_under_way():
        startup.exit_at_once(code if isinstance(code, int) else 1)
    sys.exit(code)


INTERRUPTED = 130
"""Exit code: there is more to go."""

MOST_PROBLEMS = 20
"""Mistakes that are shown at once, so that they fit one screen."""

if __name__ == "__main__":
    main()
