r"""Section 17.2.3: is the gradient informative? `masking_report`, one line for each question.

A check is a row of `CHECKS`: a number measured on the network, and the threshold at which it is a
sign of masking. The numbers come from `Evidence`, which runs every attack once and only if some
check asks for it. The thresholds are conventions: honest networks stay clear of them.
"""

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from adversarial_lab.masking.evidence import Evidence, dead
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels, attacking

LIMITS = (
    "A clean report proves nothing about robustness: it only says that these attacks were not"
    " misled in ways this list knows. An attack adapted to the network may still succeed; only a"
    " certificate (Section 17.4) bounds what every attack can do."
)


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
        return Finding(self.name, value, self.threshold, verdict, self.meaning, self.source)


@dataclass(frozen=True)
class Finding:
    """A line of the report; value is None where the check was not run."""

    name: str
    value: float | None
    threshold: float
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
        "share of PGD-40's gain made in its last 10 steps, where it breaks nothing: 0.25 is steady",
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


@dataclass(frozen=True)
class Report:
    """The findings, in words, as a table, as JSON. `flags` are the names of those that fired."""

    findings: tuple[Finding, ...]
    n: int
    threat: ThreatModel
    accuracy: float
    robust_accuracy: float | None
    dead: str  # why no attack makes sense, empty where it does

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.findings if f.verdict == "flag")

    @property
    def summary(self) -> str:
        where = f"{self.n} images, {self.threat.norm} {self.threat.eps:g}"
        if self.dead:
            return f"Dead model ({where}): {self.dead}. No attack means anything here."
        count = len(self.flags)
        verdict = f"{count} sign{'s' * (count != 1)} of masking" if count else "No sign of masking"
        return (
            f"{verdict} ({where}): accuracy {self.accuracy:.1%},"
            f" {self.robust_accuracy:.1%} after every attack below."
        )

    def to_json(self) -> str:
        """Everything in the report, the limits of its meaning included."""
        return json.dumps(
            {
                "summary": self.summary,
                "n": self.n,
                "norm": self.threat.norm,
                "eps": self.threat.eps,
                "accuracy": self.accuracy,
                "robust_accuracy": self.robust_accuracy,
                "dead": self.dead,
                "flags": self.flags,
                "findings": [vars(f) for f in self.findings],
                "limits": LIMITS,
            },
            indent=1,
        )

    def __str__(self) -> str:
        wide = max(len(f.name) for f in self.findings)
        lines = [
            f"{f.verdict:>7}  {f.name:<{wide}}  {_number(f.value):>7}  {_limit(f):>7}  {f.meaning}"
            f" ({f.source})"
            for f in self.findings
        ]
        return "\n".join([self.summary, *lines, LIMITS])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": _table(self), "text/plain": str(self)}


def masking_report(
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    certified: Bool[Tensor, " n"] | None = None,
    queries: int = 500,
    seed: int = 0,
) -> Report:
    """Ask `model` every question of `CHECKS` on the images x, Section 17.2.3.

    certified: which images some certificate protects at this radius, if there is one. queries:
    of Square, for images (n, c, h, w). A network with NaN or constant outputs is called dead and
    not attacked. Takes some 400 gradients an image. ValueError on inputs that make no sense.
    """
    threat.check(x)
    with attacking(model):
        evidence = Evidence(model, x, y, threat, certified, queries, seed)
        why = dead(evidence.logits, y)
        findings = tuple(_not_run(c) if why else c.ask(evidence) for c in CHECKS)
        broken = None if why else 1 - evidence.everything.double().mean().item()
    accuracy = 1 - evidence.clean.double().mean().item()
    return Report(findings, len(x), threat, accuracy, broken, why)


def _not_run(check: Check) -> Finding:
    return Finding(check.name, None, check.threshold, "not run", check.meaning, check.source)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _limit(finding: Finding) -> str:
    below = next(c.flag_below for c in CHECKS if c.name == finding.name)
    return f"{'<' if below else '>'} {finding.threshold:g}"


def _table(report: Report) -> str:
    """A table with a caption, column and row headers, and verdicts in words, not colours."""
    head = "".join(
        f'<th scope="col">{h}</th>' for h in ("Check", "Value", "Flag if", "Verdict", "Meaning")
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(f.name)}</th><td>{_number(f.value)}</td>'
        f"<td>{html.escape(_limit(f))}</td>"
        f"<td>{'<strong>flag</strong>' if f.verdict == 'flag' else f.verdict}</td>"
        f"<td>{html.escape(f.meaning)} ({html.escape(f.source)})</td></tr>"
        for f in report.findings
    )
    return (
        # the book's dark theme would grey the caption on its light table
        f'<table><caption style="color: inherit">{html.escape(report.summary)}</caption>'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p>{html.escape(LIMITS)}</p>"
    )
