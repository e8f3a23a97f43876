"""The page on full-scale runs: it shows records, each at its scale, and commands for the others."""

import json
import os
import re
from functools import partial

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from adversarial_lab import nets
from adversarial_lab.pgd import pgd
from adversarial_lab.records import ask
from adversarial_lab.runs.record import accuracy
from adversarial_lab.runs.speed import FlopCounter, count_flops
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import adversarial
from tools.book import ROOT, read_page

PAGE = ROOT / "book/full_scale.md"
WAYS = [
    ("method=standard",),
    ("method=fgsm",),
    ("method=fgsm-rs",),
    ("method=n-fgsm",),
    ("method=pgd",),
    ("method=trades", "beta=1"),
    ("method=trades", "beta=6"),
]
CPU, LAPTOP, GPU = "A processor, 1 thread(s)", "A laptop, 2 thread(s)", "A graphics card"
EMPTY = "No run of the scale"


def shown(folder):
    """The page's code cells as (source, everything they put out), run in `folder`/book.

    With a package that lies in no checkout, where it would find the records that we have.
    """
    (folder / "book").mkdir(exist_ok=True)
    (folder / "adversarial_lab").symlink_to(ROOT / "adversarial_lab")
    notebook = read_page(PAGE.read_text(encoding="utf-8"))
    here = {"metadata": {"path": folder / "book"}}
    client = NotebookClient(notebook, timeout=600, startup_timeout=600, resources=here)
    kept = {k: v for k, v in os.environ.items() if k != "ADVERSARIAL_LAB_STATIC"}
    client.execute(env=kept | {"PYTHONPATH": str(folder)})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(o.get("name") == "stderr" for c in cells for o in c.outputs)
    return [(cell.source, nbformat.v4.writes(_notebook(cell.outputs))) for cell in cells]


def _notebook(outputs):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])


def put(folder, asked, **what):
    (folder / f"{asked.run_id}.json").write_text(json.dumps({"run_id": asked.run_id, **what}))


def robust(hits, hardware):
    """What the page reads of a record of `robust`."""
    parts = {f"{p} {k}": 0.5 for p in ("validation", "train") for k in ("clean", "fgsm", "pgd")}
    on_cpu = hardware == CPU
    dataset = "mnist" if on_cpu else "cifar-10"
    return {
        "run": "robust",
        "config": {"eps": 0.2 if on_cpu else 8 / 255, "dataset": dataset},
        "metrics": {k: accuracy(hits, 1000) for k in ("clean", "pgd-20", "apgd-ce", "apgd-t")},
        "history": [{"epoch": i, **parts} for i in range(1, 17)],
        "data": {"train": 3000 if on_cpu else 49000},
        "compute": {"train_seconds": 90.0},
        "masking": {"flags": ["a question"]},
        "slices": [{"label": 7, "radius": 5.6, "loss": [[0.0, 0.1, 2.0]] * 3}] * 2,
        "hardware": hardware,
        "seconds": 600.0,
        "cpu_seconds": 120.0,
    }


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The page where every run of `robust`, and the heat map of two of them, is recorded."""
    root = tmp_path_factory.mktemp("complete")
    folder = root / "book/results"
    folder.mkdir(parents=True)
    for settings in WAYS:
        put(folder, ask("robust", *settings, scale="full"), **robust(811, GPU))
        put(folder, ask("robust", *settings, scale="class"), **robust(922, CPU))
        put(folder, ask("robust", *settings, scale="laptop"), **robust(733, LAPTOP))
    for scale, value in (("full", 0.25), ("laptop", 0.75)):
        pair = [ask("robust", f"method={m}", scale=scale).run_id for m in ("standard", "pgd")]
        rows = [
            {"a": pair[0], "b": pair[1], "layer_a": p, "layer_b": q, "cka": value}
            for p in "12"
            for q in "12"
        ]
        asked = ask("cka", f"standard={pair[0]}", f"robust={pair[1]}", scale=scale)
        put(folder, asked, history=rows, config={"network": "", "dataset": "cifar-10"})
    return shown(root)


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The page as a reader sees it who has the package and no records."""
    return shown(tmp_path_factory.mktemp("without"))


LAST = 'if todo else "None: every run of this page has its record.")'


def ending(cells, words):
    (found,) = [output for source, output in cells if source.rstrip().endswith(words)]
    return found


@pytest.mark.slow
def test_every_record_is_shown_in_the_table_of_its_scale(complete):
    shares = {"full": "81.1%", "laptop": "73.3%", "class": "92.2%"}
    for scale, share in shares.items():
        table = ending(
            complete, f'ways("{scale}")' + ' if has("full") else None' * (scale == "full")
        )
        assert table.count(share) == 4 * len(WAYS) and table.count("a question") == len(WAYS)
        assert EMPTY not in table
    assert "0.25" in ending(complete, 'large_map("full")')
    assert "0.75" in ending(complete, 'large_map("laptop")')


@pytest.mark.slow
def test_what_is_not_wanted_any_more_is_not_in_the_list(complete, without):
    """The list holds the command of every run that has no record, and of no other."""
    listed = [
        set(re.findall(r"`python -m adversarial_lab\.runs ([^`]+)`", ending(cells, LAST)))
        for cells in (complete, without)
    ]
    done = {
        " ".join(["robust", *s, "--scale", scale])
        for s in WAYS
        for scale in ("full", "class", "laptop")
    }
    assert listed[0] <= listed[1] and done <= listed[1] and not done & listed[0]
    assert "certified --scale laptop" in listed[0]


@pytest.mark.slow
def test_scales_are_never_mixed(complete):
    """But in Table 17.1, where each has a column of its own."""
    for source, output in complete:
        if not source.rstrip().endswith("Markdown(table(head, rows))"):
            assert sum(name in output for name in ("81.1%", "73.3%", "92.2%")) <= 1, source
            assert sum(name in output for name in (CPU, LAPTOP, GPU)) <= 1, source
    table = ending(complete, "Markdown(table(head, rows))")
    assert "81.1%" in table and GPU in table and LAPTOP in table and "92.2%" not in table
    rows = table.split("MMS18")[1].split("|")
    assert "73.3%" in rows[3] and "81.1%" in rows[4]


@pytest.mark.slow
def test_the_first_table_has_all_rows_and_one_record_for_each_of_ours(complete):
    table = ending(complete, "Markdown(table(head, rows))")
    # natural and robust; MMS18, KGB17 and TRADES twice
    assert table.count("81.1%") == table.count("73.3%") == 2 * 4
    assert all(name in table for name in ("BRRG18", "NKM17", "WSMK18", "ZSLG16", "RDV17"))


@pytest.mark.slow
def test_without_a_gpu_there_is_no_column_for_one(without):
    table = ending(without, "Markdown(table(head, rows))")
    assert "laptop scale" in table and "GPU" not in table


@pytest.mark.slow
def test_without_records_the_page_says_why_and_shows_no_number(without):
    assert "without them" in without[0][1]
    assert EMPTY in ending(without, 'ways("laptop")') and EMPTY in ending(without, 'ways("class")')
    assert "%" not in re.sub(r"\d %", "", ending(without, 'ways("class")'))


@pytest.mark.parametrize("steps", [1, 5, 10])
@pytest.mark.claim("17.1.3", "K steps of PGD make a training step cost 2 K + 2 to 2 K + 3 passes")
def test_pgd_training_costs_two_units_a_step_and_three_as_the_exercise_says(steps, rng):
    model, threat = nets.mnist_cnn(), ThreatModel(norm="linf", eps=0.1)
    x, y = torch.rand(4, 1, 28, 28, generator=rng), torch.tensor([0, 1, 2, 3])
    with FlopCounter() as forward:
        model(x)
    objective = partial(adversarial, threat=threat, attack=partial(pgd, steps=steps, rng=rng))
    units = count_flops(objective, model, x, y, {}) / (forward.flops / len(x))
    # the outer step needs no gradient of the images, which saves a part of the last unit
    assert 2 * steps + 2 < units < 2 * steps + 3
