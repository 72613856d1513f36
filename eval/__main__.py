"""`python -m eval`: see `eval/scoring/command.py`."""

import sys

from .scoring.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
