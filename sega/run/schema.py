"""The resolved configuration of a cell, as `run.json` keeps it under `config`, key by key."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from sega.loading.schema import ModelConfig


class PromptsConfig(TypedDict):
    """The `prompts` block: where sentences come from."""

    name: Annotated[str, "Name of the block in `conf/prompts`."]
    source: Annotated[str, "`embedded`: captions of the embedded world; `file`; `items`."]
    seed: Annotated[int, "Which list of captions; 0 for other sources."]
    count: Annotated[int, "How many captions; 0 for other sources."]
    path: Annotated[str | None, "A file of prompts, read in place of the source."]
    items: Annotated[list[str], "Sentences, in place of the source."]
    text: Annotated[str | list[str] | None, "A sentence or several, in place of everything else."]
    limit: Annotated[int | None, "Take only the first so many."]


class TrackerConfig(TypedDict):
    """The `tracker` block: the dashboard a run is sent to."""

    name: Annotated[str, "`none` or `wandb`."]
    project: NotRequired[Annotated[str, "Project of the dashboard; this and what follows only for `wandb`."]]
    mode: NotRequired[Annotated[str, "`offline` or `online`."]]
    group: NotRequired[Annotated[str | None, "Group of the run; null: cells of one model and set of prompts."]]
    images: NotRequired[Annotated[int, "Images in the table of a cell."]]
    thumbnail: NotRequired[Annotated[int | None, "Longest side of these in px; null: whole images."]]
    timeout: NotRequired[Annotated[float | None, "Seconds to wait for the service."]]
    folder: NotRequired[Annotated[str, "Folder that holds what is to be sent."]]


class CellConfig(TypedDict):
    """The configuration of a cell, composed from `conf/` and resolved."""

    model: Annotated[ModelConfig, "The checkpoint, and how it is loaded and placed."]
    method: Annotated[dict[str, Any], "Name and parameters of the method; `target` for a class given by its place."]
    prompts: Annotated[PromptsConfig, "Where sentences come from."]
    eval: Annotated[dict[str, Any], "The protocol that `python -m eval` scores the run by, see `conf/eval`."]
    tracker: Annotated[TrackerConfig, "The dashboard that the run is sent to."]
    res: Annotated[str | int | None, "Size of the images: `N`, `WxH` in px, or `2x`; null: the training size."]
    seeds: Annotated[list[int] | int, "Seeds: one image for each prompt and seed."]
    steps: Annotated[int | str | None, "Steps, or `Fx`: F times those of the model; null: those of the model."]
    guidance: Annotated[float | None, "Guidance; null: that of the model."]
    device: Annotated[str, "`auto`, `cpu`, `cuda` or `cuda:N`; in a dry run also a card, such as `h100`."]
    exact_time: Annotated[bool, "Whether methods read sigma from the scheduler, not as the transformer's dtype has it."]
    record: Annotated[list[str], "What step records hold besides: magnitudes, profiles, spectrum, attention."]
    query: Annotated[list[float], "Whose attention is recorded: x, y as fractions of the image."]
    store: Annotated[str, "Folder of runs."]
    part: Annotated[str | None, "Share of this worker, `i/n`."]
    lease: Annotated[float, "Seconds after which the claim of a silent worker is taken over."]
    dry_run: Annotated[bool, "Whether the request is only estimated."]
    tflops: Annotated[float | None, "TFLOP/s that a dry run reckons with; null: what is known of the device."]
    retry_failed: Annotated[bool, "Whether images that failed before are tried again."]
