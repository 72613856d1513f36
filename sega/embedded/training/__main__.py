"""`python -m sega.embedded.training`: see `sega.embedded.training.command`."""

import sys

from sega.embedded.training.command import main
from sega.errors import RequestError

if __name__ == "__main__":
    try:
        main()
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
