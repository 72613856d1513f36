"""Types of the records that scoring writes: the meaning of each key, its unit, and when it is absent.

`scores.json` is a `ScoreFile`, a line of `scores.jsonl` is a `ScoreRow`. Keys without a default are always there.
"""

from typing import Annotated, Any, NotRequired, TypedDict


class Interval(TypedDict):
    """A value with its interval, such as one part of a metric."""

    value: Annotated[float, "The value, in the unit of the metric."]
    low: Annotated[float | None, "Lower end of the interval; null with too few prompts."]
    high: Annotated[float | None, "Upper end of the interval; null with too few prompts."]
    n: Annotated[int, "Number of images the value is made of."]


class MetricScore(TypedDict):
    """One metric of a scored run: a value with its interval, or the reason why there is none."""

    title: Annotated[str, "Name of the column, with what a reader must know to compare it."]
    version: Annotated[str, "Version of the metric, or the package that computes it with its version."]
    higher_is_better: Annotated[bool, "True if a larger value is better."]
    unit: Annotated[str, "Unit of the value; empty for a plain number."]
    digits: Annotated[int, "Number of decimals to print."]
    identity: Annotated[str, "Hash of this cell; 16 hex digits."]
    reason: NotRequired[Annotated[str, "Why there is no value; absent where there is one."]]
    value: NotRequired[Annotated[float, "The value, in the unit of the metric; absent where there is a reason."]]
    low: NotRequired[Annotated[float | None, "Lower end of the interval; null with too few prompts."]]
    high: NotRequired[Annotated[float | None, "Upper end of the interval; null with too few prompts."]]
    n: NotRequired[Annotated[int, "Number of images the value is made of."]]
    parts: NotRequired[
        Annotated[dict[str, Interval], "Means of the parts of the measure, such as attributes, by name."]
    ]
    warning: NotRequired[Annotated[str, "What a reader must know of a value that is there, such as a bias of FID."]]
    n_reference: NotRequired[Annotated[int, "Number of reference images; values against a set of references only."]]
    dimension: NotRequired[Annotated[int, "Dimension of the features; distances only."]]
    crops: NotRequired[Annotated[int, "Crops of each image; distances of crops only."]]
    std: NotRequired[Annotated[float, "Standard deviation over subsets (KID) or splits (IS)."]]
    subsets: NotRequired[Annotated[int, "Number of subsets; KID only."]]
    subset_size: NotRequired[Annotated[int, "Rows in each subset; KID only."]]


class ReferenceSet(TypedDict):
    """The reference images a run was compared with."""

    identity: Annotated[str, "Hash of the set; names its arrays in the cache."]
    kind: Annotated[str, "`world` for renders of the same captions, `folder` for a folder of images."]
    n: Annotated[int, "Number of reference images."]


class ProtocolNotes(TypedDict):
    """How a run differs from the paper whose protocol it is scored under."""

    departures: Annotated[list[str], "What the paper states and this run does otherwise, one phrase each."]
    unstated: Annotated[dict[str, Any], "What the paper does not state: `unknown`, or the value that was used here."]


class DamagedFile(TypedDict):
    """An image that was left out."""

    file: Annotated[str, "Path of the image, relative to the folder of the run."]
    why: Annotated[str, "What is wrong with it."]


class Cost(TypedDict):
    """What an image of a run cost; null where it was not recorded."""

    seconds: Annotated[float | None, "Median time of an image, in seconds."]
    calls: Annotated[float | None, "Mean number of transformer calls of an image."]
    full_calls: NotRequired[
        Annotated[float, "Mean of `calls`, each as the share of its operations that ran; only where some ran in part."]
    ]
    peak_memory_mb: Annotated[float | None, "Largest peak memory of an image, in MB."]


class CutPrompts(TypedDict):
    """Prompts of a run that are longer than a text encoder takes, so that it read only their beginning."""

    tokens: Annotated[int, "Number of tokens that the text encoder takes, special ones included."]
    cut: Annotated[int, "Number of different prompts that are longer."]
    prompts: Annotated[int, "Number of different prompts."]


class Seal(TypedDict):
    """Hashes that show whether a record was changed after it was written."""

    block: Annotated[str, "Hash of the block without its seal."]
    rows: Annotated[str, "Hash of the rows of this protocol in `scores.jsonl`."]


class ScoreBlock(TypedDict):
    """Scores of one run under one protocol: an entry of `protocols` in `scores.json`."""

    identity: Annotated[str, "Hash of everything the scores depend on; equal hashes mean nothing to compute."]
    model: Annotated[str, "Name of the model, as in the store."]
    method: Annotated[str, "Name of the method, as in the store."]
    run: Annotated[str, "Hash of the run."]
    size: Annotated[list[int | None], "Width and height of the images in pixels; null where sizes differ."]
    n: Annotated[int, "Number of images that were scored."]
    prompts: Annotated[int, "Number of different prompts among them."]
    native: Annotated[int | None, "Training size of the model in pixels; null where it is not known."]
    measures: Annotated[dict[str, str], "Hash of what each measure depends on besides the image, by measure."]
    networks: Annotated[dict[str, str], "sha256 of the weights of each network, by network."]
    weights: Annotated[dict[str, str], "sha256 of other files that measures load, by name of the weights."]
    reference: Annotated[ReferenceSet | None, "The reference images; null where there are none."]
    protocol: Annotated[ProtocolNotes, "How the run differs from the paper of the protocol."]
    damaged: Annotated[list[DamagedFile], "Images that were left out, and why."]
    cost: Annotated[Cost, "What an image cost."]
    cut: NotRequired[
        Annotated[dict[str, CutPrompts], "Prompts that text encoders cut, by measure; absent in older scores."]
    ]
    settings: Annotated[dict[str, Any], "The options of the protocol, as they were resolved."]
    metrics: Annotated[dict[str, MetricScore], "The metrics of the protocol by name."]
    files: Annotated[dict[str, list[Any]], "Size in bytes, time of change in ns and sha256 of each image, by file."]
    seal: NotRequired[Annotated[Seal, "Hashes of this block and its rows; added when it is written."]]


class ScoreRow(TypedDict):
    """Values of one image: a line of `scores.jsonl`."""

    protocol: Annotated[str, "Name of the protocol."]
    prompt_id: Annotated[str, "Id of the prompt; with the seed it names the same image of every method."]
    seed: Annotated[int, "Seed of the image."]
    prompt: Annotated[str | None, "The prompt; null for images from elsewhere that have none."]
    file: Annotated[str, "Path of the image, relative to the folder of the run."]
    sha256: Annotated[str, "sha256 of the file that was scored."]
    values: Annotated[
        dict[str, float | dict[str, float] | None],
        "Value of each measure; a dict where it has parts, with their `mean`; null where the image has no such value.",
    ]


class ScoreFile(TypedDict):
    """The file `scores.json`."""

    schema: Annotated[int, "Version of the layout; a file of another version is scored again."]
    protocols: Annotated[dict[str, ScoreBlock], "Scores by name of the protocol."]
