"""ScaleDiff: golden values of its arithmetic, then the method on a small random pipeline."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from small import load

from baselines import scalediff
from baselines.kernels import tiled, windows
from sega import attach, load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.formulas.filters import bicubic, resize_lowpass
from sega.methods.base import Method, base_axis
from sega.methods.geometry import Geometry
from sega.methods.staged import restart_index, stage_sizes
from sega.methods.types import ImageRequest, Point, Rope
from sega.models.flux import image_ids
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parents[1] / "golden" / "scalediff.npz")
ATTENTION_ATOL, ARITHMETIC_ATOL = 1e-5, 1e-5
PATCH = (4, 4)
PROMPT = "a photo of a red boat"


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


def neighbourhood_attention(image, text, grid, turn, window, patch, offset=None, budget_mb=1024.0, few=None):
    """ScaleDiff's attention, the text of a window rotated by `turn(x, place)`."""
    tiles = windows.neighbourhoods(grid, window, patch, offset)

    def turn_others(x, boxes):
        return torch.stack([turn(x, [box.place]) for box in boxes])

    options = {"turn_others": turn_others, "budget_mb": budget_mb, "few_shapes": few}
    return tiled.paste(tiled.attend(image, text, grid, tiles, dense, **options), grid, image[2])


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("budget_mb", [1e-6, 0.2, 1024])
@pytest.mark.parametrize("case", ["npa_16x24_j0", "npa_16x16_j1"])
def test_neighbourhood_attention(case, budget_mb, few):
    grid, window = tuple(VALUES[f"{case}/grid"].tolist()), tuple(VALUES[f"{case}/window"].tolist())
    offset = tuple(VALUES[f"{case}/jitter"].tolist()) if VALUES[f"{case}/use_jitter"] else None
    turn = rotation(tuple(VALUES[f"{case}/axes_dim"].tolist()))
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    image, text = neighbourhood_attention(
        (turn(tokens(f"{case}/q"), places), turn(tokens(f"{case}/k"), places), tokens(f"{case}/v")),
        tuple(tokens(f"{case}/{name}_txt") for name in "qkv"),
        *(grid, turn, window, PATCH, offset, budget_mb, few),
    )
    torch.testing.assert_close(image, tokens(f"{case}/out_img"), rtol=0, atol=ATTENTION_ATOL)
    torch.testing.assert_close(text, tokens(f"{case}/out_txt"), rtol=0, atol=ATTENTION_ATOL)


@pytest.mark.parametrize("case", ["npa_16x24_j0", "npa_16x16_j1"])
def test_window_starts(case):
    grid, window = tuple(VALUES[f"{case}/grid"].tolist()), tuple(VALUES[f"{case}/window"].tolist())
    offset = tuple(VALUES[f"{case}/jitter"].tolist()) if VALUES[f"{case}/use_jitter"] else None
    starts = [tile.keys.place for tile in windows.neighbourhoods(grid, window, PATCH, offset)]
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
    image, mean = neighbourhood_attention((q, k, v), text, grid, turn, window, PATCH, offset)
    shift = offset or (0, 0)
    for y in range(grid[0]):
        for x in range(grid[1]):
            start = tuple(
                min(max((at + j) // 4 * 4 - j - (w - 4) // 2, 0), n - w)
                for at, j, n, w in zip((y, x), shift, grid, window, strict=True)
            )
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
    image, mean = neighbourhood_attention((q, k, v), text, (8, 8), lambda x, place: x, (8, 8), (8, 8))
    joint = [torch.cat([t, x], 1) for t, x in zip(text, (q, k, v), strict=True)]
    torch.testing.assert_close(torch.cat([mean, image], 1), dense(*joint))


@pytest.mark.parametrize("name", sorted(key for key in VALUES.files if key.startswith("refine_sf")))
def test_refine(name):
    factor, weight = (float(part.lstrip("sf")) for part in name.split("_")[1:])
    out = scalediff.refine(golden("refine_pred"), golden("refine_ref"), weight, factor)
    torch.testing.assert_close(out, golden(name), rtol=0, atol=ARITHMETIC_ATOL)


def test_bicubic():
    out = bicubic(golden("refine_ref")[:, :, :8, :8], (16, 16))
    torch.testing.assert_close(out, golden("bicubic_x2"), rtol=0, atol=ARITHMETIC_ATOL)


@pytest.mark.parametrize(
    "size, sizes",
    [
        ((4096, 4096), [(1024, 1024), (2048, 2048), (4096, 4096)]),
        ((2048, 1024), [(1024, 512), (2048, 1024)]),
        ((3072, 3072), [(768, 768), (1536, 1536), (3072, 3072)]),
        ((2064, 2064), [(1040, 1040), (2064, 2064)]),
        ((1024, 1024), [(1024, 1024)]),
        ((1280, 1280), [(1280, 1280)]),
        ((512, 768), [(512, 768)]),
    ],
)
def test_stage_sizes(size, sizes):
    assert stage_sizes(size, 1024, 16) == sizes


def test_restart_index():
    cases = [(30, 0.6), (10, 0.9), (10, 0.7), (4, 0.6), (7, 1.0)]
    assert [restart_index(steps, 1 - strength) for steps, strength in cases] == [12, 1, 3, 1, 0]


def test_structure_guidance():
    generator = torch.Generator().manual_seed(0)
    x, velocity, guide = torch.randn(3, 1, 3, 8, 8, generator=generator)
    out = scalediff.StructureGuidance(guide, 0.25)(Point(x, velocity, 0.7, 0.6, 0, 4, 1))
    clean = x - 0.7 * velocity
    moved = clean + 0.7 * (resize_lowpass(guide, 0.25) - resize_lowpass(clean, 0.25))
    torch.testing.assert_close(x - 0.7 * out, moved)


def test_flux_stages():
    method = load_method("scalediff", "flux", ["suffix=', best quality'"])
    base, *doublings = method.stages(ImageRequest((4096, 4096), 28, 4.5))
    assert (base.size, base.steps, base.guidance, base.plain, base.suffix) == ((1024, 1024), 30, 3.5, True, "")
    assert [stage.size for stage in doublings] == [(2048, 2048), (4096, 4096)]
    assert all((stage.first, stage.taken, stage.suffix) == (12, 18, ", best quality") for stage in doublings)
    assert (method.window, method.patch) == (64, 32)


def picture(pipe, *overrides, size=(256, 256), seed=0, **arguments):
    method = load("scalediff", "base_steps=3", *overrides)
    return generate(pipe, method, PROMPT, seed=seed, size=size, steps=2, guidance=1.0, **arguments)


def same(a, b):
    return np.array_equal(np.asarray(a.image), np.asarray(b.image))


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    torch.manual_seed(1)
    first = picture(tiny_pipe)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(picture(tiny_pipe), first)
    assert torch.random.get_rng_state().equal(state)
    assert not same(picture(tiny_pipe, seed=1), first)
    assert not same(picture(tiny_pipe, "jitter=false"), first)
    assert not same(picture(tiny_pipe, "suffix=' and a cat'"), first)
    assert np.asarray(first.image).shape == (256, 256, 3) and first.calls == 3 + 2


def test_the_memory_budget_changes_nothing_but_rounding(tiny_pipe):
    few, many = (np.asarray(picture(tiny_pipe, f"memory_mb={m}").image).astype(int) for m in (0.001, 1024))
    assert abs(few - many).max() <= 1


@pytest.mark.parametrize("size", [(384, 96), (264, 248), (512, 128)])
def test_odd_sizes(tiny_pipe, size):
    made = picture(tiny_pipe, size=size)
    assert made.image.size == size


@pytest.mark.parametrize("size", [(128, 128), (64, 96)])
def test_no_doubling_is_the_model_as_it_is(tiny_pipe, size):
    plain = generate(tiny_pipe, load("vanilla"), PROMPT, seed=0, size=size, steps=3, guidance=3.5)
    assert same(picture(tiny_pipe, size=size), plain)


def test_jitter_covers_its_range():
    part = scalediff.Neighbourhood(load_method("scalediff", "flux"), torch.Generator().manual_seed(0))
    drawn = torch.tensor([part.jitter((128, 40)) for _ in range(2000)])
    assert drawn.amin(0).tolist() == [0, 0] and drawn.amax(0).tolist() == [32, 32]


def test_text_is_rotated_as_the_first_token_of_its_window(tiny_pipe):
    """The patch at (0, 24), whose window starts at (0, 20), against attention written out."""
    method, seen = load("scalediff", "jitter=false"), []

    class Watched(scalediff.Neighbourhood):
        def attend(self, call):
            out = super().attend(call)
            seen.append((call, out, {name: call.rotate(getattr(call, name)) for name in "qk"}))
            return out

    run_once(tiny_pipe.transformer, method, Watched(method, torch.Generator()), (16, 40))
    call, out, turned = seen[0]
    text = call.text
    ids = torch.tensor([[0.0, 0.0, 20.0]]).expand(text, 3)
    words = {name: call.rotate(getattr(call, name)[:, :text], ids=ids) for name in "qk"}
    rows = [text + y * 40 + x for y, x in itertools.product(range(16), range(20, 36))]
    keys = torch.cat([words["k"], turned["k"][:, rows]], 1)
    values = torch.cat([call.v[:, :text], call.v[:, rows]], 1)
    inside = [text + y * 40 + x for y, x in itertools.product(range(8), range(24, 32))]
    expected = dense(turned["q"][:, inside], keys, values)
    torch.testing.assert_close(out[:, inside], expected, rtol=0, atol=1e-5)
    assert (method.window, method.patch) == (16, 8)


def run_once(transformer, method, part, grid):
    plain = Method(method.geometry)
    object.__setattr__(plain, "attention", lambda index, run: part)
    config, generator = transformer.config, torch.Generator().manual_seed(0)
    with attach(transformer, plain), torch.no_grad():
        transformer(
            hidden_states=torch.randn(1, grid[0] * grid[1], config.in_channels, generator=generator),
            encoder_hidden_states=torch.randn(1, 24, config.joint_attention_dim, generator=generator),
            pooled_projections=torch.zeros(1, config.pooled_projection_dim),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            img_ids=image_ids(grid, "cpu"),
            txt_ids=torch.zeros(24, 3),
        )


@pytest.mark.parametrize(
    "override, words",
    [("strength=0", "strength"), ("patch=65", "patch"), ("window=0", "window"), ("suffix=3", "text")],
)
def test_bad_values_are_named(override, words):
    with pytest.raises(RequestError, match=words):
        load_method("scalediff", "flux", [override])
