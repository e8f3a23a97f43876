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
CPU, GPU = "A processor, 1 thread(s)", "A graphics card"
NOT_YET = "not yet run"


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
    return {
        "run": "robust",
        "config": {"eps": 0.2 if on_cpu else 8 / 255},
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
    pair = [ask("robust", f"method={m}", scale="full").run_id for m in ("standard", "pgd")]
    rows = [
        {"a": pair[0], "b": pair[1], "layer_a": p, "layer_b": q, "cka": 0.25}
        for p in "12"
        for q in "12"
    ]
    large = ask("cka", f"standard={pair[0]}", f"robust={pair[1]}", scale="full")
    put(folder, large, history=rows)
    return shown(root)


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The page as a reader sees it who has the package and no records."""
    return shown(tmp_path_factory.mktemp("without"))


def ending(cells, words):
    (found,) = [output for source, output in cells if source.rstrip().endswith(words)]
    return found


@pytest.mark.slow
def test_records_take_the_place_of_commands(complete):
    full, small = (ending(complete, f'ways("{scale}")') for scale in ("full", "class"))
    assert NOT_YET not in full and NOT_YET not in small
    assert full.count("81.1%") == small.count("92.2%") == 4 * len(WAYS)
    assert full.count("a question") == len(WAYS)
    assert NOT_YET not in ending(complete, "Markdown(missing(figure_17_2))")
    assert "0.25" in ending(complete, "Markdown(missing(figure_17_2))")


@pytest.mark.slow
def test_scales_are_never_mixed(complete):
    for source, output in complete:
        assert not ("81.1%" in output and "92.2%" in output), source
        assert not (CPU in output and GPU in output), source
    table = ending(complete, '"ours, CIFAR-10"], rows))')
    assert "81.1%" in table and GPU in table and "92.2%" not in table


@pytest.mark.slow
def test_the_first_table_has_all_rows_and_one_record_for_each_of_ours(complete):
    table = ending(complete, '"ours, CIFAR-10"], rows))')
    assert table.count("81.1%") == 2 * 4  # natural and robust; MMS18, KGB17 and TRADES twice
    assert "runs certified --scale full" in table
    assert all(name in table for name in ("BRRG18", "NKM17", "WSMK18", "ZSLG16", "RDV17"))


@pytest.mark.slow
def test_without_records_the_page_shows_commands_and_says_why(without):
    assert "without them" in without[0][1]
    text = "".join(output for _, output in without)
    found = set(re.findall(r"`python -m adversarial_lab\.runs ([^`]+)`", text))
    wanted = {
        " ".join(["robust", *s, "--scale", scale]) for s in WAYS for scale in ("full", "class")
    }
    assert wanted <= found
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
