"""`python -m eval.gallery`: see `eval/gallery/page.py`."""

import sys

from .page import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
