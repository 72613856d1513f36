"""The turns of the FLUX part in order, the most telling first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sega.errors import RequestError, near

STOCK = "plain"
BACKENDS = ("_native_flash", "_native_cudnn", "_native_efficient", "flash", "flash_varlen", "_flash_3", "sage")
LEAST = 8
"""Steps of a pass under the step cache: the first three and some left out."""


@dataclass(frozen=True)
class Turn:
    """Some steps of a pass of the pipeline; in the others the transformer leaves out its blocks."""

    case: str
    size: int
    steps: tuple[int, ...] = (2,)  # from 0, in rising order
    warm: int = 0  # how many of them, the first ones, are listed apart
    method: str | None = None  # None: the stock pipeline, without the engine
    attention: str | None = None
    cached: bool = False  # with the cache of speed=fast
    compiled: bool = False  # from here on
    extra: float = 0.0  # seconds that compiling or measuring takes besides the steps

    @property
    def name(self) -> str:
        return f"{self.case}, {self.size} px, steps {' '.join(map(str, self.steps))}"


def methods(size: int) -> list[Turn]:
    """A step of the plain model and of each method whose last stage needs nothing else of the stages before."""
    names = ("sega", "dype", "window", "resdit", "area", "hiflow", "scalediff", "ultraimage", "hrdit")
    phases = {"ultraimage": (0, 2), "area": (2, 20)}
    turns = [Turn(name, size, phases.get(name, (2,)), method=name) for name in names]
    return [Turn(STOCK, size), *turns]


def plan(small: int, large: int) -> list[Turn]:
    """All turns for two sizes in px. Those of the plain model lie between the others."""

    def own(name: str, size: int, steps: tuple[int, ...] = (2,), **more) -> Turn:
        return Turn(name, size, steps, method=name, **more)

    first, after = (Turn(STOCK, small, (2, 3), warm=1), Turn(STOCK, large, (2, 3), warm=1))
    plain = replace(first, steps=(2,), warm=0), replace(after, steps=(2,), warm=0)
    overhead = [after, own("sega", large), plain[1], own("sega", large), plain[1]]
    direct = [
        first,
        own("sega", small, (2, 3)),
        plain[0],
        own("sega", small, (2, 3)),
        plain[0],
        own("dype", small),
        own("yarn", small),
        own("hiflow", small, (2, 3)),
        plain[0],
        own("scalediff", small, (2, 3), warm=1),
        own("area", small, (2, 14, 20, 27)),
        own("resdit", small, (12, 20, 21), warm=1),
        own("ultraimage", small, (0, 1), extra=8.0),
        plain[0],
    ]
    switches = [
        *(Turn(f"attention={name}", small, (2, 3), warm=1, attention=name) for name in BACKENDS),
        Turn("sega, speed=fast", small, tuple(range(LEAST)), method="sega", cached=True),
        own("hrdit", small, (5, 6), warm=1, extra=20.0),
        plain[0],
    ]
    larger = [
        own("hrdit", large, (5,), extra=10.0),
        own("scalediff", large),
        own("area", large, (2, 20, 27)),
        own("hiflow", large),
        Turn("attention=_native_cudnn", large, attention="_native_cudnn"),
        plain[1],
        own("dype", large),
    ]
    compiled = [Turn("compiled blocks", size, (2, 3), 1, compiled=True, extra=40.0) for size in (small, large)]
    return overhead + direct + switches + larger + compiled


def chosen(turns: list[Turn], names: str) -> list[Turn]:
    """The turns that are named, `case:size` with commas between, in that order; of several the one of fewest steps."""
    found = []
    known = sorted({f"{turn.case}:{turn.size}" for turn in turns})
    for name in names.split(","):
        if name not in known:
            raise RequestError(f"unknown turn {name!r}{near(name, known)}")
        same = [turn for turn in turns if f"{turn.case}:{turn.size}" == name]
        found.append(min(same, key=lambda turn: len(turn.steps)))
    return found
