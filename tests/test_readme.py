"""What the README promises at its top is what the tests, the records and the picture say."""

import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from adversarial_lab.figures import to_png
from adversarial_lab.records import made_by
from tools import claims, front_picture
from tools.book import ROOT

README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def shipped(name):
    record = json.loads((ROOT / f"adversarial_lab/weights/{name}.json").read_text())
    return record["metrics"]


def test_it_counts_the_statements():
    (said,) = re.findall(r"More than (\d+) statements", README)
    checked = sum(claim.status != "open" for claim in claims.ledger())
    assert int(said) < checked < int(said) + 100


def test_the_exact_bound_is_that_of_the_record():
    wanted = {
        "dataset": "mnist",
        "split": "train",
        "classes": None,
        "per_class": None,
        "norm": "l2",
    }
    (record,) = [r for r in made_by("bounds") if wanted.items() <= r["config"].items()]
    percent, images, length = re.search(
        r"errs on less than ([\d.]+) %\*\* of the ([\d,]+) training digits .* l2 length ([\d.]+):",
        README,
    ).groups()
    assert float(length) == record["config"]["eps"] and abs(record["metrics"]["gap"]) < 1e-9
    assert images == f"{record['data']['n']:,}" == "60,000"
    down = math.floor(1e4 * record["metrics"]["risk"]) / 100  # a bound is not rounded up
    assert percent == f"{down:.2f}"
    assert "in four CPU minutes" in README and round(record["cpu_seconds"] / 60) == 4


def test_the_shares_are_those_of_the_shipped_networks():
    robust, usual, proved = map(shipped, ("mnist-pgd", "mnist-standard", "mnist-ibp"))
    said = re.search(
        r"\*\*([\d.]+) % of ([\d,]+) test digits\*\* withstand 40 steps .* radius 0.3 after"
        r" adversarial training, ([\d.]+) % without; after training on interval bounds"
        r" \*\*([\d.]+) % are proved\*\*",
        README,
    ).groups()
    found = (robust["pgd-40"], usual["pgd-40"], proved["ibp 0.3"])
    assert said[1] == "10,000" and {metric["n"] for metric in found} == {10_000}
    assert (said[0], *said[2:]) == tuple(f"{100 * metric['value']:.1f}" for metric in found)


@pytest.fixture(scope="module")
def drawn():
    return front_picture.draw()


def test_the_picture_is_small_and_described_as_it_is(drawn):
    assert front_picture.PICTURE.stat().st_size < 150_000
    assert f"![{drawn[1]}](front.png)" in README, "run `python -m tools.front_picture`"


def test_the_picture_is_what_its_script_draws(drawn):
    new = Image.open(io.BytesIO(to_png(drawn[0], front_picture.COLOURS, front_picture.DPI)))
    old = Image.open(front_picture.PICTURE)
    assert new.size == old.size
    apart = np.abs(np.asarray(new.convert("L"), int) - np.asarray(old.convert("L"), int))
    assert apart.mean() < 4, "run `python -m tools.front_picture`"
