"""Measure scores that vision-language models give for image and prompt: HPSv3 and VQAScore.

The models are folders of weights, loaded by classes of transformers. Each image is asked about alone, in a chat.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sega.errors import RequestError

from ..measures import Batch, Context
from .questions import HPSV3
from .weights import find

REWARD = "<|Reward|>"
HPSV3_FILE = "HPSv3.safetensors"
HPSV3_PIXELS = 256 * 28 * 28
"""Size of the image: about 448 px where it is square."""
VQASCORE = 'Does this figure show "{}"? Please answer yes or no.'


def hpsv3(context: Context) -> Callable[[Batch], list]:
    """Measure HPSv3 (arXiv 2508.03789): mu of the (mu, sigma) that a head on Qwen2-VL-7B gives; no fixed range.

    The question ends in the token <|Reward|>, and the head reads the hidden state there. Positions count all tokens in
    a row, those of the image too: the published class computes no M-RoPE, so the model was trained without it. Prompts
    are not cut. All of this is read from the package `hpsv3` 1.0.0, made for transformers 4.45.

    We have not seen the published file. Its names (`visual.`, `model.`, `rm_head.0`, `.3`, `.5`) follow from the class
    that loads it, and those that later versions of transformers would have written are taken too; other names are
    refused. A small model of random weights tests this against the formulas.
    """
    import torch
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    model, head, processor = load_hpsv3(find("hpsv3", context.config["weights"])[0], context.config["device"])
    token = processor.tokenizer.convert_tokens_to_ids(REWARD)

    def score(image: Image.Image, prompt: str) -> float:
        height, width = smart_resize(image.height, image.width, 28, HPSV3_PIXELS, HPSV3_PIXELS)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        asked = _asked(processor, resized, HPSV3.format(text_prompt=prompt), do_resize=False).to(model.device)
        ids = asked.input_ids
        hidden = model(
            input_ids=ids,
            attention_mask=asked.attention_mask,
            position_ids=torch.arange(ids.shape[1], device=ids.device).expand(3, 1, -1),
            pixel_values=asked.pixel_values,
            image_grid_thw=asked.image_grid_thw,
            use_cache=False,
        ).last_hidden_state
        return head(hidden[ids == token][-1].float())[0].item()

    return _each(score)


def load_hpsv3(folder: Path, device: str) -> tuple:
    """Return Qwen2VLModel, the head and the processor of a folder, as saved but the head, which is float32."""
    from accelerate import init_empty_weights
    from safetensors.torch import load_file
    from torch.nn import Dropout, Linear, ReLU, Sequential
    from transformers import AutoConfig, AutoProcessor, Qwen2VLModel

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    processor.tokenizer.add_special_tokens({"additional_special_tokens": [REWARD]})
    body, top = hpsv3_parts(load_file(folder / HPSV3_FILE))
    config, rows = AutoConfig.from_pretrained(folder, local_files_only=True), body["language_model.embed_tokens.weight"]
    if len(processor.tokenizer) > len(rows):
        raise RequestError(f"{folder}: {HPSV3_FILE} knows {len(rows)} tokens, its tokenizer {len(processor.tokenizer)}")
    config.text_config.vocab_size = len(rows)
    with init_empty_weights():
        model = Qwen2VLModel(config)
        first, second, third = (Linear(*top[f"{k}.weight"].shape[::-1]) for k in (0, 3, 5))
        head = Sequential(first, ReLU(), Dropout(), second, ReLU(), third)
    model.load_state_dict(body, assign=True)
    head.load_state_dict(top, assign=True)
    return model.eval().to(device), head.eval().float().to(device), processor


def hpsv3_parts(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the weights of Qwen2VLModel and of the head, by their names there. The head of words is left out."""
    body, top = {}, {}
    for name, value in state.items():
        if name.startswith("rm_head."):
            top[name.removeprefix("rm_head.")] = value
        elif name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
            body[f"language_model.{name.removeprefix('model.')}"] = value
        elif name != "lm_head.weight":
            body[name.removeprefix("model.")] = value
    return body, top


def vqascore(context: Context) -> Callable[[Batch], list]:
    """Measure VQAScore (arXiv 2404.01291): the probability, 0 to 1, that the answer begins with "Yes".

    The question is the paper's, put to a model of Qwen (`vqascore.model`) in its own chat, at the size its processor
    gives: an image of 4096 px is about 16,000 tokens. The paper's model, CLIP-FlanT5, needs a class of its own and is
    not here; `t2v_metrics` asks each model in other words, and its scores for Qwen2.5-VL come after a repetition
    penalty. So compare values of one model, asked here, with each other. Prompts are not cut.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = find(context.config["vqascore"]["model"], context.config["weights"])[0]
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", local_files_only=True)
    model = model.eval().to(context.config["device"])
    yes = processor.tokenizer("Yes", add_special_tokens=False).input_ids[0]

    def score(image: Any, prompt: str) -> float:
        asked = _asked(processor, image, VQASCORE.format(prompt)).to(model.device)
        logits = model(**asked, use_cache=False, logits_to_keep=1).logits[0, -1]
        return logits.float().softmax(-1)[yes].item()

    return _each(score)


def _asked(processor: Any, image: Any, question: str, **options: Any):
    """Return the inputs of a model that is asked a question about an image and is about to answer."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=[image], return_tensors="pt", **options)


def _each(score: Callable[[Any, str], float]) -> Callable[[Batch], list]:
    """Score images that have a prompt, one at a time. Prompts can't contain special tokens: `<|` becomes `< |`."""
    import torch
    from PIL import Image

    @torch.no_grad()
    def compute(batch: Batch) -> list:
        pairs = zip(batch.images, batch.prompts, strict=True)
        return [None if p is None else score(Image.fromarray(x), p.replace("<|", "< |")) for x, p in pairs]

    return compute
