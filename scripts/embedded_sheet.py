"""Draw what a small model makes: `python scripts/embedded_sheet.py <model> <out folder> [<pipeline folder>]`.

`<model>` is `tiny` or `tiny2`; its weights, or those of the folder, run on the GPU where there is one. It writes
`native.jpg`, eight captions at the training size with a row for each guidance, and `at-2x.jpg`, the first four at twice
the size with a row for each method. No table uses these captions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sega import RequestError, generate, load_method, load_pipeline
from sega.embedded import world

CAPTIONS = 12, 8  # seed, number
GUIDANCE = (1.0, 2.0, 3.5)
METHODS = ("vanilla", "pi", "ntk", "yarn", "sega")


def sheet(rows: list[list[Image.Image]], path: Path) -> None:
    """Write images as a grid, all at the size of the first."""
    size = rows[0][0].size
    lines = [np.concatenate([np.asarray(image.resize(size)) for image in row], axis=1) for row in rows]
    Image.fromarray(np.concatenate(lines)).save(path, quality=90)
    print(path, flush=True)


def draw(model: str, out: Path, folder: Path | None) -> None:
    """Write both sheets."""
    pipe = load_pipeline(model, **({} if folder is None else {"path": str(folder)}))
    captions = world.prompts(*CAPTIONS)
    out.mkdir(parents=True, exist_ok=True)
    plain = load_method("vanilla", model)
    rows = [[generate(pipe, plain, text, guidance=scale).image for text in captions] for scale in GUIDANCE]
    sheet(rows, out / "native.jpg")
    methods = [load_method(name, model) for name in METHODS]
    sheet(
        [[generate(pipe, method, text, size="2x").image for text in captions[:4]] for method in methods],
        out / "at-2x.jpg",
    )


if __name__ == "__main__":
    try:
        if len(sys.argv) not in (3, 4):
            raise RequestError("usage: python scripts/embedded_sheet.py <model> <out folder> [<pipeline folder>]")
        draw(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else None)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
