"""Train the embedded model from nothing: `python -m sega.embedded.train [--part autoencoder generator scorer]`.

Parts are written to a work folder as they finish and copied to the weights that ship with the project by `--install`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from sega.embedded.model import PIPELINE, WEIGHTS

PARTS = ("text", "autoencoder", "generator", "distillation", "scorer", "decoder")
GUIDANCE = 2.8
MINUTES = {"autoencoder": 14.0, "generator": 90.0, "distillation": 12.0, "scorer": 20.0, "decoder": 15.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="what to train, in this order")
    parser.add_argument(
        "--work", type=Path, default=Path("results/cache/train"), help="folder for shards, checkpoints and curves"
    )
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--workers",
        type=int,
        default=None,
        help="processes of the generator's training (default: cores on a CPU, 1 on a GPU)",
    )
    parser.add_argument("--install", action="store_true", help="copy the result over the weights in the package")
    for part in MINUTES:
        parser.add_argument(f"--{part}-minutes", type=float, default=MINUTES[part])
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    import torch

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    workers = args.workers or (1 if device == "cuda" else max(1, (os.cpu_count() or 2)))
    seconds = {part: 60 * getattr(args, f"{part}_minutes") for part in MINUTES}
    if "text" in args.part:
        from sega.embedded.train_text import train_text

        print(train_text(args.work)["accuracy"])
    if "autoencoder" in args.part:
        from sega.embedded.train_autoencoder import train_autoencoder

        print(train_autoencoder(args.work, seconds["autoencoder"], device)["psnr_db"])
    if "generator" in args.part:
        from sega.embedded.train_generator import train_generator

        print(train_generator(args.work, seconds["generator"], device, workers)["loss"])
    if "distillation" in args.part:
        from sega.embedded.train_generator import train_generator

        teacher = args.work / "teacher"
        shutil.copytree(args.work / "pipeline", teacher, dirs_exist_ok=True)
        how = {"start_from": teacher, "guidance": GUIDANCE}
        print(train_generator(args.work, seconds["distillation"], device, workers, **how)["loss"])
    if "scorer" in args.part:
        from sega.embedded.train_scorer import train_scorer

        print(train_scorer(args.work, seconds["scorer"], device)["accuracy"])
    if "decoder" in args.part:
        from sega.embedded.train_autoencoder import refine_decoder

        print(refine_decoder(args.work, seconds["decoder"], device)["psnr_db"])
    if args.install:
        install(args.work)


def install(work: Path) -> None:
    """Copy what was trained in `work` over the weights of the package, with the record of the training."""
    import torch
    from diffusers import AutoencoderKL

    if (work / "decoder.json").is_file():
        AutoencoderKL.from_pretrained(work / "vae", torch_dtype=torch.float16).save_pretrained(
            work / "pipeline" / "vae"
        )
    record = {}
    for part in PARTS:
        if (work / f"{part}.json").is_file():
            record[part] = json.loads((work / f"{part}.json").read_text())
    for source, target in ((work / "pipeline", PIPELINE), (work / "scorer", WEIGHTS / "scorer")):
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
    (WEIGHTS / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
