"""Optional dashboards, fed from the same records the store keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Tracker:
    """Does nothing; what `tracker=none` gets."""

    def log(self, row: dict[str, Any], image: Path) -> None:
        """One image is finished."""

    def close(self) -> None:
        """The cell is finished."""


class Wandb(Tracker):
    """A Weights & Biases run per cell: the config, a row per image, the first pictures."""

    def __init__(self, options: dict[str, Any], name: str, group: str, identity: str, config: dict[str, Any]):
        import wandb

        folder = Path(options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        self.wandb, self.left = wandb, options["images"]
        self.run = wandb.init(
            project=options["project"], name=name, group=group, id=identity, resume="allow", config=config,
            mode=options["mode"], dir=str(folder), settings=wandb.Settings(silent=True),
        )  # fmt: skip

    def log(self, row: dict[str, Any], image: Path) -> None:
        values = {key: row[key] for key in ("seconds", "calls", "peak_memory_mb")}
        if self.left > 0:
            self.left -= 1
            values["image"] = self.wandb.Image(str(image), caption=f"{row['prompt']} (seed {row['seed']})")
        self.run.log(values)

    def close(self) -> None:
        self.run.finish()


def open_tracker(options: dict[str, Any], name: str, group: str, identity: str, config: dict[str, Any]) -> Tracker:
    """The tracker a cell's config asks for."""
    return Wandb(options, name, group, identity, config) if options["name"] == "wandb" else Tracker()
