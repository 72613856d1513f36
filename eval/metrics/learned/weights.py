"""List the weights of metrics: the address, file name and checksum of each file.

All files are in one folder: torch's folder for checkpoints (`$TORCH_HOME/hub/checkpoints`), or the one given as
`weights=`. `python scripts/fetch.py <name>` downloads them. Nothing is downloaded here: if a file is missing, its
metric has no value, and the reason contains the command that fetches the file.

A large model is a folder in there, named as its repository; a link to a folder that is elsewhere will do.

Published checksums are stored here. If there is none, `fetch.py` stores the checksum of the first download in
`checksums.json` beside the files, and other content is refused later.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sega.errors import RequestError
from sega.home import command_line
from sega.store.files import file_sha_once, read_record

RECORD = "checksums.json"
HF = "https://huggingface.co"
PYIQA = f"{HF}/chaofengc/IQA-PyTorch-Weights/resolve/main"
CLIP = "https://openaipublic.azureedge.net/clip/models"


class MissingWeightsError(Exception):
    """Raised for weights that cannot be used. The message gives the reason and the command that fetches them."""


@dataclass(frozen=True)
class Weights:
    """One file, or a folder with `parts`. `sha256` is "" if its authors publish none."""

    name: str
    file: str
    url: str
    sha256: str = ""
    size: str = ""
    about: str = ""
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of a folder: repositories, and patterns of their files


MODEL = ("*.json", "*.model", "*.txt", "*.jinja", "*.safetensors")
"""Patterns of the files of a model in the form of transformers."""
PROCESSOR = ("config.json", "preprocessor_config.json", "tokenizer*", "vocab.json", "merges.txt", "chat_template*")
"""Patterns of the files of such a model without its weights."""
KEPT = (*MODEL, "*.bin")
"""Patterns of the files of a folder that its checksum covers."""

WEIGHTS: dict[str, Weights] = {
    item.name: item
    for item in (
        Weights(
            "inception",
            "weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            "96 MB",
            "FID and KID: InceptionV3 as in TensorFlow 2015",
        ),
        Weights(
            "clip-vit-l-14",
            "ViT-L-14.pt",
            f"{CLIP}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            "933 MB",
            "CLIP score, CMMD and aesthetic: OpenAI's ViT-L/14",
        ),
        Weights(
            "clip-vit-b-16",
            "ViT-B-16.pt",
            f"{CLIP}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
            "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
            "351 MB",
            "CLIP score of eval=aesthetic4k and pixverve: OpenAI's ViT-B/16",
        ),
        Weights(
            "clip-rn50",
            "RN50.pt",
            f"{CLIP}/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
            "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
            "256 MB",
            "CLIP-IQA",
        ),
        Weights(
            "musiq",
            "musiq_koniq_ckpt-e95806b9.pth",
            f"{PYIQA}/musiq_koniq_ckpt-e95806b9.pth",
            "e95806b9eae5f3814c410f574ba8e552362bd5bc63d758ed5b97860f5d6185aa",
            "109 MB",
            "MUSIQ on KonIQ-10k",
        ),
        Weights("maniqa", "ckpt_koniq10k.pt", f"{PYIQA}/ckpt_koniq10k.pt", "", "543 MB", "MANIQA on KonIQ-10k"),
        Weights(
            "niqe",
            "niqe_modelparameters.mat",
            f"{PYIQA}/niqe_modelparameters.mat",
            "",
            "8 kB",
            "NIQE: moments of pristine images",
        ),
        Weights(
            "aesthetic-v1",
            "sa_0_4_vit_l_14_linear.pth",
            "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
            "",
            "4 kB",
            "LAION aesthetic predictor V1, a linear head on ViT-L/14",
        ),
        Weights(
            "aesthetic-v2",
            "sac+logos+ava1-l14-linearMSE.pth",
            "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
            "sac%2Blogos%2Bava1-l14-linearMSE.pth",
            "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
            "4 MB",
            "LAION aesthetic predictor V2, five linear layers on ViT-L/14",
        ),
        Weights(
            "pickscore",
            "PickScore_v1.safetensors",
            f"{HF}/yuvalkirstain/PickScore_v1/resolve/a4e4367c6dfa7288a00c550414478f865b875800/model.safetensors",
            "ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e",
            "3.94 GB",
            "PickScore v1",
        ),
        Weights(
            "hpsv2.0",
            "HPS_v2_compressed.pt",
            f"{HF}/xswu/HPSv2/resolve/697403c78157020a1ae59d23f111aa58ced35b0a/HPS_v2_compressed.pt",
            "07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
            "1.97 GB",
            "HPSv2, version 2.0",
        ),
        Weights(
            "hpsv2.1",
            "HPS_v2.1_compressed.pt",
            f"{HF}/xswu/HPSv2/resolve/697403c78157020a1ae59d23f111aa58ced35b0a/HPS_v2.1_compressed.pt",
            "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
            "1.97 GB",
            "HPSv2, version 2.1",
        ),
        Weights(
            "imagereward",
            "ImageReward.pt",
            f"{HF}/THUDM/ImageReward/resolve/main/ImageReward.pt",
            "d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6",
            "1.79 GB",
            "ImageReward-v1.0",
        ),
        Weights(
            "dinov2-vit-l-14",
            "dinov2_vitl14_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
            "",
            "1.22 GB",
            "FD and KD on DINOv2 (features=dinov2): ViT-L/14 without registers",
        ),
        Weights(
            "bert-vocabulary",
            "bert-base-uncased-vocab.txt",
            f"{HF}/google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt",
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "232 kB",
            "ImageReward's tokens",
        ),
        Weights(
            "qalign",
            "one-align",
            f"{HF}/q-future/one-align",
            "",
            "16 GB",
            "Q-Align, quality and aesthetic: mPLUG-Owl2 of 8 billion parameters",
            (("q-future/one-align", KEPT),),
        ),
        Weights(
            "hpsv3",
            "HPSv3",
            f"{HF}/MizzenAI/HPSv3",
            "",
            "17 GB",
            "HPSv3: a head on Qwen2-VL-7B, and its processor",
            (("MizzenAI/HPSv3", ("HPSv3.safetensors",)), ("Qwen/Qwen2-VL-7B-Instruct", PROCESSOR)),
        ),
        *(
            Weights(
                name.lower(),
                f"{name}-Instruct",
                f"{HF}/Qwen/{name}-Instruct",
                "",
                size,
                f"VQAScore by {name}",
                ((f"Qwen/{name}-Instruct", MODEL),),
            )
            for name, size in (("Qwen2.5-VL-3B", "8 GB"), ("Qwen2.5-VL-7B", "17 GB"), ("Qwen3-VL-8B", "18 GB"))
        ),
    )
}


def folder(given: str | None = None) -> Path:
    """Return the folder of weights: the given one, or torch's folder for checkpoints."""
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")) / "hub" / "checkpoints"


def line(name: str, given: str | None = None) -> str:
    """Return the command that fetches a file."""
    return f"{command_line('fetch')} {name}" + (f" weights={given}" if given else "")


def find(name: str, given: str | None = None) -> tuple[Path, str]:
    """Return path and sha256 of weights on disk. Raises MissingWeightsError if they are missing or wrong."""
    item, where = WEIGHTS[name], folder(given)
    path = where / item.file
    if gone := absent(path, item):
        raise MissingWeightsError(f"no {gone}; fetch it: {line(name, given)}")
    found, wanted = checksum(path, item), item.sha256 or recorded(where).get(item.file, "")
    if wanted and found != wanted:
        raise MissingWeightsError(
            f"{path} has sha256 {found[:12]}… and not {wanted[:12]}…; fetch it again: {line(name, given)}"
        )
    return path, found


def absent(path: Path, item: Weights) -> Path | None:
    """Return what is missing of a file or folder of weights, None if it is whole."""
    if not item.parts:
        return None if path.is_file() else path
    needed = [path / "config.json", path / "tokenizer_config.json"]
    for index in path.glob("*.index.json"):
        shards = (read_record(index) or {}).get("weight_map", {}).values()
        needed += [path / name for name in sorted(set(shards))]
    gone = [each for each in needed if not each.is_file()]
    loose = not any(file.suffix in (".safetensors", ".bin") for file in path.glob("*"))
    return gone[0] if gone else path / "model.safetensors" if loose else None


def checksum(path: Path, item: Weights) -> str:
    """Return the sha256 of a file or, for a folder, of the names and checksums of its files."""
    if not item.parts:
        return file_sha_once(path)
    files = sorted({file for pattern in KEPT for file in path.glob(pattern)})
    return hashlib.sha256(json.dumps([[file.name, file_sha_once(file)] for file in files]).encode()).hexdigest()


def recorded(where: Path) -> dict[str, str]:
    """Return the checksums of first downloads, by file name."""
    path = where / RECORD
    found = read_record(path)
    if found is None and path.exists():
        raise RequestError(f"{path} is damaged; restore it, or remove it to accept the files there as they are")
    return found or {}
