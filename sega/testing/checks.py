"""The checks, and what they run on. Each takes a method's class and its parameters, and raises AssertionError."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.geometry import Geometry
from sega.methods.parameters import parameters_of
from sega.methods.registry import method_class
from sega.methods.types import ImageRequest
from sega.testing import flux, qwen

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"


@dataclass(frozen=True)
class Small:
    """A small random pipeline, its geometry, and the options of a stock call that generate() sets by itself."""

    pipe: Any
    geometry: Geometry
    options: dict[str, Any]

    @property
    def native(self) -> tuple[int, int]:
        """The training size in pixels."""
        side = self.geometry.train_tokens * self.geometry.token_pixels
        return side, side


@functools.cache
def small_pipeline(family: str) -> Small:
    """The pipeline of "flux" or "qwen", made once."""
    if family == "flux":
        geometry = flux.small_geometry()
        options = {"guidance_scale": 3.5, "max_sequence_length": geometry.text_tokens}
        return Small(flux.build_pipeline(double=1, single=1), geometry, options)
    geometry = qwen.small_geometry(train=8, sega=8)
    options = {"true_cfg_scale": 4.0, "negative_prompt": " ", "max_sequence_length": geometry.text_tokens}
    return Small(qwen.build_pipeline(), geometry, options)


FAMILIES = ("flux", "qwen")


def check_method(method: type[Method] | str, families: tuple[str, ...] = FAMILIES, **parameters: Any) -> None:
    """Run every check on a method: its class or its name, with `parameters` in place of its defaults.

    `families` are the pipelines it is for. Raises AssertionError with what is wrong.
    """
    cls = method_class(method) if isinstance(method, str) else method
    for check in CHECKS:
        check(cls, families, **parameters)


def parameters_are_declared(cls: type[Method], families: tuple[str, ...], **parameters: Any) -> None:
    """Every parameter has a line of documentation and refuses what it can't be."""
    geometry = small_pipeline(families[0]).geometry
    declared = parameters_of(cls)
    undeclared = set(cls(geometry, **parameters).parameters()) - set(declared)
    assert not undeclared, f"{cls.name}: {', '.join(sorted(undeclared))}: declare it with sega.methods.parameters"
    for key, (_, parameter) in declared.items():
        assert parameter.doc and "\n" not in parameter.doc, f"{cls.name}: {key} has no line of documentation"
        try:
            cls(geometry, **(parameters | {key: object()}))
        except RequestError:
            continue
        raise AssertionError(f"{cls.name}: {key} takes anything")


def positions_are_sound(cls: type[Method], families: tuple[str, ...], **parameters: Any) -> None:
    """Frequencies and magnitudes are finite float64 values, one a pair, and those of the model at the training size."""
    import torch

    for family in families:
        geometry = small_pipeline(family).geometry
        method, side = cls(geometry, **parameters), geometry.train_tokens
        for grid in ((side, side), (2 * side, side), (side, 3 * side), (2 * side, 2 * side)):
            tokens = torch.randn(grid[0] * grid[1], 16, generator=torch.Generator().manual_seed(0)).cumsum(0)
            rope = method.positions(grid, 0.7, tokens)
            for axis, dim in zip((rope.height, rope.width), geometry.axes[1:], strict=True):
                for values in (axis.frequencies, axis.magnitudes):
                    assert values.dtype == torch.float64 and values.shape == (dim // 2,), f"{cls.name}: {grid}"
                    assert bool(values.isfinite().all()), f"{cls.name}: not finite at {grid}"
            assert rope.stock or grid != (side, side), f"{cls.name}: changes positions at the training size ({family})"


def training_size_is_stock(cls: type[Method], families: tuple[str, ...], **parameters: Any) -> None:
    """At the training size the image is that of the stock pipeline, to the bit."""
    from sega.engine.sampling import generate

    for family in families:
        small = small_pipeline(family)
        method = cls(small.geometry, **parameters)
        guidance = small.options.get("guidance_scale", small.options.get("true_cfg_scale"))
        (stage,) = method.stages(ImageRequest(small.native, 2, guidance))
        made = generate(
            small.pipe, method, PROMPT, size=small.native, steps=2, guidance=guidance, **_negative(small)
        ).image
        expected = stock_image(small, small.native, stage.steps, stage.guidance)
        same = np.array_equal(np.asarray(made), expected)
        assert same, f"{cls.name}: not the stock image at the training size ({family})"


def removing_leaves_nothing(cls: type[Method], families: tuple[str, ...], **parameters: Any) -> None:
    """Attached twice it gives the same image; taken off, pipeline and image are as before."""
    from sega.engine.attachment import attach

    for family in families:
        small = small_pipeline(family)
        method, size = cls(small.geometry, **parameters), (2 * small.native[0], small.native[1])
        if method.staged:
            continue
        before, untouched = state(small.pipe), stock_image(small, size)
        images = []
        for _ in range(2):
            with attach(small.pipe, method):
                images.append(stock_image(small, size))
        assert np.array_equal(*images), f"{cls.name}: two runs differ ({family})"
        assert state(small.pipe) == before, f"{cls.name}: leaves something behind ({family})"
        same = np.array_equal(stock_image(small, size), untouched)
        assert same, f"{cls.name}: changes the pipeline for good ({family})"


def larger_images_are_made(cls: type[Method], families: tuple[str, ...], **parameters: Any) -> None:
    """Beyond the training size, square and wide, an image of the right size comes out; from one seed, one image."""
    from sega.engine.sampling import generate

    for family in families:
        small = small_pipeline(family)
        method = cls(small.geometry, **parameters)
        for size in ((2 * small.native[0],) * 2, (2 * small.native[0], small.native[1])):
            image = generate(small.pipe, method, PROMPT, size=size, steps=2, guidance=4.0, **_negative(small)).image
            assert image.size == size, f"{cls.name}: an image of {image.size} for {size} ({family})"
        again = generate(small.pipe, method, PROMPT, size=size, steps=2, guidance=4.0, **_negative(small)).image
        assert np.array_equal(np.asarray(image), np.asarray(again)), f"{cls.name}: two runs differ ({family})"


CHECKS: tuple[Callable[..., None], ...] = (
    parameters_are_declared,
    positions_are_sound,
    training_size_is_stock,
    removing_leaves_nothing,
    larger_images_are_made,
)


def check_golden(method: Method, values: Mapping[str, Any] | str | Path, prefix: str = "", rtol: float = 1e-7) -> int:
    """Compare frequencies and magnitudes with stored ones, such as those of published code; returns how many.

    `values` are arrays, or an .npz file of them, with keys `<prefix>/<H>x<W>/<name>`: `times` [T], `freq_h` and
    `freq_w` [T, pairs], and optionally `mscale_h` and `mscale_w` [T]. Grids are in tokens.
    """
    arrays = np.load(values) if isinstance(values, str | Path) else values
    start, compared = f"{prefix}/" if prefix else "", 0
    for key in arrays:
        if not key.startswith(start) or not key.endswith("/times"):
            continue
        case = key.removesuffix("/times")
        grid = tuple(int(side) for side in case.rpartition("/")[2].split("x"))
        for index, time in enumerate(arrays[key]):
            rope = method.positions(grid, float(time))
            for axis, letter in ((rope.height, "h"), (rope.width, "w")):
                expected = arrays[f"{case}/freq_{letter}"][index]
                np.testing.assert_allclose(axis.frequencies.numpy(), expected, rtol=rtol, err_msg=f"{case} at {time}")
                if f"{case}/mscale_{letter}" in arrays:
                    scale = arrays[f"{case}/mscale_{letter}"][index]
                    np.testing.assert_allclose(axis.magnitudes.numpy(), scale, rtol=2e-6, err_msg=f"{case} at {time}")
                compared += 1
    assert compared, f"no arrays of {prefix or 'any case'} to compare with"
    return compared


def stock_image(small: Small, size: tuple[int, int], steps: int = 2, guidance: float | None = None) -> np.ndarray:
    """What the stock pipeline makes when it is called as anybody would call it, from the noise of seed 0."""
    import torch

    from sega.engine.sampling import seeded
    from sega.models import adapter_for

    adapter = adapter_for(small.pipe)
    noise = adapter.pack(torch.randn(adapter.latent_shape(size), generator=seeded(0, PROMPT, size)))
    key = "guidance_scale" if "guidance_scale" in small.options else "true_cfg_scale"
    options = small.options if guidance is None else small.options | {key: guidance}
    made = small.pipe(PROMPT, width=size[0], height=size[1], latents=noise, num_inference_steps=steps, **options)
    return np.asarray(made.images[0])


def state(pipe: Any, kinds: bool = False) -> tuple[Any, ...]:
    """Everything that attaching could leave behind on a pipeline; with `kinds` fit to compare two pipelines.

    Modules, processors and the rotary embedding are the objects themselves, with `kinds` their types.
    """
    from sega.models import adapter_for

    transformer = pipe.transformer
    modules = dict(transformer.named_modules())
    parts = modules | {f"{name}.processor": m.processor for name, m in modules.items() if hasattr(m, "processor")}
    parts["rotary"] = getattr(transformer, adapter_for(pipe).rotary_name)
    return (
        set(vars(transformer)),
        set(vars(pipe.scheduler)),
        {name: type(part) if kinds else part for name, part in parts.items()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules.items()},
        set(transformer.state_dict()),
    )


def _negative(small: Small) -> dict[str, Any]:
    """The negative prompt for `generate`, where the pipeline takes one."""
    return {key: small.options[key] for key in ("negative_prompt",) if key in small.options}
