"""Sections of the answer page made by hand: methods with costs, and verdicts on every two of them."""

from itertools import combinations

from eval.answer.types import Method, Quality, Section

FID = Quality("fid", "FID", "", False, 2)
CLIP = Quality("clip_score", "CLIP", "", True, 2)


def method(label: str, calls: float | None = 20.0, fid: float = 5.0, clip: float = 30.0, **other) -> Method:
    cost = {"seconds": calls, "least": calls, "most": calls, "raw": calls, "calls": calls, "memory": 900.0}
    scores = {
        name: {"value": value, "low": value - 1, "high": value + 1, "n": 12}
        for name, value in (("fid", fid), ("clip_score", clip))
    }
    about = {"n": 12, "run": "0123456789ab", "commit": "c" * 40, "dirty": False, "command": "python run.py"}
    return Method(label, label.split()[0], scores=scores, cost=cost, **(about | other))


def section(methods: list[Method], better: set[tuple[str, str, str]] = frozenset(), n: int = 12, **other) -> Section:
    """`better` are (label, label of the worse one, metric); other verdicts are "". Below six images there are none."""
    verdicts = {}
    for (i, a), (j, b) in combinations(enumerate(methods), 2):
        if a.drawn and b.drawn:
            by = {}
            for name in ("fid", "clip_score") if n >= 6 else ():
                won, lost = (a.label, b.label, name) in better, (b.label, a.label, name) in better
                by[name] = "better" if won else "worse" if lost else ""
            verdicts[f"{i} {j}"] = {"n": n, "equal": False, "by": by}
    about = {"model": "tiny", "protocol": "plain", "size": "384x384", "store": "", "scale": 2.0, "level": 0.95}
    about |= {"is_embedded": False, "least": 6, "busy": False, "cost": "calls", "prompt": "a ball"}
    return Section(**(about | {"quality": (FID, CLIP), "methods": tuple(methods), "verdicts": verdicts} | other))
