"""`python -m surgeon` is the command `surgeon`."""

from surgeon.cli import main

if __name__ == "__main__":
    main()
