"""The report for Weights & Biases: its text, its panels, and what would be sent. Nothing is sent."""

import json
from types import SimpleNamespace

import pytest
from eval_store import make_run

from eval import track
from eval.records.rows import load_rows
from eval.report.dashboard import markdown, report
from eval.scoring.command import main as score


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two scored runs."""
    folder = tmp_path_factory.mktemp("store")
    for number, method in enumerate(("vanilla", "sega")):
        make_run(folder / "runs", method, (64, 64), prompts=3, noise=10 * number)
    words = [f"store={folder / 'runs'}", f"cache={folder / 'cache'}", "eval=plain", "metrics=[piqe,clip_score]"]
    assert score([*words, "bootstrap.samples=20"]) == 0
    return folder


def words(store):
    return [f"store={store / 'runs'}", f"cache={store / 'cache'}", f"folder={store / 'boards'}", "report=true"]


def test_the_text_holds_the_table_and_names_the_panels(store):
    rows, _ = load_rows(store / "runs", store / "cache")
    text = markdown(rows, "mine", store / "cache")
    assert "## tiny, protocol plain" in text and "| 64x64 | vanilla | 3 |" in text
    assert "of project mine: bars of PIQE (`plain/...`" in text and "`scaling`" in text


def test_the_report_has_the_tables_and_panels_over_its_runs_alone(store):
    api = pytest.importorskip("wandb_workspaces.reports.v2")
    rows, _ = load_rows(store / "runs", store / "cache")
    found = report(rows, "mine", store / "cache", entity="me")
    kinds = [type(block).__name__ for block in found.blocks]
    assert kinds == ["P", "TableOfContents", "H1", "MarkdownBlock", "PanelGrid"]
    assert "| 64x64 | vanilla | 3 |" in found.blocks[3].text
    grid = found.blocks[-1]
    assert [type(panel).__name__ for panel in grid.panels] == [
        "BarPlot",
        "ScatterPlot",
        "MediaBrowser",
        "WeavePanelSummaryTable",
    ]
    assert grid.panels[0].metrics == [api.SummaryMetric("plain/piqe")] and grid.panels[2].media_keys == ["scaling"]
    assert grid.panels[3].table_name == "images"
    sent = json.loads(found._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))  # what save() sends
    (runs,) = sent["blocks"][-2]["metadata"]["runSets"]
    (chosen,) = runs["filters"]["filters"]
    assert chosen["key"] == {"section": "run", "name": "name"}  # W&B's own name for the id of a run
    assert (chosen["op"], chosen["value"]) == ("IN", sorted(row.run.hash for row in rows if not row.is_reference))


@pytest.mark.slow
def test_offline_the_command_writes_the_text_and_says_what_sends(store, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(store / "boards" / "wandb"))
    assert track.main([*words(store), "project=mine"]) == 0
    *_, sending, where = capsys.readouterr().out.splitlines()
    folders = sorted((store / "boards" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and all(str(folder) in sending.partition("to send: wandb sync ")[2] for folder in folders)
    assert "mode=online report=true project=mine" in where
    assert "| 64x64 | vanilla | 3 |" in (store / "boards" / "wandb" / "report.md").read_text()


def test_online_it_is_saved_as_a_draft(store, monkeypatch, capsys):
    """The package's own `save`, up to the request that it sends to the service."""
    pytest.importorskip("wandb_workspaces.reports.v2")
    from wandb_workspaces.reports.v2 import interface

    class Api:
        client = None

        def projects(self, entity):
            return [SimpleNamespace(name="mine")]

    sent = []

    def request(api, query, variables):
        sent.append(variables)
        project = {"name": variables["projectName"], "entityName": variables["entityName"]}
        view = {"id": "abc", "project": project, "spec": json.loads(variables["spec"])}
        return {"upsertView": {"view": view | {key: variables[key] for key in ("name", "displayName", "description")}}}

    monkeypatch.setattr(interface, "_get_api", Api)
    monkeypatch.setattr(interface, "execute_graphql", request)
    monkeypatch.setattr(interface, "get_app_url", lambda api: "https://service.example")
    monkeypatch.setattr(track, "send", lambda *_: None)  # runs would be sent here
    monkeypatch.setattr(track, "user", lambda: "me")
    assert track.main([*words(store), "mode=online", "project=mine"]) == 0
    (one,) = sent
    assert (one["entityName"], one["projectName"], one["type"]) == ("me", "mine", "runs/draft")
    assert "vanilla" in one["spec"] and "plain/piqe" in one["spec"] and "scaling" in one["spec"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("report (a draft): https://service.example/me/mine/")


@pytest.mark.parametrize("word", ["report=yes", "thumbnail=3", "thumbnail=large"])
def test_wrong_words(store, word, capsys):
    assert track.main([*words(store), word]) == 2
    assert word in capsys.readouterr().err


def test_without_the_package_an_online_report_is_refused(store, monkeypatch, capsys):
    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: None)
    assert track.main([*words(store), "mode=online"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err
