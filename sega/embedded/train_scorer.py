"""Train the scorer contrastively on rendered scenes and their captions, with heads that read the attributes.

The heads are linear, sit on the embeddings of pictures and of captions alike, and are thrown away; they make every
attribute worth learning from the first step.

Every batch is made of families: eight captions that differ from each other in one or a few attributes, so that no
attribute can be ignored. Pictures are rendered at several sizes, and a part of them blurred or made noisy, so that
scores depend on what is shown.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sega.embedded import world
from sega.embedded.model import build_tokenizer
from sega.embedded.scorer import CONFIG, INPUT, Scorer, prepare

FAMILY = 8
FAMILIES = 8
SIZES = (96, 128, 128, 160, 256)


def family(rng: np.random.Generator) -> list[world.Scene]:
    """FAMILY scenes whose captions differ from the first in each attribute with a chance of 0.3."""
    first = world.sample_scene(rng)
    rest = []
    for _ in range(FAMILY - 1):
        keep = {k: v for k, v in first.said.items() if rng.random() > 0.3}
        rest.append(world.sample_scene(rng, keep))
    return [first, *rest]


def render_families(count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """uint8 [count * FAMILY, 3, INPUT, INPUT] and captions, rendered at random SIZES and brought to INPUT."""
    rng = np.random.default_rng([seed, 4])
    pictures, captions = [], []
    for _ in range(count):
        for scene in family(rng):
            side = int(rng.choice(SIZES))
            x = torch.from_numpy(world.render(scene, side, side)).permute(2, 0, 1)[None]
            if side != INPUT:
                x = (
                    F.interpolate(x.float(), (INPUT, INPUT), mode="bicubic", antialias=True)
                    .round()
                    .clamp(0, 255)
                    .byte()
                )
            pictures.append(x)
            captions.append(world.caption(scene))
    return torch.cat(pictures), captions


def disturb(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur a quarter of the prepared pictures and add noise to a quarter."""
    chance = torch.rand(2, len(x), generator=generator)
    small = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = torch.where((chance[0] < 0.25)[:, None, None, None], small, x)
    noise = torch.randn(x.shape, generator=generator) * 0.15
    return torch.where((chance[1] < 0.25)[:, None, None, None], x + noise, x)


def accuracy(scorer: Scorer, count: int = 256, side: int = 128, seed: int = 99) -> dict[str, float]:
    """Zero-shot accuracy for each attribute on fresh renders."""
    rng = np.random.default_rng([seed, side])
    scenes = [world.sample_scene(rng) for _ in range(count)]
    hits: dict[str, list[float]] = {name: [] for name in world.ATTRIBUTES}
    for chunk in range(0, count, 32):
        part = scenes[chunk : chunk + 32]
        x = torch.from_numpy(np.stack([world.render(s, side, side) for s in part])).permute(0, 3, 1, 2)
        for name, p in scorer.attribute_probabilities(x).items():
            hits[name] += [
                float(world.ATTRIBUTES[name][i] == s.said[name])
                for i, s in zip(p.argmax(-1).tolist(), part, strict=True)
            ]
    return {name: sum(h) / len(h) for name, h in hits.items()}


def train_scorer(
    folder: Path,
    seconds: float,
    device: str = "cpu",
    seed: int = 1,
    families: int = 1200,
    start_from: Path | None = None,
) -> dict:
    """Train for `seconds`; write `folder/scorer` (float16) and return the record of the run.

    `start_from` is a scorer folder whose weights training goes on from.
    """
    import open_clip
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pictures, captions = render_families(families, seed)
    said = [world.parse_caption(text) for text in captions]
    labels = torch.tensor([[values.index(s[name]) for name, values in world.ATTRIBUTES.items()] for s in said])
    ids = build_tokenizer()(captions, padding="max_length", return_tensors="pt").input_ids
    model = CLIP(**CONFIG).to(device, memory_format=torch.channels_last).train()
    if start_from is not None:
        model.load_state_dict(open_clip.create_model(f"local-dir:{start_from}").state_dict())
    widths = [len(values) for values in world.ATTRIBUTES.values()]
    heads = torch.nn.Linear(CONFIG["embed_dim"], sum(widths)).to(device)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *heads.parameters()], lr=1.5e-3, weight_decay=0.02, betas=(0.9, 0.98)
    )
    start, step, curve = time.time(), 0, []
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, (step + 1) / 60) * (1 - done) + 1e-6
        pick = torch.randint(families, (FAMILIES,), generator=generator)
        rows = (pick[:, None] * FAMILY + torch.arange(FAMILY)).flatten()
        x = disturb(prepare(pictures[rows]), generator).to(device, memory_format=torch.channels_last)
        words = ids[rows].to(device)
        with torch.autocast(device, torch.bfloat16):
            image, text = model.encode_image(x), model.encode_text(words)
        logits = model.logit_scale.exp() * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        same = (words[:, None] == words[None]).all(-1).float()  # equal captions in a family are equally right
        target = same / same.sum(-1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        for features in (image, text):
            for k, guess in enumerate(heads(features.float()).split(widths, dim=-1)):
                loss = loss + 0.3 * F.cross_entropy(guess, labels[rows, k].to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=4.6)
        step += 1
        if step % 50 == 0:
            curve.append((step, round(float(loss), 4)))
            print(f"scorer step {step}, {100 * done:.0f} %, loss {float(loss):.4f}", flush=True)
    out = folder / "scorer"
    out.mkdir(parents=True, exist_ok=True)
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}, indent=1)
    )
    save_file(
        {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()},
        out / "open_clip_model.safetensors",
    )
    scorer = Scorer(open_clip.create_model(f"local-dir:{out}"))
    record = {"steps": step, "seconds": round(time.time() - start), "curve": curve,
              "accuracy": {str(side): accuracy(scorer, 128, side) for side in (128, 256, 512)}}  # fmt: skip
    (folder / "scorer.json").write_text(json.dumps(record))
    return record
