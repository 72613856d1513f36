"""The weights that ship with the project: size, format, and that they do what the model card says."""

import json

import numpy as np
import pytest
import torch

from sega.embedded import world
from sega.embedded.model import NATIVE, PIPELINE, TEXT_TOKENS, WEIGHTS, build_tokenizer
from sega.embedded.scorer import FEATURES, Scorer, load_scorer
from sega.embedded.training.scorer import accuracy


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer()


def test_all_weights_are_small_and_safetensors():
    files = [path for name in ("pipeline", "scorer") for path in (WEIGHTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt"}


def test_the_pipeline_is_made_of_stock_classes():
    index = json.loads((PIPELINE / "model_index.json").read_text())
    assert index["_class_name"] == "FluxPipeline"
    assert index["transformer"] == ["diffusers", "FluxTransformer2DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["text_encoder_2"] == ["transformers", "T5EncoderModel"]


def test_captions_fit_the_text_length_and_no_word_is_unknown():
    tokenizer = build_tokenizer()
    for text in world.prompts(3, 40):
        ids = tokenizer(text).input_ids
        assert len(ids) <= TEXT_TOKENS and tokenizer.unk_token_id not in ids and ids[-1] == tokenizer.eos_token_id


def test_the_scorer_reads_every_attribute_of_fresh_renders(scorer):
    for side in (NATIVE, 2 * NATIVE):
        found = accuracy(scorer, 64, side, seed=1234)
        assert min(found[name] for name in world.SCORED) >= 0.97, found


def test_a_caption_fits_its_own_image_best(scorer):
    texts = world.prompts(17, 24)
    images = np.stack([world.render(world.scene_for(text, 3), NATIVE, NATIVE) for text in texts])
    image = torch.nn.functional.normalize(scorer.image_features(torch.from_numpy(images).permute(0, 3, 1, 2)), dim=-1)
    text = torch.nn.functional.normalize(scorer.text_features(texts), dim=-1)
    assert image.shape == (24, FEATURES)
    assert ((image @ text.T).argmax(-1) == torch.arange(24)).float().mean() > 0.9


def test_a_scene_repeated_four_times_scores_less(scorer):
    """What a model does above its training size: one image of the caption in each tile."""
    texts = world.prompts(17, 24)
    scenes = [world.scene_for(text, 3) for text in texts]
    whole = [world.render(scene, 2 * NATIVE, 2 * NATIVE) for scene in scenes]
    tiled = [np.tile(world.render(scene, NATIVE, NATIVE), (2, 2, 1)) for scene in scenes]
    text = torch.nn.functional.normalize(scorer.text_features(texts), dim=-1)
    said = np.array([scene.said["class"] for scene in scenes])
    clip, right = [], []
    for images in (whole, tiled):
        images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        image = torch.nn.functional.normalize(scorer.image_features(images), dim=-1)
        clip.append(float((image * text).sum(-1).mean()))
        found = scorer.attribute_probabilities(images)["class"].argmax(-1).tolist()
        right.append(np.mean([world.ATTRIBUTES["class"][k] for k in found] == said))
    assert clip[0] > 0.9 and clip[1] < 0.8 * clip[0], clip
    assert right[0] >= 0.97 and right[1] < 0.5, right


def test_features_do_not_depend_on_the_batch(scorer):
    images = torch.randint(0, 256, (3, 3, 160, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = scorer.image_features(images)
    alone = torch.cat([scorer.image_features(picture[None]) for picture in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
