"""DINOv2 (arXiv 2304.07193) as a feature network, from the official file of ViT-L/14 without registers.

As dgm-eval (arXiv 2306.04675): images resized whole to 224 px (antialiased bicubic), ImageNet's mean and deviation, and
the class token after the last norm. The blocks are timm's. Positions are resampled from 37 x 37 to 16 x 16 as the
official code does: bicubic, by the factor (16 + 0.1) / 37, without antialiasing.
"""

from __future__ import annotations

from pathlib import Path

from sega.errors import RequestError

SIDE, PATCH, HEAD = 224, 14, 64
"""Input side, patch side in pixels, and dimensions of an attention head."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(path: Path, device: str):
    """Return the function from uint8 [B, 3, H, W] to features [B, D]. Width and depth are those of the file."""
    import torch
    import torch.nn.functional as F
    from timm.models.vision_transformer import VisionTransformer

    state = torch.load(path, map_location="cpu", weights_only=True)
    state.pop("mask_token", None)
    if "pos_embed" not in state or "register_tokens" in state:
        raise RequestError(f"{path} is no file of DINOv2 without registers, as fetch dinov2-vit-l-14 stores it")
    state["pos_embed"] = resampled(state["pos_embed"], SIDE // PATCH)
    width = state["cls_token"].shape[-1]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    module = VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=width // HEAD,
        init_values=1.0,
        num_classes=0,
    )
    module.load_state_dict(state)
    module = module.to(device).eval()
    mean, std = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (MEAN, STD))

    @torch.no_grad()
    def image(images):
        small = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return module((small.to(device).float() / 255 - mean) / std)

    return image


def resampled(positions, side: int):
    """Return positions [1, 1 + n n, D] for a grid of `side` x `side` tokens, [1, 1 + side side, D]."""
    import torch
    import torch.nn.functional as F

    n = round((positions.shape[1] - 1) ** 0.5)
    if n == side:
        return positions
    grid = positions[:, 1:].reshape(1, n, n, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((side + 0.1) / n,) * 2, mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
