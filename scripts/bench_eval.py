"""Measure the time of scoring with and without PIQE: `python scripts/bench_eval.py [count=195 size=4096 workers=N]`.

It writes renders of the embedded world. Then it alternates, in one process and on the same images, between features
only (the embedded scorer on images and crops) and features with PIQE. It prints the seconds per image of both, their
ratio, that of the first to the time in its network alone (the rest is decoding), and the peak memory.
`count` and `size` make a small version; rounds=N repeats it and prints medians. features=inception takes the network
of published FIDs in its real size, with random weights, instead of the embedded scorer. out=results/benchmarks puts the
result into scoring.json there, in place of one of the same network, size and number of images, and writes scoring.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ALONE = ["features", "patches"]
NUMBERS = {"count": 195, "size": 4096, "workers": os.cpu_count() or 1, "rounds": 1, "distinct": 4}
KEYS = NUMBERS | {"device": "auto", "features": "embedded", "out": None}
FEATURES = ("embedded", "inception")
TARGET = 1.15


def main(words: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    from eval.options import split_words, usable_device
    from sega.errors import RequestError

    if any(word in ("-h", "--help", "help") for word in words):
        print(__doc__)
        return 0
    try:
        found, rest = split_words(words, KEYS)
        if rest:
            raise RequestError(f"unknown option {rest[0]}; known are {', '.join(KEYS)}")
        if found["features"] not in FEATURES:
            raise RequestError(f"features={found['features']} must be one of {', '.join(FEATURES)}")
        options = found | {key: int(found[key]) for key in NUMBERS} | {"device": usable_device(found["device"])}
    except (RequestError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, random_inception(Path(folder), options["features"]):
        found = measure(image_files(Path(folder), options), options)
    print(json.dumps(found, indent=1))
    if options["out"]:
        keep(found, words, options, Path(options["out"]))
    return 0


def keep(found: dict[str, Any], words: list[str], options: dict[str, Any], folder: Path) -> None:
    """Add a result to the record in a folder, and write its page."""
    from scripts.bench.common import head

    path = folder / "scoring.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    own = [word for word in words if not word.startswith("out=")]
    new = head("bench_eval.py", own, options["device"], "float32") | found
    key = itemgetter("network", "size", "images", "workers")
    rows = sorted([*(row for row in rows if key(row) != key(new)), new], key=key)
    path.write_text(json.dumps(rows, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# The time of scoring",
        "",
        "Features of images and of four crops of each; `processes` decode. The ratio to the network is the time of all "
        "over that in the network; that of PIQE is with it over without.",
        "",
        "| network | px | images | processes | s an image | of its network alone | with PIQE | device | by | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds, commit = row["seconds an image"]["features"], f"{(row['commit'] or 'not known')[:7]}"
        lines.append(
            f"| {row['network']} | {row['size']} | {row['images']} | {row['workers']} | {seconds} | "
            f"{row['features to their network alone']:.2f} | {row['ratio']:.2f} | {row['device']} | "
            f"`{row['command']}` | {commit}{' with changes' if row['dirty'] else ''} |"
        )
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def random_inception(folder: Path, features: str) -> Iterator[None]:
    """For features=inception, put random weights in a folder and let the evaluation take them for the real ones."""
    if features != "inception":
        yield
        return
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from eval.metrics.learned import weights

    known = weights.WEIGHTS["inception"]
    with patch.object(torch, "load", return_value={}), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(folder))  # which is not read
    torch.save(module.state_dict(), folder / known.file)
    own = weights.WEIGHTS | {"inception": replace(known, sha256="")}  # a random file can't have the published checksum
    with patch.object(weights, "WEIGHTS", own):
        yield


def image_files(folder: Path, options: dict) -> list[Path]:
    """Write `count` files, `distinct` of which differ (renders take longer than scoring)."""
    from PIL import Image

    from sega.embedded import world

    paths = []
    for k in range(options["count"]):
        path = folder / f"{k:04d}.png"
        if k < options["distinct"]:
            scene = world.scene_for(world.prompts(0, k + 1)[k], 0)
            Image.fromarray(world.render(scene, options["size"], options["size"])).save(path)
        else:
            os.link(paths[k % options["distinct"]], path)
        paths.append(path)
    return paths


def measure(paths: list[Path], options: dict) -> dict:
    """Return the seconds per image of both, their ratio and the memory peaks."""
    from eval.protocols import load_protocol
    from eval.records import images
    from eval.scoring.collect import Item, collect, resolve

    words = [f"{key}={options[key]}" for key in ("workers", "device", "features")]
    config = load_protocol("embedded", [*words, f"weights={paths[0].parent}"])
    seconds: dict[str, list[float]] = {"features": [], "features and PIQE": []}
    rest: list[float] = []
    for turn in range(options["rounds"] + 1):  # the first starts workers and loads networks
        for title, names in zip(seconds, (ALONE, [*ALONE, "piqe"]), strict=True):
            context = resolve(names, config, 128).context()
            context.config = config
            some = paths if turn else paths[: max(2, 2 * options["workers"])]
            items = [Item(partial(images.read, p), (p.name, 0), None, 2**26) for p in some]
            start = time.perf_counter()
            with networks() as spent:
                values, damaged = collect(items, [names] * len(items), context)
            if turn:
                seconds[title].append((time.perf_counter() - start) / len(paths))
                if names is ALONE:
                    rest.append(seconds[title][-1] * len(paths) / sum(spent))
            assert not damaged and all(len(v) == len(names) for v in values)
    alone, both = (median(times) for times in seconds.values())
    return {
        "images": len(paths),
        "size": options["size"],
        "workers": options["workers"],
        "device": options["device"],
        "network": options["features"],
        "seconds an image": {title: round(median(times), 4) for title, times in seconds.items()},
        "ratio": round(both / alone, 3),
        "features to their network alone": round(median(rest), 3),
        "target at 195 images of 4096 px": TARGET,
        "peak memory MB": {"this process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)},
    }


@contextlib.contextmanager
def networks() -> Iterator[list[float]]:
    """Collect the seconds that measures spend on each batch in this process, which is where networks run."""
    from eval.metrics.types import Measure

    spent: list[float] = []
    function = Measure.function

    def timed(measure: Measure, place: str = "") -> Callable:
        made = function(measure, place)

        def of(context: Any) -> Callable:
            run = made(context)

            def clocked(batch: Any) -> Any:
                begun = time.perf_counter()
                values = run(batch)
                spent.append(time.perf_counter() - begun)
                return values

            return clocked

        return of

    with patch.object(Measure, "function", timed):
        yield spent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
