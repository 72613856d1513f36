"""The switches that scripts/bench_switches.py measures, and the lines of run.py that make their images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXACT = ""
SPEEDS = ("speed=fast", "speed=faster")
SINGLE = (
    "steps=0.7x",
    "steps=0.5x",
    *(f"model.cache={cache}" for cache in ("first_block:0.15", "taylorseer:2", "sea:0.25", "sea:0.3", "sea:0.35")),
    *(f"model.progressive={delta}" for delta in ("0.01", "0.05", "0.1", "0.05:2")),
    "model.solver=dpm++2m",
    *(f"steps=0.5x model.solver={solver}" for solver in ("dpm++2m", "unipc", "heun")),
    *(f"model.late_attention={rule}" for rule in ("window:1:0.5", "window:1:0.8", "pruned:0.5:0.5")),
)
PAIRS = (
    "steps=0.5x model.progressive=0.05:2",
    "model.cache=sea:0.35 model.progressive=0.1",
    "steps=0.7x model.cache=sea:0.3 model.progressive=0.05",
    "steps=0.5x model.solver=dpm++2m model.progressive=0.05",
    "steps=0.5x model.cache=sea:0.3 model.progressive=0.05",
    "steps=0.7x model.late_attention=window:1:0.8 model.progressive=0.1",
)
ROUNDING = (
    *(f"model.quantize={kind}" for kind in ("fp8", "8bit", "4bit")),
    "model.attention=_native_math",
    "model.compile=true",
)
BASES = {  # without freescale, whose images take ten times as long
    "scalediff,upsample,pixelrush": "model.base_steps=0.5x",
    "hiflow": "method.base_steps=15",
}
DIRECT = "vanilla,sega"
CAPTIONS, OTHERS = 29, 31
"""`prompts.seed`: not that of the demo (0) or of the reference (11). The second is for what was chosen on the first."""


@dataclass(frozen=True)
class Job:
    """A command line of run.py: some methods with a switch at a size."""

    captions: int
    size: str
    methods: str
    switch: str

    def __str__(self) -> str:
        return f"{self.methods} at {self.size}, captions {self.captions}: {self.switch or 'exact'}"

    def words(self, options: argparse.Namespace) -> list[str]:
        return [
            *("-m", "model=tiny", f"model.dtype={options.dtype}", f"model.steps={options.steps}"),
            *(f"method={self.methods}", f"res={self.size}", f"device={options.device}"),
            *(f"prompts.seed={self.captions}", f"prompts.count={options.count}"),
            f"store={runs(options, self.captions)}",
            *self.switch.split(),
        ]


def runs(options: argparse.Namespace, captions: int) -> Path:
    """The store of the images of some captions; in one store they would be images of the same runs."""
    store: Path = options.store / f"captions-{captions}" / "runs"
    return store


def jobs(size: str, options: argparse.Namespace) -> Iterator[Job]:
    """All jobs at a size; exact runs come before what is compared with them."""
    switches = options.switches
    if switches is None:
        switches = [*SPEEDS, *SINGLE, *PAIRS, *ROUNDING]
    yield from (Job(CAPTIONS, size, DIRECT, switch) for switch in dict.fromkeys([EXACT, *switches]))
    if options.switches is None:
        for methods, switch in BASES.items():
            yield from (Job(CAPTIONS, size, methods, word) for word in (EXACT, switch))
        yield from (Job(OTHERS, size, DIRECT, switch) for switch in (EXACT, *SPEEDS))
