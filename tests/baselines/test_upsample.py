"""Plain upsampling: its filters, networks for super-resolution with tiles, and what its runs are named by."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_weights import upscaler
from small import load

from baselines.kernels.superresolution import OVERLAP, enlarge, load_network, ramp, spans
from sega import load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.formulas.filters import bicubic, lanczos
from sega.methods.types import ImageRequest
from sega.run import cli
from sega.run.request import read_request

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return {scale: upscaler(folder / f"{scale}x.safetensors", scale) for scale in (2, 4)}


def finished(image, size, *overrides):
    """What `upsample` makes of a decoded image [1, 3, H, W]."""
    width, height = size
    generation = SimpleNamespace(
        request=ImageRequest((width, height), 2, 1.0), latent=None, decode=lambda latent: image
    )
    return load("upsample", *overrides).finish(generation)


def picture(height, width, seed=0):
    image = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(image, size=(height, width), mode="bicubic").clamp(-1, 1)


def lanczos_matrix(old, new):
    """Rows of weights: sinc(x) sinc(x/3) for |x| < 3 about the centre of each new px, widened where it gets smaller."""
    widen = max(1.0, old / new)
    x = ((np.arange(old) + 0.5)[None] - (np.arange(new)[:, None] + 0.5) * old / new) / widen
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(48, 40), (61, 33), (10, 13), (24, 70)])
def test_lanczos_is_its_formula_and_does_not_round(size):
    x = picture(24, 20)
    expected = lanczos_matrix(24, size[0]) @ x.double().numpy() @ lanczos_matrix(20, size[1]).T
    np.testing.assert_allclose(lanczos(x, size).numpy(), expected, atol=2e-6)
    assert lanczos(x, (24, 20)) is x and lanczos(x.bfloat16(), size).dtype == torch.bfloat16


def test_kinds():
    x = picture(64, 48)
    assert finished(x, (96, 128)).equal(bicubic(x, (128, 96)))
    assert finished(x, (96, 128), "kind=lanczos").equal(lanczos(x, (128, 96)))
    edge = torch.ones(1, 3, 16, 16)
    edge[..., :8] = -1
    overshoot = [float(finished(edge, (64, 64), f"kind={kind}").max()) - 1 for kind in ("bicubic", "lanczos")]
    assert 0 < overshoot[0] != overshoot[1] > 0  # the lobes beside an edge
    for kind in ("bicubic", "lanczos"):
        assert finished(x, (48, 64), f"kind={kind}") is x


def once(file, x):
    """The network by itself, from and to -1..1."""
    with torch.no_grad():
        return load_network(file, CPU).model(x / 2 + 0.5).clamp(0, 1) * 2 - 1


@pytest.mark.parametrize(
    ("scale", "size", "times"), [(2, (80, 96), 1), (4, (80, 96), 1), (2, (160, 192), 2), (2, (83, 141), 2)]
)
def test_a_network_is_applied_until_the_target_is_reached(files, scale, size, times):
    x, expected = picture(48, 40), picture(48, 40)
    for _ in range(times):
        expected = once(files[scale], expected)
    expected = lanczos(expected, size[::-1])
    actual = finished(x, size, "kind=model", f"weights={files[scale]}")
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)
    assert actual.std() > 0.01 and not torch.allclose(actual, bicubic(x, size[::-1]), atol=0.1)
    assert finished(x, (40, 48), "kind=model", f"weights={files[scale]}") is x


@pytest.mark.parametrize("tile", [128, 150])
def test_tiles_equal_the_whole_image(files, tile):
    network, x = load_network(files[2], CPU), picture(301, 170) / 2 + 0.5
    whole, calls = enlarge(network, x, None), []

    class Counted:
        scale = 2

        def __call__(self, part):
            calls.append(tuple(part.shape[-2:]))
            return network(part)

    torch.testing.assert_close(enlarge(Counted(), x, tile), whole, atol=1e-6, rtol=0)
    assert set(calls) == {(tile, tile)} and len(calls) == len(spans(301, tile)) * len(spans(170, tile)) > 3


def test_what_differs_between_tiles_fades():
    """A network that adds a value of its own to each tile leaves no step at a border."""

    class Shifting:
        scale, calls = 1, 0

        def __call__(self, part):
            self.calls += 1
            return part + self.calls

    line = enlarge(Shifting(), torch.zeros(1, 3, 128, 192), 128)[0, 0, 64]
    assert line[0] == 1 and line[-1] == 2
    assert 0 <= line.diff().min() and line.diff().max() < 0.07


@pytest.mark.parametrize("side", [1, 127, 128, 129, 192, 193, 500, 1024])
def test_tiles_cover_an_axis(side):
    found = spans(side, 128)
    assert found[0][0] == 0 and found[-1][1] == side
    assert {last - first for first, last in found} == {min(side, 128)}
    assert all(a[1] - b[0] >= OVERLAP for a, b in zip(found, found[1:], strict=False))
    total = torch.zeros(side * 3, dtype=torch.float64)
    for first, last in found:
        total[3 * first : 3 * last] += ramp(first, last, side, 3)
    assert total.min() >= 1 - 1e-12


def test_an_image_by_a_network(tiny_pipe, files):
    def made(*overrides):
        method = load("upsample", "base_steps=2", *overrides)
        return np.asarray(generate(tiny_pipe, method, "a boat", size=(200, 184)).image, dtype=float)

    words = ("kind=model", f"weights={files[2]}")
    image = made(*words)
    assert image.shape == (184, 200, 3) and image.std() > 1
    assert np.array_equal(image, made(*words)) and np.abs(image - made()).mean() > 1
    assert np.abs(image - made(*words, "tile=none")).max() == 0  # smaller than a tile


def test_the_default_keeps_its_identity():
    usual = {"schedule": "pinned", "base_steps": 30, "base_guidance": 3.5}
    assert load_method("upsample", "tiny").identity() == usual
    assert load_method("upsample", "tiny", ["kind=lanczos"]).identity() == usual | {"kind": "lanczos"}


def test_a_network_counts_by_its_content(files, tmp_path, line):
    def folder(file):
        words = [*line, "method=upsample", "method.kind=model", f"method.weights={file}", "dry_run=true"]
        return read_request(words).cells[0].folder.path

    here = folder(files[2])
    moved = shutil.copy(files[2], tmp_path / "moved.safetensors")
    assert folder(moved) == here != folder(files[4])
    upscaler(tmp_path / "moved.safetensors", seed=1)
    assert folder(moved) != here


WRONG = [
    (["kind=model"], "needs method.weights=.*fetch.py esrgan-2x` fetches a small one"),
    (["kind=model", "weights=/nowhere.pth"], "weights=/nowhere.pth is not a file; `python scripts/fetch.py esrgan-2x`"),
    (["kind=model", "weights=README.md"], "weights=README.md must end in .safetensors"),
    (["weights=a.pth"], "weights=a.pth is of kind=model; add method.kind=model"),
    (["kind=lanczos", "tile=256"], "tile=256 is of kind=model"),
    (["kind=model", "tile=100"], "tile=100 must be a whole number of at least 128 or none"),
    (["kind=esrgan"], "kind=esrgan is not allowed"),
]


@pytest.mark.parametrize(("overrides", "what"), WRONG)
def test_wrong_words(overrides, what):
    with pytest.raises(RequestError, match=what):
        load("upsample", *overrides)


def test_without_spandrel_the_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(RequestError, match=r"needs spandrel: pip install 'sega-bench\[upscale\]'"):
        load("upsample", "kind=model", f"weights={files[2]}")


def restoration(path):
    """A network that keeps the size."""
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact

    save_file(Compact(num_feat=4, num_conv=1, upscale=1).state_dict(), path)


def stranger(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path)


BROKEN = {
    "grey.safetensors": (lambda path: upscaler(path, channels=1), "ESRGAN for SR, 1 to 1 channels, 2x; upsample needs"),
    "same.safetensors": (restoration, "RealESRGAN Compact for Restoration, 3 to 3 channels, 1x"),
    "other.safetensors": (stranger, "holds no network that spandrel knows"),
    "cut.safetensors": (lambda path: path.write_bytes(upscaler(path).read_bytes()[:900]), "can't be read"),
    "junk.pth": (lambda path: path.write_bytes(bytes(range(256)) * 9), "can't be read"),
    "empty.pth": (lambda path: path.touch(), "can't be read"),
    "junk.pt": (lambda path: path.write_bytes(bytes(range(256)) * 9), "can't be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_such_network_ends_a_run_in_one_line(name, line, tmp_path, capsys):
    write, what = BROKEN[name]
    write(tmp_path / name)
    words = [*line, "res=2x", "method=upsample", "method.base_steps=1"]
    words += ["method.kind=model", f"method.weights={tmp_path / name}"]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert what in told and "Traceback" not in told
    assert not list((tmp_path / "runs").rglob("*.png"))
