"""Train the scorer contrastively on rendered scenes and their captions, with heads that read the attributes.

The heads are linear, sit on the embeddings of images and of captions alike, and are thrown away; they make every
attribute worth learning from the first step.

Every batch is made of families: eight captions that differ from each other in one or a few attributes, so that no
attribute can be ignored. Images are rendered at several sizes, and a part of them blurred or made noisy, so that
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
from sega.embedded.model import NATIVE, build_tokenizer
from sega.embedded.scorer import CONFIG, Scorer, prepare
from sega.embedded.training import record
from sega.embedded.training.families import FAMILY
from sega.embedded.training.pool import FAMILY_SHARDS, Pool, read
from sega.embedded.training.precision import autocast

FAMILIES = 8


def disturb(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur a quarter of the prepared images and add noise to a quarter; the generator lives on their device."""
    chance = torch.rand(2, len(x), generator=generator, device=x.device)
    small = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = torch.where((chance[0] < 0.25)[:, None, None, None], small, x)
    noise = torch.randn(x.shape, generator=generator, device=x.device) * 0.15
    return torch.where((chance[1] < 0.25)[:, None, None, None], x + noise, x)


def hits(scorer: Scorer, count: int, side: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What the scorer reads right by zero-shot on `count` fresh renders of side x side px.

    Returns the radius of each object, float [count], and for each attribute whether it was read right, bool [count].
    """
    rng = np.random.default_rng([seed, side])
    scenes = [world.sample_scene(rng) for _ in range(count)]
    right: dict[str, list[bool]] = {name: [] for name in world.ATTRIBUTES}
    for chunk in range(0, count, 32):
        part = scenes[chunk : chunk + 32]
        x = torch.from_numpy(np.stack([world.render(s, side, side) for s in part])).permute(0, 3, 1, 2)
        for name, p in scorer.attribute_probabilities(x).items():
            said = [world.ATTRIBUTES[name].index(s.said[name]) for s in part]
            right[name] += (p.argmax(-1).cpu() == torch.tensor(said)).tolist()
    return np.array([s.radius for s in scenes]), {name: np.array(found) for name, found in right.items()}


def accuracy(scorer: Scorer, count: int = 256, side: int = NATIVE, seed: int = 99) -> dict[str, float]:
    """Zero-shot accuracy for each attribute on fresh renders."""
    return {name: float(found.mean()) for name, found in hits(scorer, count, side, seed)[1].items()}


def _examples(pool: Pool, shards: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, uint8 [N, 3, INPUT, INPUT], caption tokens [N, TEXT_TOKENS] and labels [N, attributes].

    The members of a family follow each other.
    """
    paths = pool.wait("families", shards)
    images, ids = (torch.cat(x) for x in zip(*map(read, paths), strict=True))
    said = [world.parse_caption(text) for text in build_tokenizer().batch_decode(ids, skip_special_tokens=True)]
    labels = [[values.index(s[name]) for name, values in world.ATTRIBUTES.items()] for s in said]
    return images, ids, torch.tensor(labels)


def save_scorer(model, folder: Path) -> None:
    """Write an open_clip folder in float16."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    state = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def train_scorer(
    work: Path,
    pool: Pool,
    budget: record.Budget,
    device: str = "cpu",
    seed: int = 1,
    shards: int = FAMILY_SHARDS,
    checks: int = 128,
    start_from: Path | None = None,
) -> dict:
    """Train for the `budget` on that many shards of families; write `work/scorer` (float16), return its record.

    `checks` fresh renders of each size measure the result. `start_from` is a folder of weights to go on from.
    """
    import open_clip
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    images, ids, labels = (x.to(device) for x in _examples(pool, shards))
    families = len(ids) // FAMILY
    model = CLIP(**CONFIG)
    if start_from is not None:
        model.load_state_dict(open_clip.create_model(f"local-dir:{start_from / 'scorer'}").state_dict())
    model = model.to(device, memory_format=torch.channels_last).train()
    widths = [len(values) for values in world.ATTRIBUTES.values()]
    heads = torch.nn.Linear(CONFIG["embed_dim"], sum(widths)).to(device)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *heads.parameters()], lr=1.5e-3, weight_decay=0.02, betas=(0.9, 0.98)
    )
    start, step, curve = time.time(), 0, []
    while (done := budget.done(step, start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, (step + 1) / 60) * (1 - done) + 1e-6
        pick = torch.randint(families, (FAMILIES, 1), generator=generator, device=device)
        rows = (pick * FAMILY + torch.arange(FAMILY, device=device)).flatten()
        x = disturb(prepare(images[rows]), generator).contiguous(memory_format=torch.channels_last)
        words = ids[rows]
        with autocast(x.device.type):
            image, text = model.encode_image(x), model.encode_text(words)
        logits = model.logit_scale.exp() * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        same = (words[:, None] == words[None]).all(-1).float()  # equal captions in a family are equally right
        target = same / same.sum(-1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        for features in (image, text):
            for k, guess in enumerate(heads(features.float()).split(widths, dim=-1)):
                loss = loss + 0.3 * F.cross_entropy(guess, labels[rows, k])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=4.6)
        step += 1
        if step % 50 == 0:
            curve.append((step, round(loss.item(), 4)))
            print(f"scorer step {step}, {100 * done:.0f} %, loss {loss.item():.4f}", flush=True)
    took = round(time.time() - start)
    save_scorer(model, work / "scorer")
    scorer = Scorer(open_clip.create_model(f"local-dir:{work / 'scorer'}"), device)
    found = {
        "steps": step,
        "seconds": took,
        "pictures": len(ids),
        "curve": curve,
        "accuracy": {str(side): accuracy(scorer, checks, side) for side in (NATIVE, 2 * NATIVE, 4 * NATIVE)},
        **record.machine(device),
        "started_from": record.started_from(start_from, "scorer", ["scorer"]),
    }
    return record.write(work, "scorer", found)
