"""Measure the embedded model, its autoencoder and its scorer: `python scripts/embedded_measure.py <run folder> <out>
[part ...]`.

It writes `<out>/card.json`, which the model card and other pages use. Parts are `scorer`, `autoencoder` and `model`;
other parts of the record are kept. The run must have captions of the embedded world and the training size.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sega.embedded import world
from sega.embedded.model import NATIVE, PIPELINE
from sega.embedded.scorer import Scorer, load_scorer
from sega.embedded.training.autoencoder import quality
from sega.embedded.training.scorer import hits
from sega.errors import RequestError

SIDES = (NATIVE, 2 * NATIVE, 4 * NATIVE)
SMALL = 0.18
"""Objects of a radius below this count as small. Radii are uniform between 0.15 and 0.27 of the image's height."""
RENDERS = 1000
SEED = 20_000
"""First seed of the renders. Training uses other seeds."""
USAGE = "usage: python scripts/embedded_measure.py <run folder> <out folder> [scorer] [autoencoder] [model]"


def load_run(folder: Path) -> tuple[list[str], torch.Tensor]:
    """Return prompts and images, uint8 [N, 3, H, W], of a run. Raises RequestError if there is no run."""
    if not (folder / "images.jsonl").is_file():
        raise RequestError(f"{folder} is no run: it has no images.jsonl")
    rows = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    rows = sorted({row["file"]: row for row in rows}.values(), key=lambda row: row["file"])
    images = [np.asarray(Image.open(folder / row["file"]).convert("RGB")) for row in rows]
    return [row["prompt"] for row in rows], torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def renders(prompts: list[str], side: int, seed: int) -> torch.Tensor:
    """Render each caption once, uint8 [N, 3, side, side]. `seed` selects everything that captions leave open."""
    images = [world.render(world.scene_for(text, seed * 100_003 + i), side, side) for i, text in enumerate(prompts)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def accuracies(scorer: Scorer, prompts: list[str], images: torch.Tensor) -> dict[str, float]:
    """Return the share of images that match their caption, for each scored attribute, and the mean."""
    said = [world.parse_caption(text) for text in prompts]
    hits: dict[str, list[bool]] = {name: [] for name in world.SCORED}
    for start in range(0, len(images), 64):
        found = scorer.attribute_probabilities(images[start : start + 64])
        for name in world.SCORED:
            best = found[name].argmax(-1).tolist()
            hits[name] += [
                world.ATTRIBUTES[name][i] == s[name] for i, s in zip(best, said[start : start + 64], strict=True)
            ]
    values = {name: float(np.mean(h)) for name, h in hits.items()}
    return values | {"mean": float(np.mean(list(values.values())))}


def fid(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return FID with the embedded features, as `python -m eval` computes it."""
    from eval.metrics.distances.fid import fid as distance
    from eval.metrics.learned import networks

    network = networks.load(networks.find("embedded", {"clip": {"path": None}}), "cpu")
    sets = [torch.cat([network.image(x[i : i + 64]) for i in range(0, len(x), 64)]).double().numpy() for x in (a, b)]
    return distance(*sets)


def measure_scorer() -> dict:
    """Return the zero-shot accuracy on new renders at 1x, 2x and 4x, of all and of those with a small object."""
    scorer, found = (
        load_scorer(),
        {"renders": RENDERS, "small_below": SMALL, "small_renders": {}, "all": {}, "small": {}},
    )
    for side in map(str, SIDES):
        radius, right = hits(scorer, RENDERS, int(side), SEED)
        small = radius < SMALL
        found["small_renders"][side] = int(small.sum())
        found["all"][side] = {name: float(values.mean()) for name, values in right.items()}
        found["small"][side] = {name: float(values[small].mean()) for name, values in right.items()}
        print(f"scorer at {side} px: {found['all'][side]}; {small.sum()} small: {found['small'][side]}", flush=True)
    return found


def measure_autoencoder() -> dict:
    """Return the PSNR of the autoencoder on new renders, in dB by side in pixels."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(PIPELINE / "vae", torch_dtype=torch.float32).eval()
    return {"renders": 8, "psnr_db": quality(vae, SIDES, 8, SEED)}


def measure_model(run: Path) -> dict:
    """Return attributes and FID of a run at the training size, and those of renders of the same captions."""
    prompts, images = load_run(run)
    side, scorer = images.shape[-1], load_scorer()
    if tuple(images.shape[-2:]) != (NATIVE, NATIVE):
        raise RequestError(f"{run} is a run of {side} px; the card describes the native {NATIVE} px: name such a run")
    truth, other = renders(prompts, side, SEED), renders(prompts, side, SEED + 1)
    settings = json.loads((run / "run.json").read_text())
    return {
        "run": settings["hash"],
        "dtype": settings["config"]["model"]["dtype"],
        "side": side,
        "images": len(images),
        "generated": accuracies(scorer, prompts, images),
        "rendered": accuracies(scorer, prompts, truth),
        "fid": fid(images, truth),
        "fid_of_renders": fid(other, truth),
    }


def main(words: list[str]) -> None:
    parts = words[2:] or ["scorer", "autoencoder", "model"]
    if len(words) < 2 or set(parts) - {"scorer", "autoencoder", "model"}:
        raise RequestError(USAGE)
    path = Path(words[1]) / "card.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    measures = {
        "scorer": measure_scorer,
        "autoencoder": measure_autoencoder,
        "model": lambda: measure_model(Path(words[0])),
    }
    for part in parts:
        found = measures[part]()
        record = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(record | {part: found}, indent=1) + "\n")
        print(f"{part} measured: {path}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
