"""The benchmark's arithmetic and its judge, without timing anything."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from adversarial_lab import data
from benchmarks import bench_certified, bench_multimarginal, bench_pgd, harness
from benchmarks.bench_pgd import LEAN, MAKERS, OURS, STOP, USUAL, Setting


def absent():
    raise ImportError("No module named 'foolbox'")


def test_every_contender_runs_once_a_round_in_a_new_order_with_one_seed():
    calls = []

    def contender(name, seed):
        calls.append((name, seed))
        return torch.zeros(1)

    makers = {name: lambda name=name: partial(contender, name) for name in "abc"}
    rows = harness.race(makers | {"peer": absent}, lambda z: 0.5, rounds=9, baselines=["a"])
    orders = ["".join(n for n, s in calls if s == seed) for seed in range(10)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders) and len(set(orders)) > 3
    assert [len(row.seconds) for row in rows] == [9, 9, 9, 0]  # seed 0 does not count
    assert rows[0].ratios == {"a": 1.0} and rows[0].accuracy == [0.5] * 9
    assert rows[3].absent == "No module named 'foolbox'" and rows[3].ratios == {}


def test_the_ratio_is_the_median_of_the_rounds_ratios(monkeypatch):
    ticks = {"a": iter([10, 2, 5]), "b": iter([30, 4, 1])}

    def once(row, attack, judge, *, seed, counts):
        if counts:
            row.seconds.append(next(ticks[row.name]))

    monkeypatch.setattr(harness, "_once", once)
    a, b = harness.race({"a": lambda: 1, "b": lambda: 1}, None, rounds=3, baselines=["a"])
    assert (a.seconds, b.seconds) == ([10, 2, 5], [30, 4, 1])
    assert b.ratios["a"] == 2  # of 3, 2 and 0.2


def timed(name, ratio):
    return harness.Row(name, seconds=[2.0], accuracy=[0.931], ratios={LEAN: ratio, USUAL: ratio})


@pytest.mark.parametrize(("whole", "verdict"), [(1.1, "kept"), (1.3, "MISSED")])
def test_the_table_says_who_is_missing_and_which_promise_holds(whole, verdict):
    rows = [timed(LEAN, 1.0), timed(OURS, 1.06), timed(STOP, 0.5), timed(bench_pgd.WHOLE, whole)]
    rows += [harness.Row("foolbox", "no module"), timed("torchattacks", 1.2)]
    text = bench_pgd.report("mnist-pgd", rows, Setting())
    assert "MISSED: at most 1.05 x lean loop" in text and "kept: at most 0.55" in text
    assert f"{verdict}: faster than every library" in text
    assert "not run: no module" in text and "93.10" in text


@pytest.mark.parametrize("name", [LEAN, USUAL, bench_pgd.SPLIT, OURS, bench_pgd.WHOLE, STOP])
def test_each_contender_attacks_within_the_threat_model(name, rng):
    w = torch.randn(16, generator=rng).sign()
    linear = torch.nn.Linear(16, 2)
    linear.weight.data = torch.stack([w, -w])
    linear.bias.data = torch.stack([-w.sum(), w.sum()]) / 2
    model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
    x = (0.5 + 0.05 * w).view(1, 1, 4, 4).repeat(6, 1, 1, 1)  # right by 0.05, and eps is 0.3
    y, s = torch.zeros(6, dtype=torch.int64), Setting(steps=10, step_size=0.1, batch_size=4)
    assert bench_pgd.judge(model, x, y, s, x) == 1
    z = MAKERS[name](model, x, y, s)(0)
    assert bench_pgd.judge(model, x, y, s, z) == 0


def test_the_judge_refuses_images_outside_the_ball_or_the_box():
    x, y, s = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.int64), Setting()
    model = torch.nn.Flatten()
    assert bench_pgd.judge(model, x, y, s, x) == 1  # all logits equal: the first wins
    for z in (x - 0.31, x + 0.2):
        with pytest.raises(AssertionError, match="not in the threat model"):
            bench_pgd.judge(model, x, y, s, z)


def test_all_rounds_are_saved(tmp_path):
    rows = {"mnist-pgd": [harness.Row("pgd", seconds=[1.0, 2.0])]}
    harness.save(tmp_path / "b.json", rows, **bench_pgd.facts(Setting()))
    saved = json.loads((tmp_path / "b.json").read_text())
    assert saved["results"]["mnist-pgd"][0]["seconds"] == [1.0, 2.0]
    assert saved["setting"]["steps"] == 40 and saved["versions"]["torch"]
    assert saved["machine"]["clock"] in ("CPU time", "wall")


def test_the_hand_written_loop_bounds_as_we_do():
    s = replace(bench_certified.SETTINGS["interval bounds"], images=20, batch=10)
    x, y = data.load("mnist-mini", "test", s.images)
    mine, loop = (
        bench_certified.contender(make, s, x, y)(0)
        for make in (bench_certified.ours, bench_certified.loop)
    )
    found = {bench_certified.OURS: mine, bench_certified.LOOP: loop}
    assert mine.any()
    bench_certified.check(s, found)
    loop *= 1 + 1e-4
    with pytest.raises(AssertionError, match="interval bounds of hand-written loop differ"):
        bench_certified.check(s, found)


def test_the_published_way_finds_our_bound(monkeypatch):
    s = replace(next(iter(bench_multimarginal.SETTINGS.values())), per_class=15, eps=4.0, rounds=1)
    rows = bench_multimarginal.measure(replace(s, dataset="mnist-mini"))
    assert rows[0].accuracy == pytest.approx(rows[1].accuracy, abs=1e-7)
    assert 0 < rows[0].accuracy[0] < 1
    monkeypatch.setattr(bench_multimarginal, "ours", lambda *anything: torch.tensor(0.0))
    with pytest.raises(AssertionError, match="the bounds differ"):
        bench_multimarginal.measure(replace(s, dataset="mnist-mini"))
