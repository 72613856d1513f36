"""GLCM score and compression ratio against values of the published code, and speckle on images made for it."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.metrics.pixels import texture
from eval.metrics.pixels.artefacts import flat_speckle
from eval.metrics.statistics import harmonic_difference, harmonic_interval
from eval.protocols import load_protocol
from eval.records import images
from eval.records.runs import RunImage
from eval.scoring.aggregate import Scored, metric_scores
from eval.scoring.collect import Item, collect, resolve

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = ("flat", "scene", "texture")


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "metrics.npz"))


def picture(name):
    return images.read(GOLDEN / "metric_images" / f"{name}.png")


def file_of(golden, name):
    return np.asarray(Image.open(io.BytesIO(golden[f"d4k/jpeg_bytes/{name}"].tobytes())))


@pytest.mark.parametrize("name", NAMES)
def test_grey_levels_are_those_of_the_published_code(golden, name):
    ours = texture.gray_levels(picture(name), "diffusion4k")
    assert np.array_equal(ours, golden[f"d4k/gray64/{name}"])
    differing = (texture.gray_levels(picture(name), "pixverve") != ours).sum()
    assert differing == golden[f"pixverve/gray64_differs/{name}"] > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant, prefix", [("diffusion4k", "d4k"), ("pixverve", "pixverve")])
def test_scores_of_tiles_are_those_of_the_published_code(golden, name, variant, prefix):
    levels = texture.gray_levels(picture(name), variant)
    tiles = levels.reshape(3, 64, 3, 64).swapaxes(1, 2)
    found = [[texture.tile_score(tile, variant == "pixverve") for tile in row] for row in tiles]
    assert found == pytest.approx(golden[f"{prefix}/patch_entropy/{name}"], abs=1e-10)


@pytest.mark.parametrize("side", [192, 128, 160])
def test_the_score_of_an_image_is_the_mean_of_whole_tiles_from_the_top_left(golden, side):
    cut = [picture(name)[:side, :side] for name in NAMES]
    found = [texture.glcm_score(texture.gray_levels(image, "diffusion4k"), "diffusion4k") for image in cut]
    assert found == pytest.approx(golden[f"d4k/png/size{side}/entropy_per_image"], abs=1e-10)
    assert texture.glcm_score(np.zeros((63, 200), np.uint8), "diffusion4k") is None


def cells(golden, load, **options):
    """Cells of the table for the three images, by the way a run is scored."""
    words = [f"{key.replace('_', '.')}={value}" for key, value in options.items()]
    config = load_protocol("plain", ["metrics=[glcm,compression]", "device=cpu", "workers=0", *words])
    names = ["glcm", "compression"]
    items = [Item(partial(load, name), (name, 0)) for name in NAMES]
    setting = resolve(names, config, None)
    assert not setting.reasons
    values, damaged = collect(items, [names] * 3, setting.context())
    assert not damaged
    scored = Scored([RunImage(None, name, 0) for name in NAMES], values, None)
    return values, metric_scores(scored, config, {}, "", None)


def test_a_run_has_the_scores_of_diffusion_4k(golden):
    """Its routine scores the JPEG files that it writes."""
    values, found = cells(golden, picture, glcm_jpeg="true")
    assert [v["glcm"] for v in values] == pytest.approx(golden["d4k/jpg/size192/entropy_per_image"], abs=1e-3)
    assert found["glcm"]["value"] == pytest.approx(golden["d4k/jpg/size192/entropy"], abs=1e-3)
    assert found["glcm"]["title"] == "GLCM (diffusion4k)"
    assert found["compression"]["value"] == pytest.approx(golden["d4k/jpg/size192/compression_ratio"], rel=0.01)
    assert found["compression"]["low"] < found["compression"]["value"] < found["compression"]["high"]
    mean = np.mean([v["compression"] for v in values])
    assert mean > 1.5 * found["compression"]["value"]  # the ratio of totals, not the mean of ratios


def test_decoded_files_of_diffusion_4k_have_its_scores(golden):
    _, found = cells(golden, partial(file_of, golden))
    assert found["glcm"]["value"] == pytest.approx(golden["d4k/jpg/size192/entropy"], abs=1e-10)


def test_a_run_has_the_scores_of_pixverve(golden):
    values, found = cells(golden, picture, glcm_variant="pixverve")
    for name, value in zip(NAMES, values, strict=True):
        assert value["glcm"] == pytest.approx(golden[f"pixverve/glcm/{name}"], abs=1e-10)
    assert found["glcm"]["value"] == pytest.approx(golden["pixverve/glcm_all"], abs=1e-10)


def test_the_harmonic_mean_is_the_ratio_of_totals_and_its_interval_contains_it():
    sizes = np.random.default_rng(0).uniform(1, 5, 40)
    found = harmonic_interval(60 / sizes, [k // 2 for k in range(40)])
    assert found.value == pytest.approx(40 * 60 / sizes.sum()) and found.low < found.value < found.high
    assert harmonic_interval([2.0, 6.0], ["a", "a"]) == harmonic_interval([6.0, 2.0], ["a", "a"])
    assert harmonic_interval([2.0, 6.0], ["a", "a"]).value == pytest.approx(3) and found.n == 40


def test_harmonic_means_are_compared_on_common_images():
    generator = np.random.default_rng(1)
    a = {(str(k), 0): float(generator.uniform(4, 9)) for k in range(30)}
    b = {key: 1 / (1 / value + 0.05) for key, value in a.items()} | {("other", 0): 100.0}
    found = harmonic_difference(a, b)
    inverse = np.mean([1 / value for value in a.values()])
    assert found.value == pytest.approx(1 / inverse - 1 / (inverse + 0.05)) and found.n == 30
    assert 0 < found.low < found.value < found.high
    assert harmonic_difference(a, a).low == harmonic_difference(a, a).high == 0
    assert harmonic_difference(a, {}) is None
    assert harmonic_difference({("x", 0): 2.0}, {("x", 0): 4.0}).low is None


@pytest.mark.parametrize("deviation", [1, 4])
def test_speckle_is_the_noise_of_flat_ground(deviation):
    """20 times the variance of white noise, whatever the rest of the image shows."""
    y, x = np.mgrid[:320, :320]
    scene = np.where(y < 160, 128, 128 + 60 * np.sin(x / 3) * np.sin(y / 4))
    noise = np.random.default_rng(0).normal(0, deviation, scene.shape)
    assert flat_speckle(scene + noise) == pytest.approx(20 * deviation**2, rel=0.15)
    assert flat_speckle(scene) < 1e-9


def test_speckle_of_slopes_rounding_and_small_images():
    slope = np.tile(np.linspace(0, 200, 256), (256, 1))
    assert flat_speckle(slope) < 1e-9  # a slope has no Laplacian
    assert 0 < flat_speckle(slope.round()) < 20 / 12
    assert flat_speckle(np.zeros((31, 200))) is None and flat_speckle(np.zeros((32, 40))) == 0
