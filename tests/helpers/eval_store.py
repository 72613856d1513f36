"""A synthetic store and a random scorer, for the tests of the evaluation."""

import hashlib
import json
from pathlib import Path

import numpy as np

from sega.embedded import world


def make_scorer(folder: Path) -> Path:
    """A folder of an open_clip model of the scorer's architecture, at random."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    from sega.embedded.scorer import CONFIG

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(**CONFIG)
        for module in model.visual.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # blocks end in zero weights, which hides the image
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def make_run(
    store: Path, method: str, size: tuple[int, int], prompts: int = 6, noise: float = 0.0, **parameters
) -> Path:
    """A run of `prompts` noisy renders, with records as run.py writes them."""
    from PIL import Image

    identity = {"model": {"id": "embedded"}, "method": {"name": method, **parameters}, "steps": 20, "size": list(size)}
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    folder = store / "tiny" / method / f"{size[0]}x{size[1]}" / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(int(noise * 10))
    rows = []
    for number, prompt in enumerate(world.prompts(3, prompts)):
        image = world.render(world.scene_for(prompt, 5), *size) + noise * rng.standard_normal((size[1], size[0], 3))
        path = folder / f"{number:04d}-0.png"
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(
            {
                "prompt_id": f"{number:04d}",
                "prompt": prompt,
                "prompt_sha": "",
                "seed": 0,
                "file": path.name,
                "sha256": sha,
                "seconds": 1.5,
                "calls": 20,
                "peak_memory_mb": 700.0,
            }
        )
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"hash": name, "identity": identity, "config": {}}))
    return folder
