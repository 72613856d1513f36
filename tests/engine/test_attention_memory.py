"""No attention part makes a tensor that grows with the square of the tokens."""

from types import SimpleNamespace

import pytest
import torch
from small import load
from torch.utils._python_dispatch import TorchDispatchMode

from sega.methods.types import AttentionCall, ImageRequest, Step
from sega.models.row_ids import image_ids

TEXT, HEADS, DIM = 24, 2, 64
CASES = {
    "ultraimage": ["memory_mb=1"],
    "imax": [],
    "hiflow": [],
    "scalediff": ["memory_mb=1"],
    "freescale": ["memory_mb=1"],
    "hrdit": ["spa_steps=[0]", "hap=false"],
    "hrdit-spa": ["spa_steps=[1]", "hap=false"],
    "hrdit-hap": ["spa_steps=[0]"],
    "window": ["memory_mb=1"],
    "resdit": ["memory_mb=1", "local_from=0", "global_until=1"],
    "area-coarse": [],
    "area": ["memory_mb=1", "switch=1"],
}


class Largest(TorchDispatchMode):
    """Watches the size in bytes of every tensor an operation returns."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, tuple | list) else (out,):
            if isinstance(item, torch.Tensor):
                self.size = max(self.size, item.untyped_storage().nbytes())
        return out


def dense(q, k, v, scale=None):
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(*(x.transpose(1, 2) for x in (q, k, v)), scale=scale).transpose(1, 2)


def turn(x, ids=None, rope=None):
    return x


def largest(case, side):
    """Bytes of the largest tensor made in one attention call on side x side image tokens."""
    method = load(case.split("-")[0], *CASES[case])
    stages = method.stages(ImageRequest((side * 8, side * 8), 2, 1.0))
    run = SimpleNamespace(generator=torch.Generator().manual_seed(0))
    part = method.attention(len(stages) - 1, run)
    length = TEXT + side * side
    q, k, v = torch.randn(3, 1, length, HEADS, DIM)
    ids = torch.cat([torch.zeros(TEXT, 3), image_ids((side, side), "cpu")])
    step = Step(0, 1.0, (side, side), sigmas=(1.0, 0.5), latent=torch.randn(side * side, 32))
    steps = [Step(0, 1.0, (side, side), details={"probe": True}), step] if part.probes(step) else [step]
    with Largest() as watch, torch.no_grad():
        for item in steps:
            call = AttentionCall(q, k, v, TEXT, (side, side), 0, 1, item, ids, turn, lambda *_: ids[:TEXT], dense)
            out = part.attend(call)
    assert out.shape == q.shape
    return watch.size


@pytest.mark.parametrize("case", CASES)
def test_memory_grows_with_the_tokens_not_with_their_square(case):
    small, large = largest(case, 32), largest(case, 48)
    tokens = TEXT + 48 * 48
    assert large < HEADS * tokens**2 * 4 / 3, "a third of an attention map"
    assert large / small < 1.1 * tokens / (TEXT + 32 * 32)
