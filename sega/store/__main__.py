"""`python -m sega.store`: see `sega.store.upkeep`."""

import sys

from sega.store.upkeep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
