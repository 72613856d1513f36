"""Declare the records of a store: the content, unit and absence of each key. docs/records.md is made from this.

`images.jsonl` has an `ImageRow` a line (an `ImportedRow` in a cell of imported images), `failed.jsonl` a `FailedRow`,
`<image>.steps.jsonl` a `StepRow`. `run.json` is a `RunRecord`, `base.json` a `BaseRecord`. Keys that are not
`NotRequired` are always there.
"""

from typing import Annotated, Any, NotRequired, TypedDict


class Code(TypedDict):
    """The state of this project when a record was written."""

    commit: Annotated[str | None, "Commit of the project; null without git."]
    dirty: Annotated[bool | None, "Whether files differed from the commit; null without git."]


class ImageRow(TypedDict):
    """A finished image: a line of `images.jsonl`. The PNG holds the same, with `cell` in place of `sha256`."""

    file: Annotated[str, "File name of the image in the folder of its cell: `<prompt id>-<seed>.png`."]
    sha256: Annotated[str, "sha256 of the file; 64 hex digits."]
    prompt_id: Annotated[str, "Id of the prompt: its label or first words, and 8 digits of `prompt_sha`."]
    prompt: Annotated[str, "The prompt."]
    prompt_sha: Annotated[str, "sha256 of the prompt in UTF-8; 64 hex digits."]
    seed: Annotated[int, "Seed of the noise."]
    seconds: Annotated[float, "Time of all stages and of decoding, with the base of a staged method; in seconds."]
    base_seconds: Annotated[float, "Part of `seconds` that was not spent again, because the store had the base stage."]
    calls: Annotated[int, "Transformer calls, with those of a base; guidance takes two calls a step."]
    full_calls: NotRequired[
        Annotated[float, "`calls`, each counted as the share of its operations that ran; only where some ran in part."]
    ]
    peak_memory_mb: Annotated[float, "Peak memory in MB: allocated on a GPU, resident in the process on a CPU."]
    finished: Annotated[str, "When the image was done; ISO 8601 in UTC, by the clock of its worker."]
    code: Annotated[Code, "The code that made the image."]
    steps: NotRequired[Annotated[dict[str, str], "sha256 of each file of step records, by file; only with `record`."]]
    record: NotRequired[Annotated[list[str], "What was recorded of each step, as asked for; absent where nothing was."]]
    query: NotRequired[Annotated[list[float], "Image point (x, y) of `record=attention`, 0 to 1; only with `record`."]]


class ImportedRow(TypedDict):
    """An image from elsewhere (`python -m eval.import`): a line of `images.jsonl`. What is not known is absent."""

    file: Annotated[str, "File name of the image in the folder of its cell: `<prompt id>-<seed>.png`."]
    sha256: Annotated[str, "sha256 of the file; 64 hex digits."]
    prompt_id: Annotated[str, "Id of the prompt, as a run makes it."]
    prompt: Annotated[str, "The prompt."]
    prompt_sha: Annotated[str, "sha256 of the prompt in UTF-8; 64 hex digits."]
    seed: Annotated[int, "Seed that was given with the image; 0 where none was."]
    source: Annotated[str, "Where it came from: name of the folder and path in it."]
    source_sha256: Annotated[str, "sha256 of the file it was; equals `sha256` for a PNG, which is copied as it is."]
    finished: Annotated[str, "When it was imported; ISO 8601 in UTC."]
    code: Annotated[Code, "The code that imported it."]
    seconds: NotRequired[Annotated[float, "Time of the image in seconds, where it was given."]]
    calls: NotRequired[Annotated[float, "Transformer calls, where they were given."]]
    peak_memory_mb: NotRequired[Annotated[float, "Peak memory in MB, where it was given."]]


class FailedRow(TypedDict):
    """An image that failed: a line of `failed.jsonl`, which goes when the image is made."""

    file: Annotated[str, "File name the image would have."]
    prompt_id: Annotated[str, "Id of the prompt."]
    prompt: Annotated[str, "The prompt."]
    prompt_sha: Annotated[str, "sha256 of the prompt in UTF-8; 64 hex digits."]
    seed: Annotated[int, "Seed of the noise."]
    reason: Annotated[str, "Why it failed, such as values that are not finite."]
    finished: Annotated[str, "When it failed; ISO 8601 in UTC, by the clock of its worker."]
    code: Annotated[Code, "The code that tried."]


class RunRecord(TypedDict):
    """A cell: the file `run.json` beside its images. Only `identity` decides which cell it is."""

    hash: Annotated[str, "Hash of `identity`, which names the folder; 12 hex digits."]
    identity: Annotated[dict[str, Any], "Everything that changes pixels: model, method, size, schedule, noise."]
    config: Annotated[dict[str, Any], "The whole configuration of the worker that opened the cell, resolved."]
    commit: Annotated[str | None, "Commit of the project when the cell was opened; null without git."]
    dirty: Annotated[bool | None, "Whether files differed from the commit; null without git."]
    packages: Annotated[dict[str, str], "Versions of the packages that pixels may depend on; `absent` for one."]
    device: Annotated[
        str | None, "Device in words; null for imported images, and where it was written again for images made before."
    ]
    created: Annotated[str, "When the record was written; ISO 8601 in UTC."]


class StepRow(TypedDict):
    """A transformer call of an image: a line of `<image>.steps.jsonl`. `<image>.steps.npz` has its maps."""

    index: Annotated[int, "Number of the step in its stage, from 0."]
    stage: Annotated[int, "Number of the stage, from 0."]
    branch: Annotated[str, "`cond`, or `uncond` for the second call of true classifier-free guidance."]
    sigma: Annotated[float, "Time of the step, 1 (noise) to 0."]
    grid: Annotated[list[int], "Image tokens (height, width)."]
    seconds: Annotated[float, "Time of the call, in seconds."]
    blocks: NotRequired[Annotated[int, "Blocks of the transformer that ran; only where a cache may leave some out."]]
    probe: NotRequired[Annotated[bool, "True for a call that only measures and whose output is dropped."]]
    scale: NotRequired[Annotated[list[float], "SEGA: sides over the training side (height, width)."]]
    ntk_factor: NotRequired[Annotated[list[float], "SEGA: factor on the rotary base (height, width)."]]
    m_ref: NotRequired[Annotated[list[float], "SEGA: reference magnitude (height, width); 1 is off."]]
    flatness: NotRequired[Annotated[float, "SEGA: flatness of the radial profile; where a latent was analysed."]]
    strength: NotRequired[Annotated[float, "SEGA: strength of the spectral part; where a latent was analysed."]]
    profile_height: NotRequired[Annotated[list[float], "SEGA: energy by frequency along y; `record=profiles`."]]
    profile_width: NotRequired[Annotated[list[float], "SEGA: energy by frequency along x; `record=profiles`."]]
    profile_radial: NotRequired[Annotated[list[float], "SEGA: energy by radial frequency; `record=profiles`."]]
    magnitudes: NotRequired[
        Annotated[list[list[float]], "Magnitudes of the rotary pairs (height, width); `record=magnitudes`."]
    ]
    spectrum: NotRequired[Annotated[list[float], "Power of the latent by radial frequency; `record=spectrum`."]]
    spectrum_clean: NotRequired[
        Annotated[list[float], "Power of the clean prediction by radial frequency; `record=spectrum`."]
    ]
    query: NotRequired[Annotated[list[int], "Token (row, column) of the query; `record=attention`."]]
    attention: NotRequired[
        Annotated[list[list[float]], "Attention of the query, mean over layers, [height, width]; in the npz."]
    ]
    attention_distance: NotRequired[
        Annotated[list[float], "Mean distance in tokens of what the query attends to, by layer; `record=attention`."]
    ]
    attention_text: NotRequired[
        Annotated[list[float], "Share of the attention of the query on text, by layer; `record=attention`."]
    ]


class BaseRecord(TypedDict):
    """A folder of base latents: the file `base.json`. Its hash names the folder."""

    model: Annotated[dict[str, Any], "Model, weights and dtype, as in the identity of a cell."]
    negative_prompt: Annotated[str | None, "Negative prompt; null where the model takes none."]
    text_tokens: Annotated[int, "Length of the text in tokens."]
    noise: Annotated[str, "How the noise is made, with its version."]
    stage: Annotated[dict[str, Any], "The stage: size, steps, guidance, schedule and positions."]
