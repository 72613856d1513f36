"""The model card of the embedded model, from a run at native size: `python scripts/embedded_card.py <run folder> <out>`.

Writes `README.md`, `samples.png` and `training.png`. Attribute accuracy is measured with the scorer on the generated
pictures and on renders of the same captions; the FID of the generated pictures stands beside the FID of two sets of
renders, which is what a perfect generator would get at this number of pictures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sega.embedded import world
from sega.embedded.model import WEIGHTS
from sega.embedded.scorer import FEATURES, Scorer, load_scorer
from sega.errors import RequestError

SAMPLES = (6, 8)  # rows, columns of the sample grid


def load_run(folder: Path) -> tuple[list[str], torch.Tensor]:
    """Prompts and pictures, uint8 [N, 3, H, W], of a run. Raises RequestError where there is none."""
    if not (folder / "images.jsonl").is_file():
        raise RequestError(f"{folder} is no run: it has no images.jsonl")
    rows = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    rows = sorted({row["file"]: row for row in rows}.values(), key=lambda row: row["file"])
    pictures = [np.asarray(Image.open(folder / row["file"]).convert("RGB")) for row in rows]
    return [row["prompt"] for row in rows], torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def renders(prompts: list[str], side: int, seed: int) -> torch.Tensor:
    """One render of each caption, uint8 [N, 3, side, side]; `seed` draws what captions leave free."""
    pictures = [world.render(world.scene_for(text, seed * 100_003 + i), side, side) for i, text in enumerate(prompts)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def accuracies(scorer: Scorer, prompts: list[str], pictures: torch.Tensor) -> dict[str, float]:
    """Share of pictures that show what their caption says, for each scored attribute and their mean."""
    said = [world.parse_caption(text) for text in prompts]
    hits: dict[str, list[bool]] = {name: [] for name in world.SCORED}
    for start in range(0, len(pictures), 64):
        found = scorer.attribute_probabilities(pictures[start : start + 64])
        for name in world.SCORED:
            best = found[name].argmax(-1).tolist()
            hits[name] += [
                world.ATTRIBUTES[name][i] == s[name] for i, s in zip(best, said[start : start + 64], strict=True)
            ]
    values = {name: float(np.mean(h)) for name, h in hits.items()}
    return values | {"mean": float(np.mean(list(values.values())))}


def fid(a: torch.Tensor, b: torch.Tensor) -> float:
    """FID as `python -m eval` computes it with the embedded features."""
    from eval import distances, networks

    network = networks.load(networks.find("embedded", {"clip": {"path": None}}), "cpu")
    sets = [torch.cat([network.image(x[i : i + 64]) for i in range(0, len(x), 64)]).double().numpy() for x in (a, b)]
    return distances.fid(*sets)


def sample_grid(prompts: list[str], pictures: torch.Tensor, path: Path) -> None:
    """Generated pictures, and under each row the renders of the same captions."""
    rows, columns = SAMPLES
    chosen = [i * len(prompts) // (rows * columns // 2) for i in range(rows * columns // 2)]  # spread over the run
    prompts, pictures = [prompts[i] for i in chosen], pictures[chosen]
    truth = renders(prompts, pictures.shape[-1], 1)
    lines = []
    for r in range(rows // 2):
        row = slice(r * columns, (r + 1) * columns)
        lines += [torch.cat(list(x[row]), dim=2) for x in (pictures, truth)]
    Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()).save(path, optimize=True)


def curves(record: dict, path: Path) -> None:
    """Loss curves of the trained parts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parts = [part for part in ("autoencoder", "generator", "scorer") if part in record]
    figure, axes = plt.subplots(1, len(parts), figsize=(4 * len(parts), 2.8), layout="constrained")
    for axis, part in zip(np.atleast_1d(axes), parts, strict=True):
        axis.plot(*zip(*record[part]["curve"], strict=True))
        axis.set(title=part, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, dpi=110)


def phases(record: dict) -> list[dict]:
    """The runs that made the generator, the last first."""
    found, run = [], record.get("distillation") or record["generator"]
    while run:
        found.append(run)
        run = run.get("started_from")
    return found


def phase(run: dict) -> str:
    """One run of training in a sentence."""
    aim = f", distilled from itself at guidance {run['guidance']}" if run.get("guidance") else ""
    return (
        f"{run['steps']} steps, {run['pictures']} pictures ({run['distinct']} distinct), {run['seconds'] / 60:.0f} minutes "
        f"on {run['workers']} {run['device']} worker(s), final loss {run['loss']:.4f}{aim}"
    )


def card(run: Path, out: Path) -> None:
    """Measure and write the card."""
    scorer, record = load_scorer(), json.loads((WEIGHTS / "training.json").read_text())
    prompts, pictures = load_run(run)
    side, n = pictures.shape[-1], len(pictures)
    truth, other = renders(prompts, side, 1), renders(prompts, side, 2)
    made, real = accuracies(scorer, prompts, pictures), accuracies(scorer, prompts, truth)
    out.mkdir(parents=True, exist_ok=True)
    sample_grid(prompts, pictures, out / "samples.png")
    curves(record, out / "training.png")
    rows = "\n".join(f"| {k} | {made[k]:.3f} | {real[k]:.3f} | {made[k] / real[k]:.2f} |" for k in made)
    generator, autoencoder, decoder = (record.get(part, {}) for part in ("generator", "autoencoder", "decoder"))
    quality = (decoder or autoencoder)["psnr_db"]
    sizes = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    text = f"""# The embedded model

A `FluxPipeline` of stock classes trained on the procedural world of `sega/embedded/world.py`. Whatever is measured with it is a
property of this small world, not of FLUX. Written by `python scripts/embedded_card.py` from the run `{json.loads((run / "run.json").read_text())["hash"]}`.

![generated pictures over renders of the same captions](samples.png)

Odd rows are generated, even rows are renders of the same captions (with another horizon, place and texture, which a caption leaves free).

## Quality at the native size ({side} px, N = {n})

| attribute | generated | rendered | ratio |
|---|---|---|---|
{rows}

FID (scorer features, {FEATURES} dimensions, N = {n}): generated against renders **{fid(pictures, truth):.3f}**; two sets of renders
{fid(other, truth):.3f}.

## Recipe

* Generator: {"; before that ".join(map(phase, phases(record)))}. Muon and AdamW, EMA, bf16 autocast; grids of 12 to 16 tokens a side; tokens
  where the object may stand weigh up to 5 times more.
* Autoencoder: {autoencoder["steps"]} steps{f", then {decoder['steps']} of the decoder alone" if decoder else ""}; reconstruction {", ".join(f"{v:.1f} dB at {k} px" for k, v in quality.items())}.
* Scorer: open_clip, {record["scorer"]["steps"]} steps of 64 pictures; zero-shot accuracy on fresh renders of 128 px:
  {", ".join(f"{k} {v:.2f}" for k, v in record["scorer"]["accuracy"]["128"].items())}.
* All weights together: {sizes / 1e6:.1f} MB. `make train-embedded` trains them again from nothing.

![loss curves](training.png)
"""
    (out / "README.md").write_text(text)
    print(f"attribute accuracy {made['mean']:.3f} generated, {real['mean']:.3f} rendered; card in {out / 'README.md'}")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 3:
            raise RequestError("usage: python scripts/embedded_card.py <run folder> <out folder>")
        card(Path(sys.argv[1]), Path(sys.argv[2]))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
