import numpy as np
import pytest

from sega.embedded import world
from sega.embedded.model import NATIVE
from sega.errors import RequestError


def scenes(n, seed=3):
    rng = np.random.default_rng(seed)
    return [world.sample_scene(rng) for _ in range(n)]


@pytest.mark.parametrize("scene", scenes(12), ids=world.caption)
def test_a_large_render_reduced_is_the_small_render(scene):
    small = world.render(scene, NATIVE, NATIVE).astype(float)
    large = world.render(scene, 4 * NATIVE, 4 * NATIVE).astype(float).reshape(NATIVE, 4, NATIVE, 4, 3).mean((1, 3))
    assert np.abs(small - large).mean() < 5.0  # of 255
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.99


def test_a_larger_render_holds_finer_detail():
    def fine(scene, side):  # energy between neighbouring pixels of the larger grid
        image = world.render(scene, side, side).astype(float)
        return np.abs(np.diff(image, axis=1)).mean()

    for scene in scenes(4):
        blown_up = world.render(scene, NATIVE, NATIVE).repeat(4, 0).repeat(4, 1).astype(float)
        smooth = sum(np.roll(blown_up, (i, j), (0, 1)) for i in range(4) for j in range(4)) / 16
        assert fine(scene, 4 * NATIVE) > 1.15 * np.abs(np.diff(smooth, axis=1)).mean()


@pytest.mark.parametrize("size", [(NATIVE, NATIVE), (192, 96), (96, 160), (130, 67)])
def test_any_size_and_aspect(size):
    for scene in scenes(3):
        image = world.render(scene, *size)
        assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8 and image.std() > 5


def test_captions_are_read_back_and_stay_in_the_vocabulary():
    assert len(world.VOCABULARY) < 64
    for scene in scenes(50):
        text = world.caption(scene)
        assert world.parse_caption(text) == world.attributes(scene)
        assert set(text.split()) <= set(world.VOCABULARY)
        assert world.attributes(world.scene_for(text, 5)) == world.attributes(scene)


def test_what_the_caption_leaves_free_varies_with_the_seed():
    text = world.prompts(0, 1)[0]
    assert world.scene_for(text, 1) == world.scene_for(text, 1) != world.scene_for(text, 2)


def test_prompts_are_a_growing_list():
    assert world.prompts(7, 10)[:4] == world.prompts(7, 4) != world.prompts(8, 4)
    assert len(set(world.prompts(7, 64))) > 60


@pytest.mark.parametrize(
    "text", ["a cat", "", "a red striped ball on the left standing on lava under a clear sky with light from the left"]
)
def test_a_sentence_the_world_cannot_draw_is_refused_in_one_line(text):
    with pytest.raises(RequestError) as error:
        world.parse_caption(text)
    assert "\n" not in str(error.value)


def test_the_captions_that_are_kept_are_those_of_the_world():
    from sega.embedded.captions import COUNT, captions

    for count in (0, 5, COUNT, COUNT + 1):
        assert captions(0, count) == world.prompts(0, count)
    assert captions(3, 5) == world.prompts(3, 5) != captions(0, 5)
