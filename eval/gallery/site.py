"""What a published gallery needs besides the page: lines of the head, a card for links to it, and notes."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from sega.store.files import atomic

from ..records.rows import Row
from ..records.runs import RunImage
from .files import write_changed
from .tiles import identity

CARD = (1200, 630)
NOTES = """{title}

This folder is a static site: copy it to any host of static files, such as GitHub Pages, and open index.html.
It was written by SEGA-bench (python -m eval.gallery form=site) and loads nothing from elsewhere.

{images} images of {prompts} prompts and {runs} runs. {note}
Licence of the images: {licence}
"""
UNSTATED = "not stated; ask the authors."


def head(content: dict[str, Any], about: dict[str, str]) -> str:
    """Return the lines that search engines and link previews read. `about["url"]` is where the site will lie."""
    url = about.get("url", "").rstrip("/")
    title, text = content["title"], summary(content)
    found = [("description", text), ("og:type", "website"), ("og:title", title), ("og:description", text)]
    found += [("og:image", f"{url}/card.jpg" if url else "card.jpg"), ("og:image:alt", text)]
    found += [("og:image:width", str(CARD[0])), ("og:image:height", str(CARD[1]))]
    found += [("twitter:card", "summary_large_image")] + ([("og:url", f"{url}/")] if url else [])
    lines = [
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(value)}">'
        for name, value in found
    ]
    lines += [f'<link rel="canonical" href="{html.escape(url)}/">'] if url else []
    return "".join(f"\n{line}" for line in lines)


def summary(content: dict[str, Any]) -> str:
    """Return one sentence about a gallery."""
    methods = len({run["label"] for run in content["runs"] if not run["reference"]})
    models = ", ".join(dict.fromkeys(run["model"] for run in content["runs"]))
    prompts = len({prompt["text"] for prompt in content["prompts"]})
    return f"{methods} methods side by side on {prompts} prompts ({models}), with scores of every image."


def write_extras(rows: list[Row], content: dict[str, Any], out: Path) -> bool:
    """Write the card and the notes. Returns whether anything changed."""
    notes = NOTES.format(
        title=content["title"],
        images=len(content["images"]),
        prompts=len(content["prompts"]),
        runs=len(content["runs"]),
        note=content["note"],
        licence=content["licence"] or UNSTATED,
    )
    changed = write_changed({"NOTES.txt": notes, ".nojekyll": ""}, out)
    pair = _pair(rows, content)
    fresh = not (out / "card.jpg").is_file()
    if pair and (changed or fresh):
        with atomic(out / "card.jpg") as scratch:
            card(*pair).save(scratch, "JPEG", quality=88)
    return changed or fresh


def _pair(rows: list[Row], content: dict[str, Any]) -> list[tuple[str, RunImage]]:
    """The labels and images that the page opens on, as `model.js` chooses them."""
    runs, model = content["runs"], content["runs"][0]["model"]
    size = [int(side) for side in content["sizes"][model].split("x")]
    group = [k for k, run in enumerate(runs) if run["model"] == model and run["size"] == size]
    found = content["opening"].get(f"{model} {size[0]}x{size[1]}")
    chosen = found or {"methods": [runs[k]["label"] for k in group[:2]], "prompt": content["images"][0]["prompt"]}
    files = {identity(image): image for row in rows for image in row.images.values()}
    place = {(i["run"], i["prompt"]): i["id"] for i in content["images"]}
    names = {runs[k]["label"]: place.get((k, chosen["prompt"])) for k in group}
    return [(label, files[names[label]]) for label in chosen["methods"] if names.get(label) in files]


def card(*pair: tuple[str, RunImage]) -> Any:
    """Return the picture of a link: the left part of the first image, the right part of the second, and their names."""
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    from ..records import images

    whole = [ImageOps.fit(Image.fromarray(images.read(image.path)), CARD) for _, image in pair]
    width, height = CARD
    picture = whole[0].copy()
    draw = ImageDraw.Draw(picture)
    if len(whole) > 1:
        picture.paste(whole[1].crop((width // 2, 0, width, height)), (width // 2, 0))
        draw.rectangle((width // 2 - 3, 0, width // 2 + 2, height), fill="white")
    font = ImageFont.load_default(44)
    for (label, _), left in zip(pair, (0, width // 2 + 3), strict=False):
        text = label if len(label) <= 24 else label[:23] + "…"
        draw.rectangle((left, height - 76, left + font.getlength(text) + 48, height), fill="#15181c")
        draw.text((left + 24, height - 66), text, font=font, fill="white")
    return picture
