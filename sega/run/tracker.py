"""Optional dashboards, fed from the records that the store keeps. Trouble with one never stops a sweep."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError

if TYPE_CHECKING:
    from sega.run.schema import TrackerConfig
    from sega.store.schema import ImageRow

TIMING = ("seconds", "calls", "peak_memory_mb")
THUMBNAIL = 512
"""Longest side in px of an image in a table: eight images of 4096 px would be 200 MB."""


class Tracker:
    """Does nothing; what `tracker=none` gets."""

    def log(self, row: ImageRow, image: Path) -> None:
        """One image is finished; `row` is its row of images.jsonl."""

    def scores(self, folder: Path, protocol: str, block: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """The cell is scored: a block of scores.json, and rows of scores.jsonl."""

    def close(self) -> None:
        """The cell is finished."""


class Wandb(Tracker):
    """A Weights & Biases run for each cell, named by its hash, so that a restart continues the same run.

    Every session of an offline run holds all of it (images made before are told again), so that `wandb sync` of the
    last one is enough.
    """

    def __init__(
        self,
        options: TrackerConfig,
        name: str,
        group: str,
        identity: str,
        config: dict[str, Any],
        scaling_map: Callable[[Path], Any] | None = None,
    ):
        _check(options)
        self._scaling_map = scaling_map
        self.options, self.folder, self.run = options, None, None
        self.scored: dict[tuple[str, int], dict[str, Any]] = {}  # (prompt id, seed) -> values
        self._arguments = {
            "project": options["project"],
            "name": name,
            "id": identity,
            "resume": "allow",
            "config": config,
            "group": options.get("group") or group_of(config["config"]),
            "job_type": group,
        }
        for mode in dict.fromkeys((options["mode"], "offline")):
            self.run = self._try(lambda mode=mode: self._open(mode), f"{name} is not tracked in mode {mode}")
            if self.run is not None:
                self.mode = mode
                return
            self._try(_free, "W&B's process does not end")

    def _open(self, mode: str):
        import wandb

        folder = Path(self.options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("WANDB_DATA_DIR", str(folder.resolve() / "wandb"))  # tables wait here until they are sent
        settings = {
            "silent": True,
            "console": "off",
            "disable_git": True,
            "save_code": False,
            "x_disable_stats": True,
        }
        if mode == "online":
            wait = float(self.options.get("timeout") or 30)
            settings |= {"init_timeout": wait, "login_timeout": wait, "finish_timeout": wait}
        known = {key: value for key, value in settings.items() if key in wandb.Settings.model_fields}
        run = wandb.init(mode=mode, dir=str(folder), settings=wandb.Settings(**known), **self._arguments)
        run.define_metric("made")
        run.define_metric("*", step_metric="made")
        return run

    def log(self, row: ImageRow, image: Path) -> None:
        self._begin(image.parent, without=image.name)
        self._told += 1
        self._try(lambda: self.run.log({"made": self._told} | {key: row.get(key) for key in TIMING}))

    def scores(self, folder: Path, protocol: str, block: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        self._begin(folder)
        self.scored = {(row["prompt_id"], row["seed"]): row["values"] for row in rows}
        found = {f"{protocol}/N": block["n"]}
        for name, cell in block["metrics"].items():
            for key in ("value", "low", "high"):
                if cell.get(key) is not None:
                    found[f"{protocol}/{name}" + ("" if key == "value" else f"_{key}")] = cell[key]
        self._try(lambda: self.run.summary.update(found))

    def close(self) -> None:
        if self.folder is not None:
            self._try(lambda: self.run.log({"made": self._told, "images": self._images()}))
            self._try(self._map)
        self._try(lambda: self.run.finish())
        self.run = None

    def _begin(self, folder: Path, without: str = "") -> None:
        """Know the folder of the cell, and tell an offline run what was made in sessions before."""
        if self.folder is not None:
            return
        self.folder = folder
        earlier = [row for row in _rows(folder) if row["file"] != without]
        self._told = len(earlier)
        if self.run is not None and self.mode == "offline":
            for number, row in enumerate(earlier, 1):
                self._try(lambda n=number, r=row: self.run.log({"made": n} | {key: r.get(key) for key in TIMING}))

    def _images(self):
        """The first images of the cell with prompts, timing and scores."""
        import wandb

        names = sorted({name for values in self.scored.values() for name in values})
        table = wandb.Table(["prompt_id", "seed", "prompt", "image", "width", "height", *TIMING, *names])
        rows = sorted(_rows(self.folder), key=lambda row: (row["prompt_id"], row["seed"]))
        for row in rows[: self.options["images"]]:
            path = self.folder / row["file"]
            values = self.scored.get((row["prompt_id"], row["seed"]), {})
            numbers = [value.get("mean") if isinstance(value, dict) else value for value in map(values.get, names)]
            shown, size = self._thumbnail(path, f"{row['prompt']} (seed {row['seed']})")
            timing = [row.get(key) for key in TIMING]
            table.add_data(row["prompt_id"], row["seed"], row["prompt"], shown, *size, *timing, *numbers)
        return table

    def _thumbnail(self, path: Path, caption: str) -> tuple[Any, tuple[int | None, int | None]]:
        """The image as it is, or a JPEG of it where it is larger than `tracker.thumbnail`; and its own size."""
        import wandb
        from PIL import Image

        if not path.exists():
            return None, (None, None)
        side = self.options.get("thumbnail", THUMBNAIL)
        with Image.open(path) as image:
            size = image.size
            if side is None or max(size) <= side:
                return wandb.Image(str(path), caption=caption), size
            small = image.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return wandb.Image(small, caption=caption, file_type="jpg"), size

    def _map(self) -> None:
        """The scaling map of the cell, where one can be drawn."""
        import wandb
        from PIL import Image

        figure = self._scaling_map(self.folder) if self._scaling_map else None
        if figure is None:
            return
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        self.run.log({"made": self._told, "scaling": wandb.Image(Image.open(file))})

    def _try(self, action: Callable[[], Any], what: str = "") -> Any:
        """Do something with the run; trouble with the service ends the tracking, not the sweep."""
        if self.run is None and not what:
            return None
        known = trouble()
        try:
            return action()
        except known as error:
            text = str(error).strip() or type(error).__name__
            print(f"warning: W&B: {what or 'tracking ends here'}: {text.splitlines()[0]}", file=sys.stderr, flush=True)
            self.run = None
            return None


def _free() -> None:
    """End W&B's own process, which holds the id of a run that could not be opened."""
    import wandb

    wandb.teardown()


PRIVATE = (
    "wandb.sdk.lib.service.service_token:WandbServiceConnectionError",
    "wandb.sdk.mailbox:MailboxClosedError",
    "wandb.sdk.mailbox.mailbox_handle:HandleAbandonedError",
    "wandb.sdk.mailbox.mailbox_handle:ServerResponseError",
)
"""Private errors of W&B, which other versions may not have."""


@functools.cache
def trouble() -> tuple[type[Exception], ...]:
    """Return the errors that W&B raises when its service or process can't be reached."""
    from wandb.errors import Error

    found: list[type[Exception]] = [Error, OSError]
    for place in PRIVATE:
        module, name = place.split(":")
        try:
            found.append(getattr(import_module(module), name))
        except (ImportError, AttributeError):
            continue
    return tuple(found)


def group_of(config: dict[str, Any]) -> str:
    """A name shared by the cells of a sweep, before and after a restart: one model, prompts and seeds."""
    model = config.get("model") or {}
    about = json.dumps([config.get("prompts"), config.get("seeds")], sort_keys=True, default=str)
    return f"{model.get('name', 'model')}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"


def open_tracker(
    options: TrackerConfig,
    name: str,
    group: str,
    identity: str,
    config: dict[str, Any],
    scaling_map: Callable[[Path], Any] | None = None,
) -> Tracker:
    """Return the tracker that the config of a cell names.

    `group` is the method, `identity` the hash of the cell, and `config` holds `identity` and the resolved `config`.
    `scaling_map` draws a figure from the folder of a run, or says None.
    """
    if options["name"] != "wandb":
        return Tracker()
    return Wandb(options, name, group, identity, config, scaling_map)


def _check(options: TrackerConfig) -> None:
    images, wait, side = options["images"], options.get("timeout"), options.get("thumbnail", THUMBNAIL)
    if isinstance(images, bool) or not isinstance(images, int) or images < 0:
        raise RequestError(f"tracker.images={images} must be a whole number")
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, int | float) or wait <= 0):
        raise RequestError(f"tracker.timeout={wait} must be a number of seconds above 0")
    if side is not None and (isinstance(side, bool) or not isinstance(side, int) or side < 16):
        raise RequestError(f"tracker.thumbnail={side} must be a side in px of at least 16, or null for whole images")


def _rows(folder: Path) -> list[ImageRow]:
    """Rows of images.jsonl, the last of each file; damaged lines are left out."""
    from sega.store.rows import read_rows

    rows, _ = read_rows(folder / "images.jsonl", ("file", "prompt_id", "prompt", "seed"))
    return list({row["file"]: row for row in rows}.values())
