"""`sega-bench new-method NAME`: a method of your own, with a config and a test that pass as they are."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from sega.errors import RequestError, answer
from sega.methods.registry import METHODS
from sega.store.files import atomic

HELP = """\
sega-bench new-method NAME [folder=.]

Writes NAME.py (a direct method with one parameter), conf/method/NAME.yaml and test_NAME.py. Nothing is overwritten.
"""

METHOD = '''\
"""{title}: what it does, in one line."""

from dataclasses import dataclass
from typing import ClassVar

from sega import Axis, Method
from sega.methods.base import uniform_axis
from sega.methods.parameters import number


@dataclass(frozen=True)
class {title}(Method):
    """Frequencies of an axis that is `scale` times as long as in training; here position interpolation, in part."""

    share: float = number(1.0, low=0, high=1, doc="0: the model as it is; 1: position interpolation")

    name: ClassVar[str] = "{name}"

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.pi(dim, self.geometry.theta, 1 + self.share * (scale - 1)))
'''

CONFIG = """\
# {title}: what it does, in one line.
name: {name}
target: {name}:{title}
share: 1.0        # 0: the model as it is; 1: position interpolation
schedule: pinned  # pinned: the time shift of the training size at every size; stock: the scheduler's extrapolation
"""

TEST = '''\
"""Every check that a method of the project itself has to pass."""

from {name} import {title}

from sega.testing import check_method


def test_{name}_passes_every_check():
    check_method({title})
'''


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if {"-h", "--help", "help"} & set(words) or not words:
        print(HELP)
        return 0 if words else 2
    return answer("sega-bench new-method", partial(_command, words))


def _command(words: list[str]) -> int:
    options = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    folder = Path(options[0].partition("=")[2] if options else ".").expanduser()
    if len(names) != 1 or len(options) > 1 or (options and not options[0].startswith("folder=")):
        raise RequestError("give one name and, if wanted, folder=<folder>: sega-bench new-method mine folder=methods")
    write(names[0], folder)
    inside = "" if folder == Path() else f"cd {folder} && "
    name, title = names[0], _title(names[0])
    print(
        f"{folder / name}.py, conf/method/{name}.yaml and test_{name}.py are written. Try them:\n"
        f"  {inside}sega-bench run model=tiny method.target={name}:{title} method.share=0.5 res=2x prompts.count=2\n"
        f"  {inside}sega-bench run model=tiny method={name} res=2x prompts.count=2 --config-dir conf\n"
        f"  {inside}python -m pytest test_{name}.py"
    )
    return 0


def write(name: str, folder: Path) -> list[Path]:
    """Write the three files; returns their paths. Raises RequestError for a bad name or where one is there."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise RequestError(f"{name} must be a name of small letters, digits and _, such as my_method")
    if name in METHODS:
        raise RequestError(f"there is a method {name} already; choose another name")
    files = {
        folder / f"{name}.py": METHOD,
        folder / "conf" / "method" / f"{name}.yaml": CONFIG,
        folder / f"test_{name}.py": TEST,
    }
    for path in files:
        if path.exists():
            raise RequestError(f"{path} is there already; choose another name or folder=<folder>")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as scratch:
            scratch.write_text(text.format(name=name, title=_title(name)))
    return list(files)


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
