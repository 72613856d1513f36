"""Fetch weights of metrics: `python scripts/fetch.py pickscore imagereward`; see `eval.fetch`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eval.fetch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
