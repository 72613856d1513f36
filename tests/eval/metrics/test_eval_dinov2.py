"""DINOv2's loader on a small random file of the official layout, against the model of transformers."""

from types import SimpleNamespace

import numpy as np
import pytest
import random_weights
import torch

from eval.metrics.learned import dinov2, networks, weights
from eval.metrics.registry import metrics
from eval.metrics.types import title
from eval.protocols import load_protocol
from sega.errors import RequestError

WIDTH, DEPTH = 128, 2


def of_transformers(state, positions):
    """The same weights in transformers' DINOv2 for 224 px, which needs no interpolation of positions."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=224, patch_size=14, mlp_ratio=4
    )
    model = Dinov2Model(config).eval()
    names = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": state["mask_token"],
        "embeddings.position_embeddings": positions,
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for k in range(DEPTH):
        ours, theirs = f"blocks.{k}", f"encoder.layer.{k}"
        for part in ("weight", "bias"):
            for name, piece in zip("qkv", state[f"{ours}.attn.qkv.{part}"].chunk(3), strict=True):
                names[f"{theirs}.attention.{name}_proj.{part}"] = piece
            for old, new in (
                ("attn.proj", "attention.o_proj"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
                ("norm1", "norm1"),
                ("norm2", "norm2"),
            ):
                names[f"{theirs}.{new}.{part}"] = state[f"{ours}.{old}.{part}"]
        for n in (1, 2):
            names[f"{theirs}.layer_scale{n}.lambda1"] = state[f"{ours}.ls{n}.gamma"]
    model.load_state_dict(names)
    return model


def test_the_class_token_equals_that_of_transformers(tmp_path):
    path = random_weights.dinov2(tmp_path / "d.pth", WIDTH, DEPTH)
    state = torch.load(path, weights_only=True)
    model = of_transformers(state, dinov2.resampled(state["pos_embed"], 16))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8))
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (dinov2.MEAN, dinov2.STD))
    with torch.no_grad():
        expected = model((images.float() / 255 - mean) / std).last_hidden_state[:, 0]
    found = dinov2.load(path, "cpu")(images)
    assert found.shape == (2, WIDTH) and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_positions_are_read_at_the_places_of_the_official_code():
    """A square ramp, whose values are those of the cubic kernel (a = -3/4) at places 37 / 16.1 apart."""
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    ramp = torch.cat([torch.full((1, 1, 2), 9.0), torch.stack([rows, columns], -1).reshape(1, -1, 2)], 1)
    found = dinov2.resampled(ramp, 16)
    expected = []
    for place in (np.arange(16) + 0.5) * 37 / 16.1 - 0.5:
        taps = np.floor(place) + np.arange(-1, 3)
        t = np.abs(place - taps)
        near, far = 1.25 * t**3 - 2.25 * t**2 + 1, -0.75 * t**3 + 3.75 * t**2 - 6 * t + 3
        expected.append(np.where(t <= 1, near, far) @ np.clip(taps, 0, 36))
    assert found.shape == (1, 257, 2) and (found[0, 0] == 9).all()
    grid = found[0, 1:].reshape(16, 16, 2).numpy()
    assert grid[:, 3, 0] == pytest.approx(expected, abs=1e-4)
    assert grid[5, :, 1] == pytest.approx(expected, abs=1e-4)
    assert dinov2.resampled(found, 16) is found


def test_it_is_found_among_the_weights_and_named(tmp_path, monkeypatch):
    random_weights.unpinned(monkeypatch)
    config = load_protocol("plain", [f"weights={tmp_path}", "features=dinov2"])
    with pytest.raises(weights.MissingWeightsError, match="fetch.py dinov2-vit-l-14"):
        networks.find("dinov2", config)
    random_weights.dinov2(tmp_path / weights.WEIGHTS["dinov2-vit-l-14"].file)
    network = networks.load(networks.find("dinov2", config), "cpu")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 90, 150), np.uint8))
    assert network.image(images).shape == (1, 128) and network.head is None
    assert [title(metrics()[name], config) for name in ("fid", "kid")] == ["FD (DINOv2)", "KD (DINOv2)"]


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(RequestError, match="no file of DINOv2"):
        dinov2.load(tmp_path / "x.pth", "cpu")


def test_spatial_features_are_the_first_channels_of_the_branch():
    """A stand-in for Inception: what its branch gives at each place, seven channels of it."""

    class Inception(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.Mixed_6d = torch.nn.Module()
            self.Mixed_6d.branch1x1 = torch.nn.Conv2d(3, 9, 1)
            self.fc = SimpleNamespace(weight=torch.zeros(5, 9))

        def forward(self, images):
            return self.Mixed_6d.branch1x1(images.float()).relu().mean((2, 3))

    module = Inception()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 17, 17), np.uint8))
    with torch.no_grad():
        found = networks._inception(module, "cpu").spatial(images)
        expected = module.Mixed_6d.branch1x1(images.float())[:, :7]
    assert found.shape == (2, 2023) and torch.equal(found, expected.reshape(2, -1))
    assert not module.Mixed_6d.branch1x1._forward_hooks
