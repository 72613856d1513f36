"""Renders for training, made by worker processes while training runs.

A shard is an npz file of `x`, uint8 [N, H, W, 3], and `ids`, int16 [N, TEXT_TOKENS], the tokens of the captions.
There are `scenes` at the token grids of the generator, `large` ones for the autoencoder, and `families` at the
scorer's input size. A file appears by rename and is kept, so a second run renders only what is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch

from sega.embedded import world
from sega.embedded.model import build_tokenizer
from sega.embedded.training.families import FAMILY, render_family

GRIDS = (
    (24, 24),
    (16, 16),
    (24, 24),
    (18, 32),
    (20, 20),
    (24, 24),
    (32, 18),
    (12, 12),
    (24, 24),
    (20, 28),
    (16, 24),
    (24, 24),
    (28, 20),
    (24, 16),
    (24, 24),
    (20, 20),
)
"""Token grids (height, width) of the shards of scenes, in turn. Each grid is drawn as often as it stands here."""
SHARD = 64
TOKEN_PIXELS = 8
LARGE = ((384, 24), (768, 8))  # side in px, renders in a shard
LARGE_SHARDS = 16
FAMILY_SHARDS = 140


def shards(kinds: set[str], scenes: int, families: int = FAMILY_SHARDS) -> list[str]:
    """Names of the shards to make, in order: one of every grid, the large ones, more scenes, then families."""
    first = [f"scenes-{i:05d}" for i in range(min(scenes, len(GRIDS)))]
    middle = [f"large{side}-{i:05d}" for i in range(LARGE_SHARDS) for side, _ in LARGE]
    rest = [f"scenes-{i:05d}" for i in range(len(GRIDS), scenes)]
    names = [*first, *middle, *rest, *(f"families-{i:05d}" for i in range(families))]
    return [name for name in names if name.split("-")[0].rstrip("0123456789") in kinds]


def make_shard(name: str, seed: int, tokenizer) -> dict[str, np.ndarray]:
    """The renders and caption tokens of one shard."""
    kind, index = name.split("-")[0], int(name.split("-")[1])
    if kind == "families":
        rng = np.random.default_rng([seed, 4, index])
        pairs = [pair for _ in range(SHARD // FAMILY) for pair in render_family(rng)]
        scenes, images = zip(*pairs, strict=True)
    else:
        if kind == "scenes":
            height, width = (TOKEN_PIXELS * side for side in GRIDS[index % len(GRIDS)])
            count, rng = SHARD, np.random.default_rng([seed, 3, index])
        else:
            height = width = int(kind.removeprefix("large"))
            count, rng = dict(LARGE)[width], np.random.default_rng([seed, 9, width, index])
        scenes = [world.sample_scene(rng) for _ in range(count)]
        images = [world.render(scene, width, height) for scene in scenes]
    captions = [world.caption(scene) for scene in scenes]
    ids = tokenizer(captions, padding="max_length", return_tensors="np").input_ids
    return {"x": np.stack(images), "ids": ids.astype(np.int16)}


def _make(folder: Path, names: list[str], seed: int) -> None:
    torch.set_num_threads(1)
    os.nice(10)
    tokenizer = build_tokenizer()
    for name in names:
        done, part = folder / f"{name}.npz", folder / f"{name}.{os.getpid()}.part"
        if done.exists():  # a second command renders the same pool
            continue
        with part.open("wb") as file:
            np.savez(file, **make_shard(name, seed, tokenizer))
        part.rename(done)


class Pool:
    """The shards of a folder. As a context it runs the workers that make `names`, and stops them at the end."""

    def __init__(self, folder: Path, names: list[str], workers: int, seed: int = 1):
        self.folder, self.names, self.workers, self.seed = folder, names, workers, seed
        self.jobs: list[multiprocessing.Process] = []

    def __enter__(self) -> Pool:
        self.folder.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        missing = [name for name in self.names if not (self.folder / f"{name}.npz").exists()]
        for rank in range(min(self.workers, len(missing))):
            mine = missing[rank :: self.workers]
            self.jobs.append(spawn.Process(target=_make, args=(self.folder, mine, self.seed), daemon=True))
            self.jobs[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.jobs:
            job.terminate()
            job.join()

    def paths(self, kind: str) -> list[Path]:
        """Where the shards of a kind are or will be, in the order they are made."""
        return [self.folder / f"{name}.npz" for name in self.names if name.rpartition("-")[0] == kind]

    def wait(self, kind: str, count: int) -> list[Path]:
        """The first `count` shards of a kind, once they are there. Raises RuntimeError when the workers end before
        that."""
        wanted = self.paths(kind)[:count]
        while len(wanted) < count or not all(path.exists() for path in wanted):
            if not any(job.is_alive() for job in self.jobs):
                made = sum(path.exists() for path in wanted)
                if made < count:
                    raise RuntimeError(f"the renderers ended with {made} of {count} shards of {kind}")
            time.sleep(0.3)
        return wanted

    def wait_for_all(self) -> int:
        """The number of shards, once all are there. Raises RuntimeError when the workers end before that."""
        for kind in {name.rpartition("-")[0] for name in self.names}:
            self.wait(kind, len(self.paths(kind)))
        return len(self.names)


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, uint8 [N, 3, H, W], and caption tokens, int64 [N, TEXT_TOKENS], of a shard."""
    with np.load(path) as shard:
        return torch.from_numpy(shard["x"]).permute(0, 3, 1, 2), torch.from_numpy(shard["ids"].astype(np.int64))
