"""Write a static gallery that opens from disk: `python -m eval.gallery`, then open `index.html`.

Images are cut once into WebP tiles of several resolutions, so that a page loads only the visible part of a large image.
Files are named by the hash of the image. Prompts are stored as data and shown as text, never as HTML.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from sega.store.files import atomic

from .. import options
from ..metrics.registry import metrics
from ..output.manifest import Made
from ..output.numbers import number
from ..records.files import digest, write_text
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.runs import Run, RunImage
from . import vote
from .opening import opening

HELP = """usage: python -m eval.gallery [key=value ...]

Writes a folder of plain HTML that opens from disk. Select prompts, methods and sizes, zoom and pan up to four images
together, or slide between two. It shows scored runs. Images that are in the gallery are not cut again. vote.html beside
it is a blind comparison of two images at a time, whose votes python -m eval.votes reads.

  python -m eval.gallery
  python -m eval.gallery model=tiny out=results/gallery

  out      results/gallery  folder of the gallery
{selection}
  workers  2                processes that cut images""".replace("{selection}", options.SELECTION)

KEYS = options.KEYS | {"out": "results/gallery", "workers": "2"}
TILE = 1024
THUMB = 256
WEB = Path(__file__).parent / "web"


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, gallery)


def gallery(words: list[str]) -> int:
    """Write the gallery that the words select."""
    found = options.parse(words, KEYS)
    workers, out = options.whole_number(found, "workers"), Path(found["out"])
    made = build(options.scored(found), out, workers)
    for what, why in made.skipped.items():
        print(f"no {what}: {why}")
    if not made.fresh:
        print(f"{out}/ is up to date")
    for path in made.files:
        print(path)
    return 0


def build(rows: list[Row], out: Path, workers: int) -> Made:
    """Cut new images and write the page. Images that cannot be read are listed on stderr."""
    here = [image.path for row in rows for image in row.images.values() if image.path.is_file()]
    if not here:
        return Made(skipped={"gallery": "the images are missing; only their records exist"}, fresh=False)
    cut, missing = cut_all(rows, out, workers)
    for path, why in missing.items():
        print(f"warning: {path} {why}; left out", file=sys.stderr)
    changed = write_page(data(rows, set(missing)), out)
    changed = vote.write(vote.data(rows, set(missing), identity, levels, TILE), out) or changed
    return Made([out / "index.html"], fresh=bool(cut or changed))


def cut_all(rows: list[Row], out: Path, workers: int) -> tuple[int, dict[Path, str]]:
    """Cut new images. Returns their number, and the images that cannot be read with the reason."""
    todo = {identity(image): image.path for row in rows for image in row.images.values()}
    todo = {name: path for name, path in todo.items() if not (out / "thumbs" / f"{name}.webp").exists()}
    if not todo:
        return 0, {}
    from tqdm import tqdm

    missing: dict[Path, str] = {}
    jobs = list(todo.items())
    with contextlib.ExitStack() as stack:
        work, names, paths = partial(cut, out), *zip(*jobs, strict=True)
        if workers == 1:
            done = map(work, names, paths)
        else:
            pool = stack.enter_context(ProcessPoolExecutor(min(workers, len(jobs))))
            done = pool.map(work, names, paths, chunksize=4)
        bar = tqdm(done, total=len(jobs), desc="gallery", leave=False, disable=None, dynamic_ncols=True)
        for (_, path), reason in zip(jobs, bar, strict=True):
            if reason:
                missing[path] = reason
    return len(jobs) - len(missing), missing


def identity(image: RunImage) -> str:
    """Return the name of the files of an image."""
    return image.sha[:20] if image.sha else digest([str(image.path), image.path.stat().st_mtime_ns])


def levels(width: int, height: int) -> int:
    """Return the number of resolutions of an image: it is halved until it fits into one tile."""
    count = 1
    while max(width, height) > TILE << (count - 1):
        count += 1
    return count


def cut(out: Path, name: str, path: Path) -> str:
    """Write the tiles and, last, the thumbnail of an image. Returns "" or the reason why it cannot be read."""
    from PIL import Image

    from ..records import images

    try:
        image = Image.fromarray(images.read(path))
    except images.DamagedError as error:
        return str(error)
    folder = out / "tiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    small = max(image.size) <= TILE  # small images stay exact
    for level in range(levels(*image.size)):
        reduced = image.reduce(2**level)  # sides round up, as the page expects of the last tile
        for column, row, box in boxes(reduced.size):
            reduced.crop(box).save(folder / f"{level}-{column}-{row}.webp", lossless=small, quality=90)
    image.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    (out / "thumbs").mkdir(exist_ok=True)
    with atomic(out / "thumbs" / f"{name}.webp") as scratch:
        image.save(scratch, "WEBP", quality=85)
    return ""


def boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Yield column, row and pixel box of each tile of an image."""
    width, height = size
    for row, top in enumerate(range(0, height, TILE)):
        for column, left in enumerate(range(0, width, TILE)):
            yield column, row, (left, top, min(left + TILE, width), min(top + TILE, height))


def data(rows: list[Row], missing: set[Path]) -> dict[str, Any]:
    """Return the content of the page as plain data."""
    prompts: dict[tuple[str, int, str], int] = {}
    runs, images = [], []
    titles = {metric.value: metric for metric in metrics().values()}
    several = len({row.protocol for row in rows}) > 1

    def label_of(row: Row) -> str:
        return f"{row.label}, {row.protocol}" if several else row.label

    for row in rows:
        if not row.run.width:
            continue
        label = label_of(row)
        runs.append(
            {
                "label": label,
                "model": row.run.model,
                "size": [row.run.width, row.run.height],
                "settings": settings(row.run),
            }
        )
        values = {(r["prompt_id"], r["seed"]): r["values"] for r in row.scored}
        for key, image in row.images.items():
            if image.path in missing:
                continue
            text = image.prompt or key[0]
            place = prompts.setdefault((*key, text), len(prompts))
            shown = {}
            for measure, value in values.get(key, {}).items():
                value = value.get("mean") if isinstance(value, dict) else value
                if value is not None and measure in titles:
                    shown[titles[measure].title] = number(value, titles[measure].digits)
            if image.cost.get("seconds") is not None:
                shown["seconds"] = f"{image.cost['seconds']:.2f}"
            images.append(
                {
                    "run": len(runs) - 1,
                    "prompt": place,
                    "id": identity(image),
                    "values": shown,
                    "size": [row.run.width, row.run.height],
                    "levels": levels(row.run.width, row.run.height),
                }
            )
    listed = [{"key": f"{key[0]}-{key[1]}", "seed": key[1], "text": key[2]} for key in prompts]
    note = EMBEDDED if is_embedded(rows) else ""
    if any(max(image["size"]) > TILE for image in images):
        note += f" Images above {TILE} px are shown as WebP of quality 90; the store has them lossless."
    places, first = {key[:2]: place for key, place in prompts.items()}, {}
    for group in dict.fromkeys((row.run.model, row.size) for row in rows if row.run.width):
        found = opening([row for row in rows if (row.run.model, row.size) == group])
        if found is not None and found[2] in places:
            first[" ".join(group)] = {"methods": [label_of(row) for row in found[:2]], "prompt": places[found[2]]}
    content = {"tile": TILE, "note": note.strip(), "prompts": listed, "runs": runs, "images": images}
    return content | {"opening": first}


def settings(run: Run) -> dict[str, str]:
    """Return the settings of a run that are shown under an image."""
    found = {key: run.identity[key] for key in ("steps", "guidance", "schedule") if run.identity.get(key) is not None}
    method = {k: v for k, v in run.identity.get("method", {}).items() if k != "name"}
    if method:
        found["method"] = ", ".join(f"{k}={v}" for k, v in method.items())
    return {**{k: str(v) for k, v in found.items()}, "run": run.hash}


def write_page(content: dict[str, Any], out: Path) -> bool:
    """Write data and page. Returns whether anything changed."""
    text = "const DATA = " + json.dumps(content, ensure_ascii=True, sort_keys=True) + ";\n"
    page = {"data.js": text, **{name: (WEB / name).read_text() for name in ("index.html", "app.js", "style.css")}}
    changed = {
        name: body
        for name, body in page.items()
        if not (out / name).is_file() or (out / name).read_bytes() != body.encode()
    }
    for name, body in changed.items():
        write_text(out / name, body)
    known = {image["id"] for image in content["images"]}
    for folder in (out / "tiles").glob("*"):  # images that are no longer shown
        if folder.name not in known:
            (out / "thumbs" / f"{folder.name}.webp").unlink(missing_ok=True)
            shutil.rmtree(folder)
            changed[folder.name] = ""
    return bool(changed)
