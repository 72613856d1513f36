"""Folders of small vision-language models at random, with the files and the config keys of the published ones."""

import json
from pathlib import Path

import torch

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
}


def processor_files(folder: Path) -> int:
    """Write tokenizer, chat template and image processor as Qwen2-VL has them; returns the number of tokens."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = {letter: k for k, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges = [("Y", "e"), ("Ye", "s")]
    vocabulary = letters | {"Ye": len(letters), "Yes": len(letters) + 1}
    vocabulary |= {word: len(vocabulary) + k for k, word in enumerate(SPECIAL)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=SPECIAL[1:])
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    image = {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    return len(tokenizer)


def ids_of(folder: Path) -> dict[str, int]:
    """The token ids that a config names."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    keys = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in zip(keys, names, strict=True)}


def hpsv3(folder: Path) -> Path:
    """HPSv3: a flat config as Qwen2-VL-7B's, and one file with the names of transformers 4.45."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, Qwen2VLModel

    path = folder / "HPSv3"
    tokens = processor_files(path)
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "in_chans": 3}
    vision |= {"patch_size": 14, "spatial_patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    config = TEXT | ids_of(path) | {"model_type": "qwen2_vl", "vocab_size": tokens + 9, "vision_config": vision}
    config |= {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    (path / "config.json").write_text(json.dumps(config))
    settings = AutoConfig.from_pretrained(path)
    settings.text_config.vocab_size = tokens + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = {}
        for name, value in Qwen2VLModel(settings).state_dict().items():
            old = name if name.startswith("visual.") else f"model.{name.removeprefix('language_model.')}"
            state[old] = torch.randn(value.shape) / max(value.shape[-1], 4) ** 0.5 + (value.ndim == 1)
        state["lm_head.weight"] = torch.randn(tokens + 1, 32)
        for k, (out, into) in {0: (1024, 32), 3: (16, 1024), 5: (2, 16)}.items():
            state[f"rm_head.{k}.weight"] = torch.randn(out, into) / into**0.5
            state[f"rm_head.{k}.bias"] = torch.randn(out)
    save_file(state, path / "HPSv3.safetensors")
    return path


def qwen(folder: Path, name: str) -> Path:
    """A model of the family of `vqascore.model`, as transformers saves it."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    from eval.metrics.learned.weights import WEIGHTS

    path = folder / WEIGHTS[name].file
    tokens = processor_files(path)
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "patch_size": 14}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}
    text = TEXT | {"vocab_size": tokens, "rope_parameters": rope}
    if name.startswith("qwen2.5"):
        kind, vision = "qwen2_5_vl", vision | {"fullatt_block_indexes": [1]}
    else:
        kind, vision = "qwen3_vl", vision | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        text |= {"head_dim": 16}
    config = AutoConfig.for_model(kind, text_config=text, vision_config=vision, **ids_of(path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = AutoModelForImageTextToText.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(float(parameter.ndim == 1), 0.3)
    model.save_pretrained(path)
    return path
