"""Measure scores that are learned from human choices: PickScore, HPSv2, ImageReward, LAION aesthetics.

The published packages need other versions than ours, so each model is built here from its published file, on classes of
transformers or open_clip. Sizes are read from the shapes in the file. Constants below give what shapes do not show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..measures import Batch, Context, embed
from .weights import find

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's normalisation. All of these models use it."""
HPS_MODEL = "ViT-H-14"
PICKSCORE_HEADS = 16  # of the image and of the text, as in CLIP ViT-H/14
IMAGEREWARD_MEAN, IMAGEREWARD_STD = 0.16717362830052426, 1.0333394966054072
IMAGEREWARD_TOKENS = 35
CLIP_FOR_AESTHETIC = "ViT-L-14-quickgelu"


def pickscore(context: Context) -> Callable[[Batch], list]:
    """Measure PickScore v1 (arXiv 2305.01569): exp(logit scale) times the cosine of image and prompt, some 15 to 25."""
    import open_clip

    model = load_pickscore(_path(context, "pickscore")).to(context.config["device"])
    tokenizer = open_clip.get_tokenizer(HPS_MODEL)  # CLIP's, from open_clip's own file
    return _prompted(
        context,
        model.config.vision_config.image_size,
        False,
        lambda x, prompts: model(input_ids=tokenizer(prompts).to(x.device), pixel_values=x).logits_per_image.diagonal(),
    )


def load_pickscore(path: Path):
    """Return a CLIPModel with the weights of a safetensors file, of any width and depth, with 16 heads."""
    from safetensors.torch import load_file

    return clip_model(load_file(path))


def clip_model(state: dict[str, Any]):
    """Return a transformers CLIPModel of a state dict in evaluation mode. Sizes are read from the shapes."""
    from transformers import CLIPConfig, CLIPModel

    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    patch = state["vision_model.embeddings.patch_embedding.weight"]
    positions = state["vision_model.embeddings.position_embedding.weight"]
    text = state["text_model.embeddings.token_embedding.weight"]
    sides = {
        kind: {
            "hidden_size": width,
            "num_hidden_layers": _depth(state, f"{kind}_model.encoder.layers."),
            "intermediate_size": len(state[f"{kind}_model.encoder.layers.0.mlp.fc1.weight"]),
            "num_attention_heads": PICKSCORE_HEADS,
            "hidden_act": "gelu",
        }
        for kind, width in (("vision", positions.shape[1]), ("text", text.shape[1]))
    }
    vision = sides["vision"] | {
        "patch_size": patch.shape[-1],
        "image_size": patch.shape[-1] * round((len(positions) - 1) ** 0.5),
    }
    words = sides["text"] | {
        "vocab_size": len(text),
        "eos_token_id": len(text) - 1,
        "max_position_embeddings": len(state["text_model.embeddings.position_embedding.weight"]),
    }
    config = CLIPConfig(text_config=words, vision_config=vision, projection_dim=len(state["text_projection.weight"]))
    return _filled(CLIPModel, config, state)


def hpsv2(context: Context) -> Callable[[Batch], list]:
    """Measure HPSv2 (arXiv 2306.09341): 100 times the cosine of image and prompt, about 20 to 33.

    Its package returns the cosine, its tables have 100 times the cosine. The longer side is resized, the rest is black.
    """
    import open_clip
    import torch

    path = _path(context, f"hps{context.config['hps']['version']}")
    model = open_clip.create_model(HPS_MODEL, precision="fp32", device=context.config["device"]).eval()
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state.get("state_dict", state))
    tokenizer = open_clip.get_tokenizer(HPS_MODEL)

    def score(x, prompts):
        words = model.encode_text(tokenizer(prompts).to(x.device), normalize=True)
        return 100 * (model.encode_image(x, normalize=True) * words).sum(-1)

    return _prompted(context, _side(model), True, score)


def imagereward(context: Context) -> Callable[[Batch], list]:
    """Measure ImageReward-v1.0 (arXiv 2304.05977); mean 0 and deviation 1 on its training data."""
    import torch
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(str(_path(context, "bert-vocabulary")), lowercase=True)
    tokenizer.enable_truncation(IMAGEREWARD_TOKENS)
    tokenizer.enable_padding(length=IMAGEREWARD_TOKENS)
    state = torch.load(_path(context, "imagereward"), map_location="cpu", weights_only=True)
    vision, text, head = (part.to(context.config["device"]) for part in imagereward_parts(state))

    def score(x, prompts):
        found = tokenizer.encode_batch(prompts)
        seen = vision(pixel_values=x).last_hidden_state
        read = text(
            input_ids=torch.tensor([f.ids for f in found], device=x.device),
            attention_mask=torch.tensor([f.attention_mask for f in found], device=x.device),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], device=x.device),
            is_decoder=False,
        )
        return (head(read.last_hidden_state[:, 0])[:, 0] - IMAGEREWARD_MEAN) / IMAGEREWARD_STD

    return _prompted(context, vision.config.image_size, False, score)


VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "blocks.": "encoder.layers.",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
}
"""Parts of parameter names of BLIP's image encoder, and their names in transformers."""


def imagereward_parts(state: dict[str, Any]) -> tuple:
    """Return BlipVisionModel, BlipTextModel and the head of an ImageReward file, in evaluation mode."""
    from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    seen = {_vision_name(name): value for name, value in _part(state, "blip.visual_encoder.").items()}
    read = _part(state, "blip.text_encoder.")
    patch, positions = seen["embeddings.patch_embedding.weight"], seen["embeddings.position_embedding"].shape[1]
    vision = BlipVisionConfig(
        hidden_size=len(patch),
        intermediate_size=len(seen["encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_depth(seen, "encoder.layers."),
        num_attention_heads=len(patch) // 64,
        patch_size=patch.shape[-1],
        image_size=patch.shape[-1] * round((positions - 1) ** 0.5),
        layer_norm_eps=1e-6,
    )
    words = read["embeddings.word_embeddings.weight"]
    text = BlipTextConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        encoder_hidden_size=len(patch),
        intermediate_size=len(read["encoder.layer.0.intermediate.dense.weight"]),
        num_hidden_layers=_depth(read, "encoder.layer."),
        num_attention_heads=words.shape[1] // 64,
        max_position_embeddings=len(read["embeddings.position_embeddings.weight"]),
        is_decoder=True,
    )
    reader = _filled(BlipTextModel, text, read, add_pooling_layer=False)
    return _filled(BlipVisionModel, vision, seen), reader, _mlp(_part(state, "mlp."))


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    names = (name for name in state if name.startswith(prefix) and not name.endswith("position_ids"))
    return {name.removeprefix(prefix): state[name] for name in names}


def _vision_name(name: str) -> str:
    for theirs, ours in VISION_NAMES.items():
        name = name.replace(theirs, ours)
    return f"post_layernorm{name[4:]}" if name.startswith("norm.") else name


def aesthetic(context: Context) -> Callable[[Batch], list]:
    """Measure the LAION aesthetic predictor on CLIP ViT-L/14, 1 to 10: V1 (a linear head) or V2 (pyiqa)."""
    import torch

    version = context.config["aesthetic"]["version"]
    state = torch.load(_path(context, f"aesthetic-{version}"), map_location="cpu", weights_only=True)
    head = _mlp(state) if version == "v2" else _linear(state)

    @torch.no_grad()
    def compute(batch: Batch) -> list:
        x = torch.from_numpy(embed(context, CLIP_FOR_AESTHETIC, batch))
        return head(torch.nn.functional.normalize(x, dim=-1))[:, 0].double().tolist()

    return compute


def _linear(state: dict[str, Any]):
    import torch

    head = torch.nn.Linear(state["weight"].shape[1], 1)
    head.load_state_dict(state, assign=True)
    return head.eval()


def _mlp(state: dict[str, Any]):
    from pyiqa.archs.laion_aes_arch import MLP

    head = MLP(state["layers.0.weight"].shape[1])
    head.load_state_dict(state, assign=True)
    return head.eval()


def _prompted(context: Context, side: int, whole: bool, score: Callable) -> Callable[[Batch], list]:
    """Score images that have a prompt. `score` takes normalised images [B, 3, side, side] and B prompts."""
    import torch

    device = context.config["device"]
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    @torch.no_grad()
    def compute(batch: Batch) -> list:
        places = [i for i, prompt in enumerate(batch.prompts) if prompt is not None]
        values: list[float | None] = [None] * len(batch.prompts)
        if places:
            x = (batch.reduced(side, whole)[places].to(device).float() / 255 - mean) / std
            found = score(x, [batch.prompts[i] for i in places]).double().tolist()
            for i, value in zip(places, found, strict=True):
                values[i] = value
        return values

    return compute


def _path(context: Context, name: str) -> Path:
    return find(name, context.config["weights"])[0]


def _depth(state: dict[str, Any], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


def _side(model: Any) -> int:
    side = model.visual.image_size
    return side[0] if isinstance(side, tuple) else side


def _filled(kind: Any, config: Any, state: dict[str, Any], **options: Any):
    """Return a model of `config` with exactly the weights of `state`."""
    import torch

    with torch.device("meta"):
        model = kind(config, **options)
    model.load_state_dict(state, assign=True)
    for name, buffer in model.named_buffers():  # those that files don't hold are on no device yet
        if buffer.is_meta:
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return model.eval().float()
