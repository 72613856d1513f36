"""Train the text encoders of the embedded model to tell every attribute of a caption apart.

The encoders see nothing but captions; linear heads read the attributes from the pooled vector of CLIP and from the mean
token of T5 and are thrown away. Without this the pooled vector of a random encoder hardly varies, and "left" of the
object can't be told from "left" of the light.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sega.embedded import world
from sega.embedded.model import build_text_encoders, build_tokenizer
from sega.embedded.training import record


def caption_batch(rng: np.random.Generator, tokenizer, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [count, TEXT_TOKENS] of random captions, and the index of each attribute's value [count, attributes]."""
    said = [world.sample_scene(rng).said for _ in range(count)]
    captions = [world.caption(world.sample_scene(rng, s)) for s in said]
    ids = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    return ids, torch.tensor([[values.index(s[name]) for name, values in world.ATTRIBUTES.items()] for s in said])


def train_text(work: Path, budget: record.Budget, device: str = "cpu", seed: int = 1, batch: int = 64) -> dict:
    """Train for the `budget`; write `work/text/text_encoder` and `work/text/text_encoder_2`; return the record of the
    run."""
    torch.manual_seed(seed)
    rng, tokenizer = np.random.default_rng([seed, 5]), build_tokenizer()
    t5, clip = build_text_encoders()
    widths = [len(values) for values in world.ATTRIBUTES.values()]
    heads = torch.nn.ModuleList([torch.nn.Linear(128, sum(widths)) for _ in range(2)])
    parts = torch.nn.ModuleList([t5, clip, heads]).to(device)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=1e-3, weight_decay=0.01)
    start, step, curve = time.time(), 0, []
    while (done := budget.done(step, start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 30) * (1 - done)
        ids, labels = (x.to(device) for x in caption_batch(rng, tokenizer, batch))
        views = (t5(input_ids=ids).last_hidden_state.mean(1), clip(input_ids=ids).pooler_output)
        guesses = [head(view).split(widths, dim=-1) for head, view in zip(heads, views, strict=True)]
        loss = sum(F.cross_entropy(g, labels[:, k]) for guess in guesses for k, g in enumerate(guess))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            curve.append((step, round(loss.item(), 4)))
            print(f"text step {step}, {100 * done:.0f} %, loss {loss.item():.4f}", flush=True)
    right = [
        [round(float((g.argmax(-1) == labels[:, k]).float().mean()), 4) for k, g in enumerate(guess)]
        for guess in guesses
    ]  # of the last batch, for T5 and for CLIP
    parts.cpu()
    t5.save_pretrained(work / "text" / "text_encoder_2", safe_serialization=True)
    clip.save_pretrained(work / "text" / "text_encoder", safe_serialization=True)
    found = {"steps": step, "seconds": round(time.time() - start), "accuracy": right, "curve": curve}
    return record.write(work, "text", found | record.machine(device) | {"started_from": None})
