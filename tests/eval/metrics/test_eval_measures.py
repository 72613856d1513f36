import io

import numpy as np
import pytest
from PIL import Image

from eval.metrics.pixels.artefacts import radial_spectrum, repetition_at
from eval.records import images
from sega.embedded import world


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_crops_are_seeded_by_image_and_inside_it():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    first = images.crops(image, 16, 5, 0, ("p", 0))
    assert first.shape == (5, 16, 16, 3)
    assert np.array_equal(first, images.crops(image, 16, 5, 0, ("p", 0)))
    assert np.array_equal(first[:3], images.crops(image, 16, 3, 0, ("p", 0)))
    for other in (images.crops(image, 16, 5, 1, ("p", 0)), images.crops(image, 16, 5, 0, ("p", 1))):
        assert not np.array_equal(first, other)
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16, 3)).reshape(-1, 16, 16, 3)
    assert all((windows == crop).all((1, 2, 3)).any() for crop in first)


def test_crop_places_cover_the_image():
    image = np.arange(64 * 64, dtype=np.int64).reshape(64, 64, 1).repeat(3, 2)
    tops = [c[0, 0, 0] // 64 for k in range(300) for c in images.crops(image, 32, 1, 0, (str(k), 0))]
    assert min(tops) == 0 and max(tops) == 32


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(images.DamagedError, match="smaller than a crop"):
        images.crops(np.zeros((8, 20, 3), np.uint8), 16, 1, 0, ("p", 0))


def test_decoding_names_the_damage(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    data = encoded(image)
    assert np.array_equal(images.decode(data, (30, 20)), image)
    with pytest.raises(images.DamagedError, match="can't be decoded"):
        images.decode(data[: len(data) // 2])
    with pytest.raises(images.DamagedError, match="30x20 and not 20x30"):
        images.decode(data, (20, 30))
    path = tmp_path / "a.png"
    with pytest.raises(images.DamagedError, match="is missing"):
        images.read(path)
    path.write_bytes(data)
    with pytest.raises(images.DamagedError, match="differs from its record"):
        images.read(path, "0" * 64)


def test_transparent_and_grey_images_become_rgb():
    grey = np.full((4, 4), 100, np.uint8)
    assert (images.decode(encoded(grey)) == 100).all()
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (images.decode(encoded(clear)) == 255).all()


def test_batches_close_on_size_and_report_damage():
    def loader(shape):
        def load():
            if shape is None:
                raise images.DamagedError("broken")
            return np.zeros((*shape, 3), np.uint8)

        return load

    loaders = [loader(s) for s in [(4, 4), (4, 4), None, (4, 4), (6, 4), None]]
    found = list(images.batches(images.results(loaders, 0), 2))
    assert [indices for indices, _, _ in found] == [[0, 1], [3], [4]]
    assert [pictures.shape[1:3] for _, pictures, _ in found] == [(4, 4), (4, 4), (6, 4)]
    assert {k: v for _, _, damaged in found for k, v in damaged.items()} == {2: "broken", 5: "broken"}
    assert list(images.batches(images.results([loader(None)], 0), 2)) == [([], None, {0: "broken"})]


@pytest.mark.parametrize("cycles", [3, 9, 27])
def test_spectrum_peaks_where_a_wave_is(cycles):
    x = np.arange(128) / 128
    wave = 128 + 50 * np.sin(2 * np.pi * cycles * x)[None].repeat(128, 0)
    spectrum = radial_spectrum(wave, 24)
    edges = np.unique(np.round(np.geomspace(1, 65, 25)).astype(int))
    assert edges[spectrum.argmax()] <= cycles < edges[spectrum.argmax() + 1]


def test_spectrum_of_white_noise_is_flat_at_its_variance():
    noise = np.random.default_rng(0).normal(128, 10, (256, 256))
    spectrum = radial_spectrum(noise, 24)
    assert spectrum[-5:] == pytest.approx(np.full(5, 20.0), abs=0.3)
    assert np.isfinite(radial_spectrum(np.full((64, 64), 7.0), 24)).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_repetition_sees_a_tiled_scene_and_not_a_whole_one(axis):
    scenes = [
        world.render(world.scene_for(world.prompts(0, 3)[2], 1), *size)[..., 1].astype(float)
        for size in ((64, 64), (128, 128))
    ]
    tiled = np.concatenate([scenes[0]] * 2, axis)
    assert repetition_at(tiled, 64) > 0.5
    assert repetition_at(scenes[1], 64) < 0.3
    assert repetition_at(scenes[0], 64) is None
