"""What an image cost, from its row to the table."""

from pathlib import Path
from types import SimpleNamespace

from eval.records.runs import RunImage, load_run
from eval.report.tables import costs
from eval.scoring.block import cost
from sega.store.rows import ROW_KEYS


def image(**values):
    return RunImage(Path("a.png"), "a", 0, cost={"seconds": 2.0, "calls": 20, "peak_memory_mb": 100} | values)


def test_calls_of_a_cache_are_counted_in_full():
    plain, cached = [image(), image()], [image(full_calls=9.0), image(full_calls=10.0)]
    assert "full_calls" not in cost(plain) and cost(cached)["full_calls"] == 9.5

    def shown(images):
        return costs(SimpleNamespace(block={"cost": cost(images)}))

    assert shown(plain) == ["2.00", "20", "100"] and shown(cached) == ["2.00", "20 (9.5 in full)", "100"]


def test_full_calls_are_read_from_the_rows(tmp_path):
    import json

    folder = tmp_path / "tiny" / "sega" / "64x64" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"hash": folder.name, "identity": {}, "config": {}}))
    row = dict.fromkeys(ROW_KEYS, "a") | {"seed": 0, "file": "a.png", "calls": 20}
    lines = [row | {"full_calls": 9.0}, row | {"file": "b.png", "seed": 1}]
    (folder / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = load_run(folder).images
    assert first.cost["full_calls"] == 9.0 and "full_calls" not in second.cost
