"""One row per method: what the tests common to all methods need to know of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`quick` are overrides that keep a test short; `same_shift` those that give the stock time shift."""

    name: str
    quick: tuple[str, ...] = ()
    same_shift: tuple[str, ...] = ()
    content: bool = False  # depends on the latent
    staged: bool = False  # runs through sega.engine.sampling.generate only
    positions: bool = True  # of its own beyond the training size
    attention: bool = False  # of its own


METHODS = [
    Row("vanilla", positions=False),
    Row("pi"),
    Row("ntk"),
    Row("yarn"),
    Row("dype"),
    Row("sigma"),
    Row("tasr"),
    Row("vision_yarn"),
    Row("sega", content=True),
    Row("mix", positions=False),
    Row("ultraimage", attention=True),
    Row("window", positions=False, attention=True),
    Row("resdit", attention=True),
    Row("area", positions=False, attention=True),
    Row("upsample", ("base_steps=2",), staged=True, positions=False),
    Row("imax", ("base_steps=2", "steps=2"), ("schedule=pinned",), staged=True),
    Row("hiflow", ("base_steps=2", "steps=[2]", "guidance=[1.0]"), staged=True),
    Row("scalediff", ("base_steps=2",), staged=True, positions=False),
    Row("pixelrush", ("base_steps=2",), staged=True, positions=False),
    Row("freescale", ("base_steps=2",), staged=True, positions=False),
    Row("hrdit", ("base_steps=2", "steps=[2]", "guidance=[1.0]"), staged=True),
]
