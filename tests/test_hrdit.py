"""HRDiT: golden values of its arithmetic, then the method on a small random pipeline."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import hrdit

VALUES = np.load(Path(__file__).parent / "golden" / "hrdit.npz")
SIZES = sorted({key.split("/")[0] for key in VALUES.files if key.startswith("spa_")})


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
        [hrdit.band_blocks(int(n), float(a), float(b)) for a, b in VALUES["hap/alpha_beta"]]
        for n in VALUES["hap/seq_len"]
    ]
    assert np.array_equal(bands, VALUES["hap/band"])


@pytest.mark.parametrize("rows", [1, 20, 1000])
@pytest.mark.parametrize("halves", [[1, 1], [0, 2]])
def test_pruned_attention_equals_the_dense_mask(rows, halves):
    q, k, v = torch.randn(3, 1, 2, 70, 8, generator=torch.Generator().manual_seed(0))
    mask = hrdit.hap_mask(70, 5, halves, 8, 3)
    assert not mask.all() and mask[:, :5].all() and mask[:, :, :5].all()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
    out = hrdit.hap_chunked(q, k, v, 5, halves, 8, 3, 0.3, rows)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length, text", [(300, 5), (600, 300), (512, 256)])
@pytest.mark.parametrize("halves", [[1, 1], [0, 2]])
def test_block_mask_equals_the_dense_mask(length, text, halves):
    mask = hrdit.hap_mask(length, text, halves, 16, 11)
    blocks = hrdit.hap_block_mask(length, text, halves, 16, 11)
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
