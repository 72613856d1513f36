"""The gallery as one file to send: page, scripts, data and images in one HTML file below a stated size."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from functools import partial
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from sega.errors import RequestError

from ..output.manifest import Made
from ..records.files import write_text
from ..records.rows import Row, richest
from .content import data
from .files import SCRIPTS, TITLE, WEB, data_script, described, titled
from .tiles import each, has_images, identity, tell

STEPS: tuple[tuple[int | None, int | None], ...] = (
    *((None, None), (None, 90), (2048, 85), (1536, 85), (1024, 85), (768, 80), (512, 80), (384, 75), (256, 70)),
)
"""What is tried in turn: the longer side at most (None: as it is), and the quality of WebP (None: lossless)."""
SAMPLE = 8


def build_file(rows: list[Row], out: Path, workers: int, about: dict[str, str], limit: int) -> Made:
    """Write the gallery as one file of at most `limit` bytes. Raises RequestError if not even one prompt fits."""
    rows = richest(rows)
    if not has_images(rows):
        return Made(skipped={"gallery": "the images are missing; only their records exist"}, fresh=False)
    paths = {identity(image): image.path for row in rows for image in row.images.values() if image.path.is_file()}
    gone = {image.path for row in rows for image in row.images.values() if not image.path.is_file()}
    content = described(data(rows, gone), about)
    bare = len(assemble(content, {}))
    kept = telling(content)
    total, names = len(content["prompts"]), [image["id"] for image in content["images"]]
    for step in STEPS:
        sample = [paths[name] for name in names[:: max(1, len(names) // SAMPLE)]]
        sizes = [len(encoded) for encoded in each(partial(encode, step), [(p,) for p in sample], workers) if encoded]
        if not sizes:
            return Made(skipped={"gallery": "the images cannot be read"}, fresh=False)
        size = mean(sizes)
        share = (limit - bare) / (size * 4 / 3 * len(set(names)))
        last = step == STEPS[-1]
        if share < 1 and not last:
            continue
        if share < 1:  # the smallest images are too many: the most telling prompts stay
            kept = kept[: max(1, int(total * share * 0.95))]
        made = _fit(content, paths, kept, step, workers, limit, shrink=last)
        if made is not None:
            text, notes = made
            write_text(out, text)
            print(f"{out}: {len(text.encode()) / 1e6:.1f} MB of at most {limit / 1e6:g}. {notes}")
            return Made([out])
    raise RequestError(f"limit={limit // 10**6} is too small for the images of one prompt; raise it, or select methods")


def _fit(
    content: dict[str, Any], paths: dict[str, Path], kept: list[int], step: Any, workers: int, limit: int, shrink: bool
) -> tuple[str, str] | None:
    """The file with the prompts of `kept` and what was reduced; with `shrink` as many of them as fit. None if none."""
    wanted = set(kept)
    names = list(dict.fromkeys(image["id"] for image in content["images"] if image["prompt"] in wanted))
    found = each(partial(encode, step), [(paths[name],) for name in names], workers)
    files = {name: encoded for name, encoded in zip(names, found, strict=True) if encoded}
    tell({paths[name]: "can't be decoded" for name in names if name not in files})
    while kept:
        less = selected(content, set(kept), files, step[0])
        notes = reduced(content, less, step)
        less["note"] = f"{less['note']} {notes}".strip()
        text = assemble(less, {name: files[name] for name in {image["id"] for image in less["images"]}})
        if len(text.encode()) <= limit:
            return text, notes
        if not shrink:
            return None
        kept = kept[: int(len(kept) * 0.9)]
    return None


def encode(step: tuple[int | None, int | None], path: Path) -> bytes:
    """Return an image as WebP, reduced to the longer side of a step, or b"" if it cannot be read."""
    from PIL import Image

    from ..records import images

    side, quality = step
    try:
        image = Image.fromarray(images.read(path))
    except images.DamagedError:
        return b""
    if side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=quality is None, quality=quality or 80)
    return data.getvalue()


def telling(content: dict[str, Any]) -> list[int]:
    """Return the prompts, those of the first view first, then those on which the methods differ most.

    They differ by the standard deviation over methods of the first score of single images.
    """
    place = next((k for k, score in enumerate(content["scores"]) if score["each"]), None)
    values: dict[int, list[float]] = {k: [] for k in range(len(content["prompts"]))}
    for image in content["images"]:
        value = image["values"][place] if place is not None else None
        if value is not None:
            values[image["prompt"]].append(value)
    first = {found["prompt"] for found in content["opening"].values()}
    return sorted(values, key=lambda k: (k not in first, -pstdev(values[k]) if len(values[k]) > 1 else 0.0, k))


def selected(content: dict[str, Any], kept: set[int], files: dict[str, bytes], side: int | None) -> dict[str, Any]:
    """Return the content with the prompts of `kept` only and the images of `files`, one resolution of each."""
    order = [k for k in range(len(content["prompts"])) if k in kept]
    place = {old: new for new, old in enumerate(order)}
    images = [
        image | {"prompt": place[image["prompt"]], "size": _reduced_size(image["size"], side), "levels": 1}
        for image in content["images"]
        if image["prompt"] in place and image["id"] in files
    ]
    opening = {
        group: found | {"prompt": place[found["prompt"]]}
        for group, found in content["opening"].items()
        if found["prompt"] in place
    }
    note = re.sub(r" ?Images above \d+ px .*?lossless\.", "", content["note"])
    return content | {
        "prompts": [content["prompts"][k] for k in order],
        "images": images,
        "opening": opening,
        "note": note,
    }


def _reduced_size(size: list[int], side: int | None) -> list[int]:
    longest = max(size)
    return size if not side or longest <= side else [max(1, round(part * side / longest)) for part in size]


def reduced(content: dict[str, Any], less: dict[str, Any], step: tuple[int | None, int | None]) -> str:
    """Return what was reduced, in words."""
    side, quality = step
    words = "Images are exact." if quality is None else f"Images are WebP of quality {quality}."
    longest = max(max(image["size"]) for image in content["images"])
    if side and side < longest:
        words = (
            f"Images are reduced to at most {side} px on the longer side (the store has up to {longest} px), as WebP"
        )
        words += f" of quality {quality}."
    if len(less["prompts"]) < len(content["prompts"]):
        words += f" {len(less['prompts'])} of {len(content['prompts'])} prompts are here, those on which methods differ"
        words += " most; scores and win rates beside the names of methods are of all."
    return words


def assemble(content: dict[str, Any], files: dict[str, bytes]) -> str:
    """Return the page with its parts inside. Only these scripts may run: the policy has their hashes."""
    uris = {name: "data:image/webp;base64," + base64.b64encode(body).decode() for name, body in files.items()}
    text = titled((WEB / "index.html").read_text(), content.get("title", TITLE))
    data_js = data_script(content | {"vote": False, "files": uris})
    scripts = {name: data_js if name == "data.js" else (WEB / name).read_text() for name in SCRIPTS}
    style = (WEB / "style.css").read_text()
    allowed = " ".join(_hash(body) for body in scripts.values())
    policy = f"default-src 'none'; img-src data:; script-src {allowed}; style-src {_hash(style)}"
    policy += "; base-uri 'none'; form-action 'none'"
    text = re.sub(r'(Content-Security-Policy" content=)"[^"]*"', lambda found: f'{found[1]}"{policy}"', text)
    text = text.replace('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>")
    for name, body in scripts.items():
        text = text.replace(f'<script src="{name}"></script>', f"<script>{body}</script>")
    return text


def _hash(body: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
