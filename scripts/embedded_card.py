"""Write the model card of the embedded model: `python scripts/embedded_card.py <run folder> <out folder>`.

It writes `README.md`, `samples.png` and `training.png` into the out folder. Every number is read from a record:
`card.json` there (by `scripts/embedded_measure.py`), `training.json` of the weights, and `cpu-training.json` in the
out folder if it exists (the `training.json` of a run from the start on a CPU).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from embedded_measure import load_run, renders
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sega.embedded import world
from sega.embedded.model import WEIGHTS
from sega.embedded.scorer import FEATURES
from sega.embedded.training import record
from sega.embedded.training.command import MINUTES
from sega.errors import RequestError

SAMPLES = (6, 8)  # rows, columns of the sample grid
CURVES = ("autoencoder", "generator", "distillation", "scorer")


def sample_grid(prompts: list[str], images: torch.Tensor, path: Path) -> None:
    """Draw generated images, with the renders of the same captions below each row."""
    rows, columns = SAMPLES
    chosen = [i * len(prompts) // (rows * columns // 2) for i in range(rows * columns // 2)]  # spread over the run
    prompts, images = [prompts[i] for i in chosen], images[chosen]
    truth = renders(prompts, images.shape[-1], 1)
    lines = []
    for r in range(rows // 2):
        row = slice(r * columns, (r + 1) * columns)
        lines += [torch.cat(list(x[row]), dim=2) for x in (images, truth)]
    Image.fromarray(torch.cat(lines, dim=1).permute(1, 2, 0).numpy()).save(path, optimize=True)


def curves(training: dict, path: Path) -> None:
    """Draw the loss curves of the trained parts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parts = [part for part in CURVES if training.get(part, {}).get("curve")]
    figure, axes = plt.subplots(1, len(parts), figsize=(3.6 * len(parts), 2.8), layout="constrained")
    for axis, part in zip(np.atleast_1d(axes), parts, strict=True):
        axis.plot(*zip(*training[part]["curve"], strict=True))
        axis.set(title=part, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path, dpi=110)


def where(run: dict) -> str:
    """Return the time and the device of a run."""
    device = run["device"] + (f", {run['threads']} thread(s)" if run.get("threads") else "")
    return f"{run['seconds'] / 60:.1f} minutes on {device}"


def before(run: dict) -> str:
    """Return the start of a run, as the end of a sentence."""
    earlier = run.get("started_from")
    if not earlier:
        return ""
    steps = earlier["record"].get("steps")
    return f"; {', '.join(earlier['modules'])} went on from an earlier run" + (f" of {steps} steps" if steps else "")


def flow(run: dict) -> str:
    """Return a sentence on a phase of the generator."""
    return (
        f"{run['steps']} steps of about {run['tokens_a_step']:,} tokens, {run['pictures']:,} images "
        f"({run['distinct']:,} distinct), {where(run)}, final loss {run['loss']:.4f}{before(run)}"
    )


def loss_after(run: dict, images: float) -> float:
    """Return the loss of a run after a number of images, interpolated in its curve."""
    steps, losses = zip(*run["curve"], strict=True)
    return float(np.interp(images / run["pictures"] * run["steps"], steps, losses))


def accuracy_table(scorer: dict) -> str:
    """Return the accuracy of the scorer by attribute and side in px, for all objects and for small ones."""
    sides = list(scorer["all"])
    head = [f"{side} px" for side in sides] + [f"small, {side} px" for side in sides]
    lines = [f"| attribute | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name in world.ATTRIBUTES:
        values = [scorer[kind][side][name] for kind in ("all", "small") for side in sides]
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def cpu_section(cpu: dict, reference: dict) -> str:
    """Return a section on training on a CPU, from its measured rate and the loss curve of the installed run."""
    run = cpu["generator"]
    rate, minutes = run["pictures"] / run["busy_seconds"], MINUTES["cpu"]["generator"]
    if run["seconds"] > 0.9 * 60 * minutes:
        return f"On a CPU, from nothing: {flow(run)}."
    seen = 60 * minutes * rate
    read = [loss_after(reference, count) for count in (seen, 2 * seen)]
    minute = run["seconds"] / 60
    return f"""**What a CPU gives.** Nobody has trained this model on a CPU to the end. What follows is a measured rate and a reading of the curve above.
The generator was trained from nothing on {run["threads"]} thread(s) of a CPU ({run["tokens_a_step"]:,} tokens a step, bfloat16 autocast) for {minute:.1f} minutes, in which
other programs left it {run["busy_seconds"] / 60:.1f} minutes of processor time: **{rate:.1f} images for each second of processor time** ({run["pictures"]} images
in {run["steps"]} steps; mean loss {run["loss"]:.2f}). Of three hours `make train-embedded` gives the generator {minutes:.0f} minutes. At this rate they see about
{seen:,.0f} images on one thread, and at most {2 * seen:,.0f} on two. The run on {reference["device"]} had a loss of {read[0]:.3f} and {read[1]:.3f} after as many
images, and {reference["loss"]:.3f} at its end. That run had larger steps ({reference["tokens_a_step"]:,} tokens) and its learning rate was still high there; a run
that ends there may end lower."""


def second_section(folder: Path) -> str:
    """Return a section on the second model, from its records; empty if it is not there."""
    training = record.read(folder)
    if not training:
        return ""
    base, distilled, first = training["generator"], training["distillation"], record.read(WEIGHTS)["generator"]
    return f"""
## The second model, `model=tiny2`

A finding that rests on one training may be a property of that training. The second model has the architecture, the world, the autoencoder and the scorer of
the first; its transformer began from random weights of seed {base["seed"]}, and its rotary base is {base["theta"]:g}.

* Generator: {flow(base)}, in {base["precision"]}.
* Distillation from guidance {distilled["guidance"][0]:g} to {distilled["guidance"][1]:g}: {flow(distilled)}.
* The first model saw {first["pictures"] / base["pictures"]:.1f} times as many images before distillation, so this one draws places and
  colours as the captions say, and rougher shapes.

Eight captions at guidance 1, 2 and 3.5, and four at 2x with the plain model, PI, NTK, YaRN and SEGA (`scripts/embedded_sheet.py`):

![native size](second/native.jpg)
![2x](second/at-2x.jpg)
"""


def time_table() -> str:
    """Return the minutes of each part on a GPU and on a CPU."""
    return ", ".join(f"{part} {MINUTES['cuda'][part]:g} and {MINUTES['cpu'][part]:g}" for part in record.PARTS)


def card(run: Path, out: Path) -> None:
    """Write the card. Raises RequestError if `card.json` or a part of it is missing."""
    prompts, images = load_run(run)
    measured = json.loads((out / "card.json").read_text()) if (out / "card.json").is_file() else {}
    missing = {"scorer", "autoencoder", "model"} - set(measured)
    if missing:
        raise RequestError(
            f"{out / 'card.json'} lacks {', '.join(sorted(missing))}: run scripts/embedded_measure.py {run} {out}"
        )
    training, model, scorer = record.read(WEIGHTS), measured["model"], measured["scorer"]
    cpu = json.loads((out / "cpu-training.json").read_text()) if (out / "cpu-training.json").is_file() else None
    sample_grid(prompts, images, out / "samples.png")
    curves(training, out / "training.png")
    made, real = model["generated"], model["rendered"]
    rows = "\n".join(f"| {k} | {made[k]:.3f} | {real[k]:.3f} | {made[k] / real[k]:.3f} |" for k in made)
    base, distilled, autoencoder = training["generator"], training["distillation"], training["autoencoder"]
    files = [path for name in ("pipeline", "scorer") for path in (WEIGHTS / name).rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    low, high = distilled["guidance"]
    decibels = ", ".join(f"{v:.1f} dB at {k} px" for k, v in measured["autoencoder"]["psnr_db"].items())
    counts = ", ".join(f"{count} at {side} px" for side, count in scorer["small_renders"].items())
    on_cpu = f"\n{cpu_section(cpu, base)}\n" if cpu else ""
    times, second = time_table(), second_section(WEIGHTS / "second")
    on_gpu = "" if second else "; this code has not been run on a GPU"
    text = f"""# The embedded model

A `FluxPipeline` of stock classes trained on the procedural world of `sega/embedded/world.py`. Whatever is measured with it is a
property of this small world, not of FLUX. Native size {model["side"]} px; guidance is embedded, as in FLUX.1-dev. This page is written by `make card`;
its numbers are in [card.json](card.json).

![generated images over renders of the same captions](samples.png)

Odd rows are generated, even rows are renders of the same captions (with another horizon, place and texture, which a caption leaves free).

## Quality at the native size ({model["side"]} px, N = {model["images"]}, {model["dtype"]}, run `{model["run"]}`)

| attribute | generated | rendered | ratio |
|---|---|---|---|
{rows}

FID (scorer features, {FEATURES} dimensions, N = {model["images"]}): generated against renders **{model["fid"]:.3f}**; two sets of renders {model["fid_of_renders"]:.3f}.

Autoencoder, on {measured["autoencoder"]["renders"]} fresh renders of each size: {decibels}.

Scorer: zero-shot accuracy on {scorer["renders"]:,} fresh renders of each size, and on those of them whose object is small (radius below
{scorer["small_below"]} of the height; {counts}):

{accuracy_table(scorer)}

## Recipe

* Generator: {flow(base)}.
  Muon for the matrices of the blocks, AdamW for the rest, EMA, {base.get("precision", "bfloat16 autocast")}; grids of 12 to 32 tokens a side, always the whole scene;
  tokens where the object may stand weigh up to 3 times more.
* Distillation from its own velocity under classifier-free guidance of {low:g} to {high:g}: {flow(distilled)}.
* Autoencoder: {autoencoder["steps"]} steps of {autoencoder["crops_a_step"]} crops of 64 px, {where(autoencoder)}.
* Scorer: open_clip, {training["scorer"]["steps"]} steps of 64 images, {where(training["scorer"])}{before(training["scorer"])}.
* All weights together: {megabytes:.1f} MB. `make train-embedded` trains such weights from nothing into `results/cache/train`. Its times
  are set for 10 minutes on a large GPU and 3 hours on a CPU (minutes on each: {times}){on_gpu}. `ARGS=--install` copies them into the package;
  `ARGS="--part scorer --start-from sega/embedded/weights"` trains one part on from what ships; `python -m sega.embedded.training --help` lists the rest.

![loss curves](training.png)
{on_cpu}{second}"""
    (out / "README.md").write_text(text)
    print(
        f"attribute accuracy {made['mean']:.3f} generated, {real['mean']:.3f} rendered; FID {model['fid']:.3f}, of two sets of "
        f"renders {model['fid_of_renders']:.3f}; card in {out / 'README.md'}"
    )


if __name__ == "__main__":
    try:
        if len(sys.argv) != 3:
            raise RequestError("usage: python scripts/embedded_card.py <run folder> <out folder>")
        card(Path(sys.argv[1]), Path(sys.argv[2]))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
