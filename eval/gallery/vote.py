"""The data of `vote.html`, the blind comparison of two images: `vote-data.js` in the folder of the gallery."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..records.files import digest, write_text
from ..records.rows import Row
from ..records.runs import RunImage

WEB = Path(__file__).parent / "web"
FILES = ("vote.html", "vote.js", "vote.css")


def data(
    rows: list[Row], missing: set[Path], name: Callable[[RunImage], str], levels: Callable[[int, int], int], tile: int
) -> dict[str, Any]:
    """Return the content of the page as plain data: prompts, runs, and [run, prompt, file name, levels] of images.

    `name` gives the file name of an image in the gallery and `levels` its number of resolutions. A run that was scored
    under several protocols is there once.
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
                images.append([len(runs) - 1, place, name(image), levels(*size)])
    listed = [{"id": key[0], "seed": key[1], "text": text} for key, (_, text) in prompts.items()]
    content = {"tile": tile, "prompts": listed, "runs": runs, "images": images}
    return content | {"gallery": digest(content)}


def write(content: dict[str, Any], out: Path) -> bool:
    """Write the page and its data into the folder of the gallery. Returns whether anything changed."""
    script = "const VOTE = " + json.dumps(content, ensure_ascii=True, sort_keys=True) + ";\n"
    page = {"vote-data.js": script, **{name: (WEB / name).read_text() for name in FILES}}
    changed = {
        name: text for name, text in page.items() if not (out / name).is_file() or (out / name).read_text() != text
    }
    for name, text in changed.items():
        write_text(out / name, text)
    return bool(changed)
