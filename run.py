"""Generate images: `python run.py method=sega res=4096`; `python run.py --help` for the rest."""

import sys

from eval.hooks import HOOKS
from sega.run.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], HOOKS))
