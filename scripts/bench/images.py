"""Every method once on the small model: the image of a GPU against that of a CPU, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench.record import Part

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
STEPS = 4
SHORT = {"imax": [f"steps={STEPS}"], "ultraimage": [f"steps={STEPS}"]}


def overrides(name: str) -> list[str]:
    """What keeps an image of a method short."""
    from sega.methods.parameters import parameters_of
    from sega.methods.registry import method_class

    base = [f"base_steps={STEPS}"] if "base_steps" in parameters_of(method_class(name)) else []
    return base + SHORT.get(name, [])


def made(pipe: Any, name: str, size: str) -> np.ndarray:
    """The image of a method, uint8 [H, W, 3]."""
    from sega import load_method
    from sega.engine.sampling import generate

    method = load_method(name, pipe, overrides(name))
    return np.asarray(generate(pipe, method, PROMPT, seed=0, size=size, steps=STEPS).image.convert("RGB"))


def write_expected(path: Path, size: str, names: str) -> None:
    """Make the images on the CPU and keep them in one file: of all methods, or of those named, with commas between."""
    from sega import load_pipeline
    from sega.methods.registry import METHODS

    pipe, found = load_pipeline("tiny", device="cpu"), {"size": np.array(size)}
    for name in names.split(",") if names else METHODS:
        found[name] = made(pipe, name, size)
        print(name, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **found)


def compare(part: Part, device: str, path: Path) -> None:
    """Add a row for each method of the file: largest and mean difference in grey levels, share that differs."""
    from sega import load_pipeline

    with np.load(path) as archive:
        expected = dict(archive)
    size, pipe = str(expected.pop("size")), load_pipeline("tiny", device=device)
    part.note(size=size, steps=STEPS)

    def row(name: str) -> dict[str, Any]:
        found = made(pipe, name, size).astype(int)
        away = np.abs(found - expected[name])
        return {"max": int(away.max()), "mean": float(away.mean()), "differ": float((away > 0).mean())}

    with exact_float32():
        # The one that compiles a kernel comes last.
        for name in sorted(expected, key=lambda name: name == "hrdit"):
            part.measure(name, 1, row, name)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Products in float32 are not rounded to TF32."""
    import torch

    kinds = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = False
    try:
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.allow_tf32 = value
