"""A small plan of a test, and the entries of a search."""

from pathlib import Path

import yaml

PLAN = {
    "captions": {"seed": 5, "count": 6, "apart": [[11, 32]]},
    "seeds": [5],
    "common": ["steps=2", "model.dtype=float32"],
    "metrics": ["fid", "attribute_accuracy", "high_frequency"],
    "entries": {"field": ["vanilla", "yarn"], "core": {"even": "method=sega method.amplitude=0"}},
    "questions": {
        "frequencies": {"title": "What do they add?", "about": "", "pairs": [["yarn", "vanilla"], ["even", "vanilla"]]}
    },
    "places": {
        "wide": {"model": "tiny", "res": "256x192", "groups": ["field", "core", "winners"]},
        "elsewhere": {"model": "absent", "res": "256x192", "groups": ["field"]},
    },
    "rounds": [["wide", 2], ["elsewhere", 2], ["wide", 4]],
}
WINNERS = {
    "search": "direct",
    "fixed": {"model": "tiny", "prompts.count": 16, "seeds": 7, "res": "2x", "model.dtype": "float32", "method": "ntk"},
    "trials": 9,
    "winners": [
        {"label": "direct-9", "rank": 1.5, "overrides": ["method.schedule=stock"]},
        {"label": "direct-7", "rank": 1.6, "overrides": ["method=dype", "method.base=ntk"]},
    ],
}


def written(folder: Path, name: str, content) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
