"""A procedural world of captioned scenes that can be rendered at any size.

A scene is one horizon, one light in the sky, and one object standing on textured ground. It is described without
reference to pixels, and each texture octave fades out where it would alias, so that a render at 512 px reduced to
128 px is the render at 128 px, while the larger one holds octaves that the smaller can't show. Numpy only.

Lengths are in units of the picture's height; x is 0 in the middle, y is 0 at the top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega.errors import RequestError, near

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "pattern": ("plain", "striped", "dotted", "checkered"),
    "class": ("ball", "box", "cone", "ring", "star", "cross"),
    "place": ("left", "middle", "right"),
    "ground": ("grass", "sand", "snow", "tiles"),
    "sky": ("clear", "cloudy", "sunset", "night"),
    "side": ("left", "right"),
}
"""Everything a caption says, in the order it says it."""

SCORED = ("class", "colour", "pattern", "ground", "sky", "side")
"""The attributes that count for the attribute accuracy."""

_CAPTION = re.compile(
    r"^a (?P<colour>\w+) (?P<pattern>\w+) (?P<class>\w+) (?:on|in) the (?P<place>\w+) "
    r"standing on (?P<ground>\w+) under a (?P<sky>\w+) sky with light from the (?P<side>\w+)$"
)
_EXAMPLE = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
_WORDS = "a on in the standing under sky with light from".split()
VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys([*_WORDS, *(w for values in ATTRIBUTES.values() for w in values)]))

_RGB = {
    "red": (0.86, 0.13, 0.12), "orange": (0.96, 0.52, 0.08), "yellow": (0.97, 0.86, 0.16), "green": (0.10, 0.56, 0.20),
    "blue": (0.12, 0.30, 0.85), "purple": (0.50, 0.16, 0.68), "pink": (0.98, 0.52, 0.72), "white": (0.96, 0.96, 0.94),
}  # fmt: skip
_GROUND = {  # far, near, contrast of the texture
    "grass": ((0.46, 0.62, 0.30), (0.22, 0.44, 0.13), 0.26),
    "sand": ((0.90, 0.80, 0.58), (0.80, 0.66, 0.40), 0.16),
    "snow": ((0.88, 0.92, 0.98), (0.95, 0.97, 1.00), 0.12),
    "tiles": ((0.62, 0.60, 0.60), (0.55, 0.53, 0.54), 0.10),
}
_SKY = {  # top, horizon
    "clear": ((0.22, 0.50, 0.90), (0.68, 0.86, 0.98)),
    "cloudy": ((0.50, 0.60, 0.72), (0.80, 0.84, 0.88)),
    "sunset": ((0.34, 0.22, 0.50), (0.99, 0.58, 0.26)),
    "night": ((0.02, 0.03, 0.12), (0.12, 0.16, 0.34)),
}
_AMBIENT = {
    "clear": (1.0, 1.0, 1.0),
    "cloudy": (0.88, 0.90, 0.94),
    "sunset": (0.96, 0.80, 0.70),
    "night": (0.46, 0.50, 0.68),
}


@dataclass(frozen=True)
class Scene:
    """One scene: what its caption says, and what the caption leaves free."""

    said: dict[str, str]
    horizon: float  # fraction of the height, from the top
    radius: float  # half the object's size, in shorter sides
    centre: float  # fraction of the width
    stand: float  # where it stands, fraction of the height: always on the ground
    light: tuple[float, float]  # fraction of the width, fraction of the sky's height
    turn: float  # radians: direction of stripes and checks
    tint: tuple[float, float, float]  # offset of the object's colour
    seed: int  # textures


def sample_scene(rng: np.random.Generator, said: dict[str, str] | None = None) -> Scene:
    """A random scene; `said` fixes what its caption must say."""
    chosen = {name: str(values[rng.integers(len(values))]) for name, values in ATTRIBUTES.items()} | (said or {})
    horizon, radius = rng.uniform(0.34, 0.64), rng.uniform(0.15, 0.27)
    aside = rng.uniform(0.18, 0.32)
    shift = {"left": -aside, "middle": rng.uniform(-0.07, 0.07), "right": aside}[chosen["place"]]
    light = rng.uniform(0.08, 0.26)
    return Scene(
        said=chosen,
        horizon=float(horizon),
        radius=float(radius),
        centre=float(np.clip(0.5 + shift, radius + 0.01, 0.99 - radius)),
        stand=float(rng.uniform(max(horizon + 0.08, 2 * radius + 0.03), 0.93)),
        light=(float(light if chosen["side"] == "left" else 1 - light), float(rng.uniform(0.22, 0.62))),
        turn=float(rng.uniform(0.45, 0.75)),
        tint=tuple(float(v) for v in rng.uniform(-0.03, 0.03, 3)),
        seed=int(rng.integers(2**31)),
    )


@lru_cache
def object_chance(place: str, height: int, width: int, scenes: int = 400) -> np.ndarray:
    """How often a cell of a height x width grid lies in the square around the object, over scenes that say `place`."""
    rng, aspect = np.random.default_rng(0), width / height
    x, y = (np.arange(width) + 0.5) / height - aspect / 2, (np.arange(height) + 0.5) / height
    total = np.zeros((height, width), np.float32)
    for _ in range(scenes):
        cx, cy, r = _stand(sample_scene(rng, {"place": place}), aspect)
        total += (np.abs(y - cy) < r)[:, None] & (np.abs(x - cx) < r)
    return total / scenes


def _stand(scene: Scene, aspect: float) -> tuple[float, float, float]:
    """Middle (x, y) and half size of the object."""
    r = scene.radius * min(1.0, aspect)
    return (scene.centre - 0.5) * aspect, scene.stand - r, r


def caption(scene: Scene) -> str:
    """The sentence that describes a scene; `parse_caption` reads it back."""
    said = scene.said
    where = f"in the {said['place']}" if said["place"] == "middle" else f"on the {said['place']}"
    return (
        f"a {said['colour']} {said['pattern']} {said['class']} {where} standing on {said['ground']} "
        f"under a {said['sky']} sky with light from the {said['side']}"
    )


def attributes(scene: Scene) -> dict[str, str]:
    """What the caption of a scene says, by attribute name."""
    return dict(scene.said)


def parse_caption(text: str) -> dict[str, str]:
    """Attributes of a caption. Raises RequestError for a sentence that this world can't draw."""
    match = _CAPTION.match(" ".join(text.lower().replace(",", " ").split()).rstrip("."))
    if not match:
        raise RequestError(f"the embedded model can't draw {text!r}; write it like: {_EXAMPLE}")
    for name, value in match.groupdict().items():
        if value not in ATTRIBUTES[name]:
            raise RequestError(
                f"the embedded model has no {name} {value!r}{near(value, ATTRIBUTES[name])}; "
                f"it knows {', '.join(ATTRIBUTES[name])}"
            )
    return match.groupdict()


def scene_for(text: str, seed: int) -> Scene:
    """A scene of that caption, with everything the caption leaves free drawn from `seed`."""
    return sample_scene(np.random.default_rng([seed, 2]), parse_caption(text))


def prompts(seed: int, n: int) -> list[str]:
    """`n` random captions; the first k of them are the same for every n >= k."""
    rng = np.random.default_rng([seed, 1])
    return [caption(sample_scene(rng)) for _ in range(n)]


_TABLE = np.random.default_rng(20260522).uniform(-1, 1, (256, 256)).astype(np.float32)


def _noise(
    u: np.ndarray, v: np.ndarray, footprint: np.ndarray | float, octaves: int, seed: int, roughness: float
) -> np.ndarray:
    """Fractal value noise at (u, v), about -1..1; an octave fades where its cell nears the pixel's footprint."""
    total = np.zeros_like(u)
    gain, frequency = 1.0, 1.0
    offset = np.random.default_rng(seed).integers(0, 256, (octaves, 2))
    footprint = np.asarray(footprint, np.float32)
    for k in range(octaves):
        weight = np.clip((0.62 - frequency * footprint) * 2.6, 0, 1)
        if not weight.any():
            break
        x, y = u * np.float32(frequency), v * np.float32(frequency)
        xf, yf = np.floor(x), np.floor(y)
        i = (xf.astype(np.int32) + int(offset[k, 0])) & 255
        j = (yf.astype(np.int32) + int(offset[k, 1])) & 255
        a, b = x - xf, y - yf
        a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
        i1, j1 = (i + 1) & 255, (j + 1) & 255
        top, low = _TABLE[j, i], _TABLE[j1, i]
        top = top + a * (_TABLE[j, i1] - top)
        low = low + a * (_TABLE[j1, i1] - low)
        total += np.float32(gain) * weight * (top + b * (low - top))
        gain *= roughness
        frequency *= 2.03
    return total


def _wave(x: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """Square wave of period 1 between -1 and 1, with edges as soft as a pixel."""
    return np.clip(np.sin(2 * np.pi * x) / (2 * np.pi * np.maximum(footprint, 1e-6)), -1, 1)


def _mix(a, b, t: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a + (b - a) * t[..., None]


def _sky(scene: Scene, x: np.ndarray, y: np.ndarray, px: float, aspect: float) -> np.ndarray:
    kind = scene.said["sky"]
    height = np.clip(y / scene.horizon, 0, 1)
    picture = _mix(*_SKY[kind], height**1.4)
    sx, sy = (scene.light[0] - 0.5) * aspect, scene.light[1] * scene.horizon
    distance = np.hypot(x - sx, y - sy)
    glow = np.exp(-((distance / 0.22) ** 2)) * {"clear": 0.55, "cloudy": 0.35, "sunset": 0.6, "night": 0.22}[kind]
    picture = _mix(picture, (0.80, 0.84, 1.0) if kind == "night" else (1.0, 0.93, 0.72), glow)
    if kind == "night":  # stars: one in some cells, a disc of fixed size with the light its pixels can hold
        cell = 0.055
        i, j = np.floor(x / cell), np.floor(y / cell)
        key = (i.astype(np.int32) * 73 + j.astype(np.int32) * 151 + scene.seed) & 255
        cx, cy = (0.5 + 0.3 * _TABLE[key, 3]) * cell, (0.5 + 0.3 * _TABLE[key, 9]) * cell
        star = np.hypot(x - i * cell - cx, y - j * cell - cy)
        size = 0.0035
        spot = np.clip(0.5 + (size - star) / max(px, size), 0, 1) * min(1.0, (2 * size / px) ** 2)
        picture = _mix(picture, (1.0, 1.0, 0.95), spot * (_TABLE[key, 17] > 0.1) * 0.9)
    disc = np.clip(0.5 + (0.055 - distance) / px, 0, 1)
    picture = _mix(picture, (0.93, 0.94, 0.88) if kind == "night" else (1.0, 0.97, 0.80), disc)
    if kind in ("cloudy", "sunset"):
        cloud = _noise(x * 3.2, y * 6.5, 6.5 * px, 9, scene.seed + 1, 0.55)
        cover = np.clip((cloud + (0.10 if kind == "cloudy" else -0.25)) * 1.5, 0, 0.92)
        picture = _mix(picture, (0.97, 0.97, 0.98) if kind == "cloudy" else (0.80, 0.40, 0.46), cover)
    return picture


def _ground(scene: Scene, x: np.ndarray, y: np.ndarray, px: float) -> np.ndarray:
    kind = scene.said["ground"]
    far, close, contrast = _GROUND[kind]
    drop = np.maximum(y - scene.horizon, px * 0.5)
    depth = 0.35 / drop
    u, v = x * depth, depth * 1.0
    footprint = depth * px * np.maximum(1.0, depth / 0.35 * 0.7)
    picture = _mix(far, close, np.clip(drop / (1 - scene.horizon), 0, 1) ** 0.6)
    if kind == "tiles":
        board = _wave(u * 0.9, footprint * 0.9) * _wave(v * 0.9 + 0.25, footprint * 0.9)
        picture = _mix(picture, (0.24, 0.25, 0.32), 0.5 - 0.5 * board)
    if kind == "sand":
        bend = _noise(u, v, footprint, 3, scene.seed + 5, 0.5)
        picture = picture * (1 + 0.10 * (_wave(v * 1.6 + 0.5 * bend, footprint * 1.6 + 0.15)))[..., None]
    grain = _noise(u * 5.0, v * 5.0, footprint * 5.0, 9, scene.seed + 2, 0.72)
    fade = np.clip(drop / 0.10, 0.25, 1)
    return picture * (1 + contrast * fade * grain)[..., None]


def _polygon(x: np.ndarray, y: np.ndarray, points: list[tuple[float, float]]) -> np.ndarray:
    """Signed distance to a polygon (negative inside)."""
    best, inside = np.full_like(x, np.inf), np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        best = np.minimum(best, (wx - ex * t) ** 2 + (wy - ey * t) ** 2)
        inside ^= ((ay > y) != (by > y)) & (wx < ex * (wy) / (ey if ey else 1e-9))
    return np.where(inside, -1, 1) * np.sqrt(best)


def _shape(kind: str, x: np.ndarray, y: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance and lighting of an object of half size 1 around 0; `side` is -1 for light from the left."""
    lit = 0.5 + 0.5 * np.clip(0.75 * side * x - 0.55 * y, -1, 1)
    if kind == "ball":
        z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
        return np.hypot(x, y) - 1, np.clip(0.58 * side * x - 0.55 * y + 0.6 * z, 0, 1)
    if kind == "box":
        slant = 0.36
        outline = [(-1, 1), (-1, -0.45), (-1 + slant, -0.95), (1, -0.95), (1, 0.5), (1 - slant, 1)]
        front = (x < 1 - slant) & (y > -0.45)
        roof = (y <= -0.45) & (x < 1 - slant + (-0.45 - y) * slant / 0.5)
        wall = 0.80 if side > 0 else 0.28
        return _polygon(x, y, outline), np.where(front, 0.9 - wall * 0.45, np.where(roof, 1.0, wall))
    if kind == "cone":
        d = _polygon(x, y, [(-0.86, 0.8), (0, -1.0), (0.86, 0.8)])
        base = (np.hypot(x / 0.86, (y - 0.8) / 0.2) - 1) * 0.2
        span = np.clip(0.48 * (y + 1) + 0.05, 0.05, 1)
        return np.minimum(d, base), np.clip(0.5 + 0.55 * side * np.clip(x / span, -1, 1), 0, 1)
    if kind == "ring":
        r = np.hypot(x, y)
        d = np.abs(r - 0.70) - 0.30
        tube = np.sqrt(np.clip(1 - ((r - 0.70) / 0.30) ** 2, 0, 1))
        radial = np.clip((r - 0.70) / 0.30, -1, 1) / np.maximum(r, 1e-3)
        return d, np.clip(radial * (0.5 * side * x - 0.5 * y) + 0.55 * tube + 0.1, 0, 1)
    if kind == "star":
        angle = np.arange(10) * np.pi / 5
        r = np.where(np.arange(10) % 2, 0.46, 1.08)
        d = _polygon(
            x, y - 0.06, [(float(a * np.sin(t)), float(-a * np.cos(t))) for a, t in zip(r, angle, strict=True)]
        )
        return d, np.clip(lit + 0.18 * np.sign(np.sin(5 * np.arctan2(x, -y + 0.06))) * side, 0, 1)
    arm = 0.36
    up = np.maximum(np.abs(x) - arm, np.abs(y) - 1)
    across = np.maximum(np.abs(x) - 1, np.abs(y) - arm)
    return np.minimum(up, across), np.clip(lit + 0.1, 0, 1)


def _object(scene: Scene, picture: np.ndarray, x: np.ndarray, y: np.ndarray, px: float, aspect: float) -> np.ndarray:
    said, side = scene.said, 1.0 if scene.said["side"] == "right" else -1.0
    cx, cy, r = _stand(scene, aspect)
    foot = cy + r
    shade = np.hypot((x - cx + side * 0.55 * r) / (1.35 * r), (y - foot) / (0.26 * r))
    shadow = 0.55 * np.clip((1.15 - shade) / (0.30 + px / (0.26 * r)), 0, 1) * (y > scene.horizon)
    picture = picture * (1 - shadow * {"night": 0.6, "cloudy": 0.7}.get(said["sky"], 1.0))[..., None]
    rows = slice(max(int((cy - 1.2 * r) / px), 0), max(int((cy + 1.2 * r) / px) + 2, 0))
    left = int((cx - 1.2 * r + aspect / 2) / px)
    cols = slice(max(left, 0), max(int((cx + 1.2 * r + aspect / 2) / px) + 2, 0))
    x, y, p = (x[rows, cols] - cx) / r, (y[rows, cols] - cy) / r, px / r
    if not x.size:
        return picture
    distance, light = _shape(said["class"], x, y, side)
    colour = np.clip(np.asarray(_RGB[said["colour"]]) + scene.tint, 0, 1).astype(np.float32)
    second = (
        np.asarray((0.16, 0.16, 0.2), np.float32)
        if said["colour"] in ("white", "yellow", "pink")
        else np.asarray((0.97, 0.95, 0.88))
    )
    a, b = np.cos(scene.turn), np.sin(scene.turn)
    u, v = a * x + b * y, -b * x + a * y
    if said["pattern"] == "striped":
        mark = 0.5 + 0.5 * _wave(u * 1.5, p * 1.5)
    elif said["pattern"] == "checkered":
        mark = 0.5 + 0.5 * _wave(u * 1.05 + 0.25, p * 1.05) * _wave(v * 1.05 + 0.25, p * 1.05)
    elif said["pattern"] == "dotted":
        i, j = u * 1.9 - np.round(u * 1.9), v * 1.9 - np.round(v * 1.9)
        mark = np.clip(0.5 + (0.29 - np.hypot(i, j)) / (1.9 * p), 0, 1)
    else:
        mark = np.zeros_like(x)
    paint = _mix(colour, second, mark)
    grain = _noise(x * 6, y * 6, 6 * p, 8, scene.seed + 3, 0.7)
    paint = paint * ((0.42 + 0.72 * light) * (1 + 0.07 * grain))[..., None]
    edge = np.clip(0.5 + (distance + 0.045) / p, 0, 1)
    paint = paint * (1 - 0.55 * edge)[..., None]
    cover = np.clip(0.5 - distance / p, 0, 1)
    patch = picture[rows, cols]
    picture[rows, cols] = patch + (paint - patch) * cover[..., None]
    return picture


def render(scene: Scene, width: int, height: int) -> np.ndarray:
    """The scene as uint8 [height, width, 3], anti-aliased."""
    px, aspect = 1.0 / height, width / height
    xs = ((np.arange(width, dtype=np.float32) + 0.5) * px - aspect / 2).astype(np.float32)
    ys = ((np.arange(height, dtype=np.float32) + 0.5) * px).astype(np.float32)
    x, y = np.meshgrid(xs, ys)
    split = min(max(int(np.ceil(scene.horizon * height + 1)), 1), height - 1)
    start = max(split - 3, 0)
    picture = np.empty((height, width, 3), np.float32)
    picture[:split] = _sky(scene, x[:split], y[:split], px, aspect)
    ground = _ground(scene, x[start:], y[start:], px)
    cover = np.clip(0.5 + (y[start:] - scene.horizon) / px, 0, 1)[..., None]
    above = np.zeros_like(ground)
    above[: split - start] = picture[start:split]
    picture[start:] = above + (ground - above) * cover
    picture *= np.asarray((1, 1, 1) if scene.said["sky"] == "clear" else _ambient(scene, y), np.float32)
    picture = _object(scene, picture, x, y, px, aspect)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _ambient(scene: Scene, y: np.ndarray) -> np.ndarray:
    """Light that falls on the ground, not on the sky: [H, W, 3]."""
    below = np.clip(0.5 + (y - scene.horizon) * 50, 0, 1)
    return _mix((1.0, 1.0, 1.0), _AMBIENT[scene.said["sky"]], below)
