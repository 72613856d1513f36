"""Every published row says what runs it or why nothing does; what runs is in the presets that are named."""

from functools import cache

import pytest

from eval.published.command import main
from eval.published.mapping import answer, label, mapping
from eval.published.presets import family, rows
from eval.published.values import load
from eval.records.labels import method_label
from eval.records.runs import Run
from sega.home import CONF
from sega.loading.methods import load_method
from sega.run.request import read_request

NAMES = [(*key, name) for key, group in rows().items() for name in group]
RUN = [key for key in NAMES if answer(*key).run]
PRESETS = {path.stem for path in (CONF / "experiment").glob("*.yaml")} - {"demo"}


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A working folder with the weights that some rows need; nothing reads them."""
    (tmp_path / "BSRGAN.pth").touch()
    monkeypatch.chdir(tmp_path)


@cache
def cells(preset):
    """The cells of a preset and of those that belong to it."""
    words = ["prompts=examples", "prompts.limit=1", "dry_run=true"]
    return [cell for name in family(preset) for cell in read_request(["-m", f"experiment={name}", *words]).cells]


def method(run, model):
    name, *options = run.split()
    return load_method(name, model, options)


@pytest.mark.parametrize("key", NAMES, ids=", ".join)
def test_a_row_has_a_run_or_a_reason(key):
    found = answer(*key)
    assert bool(found.run) != bool(found.why) and bool(found.run) == bool(found.preset)
    assert not found.why.startswith("rows.yaml has no")


@pytest.mark.parametrize("key", RUN, ids=", ".join)
def test_a_row_that_runs_is_in_its_preset_at_every_size(key):
    found = answer(*key)
    values = [v for v in load() if (v.paper, v.table, v.model, v.printed) == key]
    planned = cells(found.preset)
    assert {cell.model["name"].partition("_")[0] for cell in planned} == {values[0].family or "flux"}
    own = [cell for cell in planned if cell.method == method(found.run, cell.model["name"])]
    sizes = {"x".join(map(str, cell.request.size)) for cell in own}
    assert own and {v.size for v in values} - {"unknownxunknown"} <= sizes


@pytest.mark.parametrize("preset", sorted({answer(*key).preset for key in RUN}))
def test_a_preset_runs_nothing_that_no_table_has(preset):
    planned = cells(preset)
    runs = [method(answer(*key).run, planned[0].model["name"]) for key in RUN if answer(*key).preset == preset]
    assert [cell.label for cell in planned if cell.method not in runs] == []


def test_every_preset_is_of_a_table():
    assert {name for key in RUN for name in family(answer(*key).preset)} == PRESETS


def test_the_map_has_no_entry_that_no_row_uses():
    tables = {(table["paper"], table["table"], table["model"]): table for table in mapping()["tables"]}
    assert len(tables) == len(mapping()["tables"]) and set(tables) == set(rows())
    own = {key: {**table.get("methods", {}), **table.get("missing", {})} for key, table in tables.items()}
    assert [name for key in own for name in own[key] if name not in rows()[key]] == []
    asked = {name for *key, name in NAMES if "why" not in tables[tuple(key)] and name not in own[tuple(key)]}
    assert asked == {*mapping()["methods"], *mapping()["missing"]}


@pytest.mark.parametrize("run", sorted({answer(*key).run for key in RUN if "weights=" not in answer(*key).run}))
def test_a_label_is_that_of_the_run_itself(run, tmp_path):
    """What a table of ours writes beside the values of the papers."""
    made = method(run, "flux")
    record = Run(tmp_path, "flux", made.name, 64, 64, "x", {"method": {"name": made.name, **made.identity()}}, {}, [])
    assert method_label(record) == label(run)


def test_unknown_names_say_what_to_add():
    assert answer("SEGA", "9", "FLUX", "sega").why == "rows.yaml has no such table"
    assert answer("SEGA", "unknown", "FLUX (variant unknown)", "sago").why == "rows.yaml has no such method"


def test_the_command_lists_presets_costs_runs_and_reasons(capsys):
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    blocks = {block.splitlines()[0]: block for block in text.split("\n\n")}
    dype = blocks["DyPE, table 3, mixed (FLUX where the method is for DiTs; see README)"]
    assert "dype_3_and_hiflow " in dype and "EFLOP" in dype
    assert "+ dy_yarn+hiflow           method=hiflow method.positions_of=dype" in dype
    assert "- frecas: a method of U-Nets" in dype
    assert blocks["PixelRush, SDXL"].splitlines()[1].startswith("  - baseline, fouriscale, ")
    assert "SDXL is no model here" in " ".join(blocks["PixelRush, SDXL"].split())
    assert "weights=BSRGAN.pth  (give these weights)" in dype
    assert f"{len(RUN)} of {len(NAMES)} rows run" in text
    assert max(map(len, text.splitlines())) <= 120
