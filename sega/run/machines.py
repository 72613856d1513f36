"""How long work takes on a machine: a few rates of each, and the cards that a dry run knows by name."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass

from sega.formulas.work import Work


@dataclass(frozen=True)
class Machine:
    """Rates of one device, whose kernels run one after the other."""

    name: str
    products: float  # operations a second of dense layers, in the dtype of the model
    attention: float  # of fused attention
    flex: float  # of FlexAttention
    convolutions: float
    single: float  # of products in float32
    masked: float  # pairs of attention under a mask, a second and head; what they take more than others
    bandwidth: float  # bytes a second
    launch: float  # seconds a kernel takes to launch
    waits: bool  # whether a kernel is launched only after the last is done, as on a CPU

    def seconds(self, work: Work) -> float:
        """The time that work takes."""
        busy = (
            work.products / self.products
            + work.attention / self.attention
            + work.flex / self.flex
            + work.convolutions / self.convolutions
            + work.single / self.single
            + work.masked / self.masked
            + work.traffic / self.bandwidth
        )
        launched = work.kernels * self.launch
        return busy + launched if self.waits else max(busy, launched)


@dataclass(frozen=True)
class Card:
    """What the data sheet of a GPU says: dense operations a second with sums in float32, bytes a second, bytes."""

    name: str
    half: float  # bfloat16 on tensor cores, TFLOP/s
    single: float  # float32, TFLOP/s
    bandwidth: float  # TB/s
    memory: float  # GB


CARDS = {
    "a100": Card("A100 80GB SXM", 312, 19.5, 2.039, 80),
    "a100_40gb": Card("A100 40GB SXM", 312, 19.5, 1.555, 40),
    "h100": Card("H100 80GB SXM", 989.4, 66.9, 3.35, 80),
    "h200": Card("H200 SXM", 989.4, 66.9, 4.8, 141),
    "l40s": Card("L40S", 362.05, 91.6, 0.864, 48),
    "rtx3090": Card("GeForce RTX 3090", 71, 35.6, 0.936, 24),
    "rtx4090": Card("GeForce RTX 4090", 165.2, 82.6, 1.008, 24),
    "rtx5090": Card("GeForce RTX 5090", 209.5, 104.8, 1.792, 32),
}
"""From NVIDIA's data sheets and white papers of each architecture, without sparsity."""

PRODUCTS, ATTENTION, BANDWIDTH = 0.746, 0.633, 0.962
"""Shares of the data sheet that are reached, on an H100: the first measured on large matrices, the others fitted to
transformer calls at 1024 and 4096 px (results/benchmarks/cost.md). Other cards are assumed to reach the same."""
FLEX = 0.23
"""The share of the operations that FlexAttention reaches on an H200 under the mask of HRDiT, compiled by torch 2.11:
fitted to HRDiT at 4096 px."""
MASK = 43
"""Bytes for a pair of one head under a mask, counted; not measured, since masks are blocks on a GPU by default."""
LAUNCH = 6e-6
"""Seconds to launch a kernel from Python on a server; not fitted, and of no account at the sizes that were measured."""

CORE = {
    "float32": Machine("core", 181.2e9, 110.4e9, 110.4e9, 106.1e9, 181.2e9, 0.1451e9, 10.48e9, 12.19e-6, waits=True),
    "bfloat16": Machine("core", 1385e9, 363.3e9, 363.3e9, 166.7e9, 181.2e9, 0.1046e9, 7.664e9, 20.60e-6, waits=True),
}
"""One core of the server CPU that made results/benchmarks/cost.md, with AMX for bfloat16."""


def gpu(card: Card, dtype: str = "bfloat16") -> Machine:
    """What a card does in a dtype."""
    single = PRODUCTS * card.single * 1e12
    half = dtype != "float32"
    products = PRODUCTS * card.half * 1e12 if half else single
    attention = ATTENTION * card.half * 1e12 if half else single
    bandwidth = BANDWIDTH * card.bandwidth * 1e12
    masked = bandwidth / MASK
    flex = attention * FLEX / ATTENTION
    return Machine(card.name, products, attention, flex, products, single, masked, bandwidth, LAUNCH, waits=False)


def core(dtype: str) -> Machine:
    """One core of a CPU in a dtype."""
    return CORE.get(dtype, CORE["float32"])


def flat(tflops: float) -> Machine:
    """A device that does all operations at one rate, and nothing else takes time."""
    rate, never = tflops * 1e12, float("inf")
    return Machine(f"{tflops:g} TFLOP/s", rate, rate, rate, rate, rate, never, never, 0.0, waits=False)


def card_named(name: str) -> Card | None:
    """The card that a driver calls by this name, such as NVIDIA H100 80GB HBM3."""
    words = name.lower().replace("-", " ").split()
    joined = "".join(words)
    if {"laptop", "pcie"} & set(words):  # slower than those of the table
        return None
    if "a100" in words and "40gb" in words:
        return CARDS["a100_40gb"]
    return next((card for key, card in CARDS.items() if key in joined), None)


@functools.cache
def card_here() -> Card | None:
    """The first GPU of this machine, if its driver answers and its name is known."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return card_named(done.stdout.partition("\n")[0]) if done.returncode == 0 else None
