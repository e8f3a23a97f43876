"""Section 17.2.3 on a network of another run: all four standard attacks, each on what still stands.

Goes on after the last attack it finished, so that a quarter of an hour here and there is enough.
"""

import json
from dataclasses import dataclass

from adversarial_lab import data, nets
from adversarial_lab.attacks.evaluation import STANDARD
from adversarial_lab.runs.classifier import NETWORKS, USUAL_NETWORK, check_counts, known, share
from adversarial_lab.runs.evaluation import float32_is_strict, stage_path, stages_file
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.weights import read_into
from adversarial_lab.threat import ThreatModel


@dataclass(frozen=True)
class Config:
    """All that decides the result, with the record it names: data set, network and linf radius."""

    record: str = ""  # the run id of a network, whose record is in the folder of records
    images: int | None = None  # the first of the test images; None: all
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)


SCALES = {"quick": Config(images=100), "laptop": Config(images=1_000), "full": Config()}
COST = {
    "quick": "two minutes on one CPU core (mnist-cnn)",
    "laptop": "an hour on one CPU core by count (preact-resnet18-16); not run yet",
    "full": "56 PFLOP by count (preact-resnet18), minutes on a GPU by estimate; not run yet",
}
NEEDS_GPU = ("full",)


def attacked_record(config: Config, job: Job) -> dict:
    """The record of the network. ValueError if none is named, FileNotFoundError without it."""
    path = job.out / f"{config.record}.json"
    if not config.record:
        raise ValueError("record must be the run id of a network, as record=robust-0123456789")
    if not path.exists():
        raise FileNotFoundError(f"record {config.record!r}: there is no {path}; make it first")
    return json.loads(path.read_text(encoding="utf-8"))


def run(config: Config, job: Job) -> dict:
    """What is left standing after each attack, with its seconds; returns the record."""
    made = attacked_record(config, job)
    trained = made["config"]
    name = trained.get("network") or USUAL_NETWORK[trained["dataset"]]
    model = NETWORKS[known("network", name, NETWORKS)]()
    model = read_into(model, job.out / f"{config.record}.safetensors")
    test = data.load(trained["dataset"], "test", config.images)
    x, y = (v.to(nets.best_device()) for v in test)
    threat, names = ThreatModel(norm="linf", eps=trained["eps"]), tuple(STANDARD)
    with float32_is_strict():
        path = list(stage_path(model, x, y, threat, names, job, config.seed))
    metrics = {stage.name: share(~stage.found.fooled) for stage in path}
    metrics["standard"] = metrics["square"]
    history = [{"attack": stage.name, "seconds": round(stage.seconds, 1)} for stage in path]
    of = {"record": config.record, "eps": trained["eps"], "sha256": made["weights"]["sha256"]}
    record = job.save(metrics, history, {"name": test.name, "test": len(x)}, attacked=of)
    stages_file(job, names).unlink(missing_ok=True)
    return record
