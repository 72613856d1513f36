"""AReA: its arithmetic, exact oracles of both phases, then the method on a small random pipeline."""

import itertools

import numpy as np
import pytest
import torch
from attention import TEXT, attention_call, dense, full, masked, turned
from small import load, made, pixels

from baselines import area
from baselines.kernels.windows import Box, Tile, windows
from sega.methods.base import Method

GRIDS = [(32, 32), (23, 29), (40, 17)]  # the second is divided by nothing
COARSE, FINE = 0, 8  # steps of SIGMAS above and below the switch


def attended(call, *overrides):
    return load("area", *overrides).attention(0, None).attend(call)


def call_of(grid, index, **options):
    return attention_call(load("area"), grid, index, **options)


# ------------------------------------------------------------------------------------------------------- arithmetic


def test_factors_go_in_a_line():
    assert [area.coarse_factor(4, 2, k, 5) for k in range(5)] == [4, 3.5, 3, 2.5, 2]
    assert area.coarse_factor(4, 2, 0, 1) == 4


def test_factors_move_to_common_divisors():
    assert [area.snapped(f, (256, 256), (2, 4)) for f in (4, 3.4, 2.6, 2)] == [4, 4, 2, 2]
    assert area.snapped(2.9, (96, 144), (2, 4)) == 3
    assert area.snapped(2.9, (23, 29), (2, 4)) == 2.9


@pytest.mark.parametrize("length, blocks", [(8, 4), (9, 4), (23, 7), (5, 5), (7, 1)])
def test_centres_lie_in_their_blocks(length, blocks):
    found = area.centres(length, blocks)
    assert found == sorted(set(found)) and len(found) == blocks
    for k, centre in enumerate(found):
        assert k * length // blocks <= centre < (k + 1) * length // blocks
    assert area.centres(12, 4) == [1, 4, 7, 10]


def test_windows_shrink_by_a_constant_factor():
    sides = [area.window_side(179.2, 64, k, 4) for k in range(4)]
    assert sides[0] == 179 and sides[-1] == 64
    ratios = [b / a for a, b in itertools.pairwise(sides)]
    assert max(ratios) - min(ratios) < 0.02
    assert area.window_side(30, 64, 0, 4) == 64


def test_detail_is_where_neighbours_differ():
    flat = torch.ones(12 * 10, 3)
    assert (area.detail(flat, (12, 10)) == 0).all()
    checks = torch.tensor([[(y + x) % 2 for x in range(10)] for y in range(12)]).float()
    half = checks * (torch.arange(10) >= 4)
    energy = area.detail(half.flatten()[:, None], (12, 10))
    assert (energy[:, :4] == 0).all() and (energy[:, 4:] == 1).all()
    assert area.detail(torch.randn(11 * 7, 2), (11, 7)).shape == (11, 7)


def test_smooth_windows_are_cut_in_four():
    energy = torch.zeros(8, 8)
    energy[:, 4:] = 1
    tiles = area.split_smooth(windows((8, 8), 4), energy, 0.5, (8, 8), 1)
    sizes = sorted(tile.queries.size for tile in tiles)
    assert sizes == [(2, 2)] * 8 + [(4, 4)] * 2
    assert Tile(Box(2, 2, 2, 2), Box(1, 1, 4, 4)) in tiles
    assert sum(tile.queries.tokens for tile in tiles) == 64


def test_distinctive_tokens_are_the_outliers_of_their_cells():
    k = torch.zeros(1, 64, 2, 4)
    odd = [3, 13, 37, 62]  # one in each quarter of the 8 x 8 grid: (0,3), (1,5), (4,5), (7,6) -> quarters 0, 1, 3, 3
    k[0, odd] = torch.tensor([5.0, 5.0, 3.0, 5.0])[:, None, None]
    tokens = area.distinctive(k, (8, 8), 1 / 16)
    assert tokens.tolist()[:2] == [3, 13] and tokens.tolist()[3] == 62
    assert len(area.distinctive(torch.randn(1, 7 * 9, 2, 4), (7, 9), 1 / 16)) == 2 * 3


def test_outside():
    tokens = torch.tensor([0, 9, 18, 27])  # the diagonal of 8 columns
    assert tokens[area.outside(tokens, [Box(1, 1, 2, 2)], 8)[0]].tolist() == [0, 27]


# ---------------------------------------------------------------------------------------------------------- oracles


@pytest.mark.parametrize("keys", ["grid", "centre"])
@pytest.mark.parametrize("references", [0, 4])
@pytest.mark.parametrize("grid", GRIDS)
def test_blocks_of_one_token_are_full_attention(grid, references, keys):
    call = call_of(grid, COARSE, references=references)
    out = attended(call, "coarse_start=1", f"keys={keys}")
    torch.testing.assert_close(out, full(call), rtol=0, atol=1e-5)


@pytest.mark.parametrize("references", [0, 4])
@pytest.mark.parametrize("grid", GRIDS)
def test_one_window_is_full_attention(grid, references):
    call = call_of(grid, FINE, references=references)
    plain = ["window_end=64", "halo=0", "bridge=0", "shift=false"]
    torch.testing.assert_close(attended(call, *plain), full(call), rtol=0, atol=1e-5)


@pytest.mark.parametrize("references", [0, 4])
def test_windows_whose_halo_is_everything_are_full_attention(references, monkeypatch):
    """Through the tiles, not around them: the bound on cost is taken away."""
    call = call_of((23, 29), FINE, references=references)
    monkeypatch.setattr(area.Adaptive, "plan", lambda self, call, index, steps: windows(call.grid, 8, (3, 5), 64))
    torch.testing.assert_close(attended(call), full(call), rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_second_phase_equals_the_masked_softmax(grid):
    call = call_of(grid, FINE)
    part = load("area").attention(0, None)
    out = part.attend(call)
    tiles = part.planned[1]
    tokens = area.distinctive(call.image(call.k), grid, 1 / 64)
    bridges = [tokens[rows] for rows in area.outside(tokens, [tile.keys for tile in tiles], grid[1])]
    assert len(tiles) > 1 and any(len(bridge) for bridge in bridges)
    torch.testing.assert_close(out, masked(call, tiles, bridges), rtol=0, atol=1e-5)


def test_the_first_phase_written_out():
    """32 x 32 tokens at a training side of 16: keys are the middle tokens of 2 x 2 blocks, queries at half steps."""
    call = call_of((32, 32), COARSE)
    rope, geometry = Method(load("area").geometry).positions((16, 16)), load("area").geometry
    halves = torch.cartesian_prod(torch.zeros(1), torch.arange(32.0) / 2, torch.arange(32.0) / 2)
    blocks = torch.cartesian_prod(torch.zeros(1), torch.arange(16.0), torch.arange(16.0))
    kept = torch.cartesian_prod(torch.arange(0, 32, 2), torch.arange(0, 32, 2)) @ torch.tensor([32, 1])
    text = torch.zeros(TEXT, 3)
    k = torch.cat([call.k[:, :TEXT], call.image(call.k)[:, kept]], 1)
    v = torch.cat([call.v[:, :TEXT], call.image(call.v)[:, kept]], 1)
    expected = dense(
        turned(call.q, torch.cat([text, halves]), rope, geometry),
        turned(k, torch.cat([text, blocks]), rope, geometry),
        v,
    )
    torch.testing.assert_close(attended(call), expected, rtol=0, atol=1e-5)


def test_no_step_costs_more_than_full_attention():
    part = load("area", "halo=30").attention(0, None)
    part.attend(call_of((32, 32), FINE))
    assert part.planned[1] == [Tile(Box(0, 0, 32, 32), Box(0, 0, 32, 32))]


@pytest.mark.parametrize("index", [0, 3, 5, 7, 9])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_budget_holds_in_every_step(grid, index):
    """By the pairs that the backend is asked for; 0.4 is below what the steps cost here without it."""
    pairs = {"free": 0, "kept": 0}
    for name, words in (("free", []), ("kept", ["budget=0.4"])):
        call = call_of(grid, index)

        def counting(q, k, v, name=name):
            pairs[name] += q.shape[0] * q.shape[1] * k.shape[1]
            return dense(q, k, v)

        call.dense = counting
        attended(call, *words)
    everything = (TEXT + grid[0] * grid[1]) ** 2
    assert pairs["kept"] <= 0.4 * everything and pairs["kept"] <= pairs["free"] <= everything


def test_a_budget_changes_steps_that_cost_more_and_no_others():
    same, other = (
        torch.equal(attended(call_of((40, 40), 8)), attended(call_of((40, 40), 8), f"budget={share}"))
        for share in (0.9, 0.1)
    )
    assert same and not other


def test_the_training_size_is_left_alone():
    call = call_of((16, 12), FINE)
    assert torch.equal(attended(call), full(call))


# -------------------------------------------------------------------------------------------------------- the method


@pytest.mark.parametrize("size", [(256, 256), (232, 184)])
def test_an_image_depends_on_its_seed_alone(tiny_pipe, size):
    images = [pixels(made(tiny_pipe, load("area"), size, steps=4, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_borders_are_drawn_from_the_seed(tiny_pipe):
    moved, still = (made(tiny_pipe, load("area", f"shift={on}"), (256, 256), steps=4) for on in ("true", "false"))
    assert not np.array_equal(pixels(moved), pixels(still))


def test_the_latent_is_handed_over_and_not_kept(tiny_pipe):
    seen = []

    class Watched(area.Adaptive):
        def attend(self, call):
            seen.append(call.step.latent.shape)
            return super().attend(call)

    method = load("area")
    object.__setattr__(method, "attention", lambda index, run: Watched(method, run.generator))
    steps = made(tiny_pipe, method, (256, 256), steps=2).steps
    assert seen and {tuple(shape) for shape in seen} == {(32 * 32, tiny_pipe.transformer.config.in_channels)}
    assert all(step.latent is None for step in steps)
