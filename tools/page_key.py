"""When must a page run again? When its cells, or anything they can see, have changed.

The notebook cache compares code cells and nothing else, so an edit in the library would leave
yesterday's output under today's code. Every page therefore gets one more cell at its end, never
shown: a comment with a hash of all else the cells depend on. The cache then notices by itself,
and keeps no second record that could disagree with the first.

A page depends on the library modules it imports, directly or through others, at once or later;
on the shipped data in folders that these name; on the records of the runs it asks for, and on the
modules of these runs; on the exercises, if its cells name them; on the pinned requirements and
the Python version. What `tools/imports.py` cannot tell counts as asked for. And the build does not
trust all this: it notes what a page has loaded and opened, and `unexpected` of it stops the build.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from tools.book import ROOT, is_executed, read_page
from tools.imports import PACKAGE, Asked, Module, Use, asked, read

RESULTS = "book/results"
# Told by errors alone, so a new address runs no page again; a page that opens it stops the build.
ADDRESS = f"{PACKAGE}/address/address.toml"
# Functions that load the module or read the files that their first argument names. What their own
# modules do to this end is charged to those who call them, and not to all who import these.
NAMED = {
    f"{PACKAGE}.quiz.quiz": [f"{PACKAGE}/_quiz/{{}}.json"],
    f"{PACKAGE}.records.Asked": [f"{PACKAGE}.runs.{{}}", f"{RESULTS}/{{}}-*.json"],
    f"{PACKAGE}.records.ask": [f"{PACKAGE}.runs.{{}}", f"{RESULTS}/{{}}-*.json"],
    f"{PACKAGE}.records.made_by": [f"{RESULTS}/{{}}-*.json"],
}
NAMED_IN = {name.rpartition(".")[0] for name in NAMED}
PROGRAM = re.compile(rf"\bpython|\.py\b|-m +{PACKAGE}")


def prepare_environment() -> None:
    """Set what the kernels of a book build inherit: static figures, this checkout, no bars."""
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    os.environ["ADVERSARIAL_LAB_STATIC"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # a progress bar is for a reader who waits
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # pages run side by side
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as a kernel would say


def stamped(text: str, root: Path = ROOT) -> str:
    """The page's text with the key of everything its cells see; pages without code unchanged."""
    if not is_executed(text):
        return text
    cell = f"```{{code-cell}}\n:tags: [remove-cell]\n# depends on {page_key(text, root)}\n```"
    return f"{text.rstrip()}\n\n{cell}\n"


def page_key(text: str, root: Path = ROOT) -> str:
    """A hash over all files that the page's cells depend on, and the Python version."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for path in sorted(dependencies(text, root)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def dependencies(text: str, root: Path = ROOT) -> set[Path]:
    """The files outside the page that its cells depend on."""
    cells = [cell.source for cell in read_page(text).cells if cell.cell_type == "code"]
    statements = [line for cell in cells for line in _statements(cell)]
    found = _Reached(root)
    found.follow(asked(ast.Module(statements, [])))
    return (found.files() | {root / "requirements.txt"}) - {root / ADDRESS}


def unexpected(opened: Iterable[Path], text: str, root: Path = ROOT) -> list[Path]:
    """Files of the project that a page has opened and its key does not know."""
    free = [root / name for name in ("_build", ".venv", "tools")]
    ours = {path for path in opened if path.is_relative_to(root) and path.is_file()}
    ours = {path for path in ours if not any(path.is_relative_to(folder) for folder in free)}
    return sorted(ours - dependencies(text, root))


def _statements(code: str) -> Iterator[ast.stmt]:
    """The cell's and those in its magics; a program that it starts may load anything."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    yield from tree.body
    for text in _magic_texts(tree):
        if PROGRAM.search(text):
            yield from ast.parse("__import__(name)").body
            continue
        with suppress(SyntaxError):  # options of a magic, a line for the shell
            yield from _statements(text)


def _magic_texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")))):
                arguments = [n.value for n in node.args if isinstance(n, ast.Constant)]
                yield from (text for text in arguments if isinstance(text, str))


class _Reached:
    """All modules, and files of other kinds, that following what was asked comes to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known = dict(_library(root))
        self.modules, self.patterns, self.texts = set[str](), set[str](), set[str]()
        self._done: set[str | Use] = set()

    def follow(self, start: Asked) -> None:
        """Add what is asked for, and what that asks for, until there is nothing new."""
        pending = [start]
        while pending:
            item = pending.pop()
            self.texts |= item.texts
            new = (item.imports | item.uses) - self._done
            self._done |= new
            for wanted in new:
                name = wanted.name if isinstance(wanted, Use) else wanted
                pending += self._load(name)
                if isinstance(wanted, Use):
                    pending.append(self._value(wanted))

    def files(self) -> set[Path]:
        """The files of what was reached; a folder's files are reached by its name or theirs."""
        words = {word for text in self.texts for word in text.split("/")}
        named = {path for path, names in _other_files(self.root) if words & names}
        globs = {path for pattern in self.patterns for path in self.root.glob(pattern)}
        return {self.known[name] for name in self.modules} | named | globs

    def _load(self, name: str) -> Iterator[Asked]:
        if name.endswith(".*"):
            below = {m for m in self.known if f"{m}.".startswith(name[:-1])}
            yield Asked(frozenset(below), frozenset(map(Use, below)))
        words = name.split(".")
        prefixes = accumulate(words, lambda left, right: f"{left}.{right}")
        loaded = [prefix for prefix in prefixes if prefix in self.known]
        for module in loaded:
            if module not in self.modules:
                self.modules.add(module)
                yield self._always(module)
        rest = words[loaded[-1].count(".") + 1 :] if loaded else []
        if rest and self._is_lazy(loaded[-1], rest[0]):
            yield self._on_demand(loaded[-1], rest[0])

    def _always(self, module: str) -> Asked:
        found = self._read(module).always
        if module in NAMED_IN:
            return Asked(frozenset(n for n in found.imports if not n.endswith(".*")), found.uses)
        texts = {text for text in found.texts if f"{module}.{text}" not in self.known}
        return replace(found, texts=frozenset(texts))  # less the names of modules: no folders

    def _is_lazy(self, module: str, name: str) -> bool:
        source = self._read(module)
        private = name.startswith("__") and name.endswith("__")
        return not (source.on_demand is None or name in source.defined or name == "*" or private)

    def _on_demand(self, module: str, name: str) -> Asked:
        source = self._read(module)
        demand, anything = source.on_demand or Asked(), f"{module}.*"
        homes = {h for t in source.table.get(name, ()) for h in (t, f"{module}.{t}")}
        homes &= set(self.known)
        if not homes:
            return demand
        return Asked(demand.imports - {anything} | homes, demand.uses | set(map(Use, homes)))

    def _value(self, use: Use) -> Asked:
        """What a value may load or read: a lazy package all below it, `NAMED` what they name."""
        templates = {
            template
            for function, templates in NAMED.items()
            if use.name in (function, function.rpartition(".")[0])
            for template in templates
        }
        argument = use.argument if use.name in NAMED else None
        filled = {template.format(argument or "*") for template in templates}
        self.patterns |= {text for text in filled if "/" in text}
        modules = {text for text in filled if "/" not in text}
        if use.name in self.known and self._read(use.name).on_demand:
            modules.add(f"{use.name}.*")
        return Asked(frozenset(modules))

    def _read(self, module: str) -> Module:
        path = self.known[module]
        is_package = path.name == "__init__.py"
        package = module if is_package else module.rpartition(".")[0]
        return read(path.read_text(encoding="utf-8"), package, is_package)


def _library(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the library: its dotted name and its file."""
    for path in (root / PACKAGE).rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def _other_files(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Data that cells may read, each with the names by which a text can come to it."""
    for path in (root / PACKAGE).rglob("*"):
        if path.is_file() and path.suffix not in {".py", ".pyc", ".partial"}:
            folders = path.relative_to(root / PACKAGE).parents
            data = {f.name for f in folders if not (root / PACKAGE / f / "__init__.py").is_file()}
            yield path, data or {path.name}
    for path in (root / RESULTS).glob("*.*"):
        if path.suffix != ".partial" and len(path.suffixes) == 1:  # else a run's, on its way
            yield path, {path.parent.name}
    yield from ((path, {"exercises"}) for path in (root / "exercises").glob("*/*.*"))
