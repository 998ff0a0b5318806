"""`python -m gansweep`: the same as the console script."""

from gansweep.sweep.folder import find_modules_here


def main() -> None:
    """Python has put the current folder before its own modules, for this way to start alone."""
    find_modules_here()
    from gansweep.cli import main as command

    command()


if __name__ == "__main__":
    main()
