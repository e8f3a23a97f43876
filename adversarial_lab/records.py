"""What the runs left behind, as a page tells it: asked for by its command, written in a table.

A page holds no number of its own. It asks for the record of one command, and where there is none
it shows the command instead. The records lie in the repository, not in the package.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from adversarial_lab.runs import NAMES
from adversarial_lab.runs.classifier import NETWORKS, USUAL_NETWORK
from adversarial_lab.runs.record import Job, Metric
from adversarial_lab.runs.settings import configure

Record = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One record, by the words of the command that makes it."""

    run: str
    scale: str
    settings: tuple[str, ...] = ()  # key=value

    @property
    def command(self) -> str:
        words = ["python -m adversarial_lab.runs", self.run, *self.settings, "--scale", self.scale]
        return " ".join(words)

    @property
    def run_id(self) -> str:
        """The name of its files. ValueError for a setting that the run does not have."""
        config = configure(_scales(self.run)[self.scale], list(self.settings))
        return Job(self.run, self.scale, config, Path()).run_id

    def record(self, folder: Path | None) -> Record | None:
        """The record, or None: not run yet, or no folder of records here."""
        path = folder and folder / f"{self.run_id}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None


def ask(run: str, *settings: str, scale: str = "quick") -> Asked:
    """The record of `python -m adversarial_lab.runs RUN SETTINGS --scale SCALE`."""
    if run not in NAMES:
        raise ValueError(f"run must be one of {sorted(NAMES)}, got {run!r}")
    if scale not in _scales(run):
        raise ValueError(f"scale must be one of {sorted(_scales(run))}, got {scale!r}")
    return Asked(run, scale, settings)


def _scales(run: str) -> dict[str, Any]:
    # of this run alone: tools/page_key.py counts on it
    return import_module(f"adversarial_lab.runs.{run}").SCALES


def results() -> Path | None:
    """The folder of records: of the checkout one works in, else of the checkout of this package.

    Looked for upwards from the working directory (a notebook's is its own folder), in it, and
    upwards from the package; None where neither lies in a checkout.
    """
    here, package = Path.cwd(), Path(__file__).parent
    if (found := _upwards(here)) is None and any((here / "results").glob("*.json")):
        return here / "results"
    return found or _upwards(package)


def _upwards(place: Path) -> Path | None:
    folders = (folder / "book/results" for folder in (place, *place.parents))
    return next((folder for folder in folders if folder.is_dir()), None)


def made_by(run: str) -> list[Record]:
    """All records of a run, in the order of their names; none where there is no folder of them."""
    folder = results()
    files = sorted(folder.glob(f"{run}-*.json")) if folder else []
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def missing(asked: Asked) -> str:
    """What stands in the place of a record that is not there."""
    return f"*not yet run:* `{asked.command}`"


def told(metric: Metric | None) -> str:
    """A share with its 95 % interval and the number of images; a dash where it was not measured."""
    if metric is None:
        return "–"
    low, high = metric["low"], metric["high"]
    return f"{metric['value']:.1%} ({low:.1%} to {high:.1%}, n={metric['n']:,})"


def on_cpu(record: Record) -> bool:
    """Whether the run had no GPU: the runs name a CPU together with its threads."""
    return record["hardware"].endswith("thread(s)")


def minutes(record: Record) -> float:
    """Minutes of the whole run, training and attacks.

    CPU minutes where it ran on a CPU, for its machine may have had other work; else of the clock.
    """
    return record["cpu_seconds" if on_cpu(record) else "seconds"] / 60


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; ValueError for a row of another length."""
    lines = [head, ["---"] * len(head), *rows]
    if wrong := next((line for line in lines if len(line) != len(head)), None):
        raise ValueError(f"rows must have {len(head)} cells, got {wrong}")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def heat_map(
    record: Record, a: str, b: str
) -> tuple[Float[np.ndarray, "p q"], list[str], list[str]]:
    """CKA between the layers of two networks, Section 17.5.1, with the layers' names.

    Of a record of the run `cka`; ValueError where it did not compare them in this order.
    """
    rows = [row for row in record["history"] if (row["a"], row["b"]) == (a, b)]
    if not rows:
        known = sorted({(row["a"], row["b"]) for row in record["history"]})
        raise ValueError(f"a, b must be one of {known}, got {(a, b)}")
    left, right = (list(dict.fromkeys(row[k] for row in rows)) for k in ("layer_a", "layer_b"))
    values = np.array([row["cka"] for row in rows], float)
    return values.reshape(len(left), len(right)), left, right


def layer_names(record: Record, layers: Sequence[str]) -> list[str]:
    """ "3: ReLU" for module "3" of the network that a record of `cka` compared, for every layer."""
    config = record["config"]
    with torch.device("meta"):
        network = NETWORKS[config["network"] or USUAL_NETWORK[config["dataset"]]]()
    return [f"{name}: {type(network.get_submodule(name)).__name__}" for name in layers]
