"""What MyST becomes in Colab, and that nothing unknown gets through."""

import pytest

from tools import plain_markdown
from tools.plain_markdown import Markdown

NUMBERS = {
    "equations": {"eq-objective": "1"},
    "labels": {
        "fig-attack": {"text": "Figure 17.1", "url": "book/pgd.html#fig-attack"},
        "tab-norms": {"text": "Table 17.1", "url": "book/pgd.html#tab-norms"},
        "thm-fgsm": {"text": "Theorem 17.1", "url": "book/pgd.html#thm-fgsm"},
    },
    "sections": {"book/pgd": ["17.1", "17.1.1", ""]},
    "titles": {"book/notation": "Notation"},
}


@pytest.fixture
def markdown(monkeypatch):
    monkeypatch.setattr(plain_markdown, "numbers", lambda: NUMBERS)
    return Markdown("pgd")


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("by {eq}`eq-objective`", "by (1)"),
        ("```{math}\n:label: eq-objective\nx\n```", "$$\nx \\tag{1}\n$$"),
        ("$$\nx\n$$ (eq-objective)", "$$\nx\n\\tag{1}\n$$"),
        ("{numref}`fig-attack`", "[Figure 17.1](../book/pgd.md#fig-attack)"),
        ("{ref}`here <fig-attack>`", "[here](../book/pgd.md#fig-attack)"),
        ("[](notation.md)", "[Notation](../book/notation.md)"),
        ("{doc}`notation`", "[Notation](../book/notation.md)"),
        ("[x](notation.md#symbols)", "[x](../book/notation.md#symbols)"),
        ("{notebook}`exercises/pgd`", "[exercises/pgd.ipynb](exercises/pgd.ipynb)"),
        ("{cite:t}`madry2018`", "[Madry et al. (2018)](../book/references.bib)"),
        (":::{table} Norms\n:name: tab-norms\n\n| a |\n:::", "**Table 17.1. Norms**\n\n| a |"),
        (
            "```{prf:theorem} Exact\n:label: thm-fgsm\nBy {eq}`eq-objective`.\n```",
            "> **Theorem 17.1 (Exact)**\n>\n> By (1).",
        ),
        ("```{note}\nx\n```", "> **Note**\n>\n> x"),
        ("```{admonition} Careful\nx\n```", "> **Careful**\n>\n> x"),
        (
            "```{hint}\n:class: dropdown\nx\n```",
            "<details><summary>Hint</summary>\n\nx\n\n</details>",
        ),
        ("::::{grid} 2\n:::{grid-item-card} One\nx\n:::\n::::", "**One**\n\nx"),
        ("(label)=\n% a comment\ntext", "text"),
        ("aside[^1]\n\n[^1]: text", "aside<sup>1</sup>\n\n<sup>1</sup> text"),
        ("```python\n{ref}`kept`\n```", "```python\n{ref}`kept`\n```"),
    ],
)
def test_translation(markdown, myst, plain):
    assert markdown.page(myst) == plain


def test_headings_carry_the_chapters_numbers(markdown):
    assert markdown.page("# PGD\n\n## Objective") == "# 17.1 PGD\n\n## 17.1.1 Objective"
    assert markdown.page("### Detail") == "### Detail"


@pytest.mark.parametrize(
    "myst",
    [
        "```{video} a.mp4\n```",
        "{index}`word`",
        "{numref}`nowhere`",
        "{{ substitution }}",
        "[text]{.class}",
        ":::{note}\nnever closed",
    ],
)
def test_what_has_no_translation_is_an_error(markdown, myst):
    with pytest.raises(ValueError, match="book/pgd.md"):
        markdown.page(myst)
