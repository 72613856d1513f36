"""Draw figures of the steps of a generation: scaling maps, attention of one token, spectra of the latent.

They show the step records of one prompt and seed (`eval/records/steps.py`). `docs/report.md` explains each figure.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sega.errors import RequestError, near

from ..output.manifest import NothingError
from ..records.steps import MAKE, Recorded
from .palette import COLOURS
from .palette import style as style_of
from .text import families, paragraph, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sega.store.schema import StepRow

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def one_prompt(recorded: list[Recorded], prompt: str | None, seed: int | None) -> list[Recorded]:
    """Return one image per label, all of one prompt and seed: the given ones, or the first that most labels have."""
    keys = Counter(item.image.key for item in recorded)
    if prompt is not None:
        known = sorted({key[0] for key in keys})
        if prompt not in known:
            raise RequestError(f"no recorded steps of prompt={prompt}{near(prompt, known)}")
        keys = Counter({key: count for key, count in keys.items() if key[0] == prompt})
    if seed is not None:
        keys = Counter({key: count for key, count in keys.items() if key[1] == seed})
    if not keys:
        raise NothingError(f"no recorded steps of this prompt and seed; {MAKE}")
    chosen = min(keys, key=lambda key: (-keys[key], key))
    return [item for item in recorded if item.image.key == chosen]


def scaling(chosen: list[Recorded], others: list[Recorded], caption: str) -> Figure:
    """Draw the magnitude of every rotary pair at every step, and strength and flatness over steps (SEGA, figure 3).

    `chosen` has one image per method. The strength of `others`, images of the same cells, is drawn as thin lines: the
    spread between prompts. Methods without a spectral part have no scaling map and are left out.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = [(item, steps) for item in chosen if (steps := _with(item, "magnitudes", "strength"))]
    if not shown:
        raise NothingError(f"no magnitudes of a method with a spectral part beyond its training size; {MAKE}")
    maps = [[np.array([row["magnitudes"][axis] for row in steps]).T for axis in (0, 1)] for _, steps in shown]
    low, high = min(m.min() for pair in maps for m in pair), max(m.max() for pair in maps for m in pair)
    with rc_context(_look(chosen, caption)):
        figure = Figure(figsize=(11.5, 0.9 + 2.7 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 3, squeeze=False, width_ratios=(1, 1, 1.15))
        for line, (item, steps), pair in zip(axes, shown, maps, strict=True):
            for panel, values, name in zip(line, pair, ("height", "width"), strict=False):
                shape = {"aspect": "auto", "interpolation": "nearest", "cmap": "viridis"}
                image = panel.imshow(values, vmin=low, vmax=high, **shape)
                panel.set_title(plain(f"{item.label}: magnitude, {name} axis"), fontsize=9)
                panel.set_ylabel("rotary pair (0: shortest period)")
                panel.spines[:].set_visible(False)
                _times(panel, steps)
            figure.colorbar(image, ax=line[1], fraction=0.06, pad=0.02)
            _strength(line[2], item, steps, [other for other in others if other.run.folder == item.run.folder])
        _under(figure, shown[0][0], caption)
    return figure


def _strength(panel, item: Recorded, steps: list[StepRow], others: list[Recorded]) -> None:
    count = 0
    for other in others:
        rows = _with(other, "strength")
        if other.image.key != item.image.key and rows:
            panel.plot([row["strength"] for row in rows], color=COLOURS[0], linewidth=0.6, alpha=0.35)
            count += 1
    panel.plot([row["strength"] for row in steps], color=COLOURS[0], marker="o", markersize=3, label="strength")
    panel.plot([row["flatness"] for row in steps], color=COLOURS[1], marker="s", markersize=3, label="flatness")
    panel.set_ylim(-0.03, 1.03)
    panel.set_title(plain(f"{item.label}{f'; thin: {count} more images' if count else ''}"), fontsize=9)
    panel.legend(frameon=False, fontsize=8)
    panel.grid(axis="y", linewidth=0.4, alpha=0.5)
    _times(panel, steps)


def attention(chosen: list[Recorded], caption: str) -> Figure:
    """Draw the attention of one token at three steps for each method (SEGA, figure 4), and its distance over steps."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = [(item, steps) for item in chosen if (steps := _with(item, "attention"))]
    if not shown:
        raise NothingError(f"no attention was recorded in layers that attend to the whole image; {MAKE}")
    queries = {(tuple(steps[0]["query"]), tuple(steps[0]["grid"])) for _, steps in shown}
    if len(queries) > 1:
        raise NothingError("the methods were recorded with different query= points; record them with one")
    times = sorted({0, (len(shown[0][1]) - 1) // 2, len(shown[0][1]) - 1})
    row, column = shown[0][1][0]["query"]
    with rc_context(_look(chosen, caption)):
        height = 2.35 * len(shown)
        figure = Figure(figsize=(2.3 * (len(times) + 1), height + 3.2), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=(height, 2.6))
        axes = upper.subplots(len(shown), len(times) + 1, squeeze=False)
        picked = [[steps[min(k, len(steps) - 1)] for k in times] for _, steps in shown]
        logs = [[_over_even(step["attention"]) for step in line] for line in picked]
        tops = [max(line[k].max() for line in logs) for k in range(len(times))]
        for panel, step in zip(axes[0, 1:], picked[0], strict=True):
            panel.set_title(f"step {step['index']}, σ = {step['sigma']:.2f}", fontsize=9)
        for line, (item, _), maps in zip(axes, shown, logs, strict=True):
            _picture(line[0], item, (row, column), shown[0][1][0]["grid"])
            for k, (panel, values) in enumerate(zip(line[1:], maps, strict=True)):
                # One scale a column, so that methods compare; even attention is 0.
                image = panel.imshow(values, vmin=-1.5, vmax=max(tops[k], 0.1), cmap="magma", interpolation="nearest")
                panel.plot(column, row, "+", color="cyan", markersize=8)
                _bare(panel)
        bar = upper.colorbar(image, ax=axes[:, -1], fraction=0.07, pad=0.02)
        bar.set_label("log₁₀ of attention over even attention", fontsize=8)
        _over_steps(lower, shown)
        _under(lower, shown[0][0], caption)
    return figure


def _over_even(attention: np.ndarray) -> np.ndarray:
    """Return log10 of attention [H, W] divided by 1 / (H W)."""
    return np.log10(np.maximum(attention * attention.size, 1e-3))


def _picture(panel, item: Recorded, query: tuple[int, int], grid: list[int]) -> None:
    from PIL import Image

    from ..records import images

    _bare(panel)
    panel.set_ylabel(paragraph(item.label, 2, 9, 4), fontsize=9)
    try:
        pixels = Image.fromarray(images.read(item.image.path))
    except images.DamagedError:
        panel.text(0.5, 0.5, "image missing", ha="center", transform=panel.transAxes, fontsize=8)
        return
    pixels.thumbnail((512, 512))
    panel.imshow(np.asarray(pixels))
    scale = pixels.size[0] / grid[1]
    panel.plot((query[1] + 0.5) * scale, (query[0] + 0.5) * scale, "+", color="cyan", markersize=10, markeredgewidth=2)


def _over_steps(figure, shown: list[tuple[Recorded, list[StepRow]]]) -> None:
    left, right = figure.subplots(1, 2)
    for k, (item, steps) in enumerate(shown):
        look = style_of(k) | {"markersize": 3}
        left.plot([np.mean(row["attention_distance"]) for row in steps], label=plain(item.label), **look)
        right.plot([np.mean(row["attention_text"]) for row in steps], **look)
    left.set_title("mean distance from the query, in tokens", fontsize=9)
    right.set_title("share of attention on the text", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    for panel in (left, right):
        panel.grid(axis="y", linewidth=0.4, alpha=0.5)
        _times(panel, shown[0][1])


def spectra(chosen: list[Recorded], caption: str) -> Figure:
    """Draw the power of the latent and of the clean prediction by radial frequency, one line per step."""
    from matplotlib import cm, rc_context
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    shown = [(item, steps) for item in chosen if (steps := _with(item, "spectrum"))]
    if not shown:
        raise NothingError(f"no spectra were recorded; {MAKE}")
    colours = cm.ScalarMappable(Normalize(0, 1), "viridis")
    with rc_context(_look(chosen, caption)):
        figure = Figure(figsize=(2.7 * (len(shown) + 1), 5.6), layout="constrained")
        axes = figure.subplots(2, len(shown) + 1, sharex="col", sharey="row", squeeze=False)
        for line, key, name in zip(axes, ("spectrum", "spectrum_clean"), ("latent", "clean prediction"), strict=True):
            for k, (panel, (item, steps)) in enumerate(zip(line, shown, strict=False)):
                for row in steps:
                    _rings(panel, row[key], color=colours.to_rgba(row["sigma"]), linewidth=0.8)
                panel.set_title(paragraph(item.label, 2.4, 9, 3), fontsize=9)
                style = {"color": style_of(k)["color"], "linestyle": style_of(k)["linestyle"], "linewidth": 1.2}
                _rings(line[-1], steps[-1][key], label=plain(item.label), **style)
            line[0].set_ylabel(f"power of the {name}")
            line[-1].set_title("last step", fontsize=9)
            for panel in line:
                panel.set_xscale("log")
                panel.set_yscale("log")
                panel.xaxis.set_minor_formatter(NullFormatter())  # a small grid has labels at every frequency
                panel.grid(linewidth=0.3, alpha=0.5)
        axes[0][-1].legend(frameon=False, fontsize=7)
        for panel in axes[1]:
            panel.set_xlabel("cycles over the longer side", fontsize=8)
        figure.colorbar(colours, ax=axes[:, :-1], location="left", fraction=0.03, pad=0.02).set_label("σ")
        _under(figure, shown[0][0], caption)
    return figure


def _look(chosen: list[Recorded], caption: str) -> dict[str, Any]:
    texts = {caption} | {text for item in chosen for text in (item.label, item.image.prompt or item.image.prompt_id)}
    return STYLE | {"font.family": families(texts)}


def _bare(panel) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _rings(panel, values: list[float], **style) -> None:
    panel.plot(range(1, len(values)), values[1:], **style)  # ring 0 is the mean


def _with(item: Recorded, *keys: str) -> list[StepRow]:
    """Return the steps of an image, [] if a step lacks one of the keys."""
    steps = item.steps(maps="attention" in keys)
    return steps if all(key in row for row in steps for key in keys) else []


def _times(panel, steps: list[StepRow]) -> None:
    """Label the x axis with steps and their σ."""
    every = max(1, -(-len(steps) // 6))
    places = range(0, len(steps), every)
    panel.set_xticks(places, [f"{steps[k]['index']}\n{steps[k]['sigma']:.2f}" for k in places], fontsize=7)
    panel.set_xlabel("step, σ", fontsize=8)


def _under(figure, item: Recorded, caption: str) -> None:
    """Write what the figure shows under it; the prompt has lines of its own, since it may run from right to left."""
    facts = f"{item.run.model}, {item.size} px, seed {item.image.seed}"
    width = figure.bbox.width / figure.dpi - 0.4
    texts = [plain(facts), paragraph(item.image.prompt or item.image.prompt_id, width, 7, 3), plain(caption)]
    figure.supxlabel("\n".join(filter(None, texts)), fontsize=7, color="#444444")
