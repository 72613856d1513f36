"""Copy a folder of images into a store, as a cell that scoring, tables, figures and gallery treat like a run.

The cell is named by model, method and size, so a later import of the same adds to it. A PNG is copied as it is; other
formats become PNG with the same pixels. An image is paired with ours by its prompt and seed: its prompt id is made as
`sega.run.prompts` makes it.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sega.errors import RequestError, check_name
from sega.home import CONF, command_line
from sega.methods.geometry import models
from sega.run import provenance
from sega.run.prompts import named
from sega.store import png
from sega.store.cell_folder import RunFolder
from sega.store.names import text_sha

from . import images
from .foreign import load_folder
from .runs import Run, RunImage, is_cell

RESERVED = ("base", "renders")
"""Names of methods that mean something else in a store."""


@dataclass
class Done:
    """What an import did to one cell."""

    cell: Path
    new: int = 0
    there: int = 0
    changes: Counter[str] = field(default_factory=Counter)  # what was done to images that are not copied as they are


@dataclass(frozen=True)
class _Item:
    """An image that is to be imported."""

    image: RunImage
    where: str  # its path in the folder
    prompt: str
    prompt_id: str

    @property
    def file(self) -> str:
        return f"{self.prompt_id}-{self.image.seed}.png"


def bring(
    folder: Path,
    prompts: Path | None,
    store: Path,
    model: str,
    method: str,
    is_wanted: Callable[[str], bool],
    seed: int,
    tell: Callable[[str], None],
) -> list[Done]:
    """Copy the images of a folder into cells, one for each size for which `is_wanted("WxH")` is true.

    `seed` is that of images whose seed is not given. What can't be imported goes to `tell`, a line for each file.
    Raises RequestError for a wrong request only.
    """
    check_name("model", model)
    check_name("method", method)
    if method in RESERVED:
        raise RequestError(f"method={method} means something else in a store; give another name")
    if is_cell(folder):
        raise RequestError(f"{folder} is a run already; {command_line('eval')} path={folder} scores it")
    run = load_folder(folder, prompts, seed, lenient=True)
    for line in [*run.notes, *run.changes]:
        tell(line)
    if not any(image.prompt for image in run.images):
        raise RequestError(f"the images in {folder} have no prompts; give prompts=<file>")
    given = {"path": run.method, "prompts": prompts.name if prompts else None, "seed": seed}
    found = []
    for size, items in sorted(_by_size(run, prompts, is_wanted, tell).items()):
        about = identity(model, method, size)
        place = RunFolder(store, model, method, size, about)
        for problem in place.repair() if place.path.exists() else []:
            tell(problem)
        record = {"config": {"imported": given | {"model": model, "method": method}}, **provenance.code()}
        packages = {"pillow": provenance.packages()["pillow"]}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for problem in place.open(record | {"packages": packages, "device": None, "created": now}):
            tell(problem)
        found.append(_fill(place, items, run.method, tell))
        place.settle()
    return found


def identity(model: str, method: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the identity of a cell of imported images. `model.id` is that of the models of this project."""
    from omegaconf import OmegaConf

    known = str(OmegaConf.load(CONF / "model" / f"{model}.yaml")["id"]) if model in models() else model  # type: ignore[index]
    return {
        "imported": True,
        "model": {"id": known},
        "method": {"name": method},
        "size": list(size),
    }


def _by_size(
    run: Run, prompts: Path | None, is_wanted: Callable[[str], bool], tell: Callable[[str], None]
) -> dict[tuple[int, int], list[_Item]]:
    """Return the images that can be imported by their size, without those that are told of."""
    found: dict[tuple[int, int], dict[str, _Item]] = {}
    for image in sorted(run.images, key=lambda image: image.path):
        where = run.file_of(image)
        item, why = _item(image, where, prompts)
        size = images.size(image.path)
        if item is None:
            tell(f"{where} {why}; left out")
        elif size is None:
            tell(f"{where} {_damage(image.path)}; left out")
        elif not is_wanted("x".join(map(str, size))):
            tell(f"{where} is {size[0]}x{size[1]}, which is not the size asked for; left out")
        elif (other := found.setdefault(size, {}).setdefault(item.file, item)) is not item:
            tell(f"{where} has the prompt and seed of {other.where}; left out (give each image its seed)")
    return {size: list(items.values()) for size, items in found.items()}


def _item(image: RunImage, where: str, prompts: Path | None) -> tuple[_Item | None, str]:
    """Return an image with the id of its prompt, or None and the reason why it can't be imported."""
    text = (image.prompt or "").strip()
    if not text:
        return None, "has no prompt"
    try:
        text.encode()
    except UnicodeEncodeError:
        return None, "has a prompt with half a character"
    label = image.prompt_id if prompts and prompts.suffix != ".txt" and image.prompt_id != where else None
    is_ours = label and re.fullmatch(rf"([a-z0-9-]{{1,40}}-)?{text_sha(text)[:8]}", label)
    return _Item(image, where, text, label if label and is_ours else named(text, label).id), ""


def _damage(path: Path) -> str:
    """Return what is wrong with an image that can't be opened."""
    try:
        images.read(path)
    except images.DamagedError as error:
        return str(error)
    return "has no size"


def _fill(place: RunFolder, items: list[_Item], source: str, tell: Callable[[str], None]) -> Done:
    """Copy the images of one size into their cell, those that are not there."""
    from tqdm import tqdm

    done = Done(place.path)
    first: dict[str, str] = {}  # file by the hash of its content
    for item in tqdm(items, desc="import", unit="image", leave=False, disable=None, dynamic_ncols=True):
        try:
            content = item.image.path.read_bytes()
        except OSError as error:
            tell(f"{item.where} can't be read ({error.strerror}); left out")
            continue
        sha = sha256(content).hexdigest()
        if (other := first.setdefault(sha, item.where)) != item.where:
            tell(f"{item.where} is the same image as {other}, with another prompt or seed; imported all the same")
        if not _is_there(place, item, sha, done, tell):
            with place.claim(item.file, wait=True):  # another process may import it meanwhile
                if not _is_there(place, item, sha, done, tell):
                    _copy(place, item, content, {"source": f"{source}/{item.where}", "source_sha256": sha}, done, tell)
    return done


def _is_there(place: RunFolder, item: _Item, sha: str, done: Done, tell: Callable[[str], None]) -> bool:
    """Return whether the cell has an intact image of this prompt and seed. One of another content is told of."""
    if place.state(item.file) != "done":
        return False
    if dict(place.rows()[item.file]).get("source_sha256") == sha:
        done.there += 1
    else:
        tell(f"{item.where} is not the image that was imported before for its prompt and seed, which is kept")
    return True


def _copy(
    place: RunFolder, item: _Item, content: bytes, origin: dict[str, Any], done: Done, tell: Callable[[str], None]
) -> None:
    """Copy one image into its cell."""
    from PIL import Image

    try:
        pixels = images.decode(content)
    except images.DamagedError as error:
        tell(f"{item.where} {error}; left out")
        return
    about = {
        "prompt_id": item.prompt_id,
        "prompt": item.prompt,
        "prompt_sha": text_sha(item.prompt),
        "seed": item.image.seed,
        **origin,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": provenance.code(),
        **item.image.cost,
    }
    if change := _change(content):
        place.add(item.file, Image.fromarray(pixels), about)
        done.changes[change] += 1
    else:
        place.adopt(item.file, content, about)
    done.new += 1


def _change(content: bytes) -> str:
    """Return why a sound image can't be copied as it is, "" for one that can."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        if file.format != "PNG" or getattr(file, "n_frames", 1) > 1:
            return f"converted from {file.format} to PNG"
        # with the record of another cell in it, `verify` would take it for damaged
        return "written again without the record of another cell" if png.KEYWORD in file.info else ""
