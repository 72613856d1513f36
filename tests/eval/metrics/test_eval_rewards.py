"""Learned scores on random weights in the published layout, against what they are defined to be."""

import json

import numpy as np
import pytest
import random_weights
import torch
import torch.nn.functional as F

from eval.metrics.learned import rewards, weights
from eval.metrics.learned.networks import find, reduced
from eval.metrics.measures import Batch, Context
from eval.protocols import load_protocol

PROMPTS = ["a red house under the sky", None, "two cats on a boat, at dawn", "a lighthouse"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files at random."""
    return random_weights.make_all(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def context(folder, tmp_path, monkeypatch):
    import open_clip

    random_weights.unpinned(monkeypatch)
    (tmp_path / "tiny-hps.json").write_text(json.dumps(random_weights.TINY_CLIP))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(rewards, "HPS_MODEL", "tiny-hps")
    config = load_protocol("plain", [f"weights={folder}", "device=cpu"])
    kind = "ViT-L-14-quickgelu"
    return Context(config, None, {kind: find(kind, config)})


@pytest.fixture
def batch():
    return make_batch()


def make_batch(size=(40, 56)):
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
    return Batch(images, [(str(k), 0) for k in range(4)], list(PROMPTS))


def normalised(batch, side, whole=False):
    x = reduced(batch.tensor(), side, whole).float() / 255
    return (x - torch.tensor(rewards.MEAN).view(1, 3, 1, 1)) / torch.tensor(rewards.STD).view(1, 3, 1, 1)


def test_pickscore_is_the_scaled_cosine_of_the_two_towers(context, batch):
    from open_clip import get_tokenizer

    found = rewards.pickscore(context)(batch)
    model = rewards.load_pickscore(weights.find("pickscore", context.config["weights"])[0])
    tokens = get_tokenizer("ViT-H-14")([PROMPTS[2]])
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixel_values=normalised(batch, 32)[2:3]).pooler_output)
        read = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    expected = model.logit_scale.exp() * torch.cosine_similarity(seen, read)
    assert found[1] is None and found[2] == pytest.approx(expected.item(), rel=1e-5)
    assert len({round(value, 5) for value in found if value is not None}) == 3


def test_pickscore_takes_the_published_size():
    """986,109,441 parameters of CLIP ViT-H/14, none of them here: shapes only."""
    from transformers import CLIPConfig, CLIPModel

    wide = {"intermediate_size": 5120, "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16}
    text = {"intermediate_size": 4096, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = CLIPConfig(vision_config=wide | {"patch_size": 14}, text_config=text, projection_dim=1024)
    with torch.device("meta"):
        state = CLIPModel(config).state_dict()
    model = rewards.clip_model(state)
    assert sum(p.numel() for p in model.parameters()) == 986_109_441
    assert model.config.vision_config.image_size == 224 and model.config.text_config.num_hidden_layers == 24


def test_hpsv2_is_the_cosine_of_the_whole_image(context, batch):
    import open_clip

    found = rewards.hpsv2(context)(batch)
    model = open_clip.create_model("tiny-hps").eval()
    path, _ = weights.find("hpsv2.1", context.config["weights"])
    model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    with torch.no_grad():
        seen = model.encode_image(normalised(batch, 32, whole=True)[:1])
        read = model.encode_text(open_clip.get_tokenizer("tiny-hps")([PROMPTS[0]]))
    assert found[0] == pytest.approx(100 * float(torch.cosine_similarity(seen, read)), rel=1e-5)
    context.config["hps"]["version"] = "v2.0"
    assert rewards.hpsv2(context)(make_batch())[0] != pytest.approx(found[0], rel=1e-3)


def blip(state, x, ids, mask):
    """BLIP's image encoder and text encoder with cross-attention, and the head, from their formulas: [B]."""

    def linear(name, y):
        return F.linear(y, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, y, eps):
        return F.layer_norm(y, y.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(q, k, v, bias=0.0):
        q, k, v = (y.unflatten(-1, (-1, 64)).transpose(1, 2) for y in (q, k, v))
        return ((q @ k.mT / 8 + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)

    p = "blip.visual_encoder"
    y = F.conv2d(x, state[f"{p}.patch_embed.proj.weight"], state[f"{p}.patch_embed.proj.bias"], 16).flatten(2).mT
    y = torch.cat([state[f"{p}.cls_token"].expand(len(y), -1, -1), y], 1) + state[f"{p}.pos_embed"]
    for k in range(2):
        b = f"{p}.blocks.{k}"
        y = y + linear(f"{b}.attn.proj", attend(*linear(f"{b}.attn.qkv", norm(f"{b}.norm1", y, 1e-6)).chunk(3, -1)))
        y = y + linear(f"{b}.mlp.fc2", F.gelu(linear(f"{b}.mlp.fc1", norm(f"{b}.norm2", y, 1e-6))))
    seen = norm(f"{p}.norm", y, 1e-6)

    p = "blip.text_encoder"
    words = state[f"{p}.embeddings.word_embeddings.weight"][ids]
    h = norm(
        f"{p}.embeddings.LayerNorm", words + state[f"{p}.embeddings.position_embeddings.weight"][: ids.shape[1]], 1e-12
    )
    hidden = torch.where(mask.bool(), 0.0, -1e9)[:, None, None]
    for k in range(2):
        layer = f"{p}.encoder.layer.{k}"
        for part, source, bias in (("attention", None, hidden), ("crossattention", seen, 0.0)):
            keys = h if source is None else source
            q, key, v = (
                linear(f"{layer}.{part}.self.{n}", z) for n, z in (("query", h), ("key", keys), ("value", keys))
            )
            h = norm(
                f"{layer}.{part}.output.LayerNorm",
                h + linear(f"{layer}.{part}.output.dense", attend(q, key, v, bias)),
                1e-12,
            )
        wide = F.gelu(linear(f"{layer}.intermediate.dense", h))
        h = norm(f"{layer}.output.LayerNorm", h + linear(f"{layer}.output.dense", wide), 1e-12)
    out = h[:, 0]
    for k in (0, 2, 4, 6, 7):
        out = linear(f"mlp.layers.{k}", out)
    return (out[:, 0] - 0.16717362830052426) / 1.0333394966054072


def test_imagereward_follows_blip_from_its_formulas(context, batch):
    found = rewards.imagereward(context)(batch)
    state = torch.load(weights.find("imagereward", context.config["weights"])[0], weights_only=True)
    words = random_weights.WORDS
    ids = torch.zeros(2, 35, dtype=torch.long)
    for row, text in enumerate(("a red house under the sky", "two cats on a boat , at dawn")):
        tokens = ["[CLS]", *text.split(), "[SEP]"]
        ids[row, : len(tokens)] = torch.tensor([words.index(token) for token in tokens])
    with torch.no_grad():
        expected = blip(state, normalised(batch, 32)[[0, 2]], ids, (ids > 0).long())
    assert [found[0], found[2]] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found[1] is None and abs(found[0] - found[2]) > 1e-4


def test_imagereward_takes_the_published_size():
    """BLIP with ViT-L/16 at 224 px and BERT base; shapes only."""
    state = random_weights.imagereward_state(1024, 768, 24, 12, side=224, words=30524, device="meta")
    vision, text, head = rewards.imagereward_parts(state)
    assert (vision.config.num_hidden_layers, vision.config.num_attention_heads, vision.config.image_size) == (
        24,
        16,
        224,
    )
    assert (text.config.num_hidden_layers, text.config.num_attention_heads) == (12, 12)
    assert sum(p.numel() for part in (vision, text, head) for p in part.parameters()) == sum(
        value.numel() for name, value in state.items() if not name.endswith("position_ids")
    )


def test_a_file_of_another_layout_is_refused(folder):
    state = random_weights.imagereward_state(64, 64, 1, 1)
    state["blip.visual_encoder.blocks.0.attn.extra"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        rewards.imagereward_parts(state)


def test_aesthetic_heads_stand_on_unit_clip_features(context, batch):
    found = {}
    for version in ("v1", "v2"):
        context.config["aesthetic"]["version"] = version
        found[version] = rewards.aesthetic(context)(batch)
    unit = F.normalize(context.network("ViT-L-14-quickgelu").image(batch.reduced(32)), dim=-1)
    state = torch.load(weights.find("aesthetic-v1", context.config["weights"])[0], weights_only=True)
    assert found["v1"] == pytest.approx((unit @ state["weight"].T + state["bias"])[:, 0].tolist(), rel=1e-4)
    state = torch.load(weights.find("aesthetic-v2", context.config["weights"])[0], weights_only=True)
    for k in (0, 2, 4, 6, 7):
        unit = unit @ state[f"layers.{k}.weight"].T + state[f"layers.{k}.bias"]
    assert found["v2"] == pytest.approx(unit[:, 0].tolist(), rel=1e-4)


@pytest.mark.parametrize("size", [(40, 56), (96, 64), (33, 33)])
def test_reduced_images_are_what_pillow_makes(size):
    """CLIP's processors resize uint8 images with Pillow's bicubic; rounding may differ by one, as torch says."""
    from PIL import Image

    images = make_batch(size).tensor()
    height, width = size
    scale = 32 / min(size)
    wide = round(width * scale), round(height * scale)
    theirs = Image.fromarray(images[0].permute(1, 2, 0).numpy()).resize(wide, Image.Resampling.BICUBIC)
    top, left = (wide[1] - 32) // 2, (wide[0] - 32) // 2
    theirs = np.asarray(theirs)[top : top + 32, left : left + 32].astype(int)
    ours = reduced(images, 32)[0].permute(1, 2, 0).numpy().astype(int)
    assert ours.shape == (32, 32, 3) and abs(ours - theirs).max() <= 1
    whole = reduced(images, 32, whole=True)
    assert whole.shape[-2:] == (32, 32)
    if height != width:
        assert (whole[:, :, 0, 0] == 0).all()


def test_scores_depend_on_neither_batch_nor_order(context):
    names = ("pickscore", "hpsv2", "imagereward", "aesthetic")
    for measure in (getattr(rewards, name)(context) for name in names):
        whole, order = measure(make_batch()), [3, 1, 0, 2]
        one = make_batch()
        turned = Batch(one.images[order], [one.keys[k] for k in order], [one.prompts[k] for k in order])
        alone = [
            measure(Batch(one.images[k : k + 1], one.keys[k : k + 1], one.prompts[k : k + 1]))[0] for k in range(4)
        ]
        for found, expected in ((alone, whole), (measure(turned), [whole[k] for k in order])):
            assert [v is None for v in found] == [v is None for v in expected]
            known = [v for v in expected if v is not None]
            assert [v for v in found if v is not None] == pytest.approx(known, rel=1e-4, abs=1e-6)
