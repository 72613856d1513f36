"""The answer page: from a store to files, the same bytes twice, without runs, hostile text, and in a browser."""

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from answer_sections import method, section
from PIL import Image

from eval.answer import page, plots, published, text
from eval.answer.collect import full_size_calls
from eval.answer.command import labels, main
from eval.answer.command_of import command_of
from eval.answer.images import PART
from eval.answer.types import Answer, read
from eval.figures.crops import Crop
from eval.published.values import Joined, Value
from eval.records.runs import Run, RunImage

ROOT = Path(__file__).parents[3]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = '<img src=x onerror="document.title=1"></script></style><b>bold</b> & "quotes" \' end'
SETTINGS = {"bootstrap": {"samples": 200, "distance_samples": 20, "level": 0.95, "seed": 0}}


def make_store(store: Path, n: int = 8, seconds=(2.0, 2.1)) -> None:
    """Three methods with CLIP scores: `sega` is better than `vanilla`; `yarn` is as good, at twice the seconds."""
    rng = np.random.default_rng(0)
    for name, score, factor in (("vanilla", 20.0, 1), ("sega", 30.0, 1), ("yarn", 30.0, 2)):
        folder = store / "flux" / name / "64x48" / "0123456789ab"
        folder.mkdir(parents=True)
        rows, scores = [], []
        for k in range(n):
            pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}-0.png")
            sha = hashlib.sha256((folder / f"{k}-0.png").read_bytes()).hexdigest()
            row = {"prompt_id": str(k), "seed": 0, "prompt": EVIL, "file": f"{k}-0.png", "sha256": sha}
            rows.append(row | {"seconds": factor * seconds[k % 2], "calls": 28, "peak_memory_mb": 900.0})
            noise = float(rng.standard_normal())
            scores.append(row | {"protocol": "plain", "values": {"clip_score": score + noise}})
        values = [row["values"]["clip_score"] for row in scores]
        cell = {"value": float(np.mean(values)), "low": min(values), "high": max(values), "n": n, "title": "CLIP"}
        cell |= {"digits": 2, "higher_is_better": True}
        cost = {"seconds": factor * float(np.median(seconds)), "calls": 28.0, "peak_memory_mb": 900.0}
        block = {"n": n, "damaged": [], "metrics": {"clip_score": cell}, "cost": cost, "networks": {}, "native": 32}
        block |= {"settings": SETTINGS}
        (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
        (folder / "scores.json").write_text(json.dumps({"schema": 1, "protocols": {"plain": block}}))
        identity = {"method": {"name": name}, "steps": 28, "guidance": 3.5}
        record = {"hash": "0123456789ab", "identity": identity, "config": {}, "commit": "c" * 40, "dirty": True}
        (folder / "run.json").write_text(json.dumps(record))


def build(folder, *words, out="out"):
    return main([f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"out={folder / out}", *words])


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    make_store(folder / "runs")
    assert build(folder) == 0
    return folder


class Parsed(HTMLParser):
    """What a browser would see: the tags, and the text outside of scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def test_the_page_says_what_the_records_say(place):
    words = " ".join(Parsed((place / "out" / "index.html").read_text()).text)
    assert "sega ranks first" in words and "Not distinguishable from sega in CLIP (N = 8); costs twice as much" in words
    assert "Worse than sega in CLIP (N = 8)" in words
    assert "commit cccccccccccc, with changes" in words and "made elsewhere: no command" in words
    assert "sega ranks first" in (place / "out" / "answer.md").read_text()


def test_the_same_records_give_the_same_bytes_also_without_the_runs(place, tmp_path, capsys):
    assert build(place, out="again") == 0
    first = files(place / "out")
    assert files(place / "again") == first and len(first) == 3 + 6
    shutil.copytree(place / "out", tmp_path / "out")
    assert build(tmp_path) == 0  # no store here
    assert "made again from" in capsys.readouterr().out
    assert files(tmp_path / "out") == first


def test_without_images_the_page_says_so(place, tmp_path):
    shutil.copytree(place / "runs", tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("*.png"):
        path.unlink()
    assert build(tmp_path) == 0
    source = (tmp_path / "out" / "index.html").read_text()
    assert "only their records exist" in source and "<img" not in source
    assert "sega ranks first" in source


def test_hostile_text_stays_text():
    made = section([method(EVIL), method("b")], {(EVIL, "b", "fid")}, prompt=EVIL, model=EVIL)
    made = replace(made, methods=(replace(made.methods[0], command=EVIL, commit=EVIL, run=EVIL), made.methods[1]))
    parsed = Parsed(page.html(Answer((made,)), set()))
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    assert not [attrs for _, attrs in parsed.tags if any(key.startswith("on") for key in attrs)]
    assert [tag for tag, _ in parsed.tags].count("script") == [tag for tag, _ in parsed.tags].count("style") == 1
    assert EVIL in " ".join(parsed.text)
    assert "|" + EVIL not in text.markdown(Answer((made,)))


def test_nothing_is_loaded_from_elsewhere(place):
    source = (place / "out" / "index.html").read_text()
    assert "default-src 'none'" in source
    assert not re.search(r"(src|href)=\"(?!images/|#)", source) and "url(" not in source and "@import" not in source
    for tag, attributes in Parsed(source).tags:
        assert "style" not in attributes, tag
        assert tag != "img" or re.fullmatch(r"images/[0-9a-f]{16}(-part)?\.jpg", attributes["src"])


def test_a_busy_machine_is_compared_by_calls(tmp_path):
    make_store(tmp_path / "runs", seconds=(2.0, 9.0))
    assert build(tmp_path) == 0
    (made,) = read(tmp_path / "out" / "answer.json").sections
    assert made.busy and made.cost == "calls"
    assert "measured while other work ran" in (tmp_path / "out" / "index.html").read_text()
    assert build(tmp_path, "cost=seconds") == 0
    assert read(tmp_path / "out" / "answer.json").sections[0].cost == "seconds"


def test_wrong_requests(place, tmp_path, capsys):
    assert build(place, "cost=second") == 2 and "did you mean 'seconds'" in capsys.readouterr().err
    assert build(place, "metrics=fidd") == 2 and "did you mean 'fid'" in capsys.readouterr().err
    assert build(place, "metrics=high_frequency") == 2 and "no better end" in capsys.readouterr().err
    assert build(tmp_path) == 2 and "no scored runs" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "answer.json").write_text('{"schema": 1, "sections": [{}]}')
    assert build(tmp_path) == 2 and "is damaged" in capsys.readouterr().err


def test_several_stores_are_told_apart(place):
    assert labels([Path("a/b/runs")]) == [""]
    assert labels([Path("a/b/runs"), Path("a/c/runs")]) == ["b/runs", "c/runs"]
    assert main([f"store={place / 'runs'},{place / 'runs'}", f"cache={place}", f"out={place / 'two'}"]) == 0
    assert len(read(place / "two" / "answer.json").sections) == 2


def test_calls_count_by_the_pixels_of_their_stage():
    def run(stages):
        return Run(ROOT, "tiny", "x", 384, 384, "x", {"stages": stages}, {}, [])

    small = {"size": [192, 192], "steps": 30, "first": 0, "last": None}
    large = {"size": [384, 384], "steps": 30, "first": 14, "last": None}
    assert full_size_calls(run(None), 20) == 20
    assert full_size_calls(run([small]), 30) == 7.5
    assert full_size_calls(run([small, large]), 46) == 7.5 + 16
    assert full_size_calls(run([small, large]), None) is None


def test_the_command_makes_the_same_cell(tmp_path):
    from sega.run.request import read_request

    wanted = ["model=tiny", "method=sega", "method.amplitude=0", "res=2x", "prompts.seed=11", "prompts.count=9"]
    (cell,) = read_request(wanted).cells
    images = [RunImage(tmp_path / str(k), str(k), 0) for k in range(4)]
    config = json.loads(json.dumps(cell.config))
    command = command_of(Run(tmp_path, "tiny", "sega", 384, 384, cell.folder.hash, {}, config, images))
    assert command == (
        "python run.py model=tiny method=sega res=384x384 method.amplitude=0 prompts.seed=11 prompts.count=4"
    )
    (again,) = read_request(command.split()[2:]).cells
    assert again.folder.hash == cell.folder.hash
    assert command_of(Run(tmp_path, "x", "y", 1, 1, "x", {}, {}, images)) == ""


def test_a_path_of_one_machine_is_not_printed(tmp_path):
    config = {"model": {"name": "tiny"}, "method": {"name": "upsample", "weights": "/home/somebody/net.pth"}}
    command = command_of(
        Run(tmp_path, "tiny", "upsample", 384, 384, "x", {}, config | {"prompts": {"name": "examples"}}, [])
    )
    assert "method.weights=net.pth" in command and "somebody" not in command


def test_the_part_shown_is_where_the_structure_is():
    flat = np.full((64, 96, 3), 100, np.uint8)
    flat[40:60, 70:90] = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    images = [Image.fromarray(flat)] * 2
    left, top, right, _ = Crop("detail", PART).place(images).box((96, 64), 16)
    side = right - left
    assert PART * 64 == side == 16 and 66 <= left <= 76 and 38 <= top <= 46


def test_a_plot_has_its_front_its_intervals_and_words():
    methods = [method(f"m{k}", 5 + k, fid=fid) for k, fid in enumerate((9.0, 4.0, 6.0, 5.0, 90.0))]
    svg = plots.pareto(section(methods), section(methods).quality[0])
    assert svg.count("<circle") == 4 and svg.count('class="bar') == 4  # the last is a triangle at the end of the axis
    assert (
        "Front, from the cheapest (full-size calls): m0 (5), m1 (6)." in svg
        and "Below the axis (triangles): m4 90" in svg
    )
    assert 'role="img"' in svg and "NaN" not in svg
    assert plots.pareto(section(methods[:1]), section(methods).quality[0]) == ""


def value(paper, number, table="1"):
    return Value(paper, table, "FLUX.1-dev", "sega", "4096x4096", "fid", number, float(number), False, "d", "1", "")


def test_the_spread_between_papers_names_who_printed_what():
    entry = Joined("flux", "4096x4096", "sega", "fid", (value("B", "150.05"), value("A", "160.6", "unknown")))
    assert published.extent(entry) == "150.05 to 160.6"
    assert published.sources(entry) == "B 150.05 (FLUX.1-dev, table 1); A 160.6 (FLUX.1-dev)"
    source = published.html([entry])
    assert "1 entries, 1 of them printed by several papers" in source
    assert "sega: 150.05 (B), 160.6 (A)" in source and source.count('class="range"') == 1
    alone = Joined("flux", "4096x4096", "ntk", "fid", (value("B", "7.00"),))
    assert published.extent(alone) == "7.00"


def test_every_spread_of_the_papers_is_on_the_page(place):
    from eval.published.values import join

    several = [j for j in join([]) if j.spread is not None and "unknown" not in j.size]
    body = Parsed((place / "out" / "index.html").read_text()).text
    assert len(several) > 30
    for j in several:
        assert published.extent(j) in body and published.sources(j) in body


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser_it_sorts_and_fits(place, tmp_path, width):
    """A click on a column turns the rows; at no width does the page scroll sideways."""
    frame = tmp_path / "frame.html"
    opened = (place / "out" / "index.html").as_uri()
    frame.write_text(f"""<iframe id="f" style="width:{width}px;height:800px" src="{opened}">
</iframe><script>f.onload = () => {{
  const page = f.contentDocument, rows = () => [...page.querySelectorAll(".board tbody b")].map((b) => b.textContent);
  const before = rows(), root = page.documentElement;
  [...page.querySelectorAll(".board thead button")].find((b) => b.textContent.startsWith("CLIP")).click();
  document.title = JSON.stringify([before, rows(), root.scrollWidth - root.clientWidth]);
}};</script>""")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,900", "--virtual-time-budget=5000"]
    done = subprocess.run([*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120)
    before, after, wider = json.loads(re.search("<title>(.*?)</title>", done.stdout)[1])
    assert before[-1] == "vanilla" and after[0] == "vanilla" and sorted(before) == sorted(after)
    assert wider <= 0
