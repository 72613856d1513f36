"""Train the embedded model from nothing: `python -m sega.embedded.training [--part autoencoder generator ...]
[--install]`.

Parts are written to a work folder as they finish, with their records in `training.json`, so a run can go on with the
next part. `--install` copies them over the weights that ship with the project. The default times make 3 hours on two
cores of a CPU, 10 minutes on a large GPU; `--within` fits them into fewer minutes.

A second generator, of another seed and rotary base, on the autoencoder and text encoders that ship:
  python -m sega.embedded.training --part generator distillation --start-from sega/embedded/weights --new-transformer
      --theta 10000 --seed 2 --work results/cache/second --install sega/embedded/weights/second
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from sega.embedded.model import THETA, WEIGHTS
from sega.errors import RequestError

PARTS = ("text", "autoencoder", "generator", "distillation", "scorer")
GENERATOR = ("generator", "distillation")
MINUTES = {
    "cpu": {"text": 2.0, "autoencoder": 20.0, "generator": 100.0, "distillation": 25.0, "scorer": 30.0},
    "cuda": {"text": 0.5, "autoencoder": 1.2, "generator": 4.5, "distillation": 1.6, "scorer": 1.5},
}
SCENES = {"cpu": 320, "cuda": 2048}
"""Shards of 64 scenes to render: about 6 MB each on disk."""
RESERVE = 8.0
"""Seconds of `--within` that are kept for the writing of each part."""


def positive(kind: type) -> Callable[[str], float]:
    """A reader of option values that takes numbers above 0 alone."""

    def number(word: str) -> float:
        value = kind(word)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{word} is not a number above 0")
        return value

    return number


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, help="what to train (default: all), in this order")
    parser.add_argument(
        "--work", type=Path, default=Path("results/cache/train"), help="folder of renders, weights and records"
    )
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--threads", type=positive(int), default=os.cpu_count() or 1, help="threads of the training on a CPU"
    )
    parser.add_argument(
        "--workers", type=positive(int), help="processes that render (default: 1 on a CPU, all cores but one else)"
    )
    parser.add_argument(
        "--scenes", type=positive(int), help=f"shards of 64 scenes of 6 MB to render (default: {SCENES})"
    )
    parser.add_argument("--families", type=positive(int), help="shards of 64 renders for the scorer")
    parser.add_argument("--steps", type=positive(int), help="steps of every part, in place of its minutes")
    parser.add_argument("--tokens", type=positive(int), help="tokens in a step of the generator")
    parser.add_argument(
        "--checks", type=positive(int), help="fresh renders that measure the autoencoder and the scorer"
    )
    parser.add_argument(
        "--start-from", type=Path, help="folder of weights, as sega/embedded/weights, that every part goes on from"
    )
    parser.add_argument(
        "--new-transformer", action="store_true", help="of --start-from, take over all but the transformer"
    )
    parser.add_argument("--theta", type=positive(float), help="rotary base of the generator (default: 300)")
    parser.add_argument("--seed", type=positive(int), default=1, help="seed of renders, weights and noise")
    parser.add_argument(
        "--within", type=positive(float), help="minutes for the whole command, shared by the parts as by their minutes"
    )
    parser.add_argument("--render-only", action="store_true", help="render what the parts need, and train nothing")
    parser.add_argument(
        "--install",
        type=Path,
        nargs="?",
        const=WEIGHTS,
        help="copy the result over the weights in the package, or into another folder",
    )
    for part in PARTS:
        cpu, cuda = (MINUTES[kind][part] for kind in ("cpu", "cuda"))
        parser.add_argument(
            f"--{part}-minutes", type=positive(float), help=f"default: {cpu:g} on a CPU, {cuda:g} on a GPU"
        )
    return parser.parse_args(words)


class Trainer:
    """Trains a part on the pool of a command; the latents of the generator are kept for its distillation."""

    def __init__(self, args: argparse.Namespace, pool, device: str):
        self.args, self.pool, self.device, self.latents = args, pool, device, None

    def __call__(self, part: str, budget) -> dict:
        """The record of the part."""
        args, common = self.args, {"device": self.device, "seed": self.args.seed}
        if part == "text":
            from sega.embedded.training.text import train_text

            return train_text(args.work, budget, **common)
        if part in GENERATOR:
            return self.generator(part, budget)
        common |= {"start_from": args.start_from} | ({} if args.checks is None else {"checks": args.checks})
        if part == "autoencoder":
            from sega.embedded.training.autoencoder import train_autoencoder

            return train_autoencoder(args.work, self.pool, budget, **common)
        from sega.embedded.training.pool import FAMILY_SHARDS
        from sega.embedded.training.scorer import train_scorer

        return train_scorer(args.work, self.pool, budget, shards=args.families or FAMILY_SHARDS, **common)

    def prepare(self, part: str) -> None:
        """Do what a part waits for before its time runs: the first shards of the generator."""
        from sega.embedded.training.latents import Latents

        if part in GENERATOR and self.latents is None:
            own, other = self.args.work / "vae", self.args.start_from
            folder = own if own.is_dir() or other is None else other / "pipeline" / "vae"
            self.latents = Latents(self.pool, folder, self.device)

    def generator(self, part: str, budget) -> dict:
        from sega.embedded.training.generator import Recipe, train_generator

        args = self.args
        recipe = Recipe(args.theta, args.seed, args.tokens, args.start_from, args.new_transformer)
        return train_generator(args.work, self.latents, budget, part, recipe)


def device_of(args: argparse.Namespace) -> str:
    """The device to train on. Raises RequestError for options that can't be met."""
    import torch

    from sega.embedded.training.pool import GRIDS

    if args.start_from is not None and not (args.start_from / "pipeline").is_dir():
        raise RequestError(f"{args.start_from} holds no weights to start from: it has no folder 'pipeline'")
    if args.new_transformer and args.start_from is None:
        raise RequestError("--new-transformer leaves the transformer of --start-from out: give both")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.split(":")[0] not in MINUTES:
        raise RequestError(f"unknown device {device!r}: write cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError("no CUDA device here: leave --device out, or write --device cpu")
    if args.scenes is not None and args.scenes < len(GRIDS):
        raise RequestError(f"--scenes {args.scenes} is too few: every grid needs one, so write {len(GRIDS)} or more")
    return device


def seconds_of(parts: list[str], minutes: dict[str, float], left: float | None) -> float:
    """Seconds for the first of the parts: its minutes, or its share of the seconds that are left for all of them."""
    if left is None:
        return 60 * minutes[parts[0]]
    return max(left - RESERVE * len(parts), 1.0) * minutes[parts[0]] / sum(minutes[part] for part in parts)


def main(words: list[str] | None = None) -> None:
    started, args = time.time(), arguments(words)

    import torch

    from sega.embedded.training import record
    from sega.embedded.training.pool import FAMILY_SHARDS, Pool, shards

    device = device_of(args)
    kind = device.split(":")[0]
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass fails on these shapes (torch 2.11, H200)
    else:
        torch.set_num_threads(args.threads)
    chosen = args.part or (PARTS if args.start_from is None else PARTS[1:])
    parts = [part for part in PARTS if part in chosen]
    kinds = {"scenes", "large"} if "autoencoder" in parts else {"scenes"} if set(parts) & set(GENERATOR) else set()
    kinds |= {"families"} if "scorer" in parts else set()
    names = shards(kinds, args.scenes or SCENES[kind], families=args.families or FAMILY_SHARDS)
    workers = args.workers or (1 if kind == "cpu" else max(1, (os.cpu_count() or 2) - 1))
    minutes = {part: getattr(args, f"{part}_minutes") or MINUTES[kind][part] for part in PARTS}
    args.work.mkdir(parents=True, exist_ok=True)
    with Pool(args.work / "pool", names, workers, args.seed) as pool:
        if args.render_only:
            print(f"rendered {pool.wait_for_all()} shards in {pool.folder}")
            return
        train = Trainer(args, pool, device)
        for i, part in enumerate(parts):
            train.prepare(part)
            left = None if args.within is None else 60 * args.within - (time.time() - started)
            seconds = 0.0 if args.steps else seconds_of(parts[i:], minutes, left)
            found = train(part, record.Budget(seconds, args.steps))
            print(part, {key: found[key] for key in ("loss", "psnr_db", "accuracy") if key in found}, flush=True)
    theta = record.read(args.work).get("generator", {}).get("theta", THETA)
    used = f"run.py model=tiny model.path={args.work / 'pipeline'} model.geometry.theta={theta:g}"
    print(f"trained in {args.work}: {used} uses it, --install ships it")
    if args.install:
        record.install(args.work, args.install)
