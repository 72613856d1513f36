"""Colours, families and panels of the figures of scores."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from eval.figures import scores
from eval.figures.legend import Legend
from eval.figures.palette import COLOURS, GREY, MARKERS, family, groups, styles
from eval.records.rows import RENDERS, Row, label
from eval.records.runs import Run
from sega.methods.registry import METHODS

SEES = {  # Machado, Oliveira and Fernandes 2009, full severity
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colour: str, sees: str) -> np.ndarray:
    """CIELAB of a colour as someone sees it."""
    coded = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(SEES[sees]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (
        np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in to_xyz @ linear / np.array([0.9505, 1, 1.089])
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sees", SEES)
def test_colours_differ_for_every_reader(sees):
    """By at least 15 in CIELAB, where 2.3 is just noticeable; the palette before this one had pairs at 3."""
    seen = {colour: lab(colour, sees) for colour in (*COLOURS, "#000000", GREY)}
    assert min(np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(seen, 2)) > 15
    assert len(set(MARKERS)) == len(COLOURS)


def row(method: str, size=(384, 384), values=(1.0, 0.5, 2.0), name: str = "fid", cost: float = 20) -> Row:
    run = Run(Path("x"), "tiny", method, *size, f"hash{method}{size}", {"method": {"name": method}}, {}, [])
    value, low, high = values
    cell = {"value": value, "low": low, "high": high, "n": 8, "title": name.upper()}
    block = {"n": 8, "metrics": {name: cell}, "damaged": [], "cost": {"calls": cost}, "native": 192}
    return Row(run, "embedded", block)


def labelled(rows: list[Row]) -> list[Row]:
    label(rows)
    return rows


def test_families_are_those_of_the_registry():
    assert [family(name) for name in ("sega", "window", "hiflow", "of-another-package")] == [
        "direct",
        "patterns",
        "staged",
        "other",
    ]
    assert {family(name) for name in METHODS} == {"direct", "patterns", "staged"}


def test_few_methods_share_a_panel_and_many_are_split_by_family():
    few = labelled([row(name) for name in ("vanilla", "ntk", "sega", "hiflow", "renders")])
    assert groups(few) == {"": ["ntk", "sega", "hiflow"]}
    many = labelled([row(name) for name in METHODS])
    found = groups(many)
    assert list(found) == ["direct", "patterns", "staged"] and "vanilla" not in found["direct"]
    assert sorted(name for labels in found.values() for name in labels) == sorted(set(METHODS) - {"vanilla"})
    for labels in found.values():
        assert len({styles(many)[name]["color"] for name in labels}) == len(labels)
        assert len({styles(many)[name]["marker"] for name in labels}) == len(labels)
    crowd = labelled([row(f"other{k}") for k in range(25)])
    assert [len(labels) for labels in groups(crowd).values()] == [9, 9, 7]


def panels(figure) -> list:
    return [panel for panel in figure.subfigs[1].axes if panel.get_visible()]


def test_intervals_are_drawn_from_their_lower_to_their_upper_end():
    """An interval that is not symmetric about its value stays so, and no axis goes below 0 without need."""
    rows = labelled([row("vanilla", values=(1.0, 0.0, 6.0)), row("ntk", values=(2.0, 1.5, 2.2))])
    for figure in (scores.against_size(rows, ""), scores.against_cost(rows, "", "calls")):
        (panel,) = panels(figure)
        ends = sorted(
            tuple(segment[:, 1])
            for item in panel.collections
            for segment in item.get_paths()
            for segment in [segment.vertices]
            if len(segment) == 2
        )
        assert ends == [(0.0, 6.0), (1.5, 2.2)]
        assert -0.2 < panel.get_ylim()[0] <= 0
    below = labelled([row("ntk", values=(0.1, -1.0, 1.0))])
    assert panels(scores.against_size(below, ""))[0].get_ylim()[0] < -1


def test_lines_join_sizes_of_one_shape_and_square_ones_are_first():
    sizes = [(192, 192), (288, 512), (384, 384), (512, 288), (768, 768)]
    (panel,) = panels(scores.against_size(labelled([row("ntk", size) for size in sizes]), ""))
    assert sorted(len(line.get_xdata()) for line in panel.lines) == [1, 1, 3]
    ticks = [tick.get_text().split("\n")[0] for tick in panel.get_xticklabels()]
    assert ticks == ["192x192", "384x384", "768x768", "288x512", "512x288"]


def test_equal_costs_are_side_by_side_and_others_where_they_are():
    rows = labelled([row("ntk"), row("pi"), row("sega"), row("hiflow", cost=60)])
    (panel,) = panels(scores.against_cost(rows, "", "calls"))
    x = sorted(
        float(item.get_offsets()[0][0])
        for item in panel.collections
        if len(item.get_offsets()) and item.get_paths()[0].vertices.shape[0] > 2
    )
    assert x == pytest.approx([20 / 1.04, 20, 20 * 1.04, 60])


def test_the_legend_is_above_the_panels_and_every_label_fits():
    rows = labelled([row(name) for name in METHODS])
    rows[3].label = "sega (amplitude=0, source=latent, variant=paper, and more)"
    rows[4].label = "_mine $x^2$"
    figure = scores.against_size(rows, "a caption")
    canvas = figure.canvas
    figure.draw(canvas.get_renderer() if hasattr(canvas, "get_renderer") else figure._get_renderer())
    top = figure.subfigs[0]
    boxes = [legend.get_window_extent() for legend in top.legends]
    assert len(boxes) == 4 and all(top.bbox.y0 - 2 <= box.y0 and box.y1 <= top.bbox.y1 + 2 for box in boxes)
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    assert boxes[2].x1 <= figure.bbox.x1 + 1
    told = " ".join(text.get_text() for legend in top.legends for text in legend.get_texts())
    assert r"_mine \$x^2\$" in told and Legend.of(rows, 7.2, 6.5).height < 2
    assert [panel.get_title(loc="left") for panel in panels(figure)] == ["FID, N=8 (lower is better)", "", ""]


def test_true_renders_and_vanilla_are_in_every_panel():
    rows = labelled([row(name) for name in (*METHODS, "renders")])
    for panel in panels(scores.against_size(rows, "")):
        colours = [line.get_color() for line in panel.lines]
        assert colours.count(styles(rows)[RENDERS]["color"]) == 1 and colours.count("#000000") == 1
        assert colours.count(GREY) == len(METHODS) - 1 - len(set(colours) & set(COLOURS))
