"""What is measured, as data: one entry a quantity, each with its version, preprocessing and what it depends on.

A `Measure` is computed for one picture and kept (a number in `scores.jsonl`, or an array in the features file).
A `Metric` is a column of the table: the mean of a measure over pictures, or a distance between sets of arrays.
Raise `version` whenever a change moves values: scores with another version are computed again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One quantity of one picture."""

    name: str
    version: str  # "package:<name>" adds the installed version of that package
    compute: (
        str  # "module:function", a leading dot: beside this file; called with a Context, gives a function of a batch
    )
    array: bool = False
    network: str = ""  # the network it runs: config key "features" | "clip.model", or an open_clip name
    weights: tuple[str, ...] = ()  # entries of `eval.metrics.weights` it loads; {key} stands for an option
    settings: tuple[str, ...] = ()  # config keys that change its value
    needs: tuple[str, ...] = ()  # "prompt", "world" (a caption of the embedded world), "crop", "period", "lattice"
    preprocessing: str = "RGB uint8 as stored"
    host: str = ""  # "always" computed where pictures are decoded | "cpu" there unless a GPU is used


@dataclass(frozen=True)
class Metric:
    """One column of the table."""

    name: str
    title: str
    version: str
    higher_is_better: bool
    unit: str
    measure: str
    kind: str  # "mean" of a measure | to references: "fid" | "kid" | "cmmd" | "spectrum" | "high_frequency"
    settings: tuple[str, ...] = ()
    references: bool = False
    parts: tuple[str, ...] = ()  # further means a dict-valued measure gives
    digits: int = 2
    ranked: bool = True  # whether the extreme value is the best one, so that it may be marked
    about: str = ""

    @property
    def value(self) -> str:
        """What a picture's row in `scores.jsonl` calls the number this is the mean of."""
        return {"spectrum": "spectrum_distance", "high_frequency": "high_frequency"}.get(self.kind, self.measure)


FULL = "RGB in 0..1 at stored resolution"
MIDDLE = "antialiased bicubic, shorter side 224 px, rounded, the middle kept"

MEASURES: dict[str, Measure] = {
    item.name: item
    for item in (
        Measure(
            "features",
            "2",
            ".measures:features",
            array=True,
            network="features",
            preprocessing="resized by the network: embedded: antialiased bicubic to its input, not quantised, "
            "features brought to length sqrt(D); inception: bilinear to 299 px, antialiased; "
            "inception_tf: the same without antialiasing, as TensorFlow",
        ),
        Measure(
            "patches",
            "2",
            ".measures:patches",
            array=True,
            network="features",
            needs=("crop",),
            settings=("patch.size", "patch.count", "patch.seed"),
            preprocessing="crops as stored, places drawn from patch.seed, prompt id and seed; then as features",
        ),
        Measure(
            "spectrum",
            "1",
            ".measures:spectrum",
            array=True,
            host="always",
            settings=("spectrum.bands",),
            preprocessing="BT.601 luminance, mean removed, Hann window; power averaged in log-spaced rings, dB",
        ),
        Measure(
            "clip_score",
            "1",
            ".measures:clip_score",
            network="clip.model",
            needs=("prompt",),
            preprocessing="open_clip: antialiased bicubic, shorter side to its input, rounded, the middle kept; "
            "embedded: antialiased bicubic to its input",
        ),
        Measure(
            "attributes",
            "1",
            ".measures:attributes",
            network="clip.model",
            needs=("prompt", "world"),
            preprocessing="antialiased bicubic to the scorer's input",
        ),
        Measure(
            "repetition",
            "1",
            ".measures:repetition",
            host="always",
            needs=("period",),
            settings=("repetition.period",),
            preprocessing="BT.601 luminance at stored resolution",
        ),
        Measure(
            "seam",
            "3",
            ".measures:seam",
            host="always",
            needs=("lattice",),
            settings=("seam.period",),
            preprocessing="BT.601 luminance at stored resolution",
        ),
        Measure(
            "clip_features",
            "1",
            ".measures:clip_features",
            array=True,
            network="clip.model",
            preprocessing="as for the CLIP score",
        ),
        Measure(
            "piqe",
            "1",
            ".iqa:piqe",
            host="always",
            preprocessing="BT.601 luminance at stored resolution, its largest value brought to 255, rounded",
        ),
        Measure(
            "niqe",
            "package:pyiqa",
            ".iqa:niqe",
            host="cpu",
            weights=("niqe",),
            needs=("blocks",),
            preprocessing=FULL + "; pyiqa converts to luminance, blocks of 96 px and their half",
        ),
        Measure(
            "musiq",
            "package:pyiqa",
            ".iqa:musiq",
            weights=("musiq",),
            preprocessing=FULL + ", and at 224 and 384 px on the longer side, patches of 32 px",
        ),
        Measure(
            "maniqa",
            "package:pyiqa",
            ".iqa:maniqa",
            weights=("maniqa",),
            preprocessing=FULL + ", 20 crops of 224 px on a grid",
        ),
        Measure("clipiqa", "package:pyiqa", ".iqa:clipiqa", weights=("clip-rn50",), preprocessing=FULL),
        Measure(
            "pickscore",
            "1",
            ".rewards:pickscore",
            weights=("pickscore",),
            needs=("prompt",),
            preprocessing=MIDDLE,
        ),
        Measure(
            "hpsv2",
            "1",
            ".rewards:hpsv2",
            weights=("hps{hps.version}",),
            needs=("prompt",),
            settings=("hps.version",),
            preprocessing="antialiased bicubic, longer side 224 px, rounded, black around",
        ),
        Measure(
            "imagereward",
            "1",
            ".rewards:imagereward",
            weights=("imagereward", "bert-vocabulary"),
            needs=("prompt",),
            preprocessing=MIDDLE + "; prompts cut at 35 tokens",
        ),
        Measure(
            "aesthetic",
            "1",
            ".rewards:aesthetic",
            network="ViT-L-14-quickgelu",
            weights=("aesthetic-{aesthetic.version}",),
            settings=("aesthetic.version",),
            preprocessing=MIDDLE,
        ),
    )
}

METRICS: dict[str, Metric] = {
    item.name: item
    for item in (
        Metric(
            "fid",
            "FID",
            "package:torchmetrics",
            False,
            "",
            "features",
            "fid",
            references=True,
            about="Frechet distance between Gaussians fitted to features; float64; depends on N",
        ),
        Metric(
            "kid",
            "KID",
            "package:torchmetrics",
            False,
            "",
            "features",
            "kid",
            references=True,
            digits=3,
            settings=("kid.subsets", "kid.subset_size", "kid.seed"),
            about="squared MMD with the kernel (x.y/D + 1)^3, mean over subsets; unbiased in N",
        ),
        Metric(
            "patch_fid",
            "patch-FID",
            "package:torchmetrics",
            False,
            "",
            "patches",
            "fid",
            references=True,
            about="FID of crops at the training size of the model, from picture and reference alike",
        ),
        Metric(
            "patch_kid",
            "patch-KID",
            "package:torchmetrics",
            False,
            "",
            "patches",
            "kid",
            references=True,
            digits=3,
            settings=("kid.subsets", "kid.subset_size", "kid.seed"),
            about="KID of the same crops",
        ),
        Metric(
            "clip_score",
            "CLIP",
            "1",
            True,
            "100 cos",
            "clip_score",
            "mean",
            about="100 times the cosine of picture and prompt",
        ),
        Metric(
            "attribute_accuracy",
            "attributes",
            "1",
            True,
            "",
            "attributes",
            "mean",
            digits=3,
            parts=("class", "colour", "pattern", "ground", "sky", "side"),
            about="share of the caption's attributes that the scorer reads from the picture by zero-shot",
        ),
        Metric(
            "piqe",
            "PIQE",
            "1",
            False,
            "",
            "piqe",
            "mean",
            digits=1,
            ranked=False,
            about="blind block-wise quality; read it beside the value of the true renders, low alone is not good",
        ),
        Metric(
            "spectrum_distance",
            "spectrum",
            "1",
            False,
            "dB",
            "spectrum",
            "spectrum",
            references=True,
            about="root mean square difference, over bands, from the mean log spectrum of the references "
            "of the same prompt (of all references where none has that prompt)",
        ),
        Metric(
            "high_frequency",
            "high frequencies",
            "1",
            False,
            "dB",
            "spectrum",
            "high_frequency",
            references=True,
            ranked=False,
            about="power above half the Nyquist frequency, in dB over the references of the same "
            "prompt; 0 is right, less is smooth and more is noisy",
        ),
        Metric(
            "repetition",
            "repetition",
            "1",
            False,
            "",
            "repetition",
            "mean",
            digits=3,
            about="how far the autocorrelation at a shift of the training size stands above that at 3/4 and 5/4",
        ),
        Metric(
            "seam",
            "seams",
            "1",
            False,
            "dB",
            "seam",
            "mean",
            ranked=False,
            about="roughness across lines half a training size apart against that beside them; 0 without seams",
        ),
        Metric(
            "cmmd",
            "CMMD",
            "1",
            False,
            "",
            "clip_features",
            "cmmd",
            references=True,
            digits=3,
            about="1000 times the unbiased squared MMD of unit CLIP features, Gaussian kernel of width 10; for small N",
        ),
        Metric("niqe", "NIQE", "1", False, "", "niqe", "mean", about="distance from the statistics of pristine photos"),
        Metric("musiq", "MUSIQ", "1", True, "", "musiq", "mean", digits=1, about="trained on KonIQ-10k"),
        Metric("maniqa", "MANIQA", "1", True, "", "maniqa", "mean", digits=3, about="trained on KonIQ-10k"),
        Metric(
            "clipiqa",
            "CLIP-IQA",
            "1",
            True,
            "",
            "clipiqa",
            "mean",
            digits=3,
            about="share of the good one in five pairs of prompts, on OpenAI's RN50",
        ),
        Metric(
            "aesthetic", "aesthetic", "1", True, "", "aesthetic", "mean", about="LAION aesthetic predictor, 1 to 10"
        ),
        Metric("pickscore", "PickScore", "1", True, "", "pickscore", "mean", about="v1; 100 cos of picture and prompt"),
        Metric("hpsv2", "HPSv2", "1", True, "100 cos", "hpsv2", "mean", about="100 times the score of its package"),
        Metric("imagereward", "ImageReward", "1", True, "", "imagereward", "mean", about="v1.0"),
    )
}


def version(text: str) -> str:
    """The version of an entry; for `package:<name>` the package and its installed version."""
    if not text.startswith("package:"):
        return text
    from importlib.metadata import version as installed

    return f"{text[8:]} {installed(text[8:])}"


def number(value: float, digits: int) -> str:
    """A value with `digits` decimals; fewer above 1000 and more below 0.1, so that it keeps two digits that count."""
    size = math.floor(math.log10(abs(value))) if value else 0
    if size < -1:
        digits = max(digits, min(8, 1 - size))
    elif size > 2:
        digits = min(digits, 1)
    return f"{value:.{digits}f}"


def title(metric: Metric, config: dict, crop: int | None = None) -> str:
    """The name that goes over a column, with what a reader must know to compare it."""
    if metric.measure == "patches":
        return f"{metric.title} ({config['patch']['count']}×{crop or '?'} px)"
    if metric.name in ("aesthetic", "hpsv2"):
        return f"{metric.title} {config[metric.name.removesuffix('v2')]['version']}"
    return metric.title
