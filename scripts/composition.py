"""Try every method with parts of others on small random pipelines, and write the tables of docs/composition.md.

  python scripts/composition.py          make an image of every combination (about a minute), then write the tables
  python scripts/composition.py check    compare the tables with the code, without images; exit status 1 if they differ

A combination is refused when the method is built, or it works on every pipeline. Methods and values are those of the
registry and of the declarations. The text between `<!-- composition:KEY -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import blocks  # noqa: E402
from sega.errors import RequestError  # noqa: E402
from sega.methods.base import Method  # noqa: E402
from sega.methods.borrowed import DIRECT  # noqa: E402
from sega.methods.geometry import Geometry  # noqa: E402
from sega.methods.parameters import parameters_of  # noqa: E402
from sega.methods.registry import METHODS, build_method, method_class  # noqa: E402
from sega.methods.staged import PATTERNS, FromBase  # noqa: E402
from sega.methods.types import ImageRequest, Step  # noqa: E402
from sega.testing import flux, qwen  # noqa: E402

PAGE = ROOT / "docs" / "composition.md"
PIPELINES = {"flux": "FLUX", "qwen": "Qwen-Image"}
SHORT = {"base_steps": 2, "steps": 2, "spa_steps": 1, "switch": 0.8}
"""What every method that has them gets. HRDiT's own positions apply after `spa_steps`, those of AReA below `switch`."""


@dataclass(frozen=True)
class Key:
    """A parameter that names another method."""

    values: tuple[str, ...]
    asked: Callable[[type[Method]], bool]  # whether a method without it is listed too, as one that refuses it


def _has_parts(cls: type[Method]) -> bool:
    return not (cls.attention is Method.attention and cls.stages is Method.stages)


KEYS = {
    # Every method that is more than positions, but for `mix`, whose frequencies are keys.
    "positions_of": Key(DIRECT, lambda cls: _has_parts(cls) and "frequencies" not in parameters_of(cls)),
    "frequencies": Key(DIRECT, lambda cls: False),
    "attention_of": Key(PATTERNS, lambda cls: issubclass(cls, FromBase)),
}


@dataclass(frozen=True)
class Combination:
    """A method with a part of another one: `method.key=value`."""

    method: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.method} {self.key}={self.value}"


def rows(key: str) -> list[str]:
    """The methods that have a key or are asked for it, in the order of the registry."""
    classes = {name: method_class(name) for name in METHODS}
    return [name for name, cls in classes.items() if _names_methods(cls, key) or KEYS[key].asked(cls)]


def _names_methods(cls: type[Method], key: str) -> bool:
    """Whether a method has a key with these values; `frequencies` of `mix` are kinds of its own."""
    return key in parameters_of(cls) and KEYS[key].values[0] in parameters_of(cls)[key][1].choices


def row(method: str, key: str) -> list[Combination]:
    """A method with every value of a key."""
    return [Combination(method, key, value) for value in KEYS[key].values]


def geometry_of(family: str) -> Geometry:
    """The geometry of a small pipeline, as in `sega.testing.small_pipeline`."""
    return flux.small_geometry() if family == "flux" else qwen.small_geometry(train=8, sega=8)


def size_of(geometry: Geometry) -> tuple[int, int]:
    """(width, height) just beyond the training size: the least at which every staged method has a second stage."""
    side = geometry.train_tokens * 3 // 2
    return (side + 1) * geometry.token_pixels, side * geometry.token_pixels


def built(family: str, method: str, **values: str) -> Method:
    """A method with `SHORT` stages. Raises RequestError for what is refused."""
    short = {key: value for key, value in SHORT.items() if key in parameters_of(method_class(method))}
    return build_method({"name": method, **short, **values}, geometry_of(family))


def refusal(family: str, combination: Combination) -> str | None:
    """Why a combination is refused when it is built, in words; None where it isn't."""
    try:
        built(family, combination.method, **{combination.key: combination.value})
    except RequestError as error:
        return str(error).split("; ")[0] + _why(family, combination)
    return None


def _why(family: str, combination: Combination) -> str:
    """The reason where a method has nothing that could take the part."""
    if combination.key in parameters_of(method_class(combination.method)):
        return ""
    method, geometry = built(family, combination.method), geometry_of(family)
    stages = method.stages(ImageRequest(size_of(geometry), 2, 1.0))
    native = (geometry.train_tokens * geometry.token_pixels) ** 2
    small = all(stage.plain or stage.size[0] * stage.size[1] <= native for stage in stages)
    return ": no stage of it is larger than the training size" if small else ""


@functools.cache
def image(family: str, method: str, **values: str) -> tuple[np.ndarray, list[Step]]:
    """The pixels of an image of `size_of`, and its steps."""
    from sega.engine.sampling import generate
    from sega.testing.checks import PROMPT, small_pipeline

    small = small_pipeline(family)
    negative = {key: value for key, value in small.options.items() if key == "negative_prompt"}
    part = built(family, method, **values)
    done = generate(small.pipe, part, PROMPT, size=size_of(small.geometry), steps=2, guidance=1.0, **negative)
    return np.asarray(done.image), done.steps


def fault(family: str, combination: Combination) -> str | None:
    """What is wrong with the image of a combination, in words; None where it works.

    It is finite and of more than one colour (`generate` refuses others), of the size that was asked for, and not that
    of the method by itself unless the two have the same positions in all steps.
    """
    changed = {combination.key: combination.value}
    own, steps = image(family, combination.method)
    try:
        other, _ = image(family, combination.method, **changed)
    except RequestError as error:
        return f"refused while it runs: {error}"
    if other.shape != (*reversed(size_of(geometry_of(family))), 3):
        return f"the image has the shape {other.shape}"
    same = combination.key != "attention_of" and _same_positions(
        built(family, combination.method), built(family, combination.method, **changed), steps
    )
    if np.array_equal(own, other) != same:
        return "the positions are the method's own, the image is not" if same else "it changes nothing"
    return None


def _same_positions(a: Method, b: Method, steps: list[Step]) -> bool:
    """Whether two methods have the same positions in all steps, on a random latent."""
    import torch

    for step in steps:
        tokens = torch.randn(step.grid[0] * step.grid[1], 16, generator=torch.Generator().manual_seed(0)).cumsum(0)
        one, other = (method.positions(step.grid, step.sigma, tokens) for method in (a, b))
        for axis in ("height", "width"):
            first, second = getattr(one, axis), getattr(other, axis)
            if not (first.frequencies.equal(second.frequencies) and first.magnitudes.equal(second.magnitudes)):
                return False
    return True


def table(key: str) -> str:
    """The combinations of a key as a Markdown table, and below it the reasons of what is refused."""
    reasons: list[str] = []

    def cell(combination: Combination) -> str:
        refused = {name: refusal(family, combination) for family, name in PIPELINES.items()}
        marks = []
        for reason in dict.fromkeys(filter(None, refused.values())):
            if reason not in reasons:
                reasons.append(reason)
            marks.append(f"({reasons.index(reason) + 1})")
        works = [name for name, reason in refused.items() if reason is None]
        return " ".join(["yes" if not marks else f"{', '.join(works)} only" if works else "no", *marks])

    lines = [f"| | {' | '.join(KEYS[key].values)} |", "|---" * (len(KEYS[key].values) + 1) + "|"]
    lines += [f"| {' | '.join([name, *(cell(item) for item in row(name, key))])} |" for name in rows(key)]
    return "\n".join([*lines, *([""] if reasons else []), *(f"{n}. {text}" for n, text in enumerate(reasons, 1))])


def page(text: str) -> str:
    """The page with its tables made anew."""
    return blocks.filled(text, "composition", table)


def faults() -> list[str]:
    """Make an image of every combination that is not refused; what is wrong with those that do not work."""
    found = []
    for family, name in PIPELINES.items():
        for key in KEYS:
            for item in (item for method in rows(key) for item in row(method, key)):
                wrong = None if refusal(family, item) else fault(family, item)
                found += [f"{item} ({name}): {wrong}"] if wrong else []
    return found


def main(words: list[str]) -> int:
    if words not in ([], ["check"]):
        print(__doc__)
        return 2
    text = PAGE.read_text()
    if words:
        if page(text) == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} differs: run python scripts/composition.py")
        return 1
    begun, found = time.perf_counter(), faults()
    print("\n".join([*found, f"{time.perf_counter() - begun:.0f} s"]))
    if not found:
        PAGE.write_text(page(text))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
