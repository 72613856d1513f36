"""The data of `vote.html`, the blind comparison of two images: `vote-data.js`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..records.files import digest
from ..records.rows import Row
from .tiles import TILE, identity, levels

DATA = "vote-data.js"


def data(rows: list[Row], missing: set[Path]) -> dict[str, Any]:
    """Return the content of the page as plain data: prompts, runs, and [run, prompt, file name, levels] of images.

    A run that was scored under several protocols is there once.
    """
    runs: list[dict[str, Any]] = []
    images: list[list[Any]] = []
    prompts: dict[tuple[str, int], tuple[int, str]] = {}
    for row in {row.run.folder: row for row in rows if row.run.size}.values():
        size = row.run.size or (0, 0)
        about = {"label": row.label, "run": row.run.hash, "model": row.run.model, "size": list(size)}
        runs.append(about | {"renders": row.is_reference})
        for key, image in row.images.items():
            if image.path not in missing:
                place, _ = prompts.setdefault(key, (len(prompts), image.prompt or key[0]))
                images.append([len(runs) - 1, place, identity(image), levels(*size)])
    listed = [{"id": key[0], "seed": key[1], "text": text} for key, (_, text) in prompts.items()]
    content = {"tile": TILE, "prompts": listed, "runs": runs, "images": images}
    return content | {"gallery": digest(content)}


def script(content: dict[str, Any]) -> str:
    """Return the content as a script."""
    return "const VOTE = " + json.dumps(content, ensure_ascii=True, sort_keys=True) + ";\n"
