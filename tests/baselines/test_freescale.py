"""FreeScale: golden values of its arithmetic, then the parts against direct computations and a small pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
from attention import TEXT, attention_call, dense, full
from small import load, made, pixels

from baselines import freescale
from baselines.kernels.windows import Box
from sega import load_method
from sega.errors import RequestError
from sega.methods.staged import restart_index
from sega.methods.types import ImageRequest, Point

VALUES = np.load(Path(__file__).parents[1] / "golden" / "freescale.npz")
ATTENTION_ATOL, BLEND_ATOL = 5e-6, 2e-6
FUSIONS = ["2048_16x16", "4096_32x32", "2048x4096_32x64", "2048_16x16_fast"]
VIEWS = ["sq_128", "sq_64", "4096_256", "2048x4096", "native"]


def golden(name):
    return torch.from_numpy(np.asarray(VALUES[name]))


# ------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("case", ["k3", "k7"])
def test_the_blur_of_the_code(case):
    kernel, deviation = VALUES[f"gauss/{case}/kernel_sigma"].tolist()
    out = freescale.blur(golden(f"gauss/{case}/x"), int(kernel), deviation, (1, 2, 3))
    torch.testing.assert_close(out, golden(f"gauss/{case}/out"), rtol=0, atol=ATTENTION_ATOL)


@pytest.mark.parametrize("kernel, size", [(1, (5, 6)), (3, (5, 6)), (7, (5, 6)), (7, (2, 3)), (5, (1, 1))])
def test_the_blur_is_a_convolution_with_zeros_around(kernel, size):
    x = torch.randn(1, *size, 2, generator=torch.Generator().manual_seed(0))
    offsets = torch.arange(kernel) - kernel // 2
    taps = torch.exp(-(offsets.float() ** 2) / 2 / 0.8**2)
    plane = torch.outer(taps, taps) / taps.sum() ** 2
    expected = torch.nn.functional.conv2d(x.permute(3, 0, 1, 2), plane[None, None], padding=kernel // 2)
    torch.testing.assert_close(freescale.blur(x, kernel, 0.8, (1, 2)), expected.permute(1, 2, 3, 0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", FUSIONS)
@pytest.mark.parametrize("features, name", [(False, "out_spatial_blur"), (True, "out")])
def test_fusion_of_the_published_branches(case, features, name):
    """The code adds the block's input; its attention has one head and no projection."""
    local, whole = (golden(f"fusion/{case}/{branch}").unsqueeze(-2) for branch in ("local", "global"))
    fused = freescale.fuse(local, whole, int(VALUES[f"fusion/{case}/kernel"]), 1.0, features)
    out = golden(f"fusion/{case}/x") + fused.flatten(1, 2).squeeze(-2)
    torch.testing.assert_close(out, golden(f"fusion/{case}/{name}"), rtol=0, atol=ATTENTION_ATOL)


@pytest.mark.parametrize("case", FUSIONS)
def test_kernel_and_window_follow_the_longer_side(case):
    grid, pixel = (tuple(VALUES[f"fusion/{case}/{name}"].tolist()) for name in ("grid", "target_px"))
    view = VALUES[f"fusion/{case}/views"][0]
    side = max(grid) * 1024 // max(pixel)  # tokens of 1024 px in this layer
    assert freescale.window_of(grid, side) == (view[1] - view[0], view[3] - view[2])
    assert 2 * round(max(grid) / side) - 1 == VALUES[f"fusion/{case}/kernel"]


def test_fusing_equals_and_no_blur():
    local, whole = torch.randn(2, 1, 6, 9, 2, 4, generator=torch.Generator().manual_seed(0))
    for features in (False, True):
        assert torch.equal(freescale.fuse(whole, whole, 7, 1.0, features), whole)
        torch.testing.assert_close(freescale.fuse(local, whole, 1, 1.0, features), local, rtol=0, atol=1e-6)
    assert (freescale.fuse(local, whole, 3, 1.0) - freescale.fuse(local, whole, 3, 1.0, True)).abs().max() > 0.1


def test_a_spatial_blur_commutes_with_the_output_projection():
    """So it does not matter that the code fuses behind it and we before it; with features it would."""
    local, whole = torch.randn(2, 1, 6, 9, 2, 4, generator=torch.Generator().manual_seed(0))
    matrix, offset = torch.randn(9, 8, generator=torch.Generator().manual_seed(1)).split([8, 1])

    def project(x):
        return (x.flatten(3) @ matrix + offset).unflatten(3, (2, 4))

    for features in (False, True):
        before = project(freescale.fuse(local, whole, 3, 1.0, features))
        behind = freescale.fuse(project(local), project(whole), 3, 1.0, features)
        assert ((before - behind).abs().max() < 1e-4) != features


@pytest.mark.parametrize("case", VIEWS)
def test_windows_of_the_code(case):
    """Its windows lie on a canvas with a margin; those at the border may move into the margin, ours stay."""
    rows, columns, *base, divisor, _ = VALUES[f"views/{case}_setting"].tolist()
    window = tuple(int(side / divisor) for side in base)
    grid, views, margin = (int(rows), int(columns)), VALUES[f"views/{case}"], [side // 8 for side in window]
    stride = tuple(side // 2 for side in window)
    still = freescale.window_boxes(grid, window, stride)
    assert len(still) == len(views) and {box.size for box in still} == {window}
    moves = [tuple((view[[0, 2]] - margin - box.place).tolist()) for view, box in zip(views, still, strict=True)]
    assert all(abs(by) <= most for move in moves for by, most in zip(move, margin, strict=True))
    boxes = freescale.window_boxes(grid, window, stride, moves)
    for box, view in zip(boxes, views, strict=True):
        for axis, (at, n, w) in enumerate(zip(box.place, grid, window, strict=True)):
            published = view[2 * axis] - margin[axis]
            assert at == min(max(published, 0), n - w)


@pytest.mark.parametrize("grid, window", [((13, 29), (6, 13)), ((8, 8), (8, 8)), ((9, 3), (8, 3)), ((40, 17), (16, 7))])
def test_every_token_is_in_a_window_however_they_move(grid, window):
    generator = torch.Generator().manual_seed(0)
    stride = tuple(max(1, side // 2) for side in window)
    number = len(freescale.window_boxes(grid, window, stride))
    for _ in range(20):
        moves = torch.stack([torch.randint(-(w // 4), w // 4 + 1, (number,), generator=generator) for w in window], 1)
        seen = torch.zeros(1, *grid)
        for box in freescale.window_boxes(grid, window, stride, moves.tolist()):
            assert box.top >= 0 and box.left >= 0 and box.of(seen).shape[1:] == window
            box.of(seen).add_(1)
        assert seen.min() >= 1


# -------------------------------------------------------------------------------------------------------- attention


def fusion(*overrides, seed=0):
    return freescale.ScaleFusion(load("freescale", *overrides), torch.Generator().manual_seed(seed))


def test_a_window_over_everything_is_full_attention():
    call = attention_call(load("freescale"), (16, 12))
    assert torch.equal(fusion().attend(call), full(call))
    call = attention_call(load("freescale"), (32, 24))
    assert torch.equal(fusion("window=32").attend(call), full(call))
    assert not torch.equal(fusion("window=31").attend(call), full(call))


def windowed(call, boxes):
    """Every window as an image of its own, text at its corner, and the mean; [H, W, heads, d]."""
    total, count = torch.zeros(1, *call.grid, 2, 64), torch.zeros(1, *call.grid, 1, 1)
    grid = {name: call.image(getattr(call, name)).unflatten(1, call.grid) for name in "qkv"}
    for box in boxes:
        small = attention_call(load("vanilla"), box.size)
        q, k, v = (box.of(grid[name]).flatten(1, 2) for name in "qkv")
        q, k = (small.rotate(torch.cat([getattr(call, name)[:, :TEXT], x], 1)) for name, x in (("q", q), ("k", k)))
        out = dense(q[:, TEXT:], k, torch.cat([call.v[:, :TEXT], v], 1))
        box.of(total).add_(out.unflatten(1, box.size))
        box.of(count).add_(1)
    return total / count


@pytest.mark.parametrize("blur", ["spatial", "code"])
def test_attention_against_windows_as_images_of_their_own(blur):
    """S = 2: a kernel of 3. The text is that of the whole."""
    call = attention_call(load("freescale"), (32, 24))
    out = fusion("jitter=0", f"blur={blur}").attend(call)
    boxes = [Box(top, left, 16, 12) for top in (0, 8, 16) for left in (0, 6, 12)]
    whole = full(call)
    local, image = windowed(call, boxes), call.image(whole).unflatten(1, call.grid)
    expected = freescale.fuse(local, image, 3, 1.0, blur == "code").flatten(1, 2)
    torch.testing.assert_close(call.image(out), expected, rtol=0, atol=1e-5)
    assert torch.equal(call.others(out), call.others(whole))
    assert (out - whole).abs().max() > 1e-2


def test_a_ratio_that_rounds_to_one_leaves_the_windows_alone():
    call = attention_call(load("freescale"), (20, 20))
    part = fusion("jitter=0")
    out = part.attend(call)
    torch.testing.assert_close(call.image(out), part.local(call), rtol=0, atol=1e-6)
    assert torch.equal(call.others(out), call.others(full(call)))


def test_positions_of_are_those_of_the_whole_alone():
    """Windows have the training size, so they keep the base frequencies."""
    own, other = fusion("jitter=0"), fusion("jitter=0", "positions_of=pi")
    call, turned = (attention_call(part.method, (32, 24)) for part in (own, other))
    assert torch.equal(own.local(call), other.local(turned))
    assert torch.equal(call.others(other.attend(turned)), call.others(full(attention_call(load("pi"), (32, 24)))))


def test_windows_move_from_call_to_call_by_the_seed():
    part, again, another = fusion(), fusion(), fusion(seed=1)
    first, second = part.tiles((32, 24)), part.tiles((32, 24))
    assert first != second and first == again.tiles((32, 24)) and first != another.tiles((32, 24))
    assert all(tile.queries == tile.keys for tile in first)
    drawn = part.draw(2, 1000)
    assert drawn.unique().tolist() == [-2, -1, 0, 1, 2]


# ------------------------------------------------------------------------------------------------------------- flow


@pytest.mark.parametrize("case", ["n50", "n20"])
def test_skip_residual_of_the_code(case):
    """SDXL's noised latent is z + sigma e; the weight and the mixing are those of the flow."""
    first, exponent = int(VALUES[f"blend/{case}/restart_step"]), float(VALUES[f"blend/{case}/cosine_scale"])
    times = VALUES[f"blend/{case}/timesteps"] / 1000
    weights = [freescale.skip_weight(time, exponent) for time in times[first:].tolist()]
    np.testing.assert_allclose(weights, VALUES[f"blend/{case}/c1_all"], rtol=0, atol=BLEND_ATOL)
    assert restart_index(len(times), 0.3) == first
    current, sigmas = golden(f"blend/{case}/current"), VALUES[f"blend/{case}/sigmas"]
    for step, blended in zip(VALUES[f"blend/{case}/steps"].tolist(), golden(f"blend/{case}/blended"), strict=True):
        aim = golden(f"blend/{case}/latent") + float(sigmas[step]) * golden(f"blend/{case}/noise")
        weight = weights[step - first]
        torch.testing.assert_close((1 - weight) * current + weight * aim, blended, rtol=0, atol=BLEND_ATOL)


def test_where_the_code_restarts():
    for steps in (20, 28, 30, 50):
        assert restart_index(steps, 0.3) == VALUES[f"restart_steps_default_n{steps}"]


def test_ends_of_the_weight():
    assert freescale.skip_weight(1.0, 2.0) == 1 and freescale.skip_weight(0.0, 2.0) == 0


def test_mixing_after_a_step_is_mixing_before_the_next():
    """A loop as published, over a toy field, against Euler steps along the corrected velocity."""
    clean, noise = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigmas, exponent = [0.9, 0.7, 0.55, 0.3, 0.12, 0.0], 2.0

    def field(x, sigma):
        return torch.tanh(x) + sigma * x.roll(1, -1)

    x = freescale.noised(clean, noise, sigmas[0])
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        weight = (0.5 * (1 + np.cos(np.pi * (1 - sigma)))) ** exponent
        x = (1 - weight) * x + weight * ((1 - sigma) * clean + sigma * noise)
        x = x + (after - sigma) * field(x, sigma)

    flow, y = freescale.SkipResidual(clean, noise, exponent), freescale.noised(clean, noise, sigmas[0])
    for index, (sigma, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        velocity = flow(Point(y, field(y, sigma), sigma, after, index, 5, 1))
        y = y + (after - sigma) * velocity
    torch.testing.assert_close(y, x, rtol=0, atol=1e-12)


def test_a_stage_through_the_engine(tiny_pipe, monkeypatch):
    """What the transformer reads at each step, from what it gave at the step before."""
    from sega.models import adapter_for

    parts, seen = [], []
    flow = freescale.FreeScale.flow

    def watched(self, index, generation):
        if index == 0:
            return flow(self, index, generation)
        parts.append((flow(self, index, generation), generation.sigmas(index)))
        return parts[-1][0]

    monkeypatch.setattr(freescale.FreeScale, "flow", watched)
    transformer = tiny_pipe.transformer
    hooks = [
        transformer.x_embedder.register_forward_pre_hook(lambda module, args: seen.append([args[0].clone()])),
        transformer.proj_out.register_forward_hook(lambda module, args, out: seen[-1].append(out.clone())),
    ]
    try:
        method = load("freescale", "base_steps=8", "cosine_scale=1")
        done = made(tiny_pipe, method, (256, 192))
    finally:
        for hook in hooks:
            hook.remove()
    ((part, sigmas),) = parts
    steps, adapter = seen[8:], adapter_for(tiny_pipe)
    assert len(steps) == len(sigmas) - 1 == 6 and done.calls == 14
    clean, noise = adapter.pack(part.clean), adapter.pack(part.noise)
    torch.testing.assert_close(steps[0][0], freescale.noised(clean, noise, sigmas[0]), rtol=0, atol=1e-5)
    for (x, velocity), (found, _), sigma, after in zip(steps[:-1], steps[1:], sigmas[:-1], sigmas[1:], strict=False):
        weight = 0.5 * (1 + np.cos(np.pi * (1 - after)))
        landed = x + (after - sigma) * velocity[:, : x.shape[1]]
        expected = (1 - weight) * landed + weight * ((1 - after) * clean + after * noise)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


# ----------------------------------------------------------------------------------------------------------- method


def test_flux_stages():
    method = load_method("freescale", "flux", [])
    base, *doublings = method.stages(ImageRequest((4096, 2048), 28, 4.5))
    assert (base.size, base.steps, base.guidance, base.plain) == ((1024, 512), 30, 3.5, True)
    assert [stage.size for stage in doublings] == [(2048, 1024), (4096, 2048)]
    assert all((stage.first, stage.taken, stage.guidance) == (9, 21, 3.5) for stage in doublings)
    assert freescale.window_of((128, 256), method.window) == (32, 64)


@pytest.mark.parametrize("size", [(128, 128), (64, 96)])
def test_no_doubling_is_the_model_as_it_is(tiny_pipe, size):
    plain = made(tiny_pipe, load("vanilla"), size, steps=3, guidance=3.5)
    assert np.array_equal(pixels(made(tiny_pipe, load("freescale", "base_steps=3"), size)), pixels(plain))


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    def image(*overrides, seed=0):
        return pixels(made(tiny_pipe, load("freescale", "base_steps=4", *overrides), (256, 256), seed=seed))

    torch.manual_seed(1)
    first = image()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert np.array_equal(image(), first) and torch.random.get_rng_state().equal(state)
    for other in (image(seed=1), image("jitter=0"), image("blur=code"), image("cosine_scale=1"), image("restart=0.5")):
        assert not np.array_equal(other, first)


def test_the_memory_budget_changes_nothing_but_rounding(tiny_pipe):
    few, many = (
        pixels(made(tiny_pipe, load("freescale", "base_steps=4", f"memory_mb={m}"), (256, 192))).astype(int)
        for m in (0.001, 1024)
    )
    assert abs(few - many).max() <= 1


@pytest.mark.parametrize(
    "override, words",
    [("restart=1", "restart"), ("window=0", "window"), ("jitter=0.3", "in no window"), ("blur=3d", "spatial, code")],
)
def test_bad_values_are_named(override, words):
    with pytest.raises(RequestError, match=words):
        load_method("freescale", "flux", [override])
