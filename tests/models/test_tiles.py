"""Decoding and encoding in tiles: equal tiles, and no seam where they meet."""

from pathlib import Path

import pytest
import torch

from sega.models.flux import FluxAdapter
from sega.models.tiles import OVERLAP, spans, tiled, weights

WEIGHTS = Path(__file__).resolve().parents[2] / "sega" / "embedded" / "weights" / "pipeline"


@pytest.mark.parametrize("length", [256, 257, 270, 480, 512, 640, 768, 1000])
def test_tiles_cover_an_axis_evenly(length):
    parts = spans(length, 256, 32)
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert len({end - start for start, end in parts}) == 1 and parts[0][1] <= 256
    assert all(before[1] - after[0] >= 32 for before, after in zip(parts, parts[1:], strict=False))
    total = torch.zeros(length * 8)
    for (start, end), ramp in zip(parts, weights(parts, 8), strict=True):
        total[start * 8 : end * 8] += ramp
    torch.testing.assert_close(total, torch.ones(length * 8))


def test_what_has_no_borders_comes_out_as_in_one_piece():
    x = torch.randn(1, 2, 37, 50)
    enlarge = torch.nn.Upsample(scale_factor=8)
    torch.testing.assert_close(tiled(enlarge, x, 1, 8, 16, 4), enlarge(x))
    shrink = torch.nn.AvgPool2d(8)
    torch.testing.assert_close(tiled(shrink, enlarge(x), 8, 1, 16, 4), x)
    assert spans(16, 16, 4) == [(0, 16)]


@pytest.fixture(scope="module")
def embedded():
    """The autoencoder that ships with the project, 4 px a cell."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(WEIGHTS / "vae", torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def qwen():
    """A small random one of Qwen-Image's class, 8 px a cell, 4 channels."""
    from sega.testing.qwen import build_autoencoder

    torch.manual_seed(0)
    return build_autoencoder().eval()


def images(height, width):
    """A smooth gradient and noise, [1, 3, H, W] in -1..1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"gradient": torch.stack([x, y, -x])[None] * 0.8, "noise": noise}


def jumps(difference, borders):
    """Mean step of the difference to the whole image across each border, and over all columns."""
    steps = difference.diff(dim=-1).abs().mean(dim=(0, 1, 2))
    return max(float(steps[border - 1]) for border in borders), float(steps.mean())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gradient", "noise"])
@pytest.mark.parametrize("which", ["embedded", "qwen"])
def test_tiles_leave_no_seam(which, kind, request):
    vae = request.getfixturevalue(which)
    cell = 4 if which == "embedded" else 8
    height, width = 24 * cell, 56 * cell
    image = images(height, width)[kind]
    if which == "embedded":
        latent = vae.encode(image).latent_dist.mode()
        whole, decode = vae.decode(latent)[0], lambda part: vae.decode(part)[0]
    else:
        latent = vae.encode(image[:, :, None]).latent_dist.mode()[:, :, 0]
        whole = vae.decode(latent[:, :, None])[0][:, :, 0]
        decode = lambda part: vae.decode(part[:, :, None])[0][:, :, 0]  # noqa: E731
    made = tiled(decode, latent, 1, cell, 32, 8)
    assert made.shape == whole.shape
    difference, parts = made - whole, spans(56, 32, 8)
    borders = sorted({place * cell for part in parts for place in part} - {0, width})
    worst, mean = jumps(difference, borders)
    scale = float(whole.std())
    assert worst < 3 * mean + 1e-3 * scale  # a border is no place where the image steps
    # Group normalisation sees a tile at a time, so a slow gradient comes out at other contrasts.
    drift = 0.5 if (which, kind) == ("embedded", "gradient") else 0.1
    assert float(difference.abs().mean()) < drift * scale


def test_only_sides_beyond_the_limit_are_tiled(tiny_pipe, monkeypatch):
    adapter, seen = FluxAdapter(tiny_pipe), []
    original = tiny_pipe.vae.decode
    monkeypatch.setattr(tiny_pipe.vae, "decode", lambda z, **how: seen.append(tuple(z.shape)) or original(z, **how))
    latent = torch.randn(1, 8, 64, 160)
    whole = adapter.decode(latent)
    adapter.configure(tile=160 * 4)
    assert torch.equal(adapter.decode(latent), whole) and {shape[-1] for shape in seen} == {160}
    adapter.configure(tile=512)
    seen.clear()
    assert adapter.decode(latent).shape == whole.shape
    tile = spans(160, 128, OVERLAP // 4)[0][1]
    assert {shape[-1] for shape in seen} == {tile} and len(seen) == 2
    image = whole.clamp(-1, 1)
    seen.clear()
    adapter.configure(tile=None)
    mode = adapter.encode(image, None)
    adapter.configure(tile=512)
    assert adapter.encode(image, None).shape == mode.shape == latent.shape
