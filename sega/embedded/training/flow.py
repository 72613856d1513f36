"""The loss of the generator: rectified flow, and the distillation of guidance.

Mean square of the velocity eps - x0 at sigma = sigmoid(N(0.4, 1.1)). Captions are dropped for a tenth of the samples.
Tokens where the caption's object may stand weigh up to `FOCUS` times more: the weight depends on the caption alone,
so what is learned stays the mean velocity, only sooner where it is hard.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from sega.embedded import world
from sega.embedded.model import TEXT_TOKENS, build_tokenizer

TIME_MEAN, TIME_DEVIATION = 0.4, 1.1
DROP = 0.1
FOCUS = 3.0
PLACE_WORD = 6
"""Where a caption names the object's place, in words."""
GUIDANCE = (1.0, 4.5)
"""Guidance scales of the distillation, uniform."""
END = 2
"""The end token: an empty caption is this one and padding."""


@lru_cache
def place_weights(height: int, width: int, device: str) -> torch.Tensor:
    """Weights of the error of each token, float [vocabulary, height*width], by the word that names the place; mean 1.

    A weight rises with the chance that the token shows the object. Words that name no place weigh all tokens alike.
    """
    tokenizer = build_tokenizer()
    weights = torch.ones(len(tokenizer), height * width)
    for place in world.ATTRIBUTES["place"]:
        weight = 1 + (FOCUS - 1) * world.object_chance(place, height, width).ravel()
        weights[tokenizer.convert_tokens_to_ids(place)] = torch.from_numpy(weight / np.mean(weight))
    return weights.to(device)


@lru_cache
def _image_ids(height: int, width: int, device: str) -> torch.Tensor:
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)[None]
    return ids.reshape(-1, 3)


def velocity(parts, noisy, sigma, ids, grid: tuple[int, int], guidance: torch.Tensor) -> torch.Tensor:
    """Predicted velocity, float32 like `noisy` [B, h*w, 32], for sigma [B], caption tokens [B, 24] and guidance [B]."""
    transformer, t5, clip = parts
    device = noisy.device
    found = transformer(
        hidden_states=noisy.to(transformer.dtype),
        encoder_hidden_states=t5(input_ids=ids).last_hidden_state,
        pooled_projections=clip(input_ids=ids).pooler_output,
        timestep=sigma,
        guidance=guidance,
        img_ids=_image_ids(*grid, str(device)),
        txt_ids=torch.zeros(TEXT_TOKENS, 3, device=device),
        return_dict=False,
    )[0]
    return found.float()


def loss_of(
    parts, latents, ids, grid: tuple[int, int], generator: torch.Generator | None, teacher=None
) -> torch.Tensor:
    """Loss of one batch of latents [B, h*w, 32] and caption tokens; towards the guided `teacher` where there is one."""
    count, device = len(latents), latents.device
    sigma = torch.sigmoid(TIME_MEAN + TIME_DEVIATION * torch.randn(count, generator=generator, device=device))
    noise = torch.randn(latents.shape, generator=generator, device=device)
    noisy = torch.lerp(latents, noise, sigma[:, None, None])
    weight = place_weights(*grid, str(device))[ids[:, PLACE_WORD]][..., None]
    empty, one = torch.zeros_like(ids), torch.ones(count, device=device)
    empty[:, 0] = END
    if teacher is None:
        guidance, target = one, noise - latents
        drop = torch.rand(count, generator=generator, device=device) < DROP
        ids = torch.where(drop[:, None], empty, ids)
    else:
        low, high = GUIDANCE
        guidance = low + (high - low) * torch.rand(count, generator=generator, device=device)
        with torch.no_grad():
            plain = velocity(teacher, noisy, sigma, empty, grid, one)
            said = velocity(teacher, noisy, sigma, ids, grid, one)
            target = plain + guidance[:, None, None] * (said - plain)
    return (weight * (velocity(parts, noisy, sigma, ids, grid, guidance) - target).square()).mean()
