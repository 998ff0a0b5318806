"""`python -m gansweep`: the same as the console script."""

from gansweep.cli import main

if __name__ == "__main__":
    main()
