"""ScaleDiff: golden values of its arithmetic, then the method on a small random pipeline."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import scalediff
from sega.geometry import Geometry
from sega.method import Rope, base_axis
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parent / "golden" / "scalediff.npz")
ATTENTION_ATOL, ARITHMETIC_ATOL = 1e-5, 1e-5
PATCH = (4, 4)


def golden(name):
    return torch.from_numpy(np.asarray(VALUES[name]))


def dense(q, k, v):
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def tokens(name):
    """[B, heads, S, d] as [B, S, heads, d]."""
    return golden(name).transpose(1, 2)


def rotation(axes):
    """turn(x [..., S, heads, d], places [S, 2]): FLUX's rotation at base frequencies."""
    geometry = Geometry("flux", axes, 10000, 8, 8, 16, 3)
    rope = Rope(*(base_axis(dim, 10000) for dim in axes[1:]))

    def turn(x, places):
        ids = torch.cat([torch.zeros(len(places), 1), torch.as_tensor(places, dtype=torch.float32)], dim=1)
        cos, sin = (table[:, None] for table in rotary_table(ids, rope, geometry))
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return x * cos + torch.stack([-b, a], dim=-1).flatten(-2) * sin

    return turn


@pytest.mark.parametrize("budget_mb", [1e-6, 0.2, 1024])
@pytest.mark.parametrize("case", ["npa_16x24_j0", "npa_16x16_j1"])
def test_neighbourhood_attention(case, budget_mb):
    grid, window = tuple(VALUES[f"{case}/grid"].tolist()), tuple(VALUES[f"{case}/window"].tolist())
    offset = tuple(VALUES[f"{case}/jitter"].tolist()) if VALUES[f"{case}/use_jitter"] else None
    turn = rotation(tuple(VALUES[f"{case}/axes_dim"].tolist()))
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    image, text = scalediff.neighbourhood_attention(
        turn(tokens(f"{case}/q"), places),
        turn(tokens(f"{case}/k"), places),
        tokens(f"{case}/v"),
        tuple(tokens(f"{case}/{name}_txt") for name in "qkv"),
        grid,
        lambda x, place: turn(x, [place]),
        dense,
        window,
        PATCH,
        offset,
        budget_mb=budget_mb,
    )
    torch.testing.assert_close(image, tokens(f"{case}/out_img"), rtol=0, atol=ATTENTION_ATOL)
    torch.testing.assert_close(text, tokens(f"{case}/out_txt"), rtol=0, atol=ATTENTION_ATOL)


@pytest.mark.parametrize("case", ["npa_16x24_j0", "npa_16x16_j1"])
def test_window_starts(case):
    grid, window = tuple(VALUES[f"{case}/grid"].tolist()), tuple(VALUES[f"{case}/window"].tolist())
    offset = tuple(VALUES[f"{case}/jitter"].tolist())
    canvas = tuple(n + (p if VALUES[f"{case}/use_jitter"] else 0) for n, p in zip(grid, PATCH, strict=True))
    starts = [
        scalediff.window_start(origin, offset, grid, window, PATCH) for origin in scalediff.patch_origins(canvas, PATCH)
    ]
    assert np.array_equal(starts, VALUES[f"{case}/kv_start"])


@pytest.mark.parametrize("grid", [(6, 20), (11, 13), (8, 8)])
@pytest.mark.parametrize("offset", [None, (0, 0), (4, 4), (1, 3)])
def test_any_grid_attends_to_its_windows(grid, offset):
    """Every image query against plain attention over the text and the window of its patch."""
    generator, size = torch.Generator().manual_seed(0), grid[0] * grid[1]
    q, k, v = torch.randn(3, 2, size, 2, 16, generator=generator)
    text = tuple(torch.randn(3, 2, 3, 2, 16, generator=generator))
    turn = rotation((4, 6, 6))
    window = tuple(min(8, n) for n in grid)
    image, mean = scalediff.neighbourhood_attention(
        q, k, v, text, grid, lambda x, place: turn(x, [place]), dense, (8, 8), PATCH, offset
    )
    shift = offset or (0, 0)
    for y in range(grid[0]):
        for x in range(grid[1]):
            origin = ((y + shift[0]) // 4 * 4, (x + shift[1]) // 4 * 4)
            start = scalediff.window_start(origin, shift, grid, window, PATCH)
            assert all(0 <= s <= n - w for s, n, w in zip(start, grid, window, strict=True))
            sides = (range(s, s + w) for s, w in zip(start, window, strict=True))
            rows = [r * grid[1] + c for r, c in itertools.product(*sides)]
            keys = torch.cat([turn(text[1], [start]), k[:, rows]], 1)
            values = torch.cat([text[2], v[:, rows]], 1)
            i = y * grid[1] + x
            expected = dense(q[:, i : i + 1], keys, values)
            torch.testing.assert_close(image[:, i : i + 1], expected, rtol=0, atol=1e-5)
    assert mean.shape == text[0].shape


def test_one_window_is_plain_attention():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 64, 2, 16, generator=generator)
    text = tuple(torch.randn(3, 2, 3, 2, 16, generator=generator))
    image, mean = scalediff.neighbourhood_attention(q, k, v, text, (8, 8), lambda x, place: x, dense, (8, 8), (8, 8))
    joint = [torch.cat([t, x], 1) for t, x in zip(text, (q, k, v), strict=True)]
    torch.testing.assert_close(torch.cat([mean, image], 1), dense(*joint))
