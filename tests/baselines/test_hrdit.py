"""HRDiT: golden values of its arithmetic, then the method on a small random pipeline."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from small import load

from baselines import hrdit
from baselines.kernels import pruned
from sega import attach, load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.staged import FactorNTK
from sega.methods.types import ImageRequest
from sega.models.flux import image_ids
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parents[1] / "golden" / "hrdit.npz")
PROMPT = "a photo of a red boat"
SIZES = sorted({key.split("/")[0] for key in VALUES.files if key.startswith("spa_")})


def hap_mask(length: int, text: int, halves: list[int], block: int, stride: int):
    """Pairs that are kept, bool [heads, N, N]; what the kernels must equal. Only for small N.

    A pair (q, k) is kept if either is text (the first `text` tokens), or if their blocks are at most half the band
    apart, or if the block of k is a multiple of `stride`. Blocks are counted from the first image token, as in the
    code. `halves` is (w - 1)/2 per head.
    """
    import torch

    index = torch.arange(length)
    return torch.stack([pruned.is_kept(index[:, None], index[None, :], text, half, block, stride) for half in halves])


@pytest.mark.parametrize("case", SIZES)
def test_bundled_ids(case):
    _, size, groups = case.split("_")
    variants = hrdit.spa_ids(tuple(map(int, size.split("x"))), int(groups[1:]))
    assert len(variants) == VALUES[f"{case}/n"]
    rows, columns = zip(*variants, strict=True)
    assert np.array_equal(rows, VALUES[f"{case}/row_ids"])
    assert np.array_equal(columns, VALUES[f"{case}/col_ids"])


def test_a_grid_that_fits_keeps_its_ids():
    assert hrdit.spa_ids((64, 80), 80) == [(list(range(64)), list(range(80)))]


def test_band_widths():
    bands = [
        [pruned.band_blocks(int(n), float(a), float(b)) for a, b in VALUES["hap/alpha_beta"]]
        for n in VALUES["hap/seq_len"]
    ]
    assert np.array_equal(bands, VALUES["hap/band"])


@pytest.mark.parametrize("rows", [1, 20, 1000])
@pytest.mark.parametrize("halves", [[1, 1], [0, 2]])
def test_pruned_attention_equals_the_dense_mask(rows, halves):
    q, k, v = torch.randn(3, 1, 2, 70, 8, generator=torch.Generator().manual_seed(0))
    mask = hap_mask(70, 5, halves, 8, 3)  # image blocks begin at 5, 13, 21, ...
    assert not mask.all() and mask[:, :5].all() and mask[:, :, :5].all()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
    out = pruned.hap_chunked(q, k, v, 5, halves, 8, 3, 0.3, rows)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length, text", [(300, 5), (600, 300), (512, 256), (640, 0), (400, 120)])
@pytest.mark.parametrize("halves", [[1, 1], [0, 2]])
def test_block_mask_equals_the_dense_mask(length, text, halves):
    mask = hap_mask(length, text, halves, 16, 11)
    blocks = pruned.hap_block_mask(length, text, halves, 16, 11)
    tiles = torch.nn.functional.pad(mask, (0, -length % 128, 0, -length % 128))
    tiles = tiles.unflatten(2, (-1, 128)).unflatten(1, (-1, 128)).transpose(2, 3).flatten(3)
    heads = slice(blocks.kv_num_blocks.shape[1])
    assert torch.equal(blocks.to_dense()[0].bool(), tiles.any(-1)[heads])
    full, number = blocks.full_kv_indices[0], blocks.full_kv_num_blocks[0]
    for head, row in itertools.product(range(full.shape[0]), range(full.shape[1])):
        for column in full[head, row, : number[head, row]]:
            assert tiles[head, row, column].all()
    heads, rows = torch.arange(2)[:, None, None], torch.arange(length)
    assert torch.equal(blocks.mask_mod(0, heads, rows[:, None], rows[None, :]).expand(2, -1, -1), mask)


def test_blocks_are_counted_from_the_first_image_token():
    """FLUX at 2048 px: the blocks every query keeps are the image's 0, 32, 64, ..., behind 512 tokens of text."""
    text, block, stride, length = 512, 64, 32, 512 + 128 * 128
    query = text + 5 * block  # near the top, so that far keys are kept by the stride alone
    keys = torch.arange(length)
    kept = pruned.is_kept(torch.tensor(query), keys, text, 2, block, stride)
    far = keys[kept & (keys >= text + 8 * block)]
    assert sorted(set(((far - text) // block).tolist())) == list(range(32, 256, 32))
    near = keys[kept & (keys >= text) & (keys < text + 16 * block)]
    assert sorted(set(((near - text) // block).tolist())) == [0, 3, 4, 5, 6, 7]


def test_hap_is_on_unless_switched_off():
    method = load_method("hrdit")
    assert method.hap is True and method.variant == "code" and method.parameters()["hap"] is True
    assert load_method("hrdit", overrides=["hap=false"]).hap is False
    assert method.stages(ImageRequest((4096, 4096), 28, 4.5))[0].plain  # the first image is never pruned


def test_flux_stages():
    method = load_method("hrdit", "flux")
    base, *upscales = method.stages(ImageRequest((4096, 4096), 28, 4.5))
    assert base.plain and base.steps == 30
    assert [(stage.size[0], stage.taken, stage.windows) for stage in upscales] == [(2048, 17, False), (4096, 10, False)]
    assert [stage.positions.factor for stage in upscales] == [4.0, 10.0]
    assert [method.attention(index, None).spa_steps for index in (1, 2)] == [3, 0]
    assert (method.groups, method.hap_block, method.hap_stride, method.hap_alpha) == (80, 64, 32, 2048)
    tiny = load_method("hrdit", "tiny")
    assert [len(hrdit.spa_ids((n, n), tiny.groups)) for n in (24, 48, 96)] == [1, 3, 7]
    assert (tiny.hap_block, tiny.hap_stride, tiny.hap_alpha) == (24, 12, 288)


def picture(pipe, *overrides, size=(256, 256), seed=0):
    short = ["base_steps=3", "steps=[2]", "spa_steps=[1]", *overrides]
    return generate(pipe, load("hrdit", *short), PROMPT, seed=seed, size=size, steps=2, guidance=1.0)


def same(a, b):
    return np.array_equal(np.asarray(a.image), np.asarray(b.image))


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    torch.manual_seed(1)
    first = picture(tiny_pipe)
    torch.manual_seed(2)
    assert same(picture(tiny_pipe), first)
    assert not same(picture(tiny_pipe, seed=1), first)
    assert not same(picture(tiny_pipe, "spa_steps=[0]"), first)
    assert np.asarray(first.image).shape == (256, 256, 3) and first.calls == 3 + 2


def test_without_its_additions_it_is_hiflow(tiny_pipe):
    own = picture(tiny_pipe, "spa_steps=[0]", "hap=false", "ntk_factors=[4.0]")
    settings = ["base_steps=3", "steps=[2]", "ntk_factors=[4.0]", "shift_windows=false"]
    plain = generate(tiny_pipe, load("hiflow", *settings), PROMPT, seed=0, size=(256, 256), steps=2, guidance=1.0)
    assert same(own, plain)


def test_pruning(tiny_pipe):
    full = np.asarray(picture(tiny_pipe, "hap=false").image).astype(int)
    everything = np.asarray(picture(tiny_pipe, "hap_alpha=100000").image).astype(int)
    assert abs(everything - full).max() <= 1
    assert abs(np.asarray(picture(tiny_pipe, "hap_alpha=16").image).astype(int) - full).max() > 0


@pytest.mark.parametrize("size", [(128, 128)])
def test_the_training_size_is_left_alone(tiny_pipe, size):
    plain = generate(tiny_pipe, load("vanilla"), PROMPT, seed=0, size=size, steps=3, guidance=3.5)
    assert same(picture(tiny_pipe, size=size), plain)


def test_bundled_attention_is_the_mean_over_variants_at_base_frequencies(tiny_pipe):
    method, seen = load("hrdit", "hap=false"), []

    class Watched(hrdit.BundledAttention):
        def attend(self, call):
            seen.append((call, super().attend(call)))
            return seen[-1][1]

    positions = FactorNTK(method.geometry, factor=4.0)
    object.__setattr__(positions, "attention", lambda index, run: Watched(method, 3))
    config, generator = tiny_pipe.transformer.config, torch.Generator().manual_seed(0)
    with attach(tiny_pipe.transformer, positions), torch.no_grad():
        tiny_pipe.transformer(
            hidden_states=torch.randn(1, 32 * 24, config.in_channels, generator=generator),
            encoder_hidden_states=torch.randn(1, 24, config.joint_attention_dim, generator=generator),
            pooled_projections=torch.zeros(1, config.pooled_projection_dim),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            img_ids=image_ids((32, 24), "cpu"),
            txt_ids=torch.zeros(24, 3),
        )
    call, out = seen[-1]
    variants, stock = hrdit.spa_ids((32, 24), 20), Method(method.geometry).positions((32, 24))
    assert len(variants) == 3  # bundles of 2 on both axes
    factor, expected = (np.log(24 + 768) / np.log(24 + 256)) ** 0.5, 0
    for rows, columns in variants:
        places = [(0.0, 0.0, 0.0)] * 24 + [(0.0, float(y), float(x)) for y, x in itertools.product(rows, columns)]
        table = rotary_table(torch.tensor(places), stock, method.geometry)
        q, k = (apply_rotary_emb(x, table, sequence_dim=1).transpose(1, 2) for x in (call.q, call.k))
        p = (factor * q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)
        expected = expected + (p @ call.v.transpose(1, 2)).transpose(1, 2) / 3
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_compiled_flex_attention_equals_the_dense_mask():
    q, k, v = torch.randn(3, 1, 2, 600, 32, generator=torch.Generator().manual_seed(0))
    run, mask = pruned.flex_attention(600, 43, 2, 16, 11, q.device)
    kept = hap_mask(600, 43, [2], 16, 11)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=kept, scale=0.3)
    torch.testing.assert_close(run(q, k, v, block_mask=mask, scale=0.3), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "override, words",
    [("groups=1", "groups"), ("spa_steps=[1.5]", "spa_steps"), ("hap_block=0", "hap_block"), ("hap=1", "hap")],
)
def test_bad_values_are_named(override, words):
    with pytest.raises(RequestError, match=words):
        load_method("hrdit", "flux", [override])
