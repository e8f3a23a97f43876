"""Section 17.2.3: the questions of `masking_report`, a table with one row for each.

A row is a number measured on a network and the threshold from which on it is a sign of masking.
The numbers come from `Evidence`, which runs every attack once and only if some check asks for it.
The thresholds are conventions: honest networks stay clear of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from adversarial_lab.masking.evidence import Evidence


@dataclass(frozen=True)
class Check:
    """One question: how it is measured, from where on it is a flag, what that means, who says."""

    name: str
    measure: Callable[[Evidence], float | None]
    threshold: float
    meaning: str
    source: str
    flag_below: bool = False

    def ask(self, evidence: Evidence) -> "Finding":
        value = self.measure(evidence)
        if value is None:
            verdict = "not run"
        else:
            bad = value < self.threshold if self.flag_below else value > self.threshold
            verdict = "flag" if bad or value != value else "ok"
        return self.found(value, verdict)

    def found(self, value: float | None, verdict: str) -> "Finding":
        flag_if = f"{'<' if self.flag_below else '>'} {self.threshold:g}"
        return Finding(
            self.name, value, self.threshold, flag_if, verdict, self.meaning, self.source
        )


@dataclass(frozen=True)
class Finding:
    """A line of the report; value is None where the check was not run."""

    name: str
    value: float | None
    threshold: float
    flag_if: str  # the threshold with its side, "> 0.05"
    verdict: str  # "ok", "flag" or "not run"
    meaning: str
    source: str


CHECKS = (
    Check(
        "same answer twice",
        lambda e: e.nondeterminism,
        1e-3,
        "logits differ between two passes, relative to their spread: attack their expectation",
        "Athalye et al. 2018",
    ),
    Check(
        "probabilities, not logits",
        lambda e: float(e.probabilities),
        0.5,
        "outputs are probabilities: a second softmax flattens the gradient",
        "Croce and Hein 2020",
    ),
    Check(
        "zero gradients",
        lambda e: e.zero_gradients,
        0.05,
        "share of images with a cross-entropy gradient of exactly 0",
        "Carlini and Wagner 2017",
    ),
    Check(
        "gradient cosine",
        lambda e: e.cosine,
        0.1,
        "mean cosine between the gradients at x and at a random point of N(x)",
        "Andriushchenko and Flammarion 2020",
        flag_below=True,
    ),
    Check(
        "one step beats many",
        lambda e: e.gain(e.fgsm, e.pgd),
        0.05,
        "share of images that FGSM breaks beyond PGD-40",
        "Athalye et al. 2018",
    ),
    Check(
        "one step far behind many",
        lambda e: e.gain(e.pgd, e.fgsm),
        0.5,
        "share of images that PGD-40 breaks beyond FGSM: the loss may be bent against one step",
        "Wong et al. 2020",
    ),
    Check(
        "small step beats large",
        lambda e: e.gain(e.fgsm_half, e.fgsm),
        0.05,
        "share of images that FGSM breaks at eps/2 beyond those it breaks at eps",
        "Kim et al. 2021",
    ),
    Check(
        "more steps break more",
        lambda e: e.gain(e.pgd_long, e.pgd),
        0.05,
        "robust accuracy lost between PGD-40 and PGD-200",
        "Carlini et al. 2019",
    ),
    Check(
        "still rising",
        lambda e: e.still_rising,
        0.15,
        "share of PGD-40's gain in margin made in its last 10 steps, on images that stand: a"
        " steady climb has 0.25, one that arrived 0",
        "Pintor et al. 2022",
    ),
    Check(
        "restarts break more",
        lambda e: e.gain(e.pgd_restarts, e.pgd),
        0.05,
        "robust accuracy lost between 1 and 5 starts of PGD-40",
        "Mosbach et al. 2018",
    ),
    Check(
        "margin beats cross-entropy",
        lambda e: e.gain(e.margin, e.pgd),
        0.05,
        "robust accuracy lost when PGD ascends the margin instead",
        "Carlini and Wagner 2017",
    ),
    Check(
        "only Square breaks it",
        lambda e: e.only(e.square),
        0.05,
        "share of images that stand against every gradient and fall to none",
        "Andriushchenko et al. 2020",
    ),
    Check(
        "only noise breaks it",
        lambda e: e.only(e.random),
        0.01,
        "share of images that stand against every gradient and fall to random points",
        "Athalye et al. 2018",
    ),
    Check(
        "unbounded attack",
        lambda e: e.unbounded,
        0.05,
        "share of images that stand when eps is the whole box",
        "Athalye et al. 2018",
    ),
    Check(
        "certified above empirical",
        lambda e: e.contradiction,
        0.0,
        "share of images that a certificate protects and an attack breaks: one of them is wrong",
        "Section 17.4",
    ),
)
