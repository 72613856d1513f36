"""Files of the weights that metrics load, at random: the published layout, at small widths where a loader allows it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "red",
    "blue",
    "green",
    "house",
    "lighthouse",
    "at",
    "dawn",
    "on",
    "sky",
    "under",
    "the",
    ",",
    "two",
    "cats",
    "boat",
]
TINY_CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def unpinned(monkeypatch):
    """Take the published checksums away, which random files can't have."""
    from eval.metrics.learned import weights

    free = {name: replace(item, sha256="") for name, item in weights.WEIGHTS.items()}
    monkeypatch.setattr(weights, "WEIGHTS", free)


def make_all(folder: Path) -> Path:
    """Every file but Inception's and MANIQA's."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for maker in (openai_clip, openai_resnet, musiq, niqe, qalign, aesthetic, pickscore, hps, imagereward):
            maker(folder)
    return folder


def _path(folder: Path, name: str) -> Path:
    from eval.metrics.learned.weights import WEIGHTS

    return folder / WEIGHTS[name].file


class Holder(torch.nn.Module):
    """Holds the tensors of a state dict."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            first, _, rest = name.partition(".")
            if rest:
                parts.setdefault(first, {})[rest] = value
            else:
                self.register_buffer(first, value)
        for name, part in parts.items():
            self.add_module(name, Holder(part))

    def forward(self, x):
        return x


def _archive(state: dict[str, torch.Tensor], path: Path) -> None:
    """OpenAI's models come as TorchScript archives, of which loaders take the state dict."""
    torch.jit.save(torch.jit.trace(Holder(state), torch.zeros(1)), str(path))


def openai_clip(folder: Path) -> None:
    from open_clip.model import CLIP

    _archive(CLIP(**TINY_CLIP, quick_gelu=True).state_dict(), _path(folder, "clip-vit-l-14"))


def openai_resnet(folder: Path) -> None:
    from pyiqa.archs.clip_model import CLIP

    model = CLIP(32, 64, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 1)
    _archive(model.state_dict(), _path(folder, "clip-rn50"))


def musiq(folder: Path) -> None:
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.save(MUSIQ(pretrained=False).state_dict(), _path(folder, "musiq"))


def niqe(folder: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(36, 36))
    savemat(_path(folder, "niqe"), {"mu_prisparam": rng.normal(size=(1, 36)), "cov_prisparam": mix @ mix.T})


LEVELS = ("excellent", "good", "fair", "poor", "bad")


def qalign(folder: Path) -> None:
    """mPLUG-Owl2 of two layers, and a tokenizer of bytes with the five levels as tokens of their own."""
    from pyiqa.archs.q_align.configuration_mplug_owl2 import MPLUGOwl2Config
    from transformers import CLIPImageProcessor

    path, tokenizer = _path(folder, "qalign"), llama_tokenizer(LEVELS)
    tokenizer.save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(path)
    side = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    visual = {
        "visual_model": side | {"image_size": 28, "patch_size": 14},
        "visual_abstractor": side | {"num_learnable_queries": 4, "encoder_hidden_size": 32, "grid_size": 2},
    }
    sizes = side | {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    MPLUGOwl2Config(visual_config=visual, **sizes).save_pretrained(path)
    model = qalign_model(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(path)


def qalign_model(path: Path):
    """mPLUG-Owl2 of the config in a folder as its class builds it, in float32."""
    from pyiqa.archs.q_align.configuration_mplug_owl2 import MPLUGOwl2Config

    from eval.metrics.learned import iqa

    with iqa.local_owl(str(path)) as owl:
        return owl.MPLUGOwl2LlamaForCausalLM(MPLUGOwl2Config.from_pretrained(path)).eval()


def llama_tokenizer(words: tuple[str, ...]):
    """A Llama tokenizer of bytes, which merges only the letters of these words."""
    from transformers import LlamaTokenizer

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{k:02X}>": k + 3 for k in range(256)}
    merges = []
    for word in words:
        for k, letter in enumerate(word, 1):
            vocabulary.setdefault("▁", len(vocabulary))
            vocabulary.setdefault(letter, len(vocabulary))
            merges.append((f"▁{word[: k - 1]}", letter))
            vocabulary.setdefault(f"▁{word[:k]}", len(vocabulary))
    return LlamaTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)))


def aesthetic(folder: Path) -> None:
    from pyiqa.archs.laion_aes_arch import MLP

    torch.save(torch.nn.Linear(48, 1).state_dict(), _path(folder, "aesthetic-v1"))
    torch.save(MLP(48).state_dict(), _path(folder, "aesthetic-v2"))


def pickscore(folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    side = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(
        vision_config=side | {"patch_size": 8, "image_size": 32},
        text_config=side | {"vocab_size": 49408, "eos_token_id": 49407},
        projection_dim=24,
    )
    state = CLIPModel(config).state_dict()
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # the published file has these buffers
    save_file({name: value.contiguous() for name, value in state.items()}, _path(folder, "pickscore"))


def hps(folder: Path) -> None:
    from open_clip.model import CLIP

    for version in ("v2.0", "v2.1"):
        torch.save({"state_dict": CLIP(**TINY_CLIP).state_dict(), "epoch": 1}, _path(folder, f"hps{version}"))


def imagereward(folder: Path, width: int = 128, text: int = 64, vision_depth: int = 2, depth: int = 2) -> None:
    torch.save(imagereward_state(width, text, vision_depth, depth), _path(folder, "imagereward"))
    _path(folder, "bert-vocabulary").write_text("\n".join(WORDS) + "\n")


def imagereward_state(
    width: int, text: int, vision_depth: int, depth: int, side: int = 32, words: int = len(WORDS) + 2, device="cpu"
) -> dict[str, torch.Tensor]:
    """An ImageReward file as it is published: BLIP's image encoder, BERT with cross-attention, and a head."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name, out, into):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    def norm(name, size):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (size,), (size,)

    v, t = "blip.visual_encoder", "blip.text_encoder"
    shapes[f"{v}.cls_token"], shapes[f"{v}.pos_embed"] = (1, 1, width), (1, (side // 16) ** 2 + 1, width)
    shapes[f"{v}.patch_embed.proj.weight"], shapes[f"{v}.patch_embed.proj.bias"] = (width, 3, 16, 16), (width,)
    for k in range(vision_depth):
        for name, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            linear(f"{v}.blocks.{k}.{name}", out, into)
        norm(f"{v}.blocks.{k}.norm1", width)
        norm(f"{v}.blocks.{k}.norm2", width)
    norm(f"{v}.norm", width)
    shapes[f"{t}.embeddings.word_embeddings.weight"] = (words, text)
    shapes[f"{t}.embeddings.position_embeddings.weight"] = (512, text)
    norm(f"{t}.embeddings.LayerNorm", text)
    for k in range(depth):
        layer = f"{t}.encoder.layer.{k}"
        for part, into in (("attention", text), ("crossattention", width)):
            linear(f"{layer}.{part}.self.query", text, text)
            linear(f"{layer}.{part}.self.key", text, into)
            linear(f"{layer}.{part}.self.value", text, into)
            linear(f"{layer}.{part}.output.dense", text, text)
            norm(f"{layer}.{part}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", 4 * text, text)
        linear(f"{layer}.output.dense", text, 4 * text)
        norm(f"{layer}.output.LayerNorm", text)
    for k, (out, into) in {0: (1024, text), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}.items():
        linear(f"mlp.layers.{k}", out, into)
    state = {name: torch.randn(shape, device=device) / max(shape[-1], 4) ** 0.5 for name, shape in shapes.items()}
    state[f"{t}.embeddings.position_ids"] = torch.arange(512)[None]
    return state


def upscaler(path, scale=2, channels=3, seed=0):
    """A random network of the ESRGAN paper's architecture, four features wide; its field ends within 24 px."""
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(seed)
    network = ESRGAN(in_nc=channels, out_nc=channels, num_filters=4, num_blocks=1, scale=scale)
    state = {key: 1.5 * value for key, value in network.state_dict().items()}
    last = max(key for key in state if key.endswith("bias"))
    state[last] = state[last] + 0.5
    save_file(state, path)
    return path


def dinov2(path: Path, width: int = 128, depth: int = 2, grid: int = 37) -> Path:
    """A file of DINOv2's layout without registers, narrow."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid * grid, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    for k in range(depth):
        for name, out, into in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes[f"blocks.{k}.{name}.weight"] = (out * width, into * width)
            shapes[f"blocks.{k}.{name}.bias"] = (out * width,)
        shapes |= {f"blocks.{k}.ls{n}.gamma": (width,) for n in (1, 2)}
        shapes |= {f"blocks.{k}.norm{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}
    shapes |= {f"norm.{part}": (width,) for part in ("weight", "bias")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        torch.save({name: torch.randn(shape) / max(shape[-1], 4) ** 0.5 for name, shape in shapes.items()}, path)
    return path
