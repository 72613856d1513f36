"""The page and the verdicts of what switches cost, and the jobs behind them, on numbers made up here."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import bench_switches, switches_page
from scripts.bench.switch_rows import Measured, psnr
from scripts.bench.switches import Job, jobs, runs

OPTIONS = {"device": "cpu", "dtype": "bfloat16", "steps": 8, "count": 2, "store": Path("store"), "switches": None}


def measured(switch, fid=(0.0, -1.0, 1.0), accuracy=(0.0, -0.1, 0.1), images=8, psnr=(30.0, None, 40.0), share=0.45):
    values = {"attribute_accuracy": 0.9, "clip_score": 90.0, "fid": 4.0}
    differences = {"attribute_accuracy": accuracy, "clip_score": (0.0, -1.0, 1.0), "fid": fid}
    if not switch:
        differences = dict.fromkeys(differences)
    return Measured(29, "2x", "sega", switch, images, 14, share, list(psnr), values, differences)


def test_worse_is_above_0_for_distances_and_below_for_scores():
    assert measured("steps=14", (1.0, -0.1, 2.0)).within
    assert not measured("steps=14", (1.0, 0.1, 2.0)).within
    assert measured("steps=14", (-1.0, -2.0, -0.1)).within  # better
    assert not measured("steps=14", (0.0, -1.0, 1.0), accuracy=(-0.2, -0.3, -0.1)).within
    few = measured("steps=14", (1.0, 0.1, 2.0), images=4)
    assert not few.within and not few.is_worse("fid")


def test_the_page_marks_what_is_worse_and_what_is_equal(tmp_path):
    found = [
        measured("", psnr=(), share=1.0),
        measured("steps=0.7x", (1.0, 0.1, 2.0)),
        measured("model.cache=sea:0.3", (0.5, -0.1, 1.0), psnr=(None, None), share=0.6),
        measured("speed=faster", share=0.2),
    ]
    packages = {"torch": "2", "diffusers": "1"}
    record = {"command": "x", "dtype": "bfloat16", "steps": 20, "packages": packages, "missing": ["sega 2x: gone"]}
    path = tmp_path / "switches.json"
    path.write_text(json.dumps(record | {"rows": [asdict(item) for item in found]}))
    assert [asdict(item) for item in switches_page.read(path)[0]] == json.loads(json.dumps([asdict(i) for i in found]))
    text = switches_page.page(found, record)
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert lines[0] == "| exact | 1.00 |  | 0.900 | 90.00 | 4.00 |"
    assert lines[1].startswith("| `model.cache=sea:0.3` | 0.60 | equal (equal) |") and "**" not in lines[1]
    assert lines[2].startswith("| `steps=0.7x` | 0.45 | 40.0 (30.0) |") and "**+1.00 [+0.10, +2.00]**" in lines[2]
    assert text.endswith("## Not measured\n\n* sega 2x: gone\n")
    (line,) = switches_page.speeds(found).splitlines()[2:]
    assert line.startswith("| `speed=faster` | those it was chosen on | 2x | 8 | sega | 0.20 |")


def test_what_is_committed_is_of_the_records():
    found = []
    for path in switches_page.RECORDS:
        rows, record = switches_page.read(path)
        assert path.with_suffix(".md").read_text() == switches_page.page(rows, record)
        found += rows
    assert f"<!-- speeds -->\n{switches_page.speeds(found)}<!-- end -->" in switches_page.PAGE.read_text()


def test_every_switch_is_of_a_kind_that_the_figure_knows():
    todo = list(jobs("2x", argparse.Namespace(**OPTIONS | {"device": "cuda"})))
    kinds = {measured(job.switch).kind for job in todo if job.switch}
    assert kinds == set(switches_page.KINDS)
    assert measured("steps=0.5x model.solver=heun").kind == "solver"
    assert measured("steps=0.5x model.cache=sea:0.3").kind == "pair"


def test_every_job_is_a_line_that_runs_and_differs_from_the_exact_one(tmp_path):
    from sega.run.request import read_request

    options = argparse.Namespace(**OPTIONS | {"store": tmp_path})
    exact, seen = {}, set()
    for job in jobs("2x", options):
        for cell in read_request(job.words(options)).cells:
            place = job.captions, cell.method.name
            folder = cell.folder.path
            assert folder.is_relative_to(runs(options, job.captions))
            if job.switch:
                assert folder != exact[place], job
            else:
                exact[place] = folder
            seen.add((*place, folder))
    assert {name for _, name in exact} >= {"vanilla", "sega", "scalediff", "hiflow"}
    assert len(seen) > 60


def test_a_job_that_fails_is_recorded_and_the_others_run(tmp_path, monkeypatch):
    ran = []

    def run(words, hooks):
        ran.append(words[-1])
        if words[-1] == "steps=0.5x":
            raise ValueError("provoked")
        return 0

    monkeypatch.setattr("sega.run.cli.main", run)
    more = {"store": tmp_path, "sizes": ["1x", "2x"], "workers": 2, "worker": 1, "seconds": 60}
    options = argparse.Namespace(**OPTIONS | more)
    todo = [Job(29, "2x", "sega", switch) for switch in ("steps=0.5x", "steps=0.7x", "model.cache=sea", "speed=fast")]
    bench_switches.make("2x", todo, options)
    assert ran == ["model.cache=sea", "speed=fast", "steps=0.5x", "steps=0.7x"]  # the second worker's order
    ((name, trace),) = bench_switches.failures(options).items()
    assert name == str(todo[0]) == "sega at 2x, captions 29: steps=0.5x" and "ValueError: provoked" in trace


def test_psnr_against_the_exact_image(tmp_path):
    one = np.full((4, 4, 3), 100, np.uint8)
    for name, image in (("a", one), ("b", one + 10)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    assert psnr(tmp_path / "a.png", tmp_path / "a.png") is None
    assert psnr(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx(20 * np.log10(25.5))
