"""Times of known machines, and the records that they rest on."""

import json
import sys
from pathlib import Path

import pytest
from small import run

from sega.errors import RequestError
from sega.formulas.work import Work
from sega.run import machines
from sega.run.checks import check_machine

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from scripts.bench.cost_page import compared, fitted_shares, gpu_rows, machine  # noqa: E402
from scripts.bench_cost import FITTED, SIDES, fitted  # noqa: E402

BENCHMARKS = ROOT / "results" / "benchmarks"


@pytest.fixture(scope="module")
def record():
    return json.loads((BENCHMARKS / "cost.json").read_text())


@pytest.fixture(scope="module")
def earlier():
    return json.loads((BENCHMARKS / "h100-earlier.json").read_text())


def test_time_is_the_sum_of_kinds_and_launches_hide_on_a_gpu():
    work = Work(products=2e12, traffic=1e9, kernels=1000)
    one = machines.Machine("one", 1e12, 1, 1, 1, 1, 1, 1e9, 1e-3, waits=True)
    assert one.seconds(work) == pytest.approx(2 + 1 + 1)
    gpu = machines.Machine("one", 1e12, 1, 1, 1, 1, 1, 1e9, 1e-3, waits=False)
    assert gpu.seconds(work) == pytest.approx(3)
    assert gpu.seconds(Work(kernels=1000)) == pytest.approx(1)
    assert machines.flat(100).seconds(work) == pytest.approx(0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_growth_on_one_core_is_predicted_within_a_tenth(record, dtype):
    found = record["dtypes"][dtype]
    assert fitted(found) == pytest.approx(found["constants"])
    core = machine(record, dtype)
    checked = [side for side in SIDES if side not in FITTED]
    assert len(checked) == 9 and min(SIDES) ** 2 == 64 and max(SIDES) ** 2 == 9216
    for side in checked:
        told, measured, _ = compared(found, f"call {side}", core)
        assert told == pytest.approx(measured, rel=0.1), side


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_core_of_a_dry_run_is_the_measured_one(record, dtype):
    known, measured = machines.core(dtype), machine(record, dtype)
    work = record["dtypes"][dtype]["work"]
    for name in work:
        work_of_it = Work(**work[name])
        assert known.seconds(work_of_it) == pytest.approx(measured.seconds(work_of_it), rel=0.03), name


def test_calls_of_flux_on_an_h100_are_predicted_within_a_tenth(earlier):
    rows, card = gpu_rows(earlier), machines.gpu(machines.CARDS["h100"])
    steps = [row for row in rows if row["what"] != "measuring pass"]
    assert {row["size"] for row in steps} == {1024, 2048, 4096} and len(steps) == 9
    for row in steps:
        assert card.seconds(row["work"]) == pytest.approx(row["seconds"], rel=0.1), (row["method"], row["size"])


def test_shares_of_the_data_sheet_are_those_of_the_record(earlier):
    attention, bandwidth = fitted_shares(gpu_rows(earlier), earlier["peak_rate"])
    assert machines.ATTENTION == pytest.approx(attention, rel=0.02)
    assert machines.BANDWIDTH == pytest.approx(bandwidth, rel=0.02)
    assert pytest.approx(earlier["peak_rate"] / 989.4e12, rel=0.002) == machines.PRODUCTS


def test_records_of_both_scripts_are_read(earlier):
    row = {"case": "plain", "size": 2048, "steps": {"2": 0.8, "3": 0.9}}
    other = {"case": "ultraimage", "size": 2048, "steps": {"1": 0.9}, "probe": 6.0}
    switched = [row | {"case": case} for case in ("attention=sage", "compiled blocks", "sega, speed=fast")]
    found = gpu_rows({"parts": {"flux": {"rows": [row, *switched, other]}}})
    assert [(item["method"], item["what"], item["seconds"]) for item in found] == [
        ("vanilla", "step 2", 0.8),
        ("vanilla", "step 3", 0.9),
        ("ultraimage", "step 1", 0.9),
        ("ultraimage", "measuring pass", 6.0),
    ]
    same = next(item for item in gpu_rows(earlier) if (item["method"], item["size"]) == ("vanilla", 2048))
    assert found[0]["work"] == same["work"] and found[3]["work"].single > 0


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100_40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 PCIe", None),
        ("Tesla T4", None),
    ],
)
def test_cards_are_known_by_what_their_driver_calls_them(name, key):
    assert machines.card_named(name) is machines.CARDS.get(key)


def test_a_card_gives_time_and_memory_of_a_dry_run_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    words = ["model=flux", "method=vanilla", "res=2048", "prompts.limit=1", f"store={tmp_path}"]
    status, out, _ = run(monkeypatch, capsys, *words, "device=rtx4090", "dry_run=true")
    assert status == 0 and "on one GeForce RTX 4090" in out and "of 24.0 GB on rtx4090" in out
    slow = run(monkeypatch, capsys, *words, "device=rtx4090", "dry_run=true", "tflops=10")[1]
    assert "at 10 TFLOP/s" in slow and "of 24.0 GB on rtx4090" in slow
    assert "on one core" in run(monkeypatch, capsys, *words, "device=cpu", "dry_run=true")[1]
    status, out, err = run(monkeypatch, capsys, *words, "device=rtx4090")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "device=rtx4090 is a card that a dry run reckons with; add dry_run=true" in err


def test_a_card_that_is_nearly_named_is_offered():
    config = {"device": "rtx490", "dry_run": True}
    with pytest.raises(RequestError, match="did you mean 'rtx4090'"):
        check_machine(config, {})
