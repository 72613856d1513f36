"""The window machinery: cuts of axes, and tiles against one masked softmax over all pairs."""

import pytest
import torch
from attention import TEXT, attention_call, dense, full, masked
from small import load

from baselines.kernels import flex, tiled, windows
from baselines.kernels.windows import Box, Rule, Shifts, Tile

GRIDS = [(8, 8), (11, 13), (7, 20)]


def covered(tiles, grid):
    count = torch.zeros(1, *grid, dtype=torch.long)
    for tile in tiles:
        tile.queries.of(count).add_(1)
    return count[0]


@pytest.mark.parametrize("shift", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 4, 9, 16])
def test_a_cut_covers_an_axis_once(length, shift):
    spans = windows.cut(length, 4, shift)
    tokens = [token for first, count in spans for token in range(first, first + count)]
    assert tokens == list(range(length))
    assert all(0 < count <= 4 for _, count in spans)
    assert all(first % 4 == shift % 4 for first, _ in spans[1:])


def test_overlapping_spans():
    assert windows.overlapping(256, 64, 5) == [(0, 64), (48, 64), (96, 64), (144, 64), (192, 64)]
    assert windows.overlapping(47, 24, 2) == [(0, 24), (23, 24)]
    assert windows.overlapping(20, 24, 1) == [(0, 20)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shift", [(0, 0), (1, 2)])
@pytest.mark.parametrize("halo", [0, 2])
def test_windows_cover_the_grid_and_reach_a_halo(grid, shift, halo):
    tiles = windows.windows(grid, 4, shift, halo)
    assert (covered(tiles, grid) == 1).all()
    for tile in tiles:
        for own, keys, start, length in zip(tile.queries.size, tile.keys.size, tile.queries.place, grid, strict=True):
            assert keys == min(start + own + halo, length) - max(start - halo, 0)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("offset", [None, (0, 0), (4, 4), (1, 3)])
def test_neighbourhoods_cover_the_grid_and_stay_inside(grid, offset):
    window = tuple(min(7, n) for n in grid)
    tiles = windows.neighbourhoods(grid, window, (4, 4), offset)
    assert (covered(tiles, grid) == 1).all()
    for tile in tiles:
        assert tile.keys.size == window
        assert all(0 <= a and a + b <= n for a, b, n in zip(tile.keys.place, window, grid, strict=True))


def attended(call, tiles, **options):
    """The joint output of tiles with the text in its place; text attends to everything."""
    q, k = call.rotate(call.q), call.rotate(call.k)
    outputs = tiled.attend(
        (call.image(q), call.image(k), call.image(call.v)),
        (call.others(q), call.others(k), call.others(call.v)),
        call.grid,
        tiles,
        dense,
        others_ask=False,
        **options,
    )
    image, _ = tiled.paste(outputs, call.grid, call.image(call.v))
    return call.join(dense(call.others(q), k, call.v), image)


@pytest.mark.parametrize("references", [0, 6])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("budget_mb", [1e-6, 0.1, 1024])
@pytest.mark.parametrize("few", [False, True])
def test_tiles_equal_the_masked_softmax(grid, references, budget_mb, few):
    call = attention_call(load("vanilla"), grid, references=references)
    tiles = windows.windows(grid, 4, (1, 2), 1)
    out = attended(call, tiles, budget_mb=budget_mb, few_shapes=few)
    torch.testing.assert_close(out, masked(call, tiles), rtol=0, atol=1e-5)
    assert (out - full(call)).abs().max() > 1e-2


@pytest.mark.parametrize("few", [False, True])
def test_bridges_are_further_keys(few):
    call = attention_call(load("vanilla"), (8, 12))
    tiles = windows.windows(call.grid, 4)
    generator = torch.Generator().manual_seed(0)
    bridges = []
    for tile in tiles:
        free = torch.ones(1, *call.grid, dtype=torch.bool)
        tile.keys.of(free).fill_(False)
        tokens = free.flatten().nonzero()[:, 0]
        bridges.append(tokens[torch.randperm(len(tokens), generator=generator)[: len(bridges) % 3]])
    chosen = torch.zeros(len(tiles), 96, dtype=torch.bool)
    for row, tokens in zip(chosen, bridges, strict=True):
        row[tokens] = True
    out = attended(call, tiles, bridges=tiled.Bridges(torch.arange(96), chosen), few_shapes=few)
    torch.testing.assert_close(out, masked(call, tiles, bridges), rtol=0, atol=1e-5)
    assert (out - masked(call, tiles)).abs().max() > 1e-3


def test_one_tile_is_full_attention():
    call = attention_call(load("vanilla"), (6, 9))
    torch.testing.assert_close(attended(call, windows.windows(call.grid, 9)), full(call), rtol=0, atol=1e-6)


def test_moving_the_text_numbers_a_window_as_an_image_of_its_size():
    """Positions act by differences: the ids of the image with the text moved, against ids that start at 0."""
    call = attention_call(load("vanilla"), (8, 8))
    tile = Tile(Box(4, 2, 4, 6), Box(4, 2, 4, 6))
    q, k = call.rotate(call.q), call.rotate(call.k)
    (out,) = tiled.attend(
        (call.image(q), call.image(k), call.image(call.v)),
        (call.others(call.q), call.others(call.k), call.others(call.v)),
        call.grid,
        [tile],
        dense,
        turn_others=lambda x, boxes: call.turn_others(x, [box.corners for box in boxes]),
    )
    alone = [
        torch.cat([x[:, :TEXT], tile.queries.of(call.image(x).unflatten(1, call.grid)).flatten(1, 2)], 1)
        for x in (call.q, call.k, call.v)
    ]
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(6.0))
    ids = torch.cat([torch.zeros(TEXT, 3), places])
    expected = dense(call.rotate(alone[0], ids=ids), call.rotate(alone[1], ids=ids), alone[2])
    found = torch.cat([out.others[0], out.image[0].flatten(1, 2)], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_spliced_tiles_are_a_weighted_mean():
    x = torch.randn(1, 48, 2, 4, generator=torch.Generator().manual_seed(0))
    grid, boxes = (6, 8), [Box(0, 0, 6, 5), Box(0, 3, 6, 5)]
    parts = torch.stack([box.of(x.unflatten(1, grid)) for box in boxes])
    none = torch.zeros(2, 1, 0, 2, 4)
    same = [tiled.Outputs([Tile(box, box) for box in boxes], parts, none, boxes)]
    spliced, others = tiled.splice(same, grid, x, lambda size: tiled.gaussian(size, 0.25))
    torch.testing.assert_close(spliced, x)
    assert others.shape == (1, 0, 2, 4)
    apart = [
        tiled.Outputs([Tile(box, box) for box in boxes], torch.stack([parts[0] * 0, parts[1] * 0 + 1]), none, boxes)
    ]
    image = tiled.splice(apart, grid, x, lambda size: tiled.gaussian(size, 0.25))[0].unflatten(1, grid)
    assert (image[:, :, :3] == 0).all() and (image[:, :, 5:] == 1).all()
    weight = tiled.gaussian((6, 5), 0.25)
    share = weight[2, 1] / (weight[2, 1] + weight[2, 4])
    torch.testing.assert_close(image[0, 2, 4, 0, 0], share)


def test_shifts_follow_the_seed_and_the_step():
    first, again, other = (Shifts(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    drawn = [first.of(step, 16) for step in range(50)]
    assert drawn == [again.of(step, 16) for step in range(50)]
    assert drawn != [other.of(step, 16) for step in range(50)]
    assert len(set(drawn)) > 30 and all(0 <= value < 16 for pair in drawn for value in pair)
    assert Shifts(None).of(3, 16) == Shifts(None).of(3, 16)


@pytest.mark.slow
def test_compiled_flex_attention_equals_the_tiles():
    call = attention_call(load("vanilla"), (16, 17))
    tiles = windows.windows(call.grid, 6, (1, 2), 1)
    q, k = call.rotate(call.q), call.rotate(call.k)
    mask = flex.block_mask(Rule(tiles, call.grid, call.text), q.shape[1], q.device)
    torch.testing.assert_close(flex.attend_flex(q, k, call.v, mask), attended(call, tiles), rtol=0, atol=1e-5)
