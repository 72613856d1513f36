"""Differences between a run and the paper of its protocol, and what the paper does not state."""

from __future__ import annotations

from typing import Any

from ..metrics.types import option
from ..records.runs import Run
from ..records.schema import ScoreBlock

UNKNOWN = "unknown"
NOT_FACTS = ("title", "added", "missing", "ours", "notes")


def departures(run: Run, config: dict[str, Any], prompts: int) -> list[str]:
    """Return one phrase for each difference between the run and the paper. [] for a protocol without a paper."""
    paper = config.get("paper")
    if not paper:
        return []
    found = []
    if paper["count"] != UNKNOWN and prompts not in paper["count"]:
        found.append(f"{prompts} prompts and not {_either(paper['count'])}")
    size = f"{run.width}x{run.height}" if run.width else "several sizes"
    if paper["sizes"] != UNKNOWN and size not in paper["sizes"]:
        found.append(f"{size} and not {_either(paper['sizes'])}")
    for key in ("steps", "guidance"):
        ours = run.identity.get(key)
        if paper[key] != UNKNOWN and ours is not None and float(ours) != float(paper[key]):
            found.append(f"{key} {ours:g} and not {paper[key]:g}")
    model = str((run.identity.get("model") or {}).get("id", ""))
    if paper["models"] != UNKNOWN and not any(name.lower() in model.lower() for name in paper["models"]):
        found.append(f"{model or 'an unnamed model'} and not {_either(paper['models'])}")
    return found


def unstated(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the paper does not state: "unknown" for a fact, the value used here for an option."""
    paper = config.get("paper")
    if not paper:
        return {}
    facts = {key: UNKNOWN for key, value in paper.items() if key not in NOT_FACTS and value == UNKNOWN}
    return facts | {key: option(config, key) for key in paper["ours"]}


def lines(block: ScoreBlock) -> list[str]:
    """Return notes on the protocol of a scored run, one line each."""
    told = block.get("protocol") or {}
    title = (block["settings"].get("paper") or {}).get("title", "")
    found = [f"{title}: this run has {what}" for what in told.get("departures", [])]
    if told.get("unstated"):
        words = ", ".join(k if v == UNKNOWN else f"{k} (here {v})" for k, v in told["unstated"].items())
        found.append(f"{title} does not state {words}")
    return found


def _either(values: list[Any]) -> str:
    return " or ".join(map(str, values))
