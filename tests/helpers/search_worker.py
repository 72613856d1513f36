"""A worker of a search as a process of its own: `python search_worker.py WORD ...`.

SEARCH_LOG gets a line for each image that is made. With SEARCH_KILL=n the process kills itself as hard as a machine
that loses power, when it is about to make its n-th image.
"""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from eval.search.command import main  # noqa: E402
from sega.run.maker import Maker  # noqa: E402

generate, made = Maker.generate, 0


def logged(self, pipe, method, prompt, **options):
    global made
    made += 1
    if made == int(os.environ.get("SEARCH_KILL", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    with open(os.environ["SEARCH_LOG"], "a") as file:
        file.write(f"{os.getpid()} {method.name} {method.identity()} {prompt} {options['seed']} {options['steps']}\n")
    return generate(self, pipe, method, prompt, **options)


if __name__ == "__main__":
    Maker.generate = logged
    sys.exit(main(sys.argv[1:]))
