"""Weights in training: modules that run in the dtype of the device, float32 weights behind them, their moving average.

bfloat16 has 8 bits: a small step would be lost in it. So gradients are copied to float32 weights, the optimizers move
those, and the modules that run are copies of them. Muon moves the matrices of the blocks, AdamW the rest.
"""

from __future__ import annotations

import copy

import torch

from sega.embedded.training.precision import working_dtype

MUON_LR, ADAM_LR, TEXT_LR = 2.5e-3, 2e-3, 2e-4


def optimizers(transformer, t5, clip) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [
        p for n, p in transformer.named_parameters() if p.ndim == 2 and "transformer_blocks" in n and ".norm" not in n
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in transformer.parameters() if id(p) not in chosen]
    text = [*t5.parameters(), *clip.parameters()]
    muon = torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": rest}, {"params": text, "lr": TEXT_LR}]
    fused = matrices[0].is_cuda
    return [muon, torch.optim.AdamW(groups, lr=ADAM_LR, weight_decay=0.01, betas=(0.9, 0.98), fused=fused)]


class Masters:
    """`running`: the modules in `dtype`, by default that of the device; `weights` and `average`: the same in float32.

    `modules` are the transformer, T5 and CLIP. A step takes the gradients of `running`; every parameter must have one.
    """

    def __init__(self, modules: torch.nn.ModuleList, device: str, rate: float = 1.0, dtype: torch.dtype | None = None):
        self.weights = modules.float().to(device)
        self.average = copy.deepcopy(self.weights).requires_grad_(False)
        self.running = copy.deepcopy(self.weights).to(dtype or working_dtype(device))
        for parameter in self.weights.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizers = optimizers(*self.weights)
        self.rates = [(group, group["lr"] * rate) for one in self.optimizers for group in one.param_groups]

    @torch.no_grad()
    def step(self, factor: float, decay: float) -> None:
        """Move the weights at `factor` times the learning rates, and the average towards them by 1 - `decay`."""
        weights, running = list(self.weights.parameters()), list(self.running.parameters())
        torch._foreach_copy_([p.grad for p in weights], [p.grad for p in running])
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group, rate in self.rates:
            group["lr"] = rate * factor
        for optimizer in self.optimizers:
            optimizer.step()
        torch._foreach_copy_(running, weights)
        self.running.zero_grad()
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)
