"""A small scored store for the gallery: methods at some sizes, scored by hand, with a hostile prompt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.gallery.page import main
from sega.store.files import file_sha

EVIL = '<img src=x onerror="document.title=1"></script><b>bold</b> & "quotes" \u2028 end'
SIZES = ((64, 48), (2100, 1500))
CLIP = {"value": 25.5, "low": 24.0, "high": 27.0, "n": 2, "title": "CLIP", "digits": 2}


def make_store(
    store: Path, sizes=SIZES, methods=("vanilla", "yarn"), prompts=("a lighthouse", EVIL), blocks=(6, 8)
) -> None:
    """Write a store. `methods` may be a dict with the CLIP score of each prompt; else it is 25, 26, 27 ...

    An image is of `blocks` random colours.
    """
    rng = np.random.default_rng(0)
    for method in methods:
        given = methods[method] if isinstance(methods, dict) else [25.0 + k for k in range(len(prompts))]
        for width, height in sizes:
            folder = store / "flux" / method / f"{width}x{height}" / "0123456789ab"
            folder.mkdir(parents=True)
            rows, scores = [], []
            for number, (prompt, score) in enumerate(zip(prompts, given, strict=True)):
                coarse = rng.integers(0, 256, (*blocks, 3), np.uint8)
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
                image.save(folder / f"{number}-0.png", compress_level=1)
                sha = file_sha(folder / f"{number}-0.png")
                row = {"prompt_id": str(number), "seed": 0, "prompt": prompt, "file": f"{number}-0.png", "sha256": sha}
                rows.append(row | {"seconds": 2.5})
                scores.append(row | {"protocol": "plain", "values": {"clip_score": score, "piqe": None}})
            cells = {"clip_score": CLIP} if isinstance(methods, dict) else {}
            block: dict[str, Any] = {"n": len(prompts), "damaged": [], "metrics": cells, "cost": {}, "networks": {}}
            (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
            record = {"schema": 1, "protocols": {"plain": block | {"settings": {}}}}
            (folder / "scores.json").write_text(json.dumps(record))
            identity = {"method": {"name": method}, "steps": 28, "guidance": 3.5}
            (folder / "run.json").write_text(json.dumps({"hash": "0123456789ab", "identity": identity, "config": {}}))


def build(folder: Path, *words: str) -> int:
    """Run the command on `runs` of a folder; it writes `out` unless the words say otherwise."""
    places = [f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"out={folder / 'out'}"]
    return main([*places, "workers=1", *words])


def content(folder: Path) -> dict[str, Any]:
    """Return the data of the gallery in `out` of a folder."""
    text = (folder / "out" / "data.js").read_text()
    return json.loads(text.removeprefix("const DATA = ").removesuffix(";\n"))
