"""Turn MyST into the plain Markdown that Colab shows.

Colab knows Markdown and TeX but neither directives nor references, so both are written out, with
the numbers the built book gave them (`_build/numbers.json`). Syntax that has no translation here
is an error: a reader never sees raw markup.
"""

import json
import re
from functools import cache
from itertools import repeat

from pybtex.database import parse_file

from adversarial_lab.address.notebooks import page_link
from tools.book import BUILD, ROOT

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})(?:\{(?P<name>[\w:-]+)\})? ?(?P<argument>[^\n]*)\n"
    r"(?P<options>(?::[\w-]+:[^\n]*\n)*)(?P<body>.*?)^(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
LEFTOVER = re.compile(r"\{[\w:-]+\}`|^ *(`{3,}|:{3,})\{|^:{3,}|^\([\w-]+\)=|^%|\{\{|\]\{", re.M)


@cache
def numbers() -> dict:
    """What the built book calls its labels, sections and equations."""
    return json.loads((BUILD / "numbers.json").read_text(encoding="utf-8"))


class Markdown:
    """Translates one page's MyST, cell by cell, into plain Markdown."""

    def __init__(self, stem: str, numbered: bool = True):
        self.stem = stem  # of a page of the book, or of a demo: its sections have no numbers
        self.sections = iter(numbers()["sections"][f"book/{stem}"]) if numbered else repeat("")
        box, fold, inside = self._box, self._fold, self._inside
        self.directives = {"math": self._math, "table": self._table, "solution": fold}
        self.directives |= dict.fromkeys(["hint", "dropdown"], fold)
        self.directives |= dict.fromkeys(["grid", "grid-item", "grid-item-card"], inside)
        self.directives |= dict.fromkeys(["tab-set", "tab-item", "margin"], inside)
        notes = "admonition attention caution important note seealso tip warning exercise"
        proofs = "theorem lemma proposition corollary definition algorithm example remark proof"
        self.directives |= dict.fromkeys(notes.split(), box)
        self.directives |= dict.fromkeys([f"prf:{name}" for name in proofs.split()], box)

    def page(self, text: str) -> str:
        """The whole cell; whatever could not be translated is an error."""
        done = self.blocks(text).strip()
        if left := LEFTOVER.search(self._prose(done)):
            raise ValueError(f"book/{self.stem}.md: cannot export {done[left.start() :][:70]!r}")
        return done

    def caption(self, label: str, text: str) -> str:
        """A numbered figure's caption."""
        return f"**{self._called(label)}.** {self.page(text)}"

    @staticmethod
    def _prose(text: str) -> str:
        """The text with plain code blocks blanked out, at the same length."""
        return FENCE.sub(lambda m: " " * len(m[0]) if not m["name"] else m[0], text)

    def blocks(self, text: str) -> str:
        """Directives become what they look like; the text between them is translated inline."""
        done, end = [], 0
        for match in FENCE.finditer(text):
            done += [self.inline(text[end : match.start()]), self._fence(match)]
            end = match.end()
        return "".join([*done, self.inline(text[end:])])

    def _fence(self, match) -> str:
        if not match["name"]:
            return match[0]
        translate = self.directives.get(match["name"])
        if translate is None:
            raise ValueError(f"book/{self.stem}.md: no translation of {match['name']!r}")
        options = dict(re.findall(r"^:([\w-]+): *(.*)$", match["options"], re.MULTILINE))
        label = options.get("label", options.get("name"))
        return translate(match["name"], label, match["argument"].strip(), match["body"].strip())

    def _math(self, name, label, argument, body):
        tag = rf" \tag{{{numbers()['equations'][label]}}}" if label else ""
        return f"$$\n{body}{tag}\n$$"

    def _table(self, name, label, argument, body):
        caption = f"{self._called(label)}. " if label else ""
        return f"**{caption}{self.inline(argument)}**\n\n{self.blocks(body)}"

    def _box(self, name, label, argument, body):
        title = self._called(label) if label else name.rpartition(":")[2].capitalize()
        if argument:
            title = argument if name == "admonition" else f"{title} ({argument})"
        lines = [f"**{self.inline(title)}**", "", *self.blocks(body).splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines)

    def _fold(self, name, label, argument, body):
        title = argument if name == "dropdown" else name.capitalize()
        return f"<details><summary>{title}</summary>\n\n{self.blocks(body)}\n\n</details>"

    def _inside(self, name, label, argument, body):
        title = (
            f"**{argument}**\n\n" if argument and not argument.replace(" ", "").isdigit() else ""
        )
        return title + self.blocks(body)

    def inline(self, text: str) -> str:
        """Roles, links, labels, comments, footnotes and headings of a stretch of prose."""
        text = re.sub(r"^(\([\w-]+\)=|%.*)\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^\$\$ *\(([\w-]+)\)$", self._tagged, text, flags=re.MULTILINE)
        text = re.sub(r"^(#+) +(.*)$", self._heading, text, flags=re.MULTILINE)
        text = re.sub(r"\[\^([\w-]+)\](:?)", r"<sup>\1</sup>", text)
        text = re.sub(r"\[([^\]]*)\]\(([\w-]+)\.md(#[\w-]+)?\)", self._link, text)
        return re.sub(r"\{([\w:]+)\}`([^`]+)`", self._role, text)

    def _tagged(self, match):
        return rf"\tag{{{numbers()['equations'][match[1]]}}}" + "\n$$"

    def _heading(self, match):
        number = next(self.sections)
        return " ".join(filter(None, [match[1], number, match[2]]))

    def _link(self, match):
        title = match[1] or numbers()["titles"][f"book/{match[2]}"]
        return f"[{title}]({page_link(match[2], match[3] or '')})"

    def _role(self, match):
        role, content = match[1], match[2]
        titled = re.fullmatch(r"(.*?)\s*<(.+)>", content, re.DOTALL)
        title, target = titled.groups() if titled else (None, content)
        if role == "eq":
            return f"({numbers()['equations'][target]})"
        if role.startswith("cite"):
            return ", ".join(_citation(key.strip(), role) for key in content.split(","))
        if role == "doc":
            return self._link(("", title, target.rpartition("/")[2], ""))
        if role in {"ref", "numref", "prf:ref"}:
            return f"[{title or self._called(target)}]({_source(self._label(target)['url'])})"
        if role == "notebook":
            return f"[{target}.ipynb]({target}.ipynb)"
        raise ValueError(f"book/{self.stem}.md: no translation of the role {role!r}")

    def _called(self, label):
        return self._label(label)["text"]

    def _label(self, label):
        try:
            return numbers()["labels"][label]
        except KeyError:
            raise ValueError(f"book/{self.stem}.md: the book has no label {label!r}") from None


def _source(url: str) -> str:
    """book/pgd.html#fig-attack, as the built book says it, to the way there from a notebook."""
    page, mark, anchor = url.removeprefix("book/").partition("#")
    return page_link(page.removesuffix(".html"), mark + anchor)


def _citation(key: str, role: str) -> str:
    """A link to the references, as the book writes it: {cite:t} in the text, {cite:p} beside it."""
    entry = _bibliography()[key]
    people = entry.persons["author"]
    names = [" ".join(map(str, person.rich_last_names)) for person in people]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    year = entry.fields["year"]
    written = f"{who} ({year})" if role == "cite:t" else f"({who}, {year})"
    return f"[{written}]({page_link('references')})"


@cache
def _bibliography():
    return parse_file(ROOT / "book/references.bib").entries
