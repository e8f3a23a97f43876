"""Questions for self-assessment: ``quiz("pgd")`` shows those of a page, ungraded.

Radio buttons and a style sheet, no script: every choice shows its own feedback, in the built book
from ``file://``, in Jupyter and in Colab, with the keyboard and with a screen reader. Questions
are plain text in `_quiz/<stem>.json`, in the format of jupyterquiz.
"""

import json
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

_PACKAGE = resources.files("adversarial_lab")
_FOLDER, _STYLE = _PACKAGE / "_quiz", _PACKAGE / "_static/quiz.css"


@dataclass(frozen=True)
class Quiz:
    """The questions of a page, as a cell's output."""

    stem: str
    questions: tuple[dict[str, Any], ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.text()}

    def html(self) -> str:
        """Groups of radio buttons without a script, their style included."""
        name = f"advq-{self.stem}"
        parts = [_question(q, f"{name}-{k}", k) for k, q in enumerate(self.questions, 1)]
        group = f'<div class="advq" role="group" aria-label="Check yourself">{"".join(parts)}</div>'
        return f"<style>{_STYLE.read_text(encoding='utf-8')}</style>{group}"

    def text(self) -> str:
        """Questions and choices, without the answers."""
        lines = []
        for k, question in enumerate(self.questions, 1):
            choices = (f"   ( ) {answer['answer']}" for answer in question["answers"])
            lines += [f"{k}. {question['question']}", *choices]
        return "\n".join(lines)


def quiz(stem: str) -> Quiz:
    """The questions of the page `stem`. Raises ValueError with the known stems on another one."""
    if stem not in (known := stems()):
        raise ValueError(f"stem must be one of {known}, got {stem!r}")
    questions = json.loads(_FOLDER.joinpath(f"{stem}.json").read_text("utf-8"))
    return Quiz(stem, tuple(questions))


def stems() -> list[str]:
    """The pages that have questions."""
    names = [file.name for file in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def _question(question: dict[str, Any], name: str, number: int) -> str:
    # a style shows the k-th feedback once the k-th choice is made; the live region reads it out
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{k}">'
        f"<span>{escape(answer['answer'])}</span></label>"
        for k, answer in enumerate(question["answers"])
    )
    said = "".join(
        f'<p class="advq-{"right" if answer["correct"] else "wrong"}">'
        f"<strong>{'Right.' if answer['correct'] else 'Not this one.'}</strong>"
        f" {escape(answer['feedback'])}</p>"
        for answer in question["answers"]
    )
    return (
        f"<fieldset><legend>{number}. {escape(question['question'])}</legend>{choices}"
        f'<div role="status">{said}</div></fieldset>'
    )
