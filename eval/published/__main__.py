"""`python -m eval.published`: see `eval.published.values`."""

import sys

from .values import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
