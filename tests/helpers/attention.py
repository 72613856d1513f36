"""One attention call of a small FLUX, without a transformer: random tokens and FLUX's own rotation."""

import torch

from baselines.kernels.windows import Rule
from sega.methods.types import AttentionCall, Step
from sega.models.flux_tables import rotary_table
from sega.models.row_ids import image_ids

TEXT, HEADS, DIM = 5, 2, 64
SIGMAS = tuple(1 - k / 10 for k in range(10))


def dense(q, k, v, scale=None, mask=None):
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask, scale=scale).transpose(1, 2)


def turned(x, ids, rope, geometry):
    """x [B, N, heads, d] rotated at ids [N, 3]."""
    cos, sin = (table[:, None] for table in rotary_table(ids, rope, geometry))
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-b, a], dim=-1).flatten(-2) * sin


def attention_call(method, grid, index=0, *, sigmas=SIGMAS, references=0, seed=0, latent=None):
    """An AttentionCall of step `index` under the positions of `method`; `references` tokens lie behind the image."""
    generator, count = torch.Generator().manual_seed(seed), grid[0] * grid[1]
    q, k, v = torch.randn(3, 1, TEXT + count + references, HEADS, DIM, generator=generator)
    behind = torch.tensor([[1.0, 0.0, float(n)] for n in range(references)]).reshape(references, 3)
    ids = torch.cat([torch.zeros(TEXT, 3), image_ids(grid, "cpu"), behind])
    latent = torch.randn(count, 8, generator=generator) if latent is None else latent
    step = Step(index, sigmas[index] if sigmas else 1.0, grid, sigmas=sigmas, latent=latent)
    own = method.positions(grid, step.sigma)

    def rotate(x, ids=ids, rope=None):
        return turned(x, ids, rope or own, method.geometry)

    def text_ids(place, size):
        return torch.tensor([[0.0, *place]]).expand(TEXT, 3)

    return AttentionCall(q, k, v, TEXT, grid, 0, 1, step, ids, rotate, text_ids, dense)


def full(call):
    """Plain attention of a call."""
    return dense(call.rotate(call.q), call.rotate(call.k), call.v)


def masked(call, tiles, bridges=None):
    """What tiles must equal where the text has one place: one dense softmax over all pairs of the joint sequence.

    `bridges` are further keys of each tile, indices into the H*W tokens.
    """
    index = torch.arange(call.q.shape[1])
    rule = Rule(tiles, call.grid, call.text)
    mask = rule(index[:, None], index[None, :])
    for tile, tokens in zip(tiles, bridges or [], strict=bridges is not None):
        owned = torch.zeros(1, *call.grid, dtype=torch.bool)
        tile.queries.of(owned).fill_(True)
        mask[(call.text + owned.flatten().nonzero()[:, 0])[:, None], call.text + tokens] = True
    q, k, v = (x.transpose(1, 2) for x in (call.rotate(call.q), call.rotate(call.k), call.v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
