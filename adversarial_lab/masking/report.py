"""Section 17.2.3: is the gradient informative? `masking_report`, one line for each question."""

import html
import json
import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from adversarial_lab.classifier import Model
from adversarial_lab.masking.checks import CHECKS, Finding
from adversarial_lab.masking.evidence import Evidence
from adversarial_lab.protocol import strict, trial
from adversarial_lab.threat import Points, ThreatModel

LIMITS = (
    "A clean report proves nothing about robustness: it only says that these attacks were not"
    " misled in ways this list knows. An attack adapted to the network may still succeed; only a"
    " certificate (Section 17.4) bounds what every attack can do."
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
        lines = [("verdict", "check", "value", "flag if", "source")]
        lines += [(f.verdict, f.name, _number(f.value), f.flag_if, f.source) for f in self.findings]
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, wide)).rstrip() for line in lines]
        why = [f"{f.name}: {f.meaning}" for f in self.findings if f.verdict == "flag"]
        parts = [self.summary, *table, *why, LIMITS]
        return "\n".join(textwrap.fill(part, 100, subsequent_indent="  ") for part in parts)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": _table(self), "text/plain": str(self)}


def masking_report(
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    *,
    certified: Bool[Tensor, " n"] | None = None,
    queries: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Ask `model` every question of `CHECKS` on the images x, Section 17.2.3.

    Give it 100 images or more: of 20, a single one is 5 %, the threshold of most checks. certified:
    which images some certificate protects at this radius, if there is one. queries: of Square, for
    images (n, c, h, w) in linf and l2. A network whose outputs or gradients are NaN, or that
    answers everything alike, is called dead and not attacked. Takes up to about 650 gradients and
    650 passes an image; progress shows a bar. ValueError on inputs that make no sense.
    """
    plain = torch.contiguous_format
    with trial(model, x, y, threat, layout=plain) as t, strict(x.device):
        evidence = Evidence(t.model, t.x, t.y, threat, certified, queries, seed)
        why = evidence.dead
        bar = tqdm(CHECKS, "masking_report", leave=False, disable=not progress)
        findings = tuple(c.found(None, "not run") if why else c.ask(evidence) for c in bar)
        broken = None if why else 1 - evidence.everything.double().mean().item()
    accuracy = 1 - evidence.clean.double().mean().item()
    return Report(findings, len(x), threat, accuracy, broken, why)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(report: Report) -> str:
    """A table with a caption, column and row headers, and verdicts in words, not colours."""
    head = "".join(
        f'<th scope="col">{h}</th>' for h in ("Check", "Value", "Flag if", "Verdict", "Meaning")
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(f.name)}</th><td>{_number(f.value)}</td>'
        f"<td>{html.escape(f.flag_if)}</td>"
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
