"""Section 17.3.5, Table 17.1 on our own: one way to train (`method`), chosen on held-out images.

The same run at three sizes; `methods` is the table of ways, `evaluation` what is measured at the
end, `speed` and `crew` how one GPU or several are used.
"""

from dataclasses import dataclass, replace

from adversarial_lab import data
from adversarial_lab.runs import evaluation
from adversarial_lab.runs.classifier import NETWORKS, RECIPES, USUAL_NETWORK, check_counts, known
from adversarial_lab.runs.crew import assemble
from adversarial_lab.runs.fitting import best_file, fit_network
from adversarial_lab.runs.methods import METHODS
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.selection import chosen, held_out
from adversarial_lab.runs.speed import SPEEDS
from adversarial_lab.threat import ThreatModel


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii in data units; counts are of the first images."""

    dataset: str = "mnist-mini"
    network: str = ""  # "": the data set's usual one
    method: str = "pgd"
    eps: float = 0.3  # linf radius of training and test
    warmup: float = 0.3  # fraction of training over which eps grows from 0
    steps: int = 5  # of pgd and trades in training
    step: float = 0.35  # their length in units of eps
    noise: float = 2.0  # of n-fgsm, in units of eps
    beta: float = 6.0  # of trades
    epochs: int = 5
    batch_size: int = 100
    recipe: str = "adam"
    peak: float = 0.003  # highest learning rate
    average: float = 0.99  # decay of the weight average that is watched and kept; 0: none
    speed: str = "plain"  # or "half", "compiled": where a GPU can
    train_images: int | None = None  # with those held out; None: all
    validation_images: int = 200  # the last of these; they choose the epoch
    watch_steps: int = 10  # of PGD on them after every epoch
    test_images: int | None = None
    apgd_images: int | None = 50  # for APGD-CE and APGD-T; None: all
    standard_images: int | None = 0  # for all four attacks; None: all
    masking_images: int = 50
    slices: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)
        known("network", self.network or USUAL_NETWORK[self.dataset], NETWORKS)
        known("method", self.method, METHODS)
        known("recipe", self.recipe, RECIPES)
        known("speed", self.speed, dict.fromkeys(SPEEDS))


MNIST = Config(
    dataset="mnist",
    eps=0.2,  # 0.3 wants more than these digits; see "mnist"
    epochs=16,
    batch_size=50,
    train_images=3_200,
    test_images=1_000,
    apgd_images=100,
    slices=2,
)
SCALES = {
    "quick": Config(),
    "class": MNIST,
    "mnist": replace(
        MNIST,
        eps=0.3,
        noise=1.0,  # 2 eps of noise would leave nothing of a digit
        epochs=20,
        batch_size=128,
        train_images=None,
        validation_images=1_000,
        test_images=None,
        apgd_images=None,
        standard_images=1_000,
        masking_images=200,
    ),
    "laptop": Config(
        dataset="cifar-10",
        network="preact-resnet18-16",
        eps=8 / 255,
        warmup=0.0,
        epochs=15,
        batch_size=128,
        recipe="sgd-cycle",
        peak=0.2,
        average=0.995,
        speed="compiled",
        validation_images=1_000,
        watch_steps=5,
        apgd_images=1_000,
        masking_images=200,
        slices=2,
    ),
    "full": Config(
        dataset="cifar-10",
        network="preact-resnet18",
        eps=8 / 255,
        warmup=0.0,
        steps=10,
        step=0.25,
        epochs=60,
        batch_size=512,
        recipe="sgd-cycle",
        peak=0.2,
        average=0.998,
        speed="compiled",
        validation_images=1_000,
        apgd_images=None,
        standard_images=1_000,
        masking_images=200,
        slices=2,
    ),
}
COST = {
    "quick": "15 seconds on one CPU core",
    "class": "half a minute (standard) to two minutes (trades) on one CPU core",
    "mnist": "an hour on one CPU core (pgd), minutes on a GPU",
    "laptop": (
        "on one CPU core with bfloat16 instructions half an hour (standard) to two hours (trades),"
        " four times that without"
    ),
    "full": (
        "training takes 10 PFLOP (standard), 16 (one step), 75 (pgd), 88 (trades) by count, APGD"
        " 12: minutes each on one H200-class GPU by estimate; not run yet"
    ),
}
NEEDS_GPU = ("full",)
SEVERAL = True  # may run under torchrun


def run(config: Config, job: Job) -> dict:
    """Train, choose the epoch, save the weights, measure them as saved; returns the record."""
    crew = assemble()
    images = data.load(config.dataset, "train", config.train_images)
    train, validation = held_out(images, config.validation_images)
    test = data.load(config.dataset, "test", config.test_images)
    model, history, computed = fit_network(config, train, validation, crew, job)
    if not crew.first:
        crew.wait()  # for the first, which measures and saves
        return {}
    model = job.save_weights(model)
    x, y = test.x.to(crew.device), test.y.to(crew.device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    metrics = evaluation.evaluate(model, x, y, threat, config, job)
    sizes = {"train": len(train.x), "validation": len(validation.x), "test": len(x)}
    record = job.save(
        metrics,
        history,
        {"name": train.name, **sizes},
        chosen=chosen(history, METHODS[config.method].choose),
        compute=computed,
        masking=evaluation.masking(model, x, y, threat, config),
        slices=evaluation.loss_slices(model, x, y, threat, config),
    )
    for file in (best_file(job), *job.out.glob(f"{job.run_id}.*-attacks.safetensors")):
        file.unlink(missing_ok=True)
    crew.wait()
    return record
