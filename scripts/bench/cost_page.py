"""The page of scripts/bench_cost.py: what the cost model predicts, and what was measured."""

from __future__ import annotations

import statistics
from typing import Any

from sega.formulas.work import Work
from sega.run.machines import CARDS, Machine, card_named, gpu


def text(record: dict[str, Any], gpus: list[tuple[str, dict[str, Any]]]) -> str:
    """The page. `gpus` are names and contents of records of an H100."""
    parts = [HEAD.format(**record, torch=record["packages"]["torch"], diffusers=record["packages"]["diffusers"])]
    parts.append(constants_table(record))
    for dtype, found in record["dtypes"].items():
        parts.append(growth_table(dtype, found, machine(record, dtype)))
    parts.append(images_table(record))
    parts += [gpu_table(name, content) for name, content in gpus]
    return "\n".join(parts)


HEAD = """# Cost model

`{command}`

{cpu}, one core; torch {torch}, diffusers {diffusers}; commit {commit}. Seconds are processor time, the least of all
turns; sizes took turns. Spread is the median over the least. The machine was busy with other work.
"""


def machine(record: dict[str, Any], dtype: str) -> Machine:
    """The machine with the constants that were fitted."""
    found = record["dtypes"][dtype]["constants"]
    single = record["dtypes"]["float32"]["constants"]["products"]
    return Machine("core", single=single, waits=True, **found)


def constants_table(record: dict[str, Any]) -> str:
    lines = [
        "## Constants",
        "",
        "Dense layers are from one product, convolutions from decoding 384 px, masks from HRDiT's attention, the rest",
        "from calls at 64, 576 and 9,216 tokens.",
        "",
        "| dtype | dense layers, GFLOP/s | attention | convolutions | masked, G/s | bandwidth, GB/s | a kernel, us |",
        "|---|---|---|---|---|---|---|",
    ]
    order = ("products", "attention", "convolutions", "masked", "bandwidth")
    for dtype, found in record["dtypes"].items():
        values = found["constants"]
        rates = " | ".join(f"{values[key] / 1e9:.4g}" for key in order)
        lines.append(f"| {dtype} | {rates} | {values['launch'] * 1e6:.3g} |")
    return "\n".join(lines) + "\n"


def growth_table(dtype: str, found: dict[str, Any], core: Machine) -> str:
    lines = [
        f"## Growth of a call, {dtype}",
        "",
        "| tokens | ms | spread | predicted | error | |",
        "|---|---|---|---|---|---|",
    ]
    for name in found["seconds"]:
        if name.startswith("call "):
            side = int(name.split()[1])
            told, least, spread = compared(found, name, core)
            error = f"{told / least - 1:+.1%} | {'fitted' if side in found['fitted'] else ''}"
            lines.append(f"| {side * side:,} | {least * 1000:.1f} | {spread:.2f} | {told * 1000:.1f} | {error} |")
    return "\n".join(lines) + "\n"


def images_table(record: dict[str, Any]) -> str:
    first, second = record["dtypes"]
    lines = [
        "## Images and decoding",
        "",
        "Whole images of the small model by `generate`, text encoders and decoding included, with few steps; the name",
        "is that of the method, the size, the steps and options. Only decoding 384 px was used for a constant.",
        "Decoding grows faster than its work, and so do whole images at 4x: memory above 32 MB is mapped anew for each",
        "kernel. Where glibc was told to keep it, decoding 768 px in bfloat16 took 1.40 s in place of 2.10 s.",
        "",
        f"| what | {first}, s | predicted | error | {second}, s | predicted | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in record["dtypes"][first]["seconds"]:
        if name.startswith("call ") or name in ("product", "masked"):
            continue
        cells = []
        for dtype in (first, second):
            told, least, _ = compared(record["dtypes"][dtype], name, machine(record, dtype))
            cells.append(f"{least:.3g} | {told:.3g} | {told / least - 1:+.1%}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def compared(found: dict[str, Any], name: str, core: Machine) -> tuple[float, float, float]:
    """Predicted and least seconds, and the median over the least."""
    values = found["seconds"][name]
    return core.seconds(Work(**found["work"][name])), min(values), statistics.median(values) / min(values)


def gpu_table(name: str, record: dict[str, Any]) -> str:
    """Steps of FLUX on a GPU against the card as a dry run knows it."""
    rows, known = gpu_rows(record), card_named(record["device"].replace("(", " ").replace(")", " "))
    assert known is not None, f"{record['device']} is none of the cards of sega/run/machines.py"
    card = gpu(known)
    lines = [
        f"## FLUX on an {known.name}, {name}",
        "",
        f"Predicted by `device={next(key for key, other in CARDS.items() if other == known)}`. The share of the rate",
        "of dense layers is that of a large product on an H100; those of attention and bandwidth were fitted to the",
        "plain model at 1024 and 4096 px of `h100-earlier.json`, that of FlexAttention to HRDiT at 4096 px of",
        "`gpu.json`. All other rows are checks.",
        "",
        "| method | size | call | s | predicted | error |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = card.seconds(row["work"])
        error = told / row["seconds"] - 1
        lines.append(
            f"| {row['method']} | {row['size']} | {row['what']} | {row['seconds']:.3f} | {told:.3f} | {error:+.1%} |"
        )
    return "\n".join(lines) + "\n"


def gpu_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps of FLUX, measured and with their work; measuring passes are rows of their own."""
    if "flux" in record:
        listed = [(row["method"], row["size"], {2: row["seconds"]}, row["measuring"]) for row in record["flux"]]
    else:  # of scripts/bench_gpu.py; what has switches is left out
        own = [row for row in record["parts"]["flux"]["rows"] if not {"=", " "} & set(row["case"])]
        listed = [(row["case"], row["size"], row["steps"], row.get("probe")) for row in own]
    found = []
    for case, size, steps, probe in listed:
        method = "vanilla" if case == "plain" else case
        taken = [(f"step {step}", int(step), seconds) for step, seconds in steps.items()]
        for what, step, seconds in [*taken, *([("measuring pass", -1, probe)] if probe else [])]:
            work = flux_work(method, size, step)
            found.append({"method": method, "size": size, "what": what, "seconds": seconds, "work": work})
    return found


def flux_work(method: str, size: int, step: int) -> Work:
    """The work of a step in the last stage of a method; of its measuring pass for -1."""
    from sega.loading.known import published
    from sega.run.cost import stage_steps, step_work
    from sega.run.request import read_request

    words = ["model=flux", f"method={method}", f"res={size}", "device=h100", "dry_run=true", "prompts.limit=1"]
    (cell,) = read_request(words).cells
    work = step_work(cell, published(cell.model), stage_steps(cell, len(cell.stages) - 1)[step])
    assert work is not None  # FLUX is counted
    return work


def fitted_shares(rows: list[dict[str, Any]], rate: float) -> tuple[float, float]:
    """The shares of an H100's operations and bandwidth that attention and memory reach, from 1024 and 4096 px.

    `rate` is that of large products on the same card, operations a second.
    """
    import numpy as np

    card = CARDS["h100"]
    plain = {row["size"]: row for row in rows if row["method"] == "vanilla"}
    left = [[plain[size]["work"].attention, plain[size]["work"].traffic] for size in (1024, 4096)]
    right = [plain[size]["seconds"] - plain[size]["work"].products / rate for size in (1024, 4096)]
    attention, byte = np.linalg.solve(left, right)
    return 1 / attention / card.half / 1e12, 1 / byte / card.bandwidth / 1e12
