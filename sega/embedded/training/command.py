"""Train the embedded model from nothing: `python -m sega.embedded.training [--part autoencoder generator ...]
[--install]`.

Parts are written to a work folder as they finish, with their records in `training.json`, so a run can go on with the
next part. `--install` copies them over the weights that ship with the project. The default times make 3 hours on two
cores of a CPU, 10 minutes on a large GPU.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from sega.errors import RequestError

PARTS = ("text", "autoencoder", "generator", "distillation", "scorer")
MINUTES = {
    "cpu": {"text": 2.0, "autoencoder": 20.0, "generator": 100.0, "distillation": 25.0, "scorer": 30.0},
    "cuda": {"text": 0.5, "autoencoder": 1.2, "generator": 4.5, "distillation": 1.6, "scorer": 1.5},
}
SCENES = {"cpu": 320, "cuda": 2048}
"""Shards of 64 scenes to render: about 6 MB each on disk."""


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
    parser.add_argument("--install", action="store_true", help="copy the result over the weights in the package")
    for part in PARTS:
        cpu, cuda = (MINUTES[kind][part] for kind in ("cpu", "cuda"))
        parser.add_argument(
            f"--{part}-minutes", type=positive(float), help=f"default: {cpu:g} on a CPU, {cuda:g} on a GPU"
        )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    args = arguments(words)
    if args.start_from is not None and not (args.start_from / "pipeline").is_dir():
        raise RequestError(f"{args.start_from} holds no weights to start from: it has no folder 'pipeline'")

    import torch

    from sega.embedded.training import record
    from sega.embedded.training.pool import FAMILY_SHARDS, GRIDS, Pool, shards

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = device.split(":")[0]
    if kind not in MINUTES:
        raise RequestError(f"unknown device {device!r}: write cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RequestError("no CUDA device here: leave --device out, or write --device cpu")
    if args.scenes is not None and args.scenes < len(GRIDS):
        raise RequestError(f"--scenes {args.scenes} is too few: every grid needs one, so write {len(GRIDS)} or more")
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")
    else:
        torch.set_num_threads(args.threads)
    parts = args.part or (PARTS if args.start_from is None else PARTS[1:])
    families = args.families or FAMILY_SHARDS
    kinds = {"scenes", "large"} if {"autoencoder", "generator", "distillation"} & set(parts) else set()
    kinds |= {"families"} if "scorer" in parts else set()
    names = shards(kinds, args.scenes or SCENES[kind], families=families)
    workers = args.workers or (1 if kind == "cpu" else max(1, (os.cpu_count() or 2) - 1))
    minutes = {part: getattr(args, f"{part}_minutes") or MINUTES[kind][part] for part in PARTS}
    budgets = {part: record.Budget(0 if args.steps else 60 * minutes[part], args.steps) for part in PARTS}
    more = {} if args.checks is None else {"checks": args.checks}
    args.work.mkdir(parents=True, exist_ok=True)
    with Pool(args.work / "pool", names, workers) as pool:
        for part in PARTS:
            if part not in parts:
                continue
            if part == "text":
                from sega.embedded.training.text import train_text

                found = train_text(args.work, budgets[part], device)
            elif part == "autoencoder":
                from sega.embedded.training.autoencoder import train_autoencoder

                found = train_autoencoder(args.work, pool, budgets[part], device, start_from=args.start_from, **more)
            elif part == "scorer":
                from sega.embedded.training.scorer import train_scorer

                found = train_scorer(
                    args.work, pool, budgets[part], device, shards=families, start_from=args.start_from, **more
                )
            else:
                from sega.embedded.training.generator import train_generator

                found = train_generator(
                    args.work, pool, budgets[part], device, part, args.tokens, start_from=args.start_from
                )
            print(part, {key: found[key] for key in ("loss", "psnr_db", "accuracy") if key in found}, flush=True)
    print(f"trained in {args.work}: run.py model=tiny model.path={args.work / 'pipeline'} uses it, --install ships it")
    if args.install:
        record.install(args.work)
