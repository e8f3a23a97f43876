"""A function's own source in a page: ``show(pgd)``, so that no page carries a second copy.

The output is Markdown, which the book, JupyterLab and Colab all render in their own colours.
"""

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """Source code and where it stands."""

    code: str
    place: str

    def markdown(self) -> str:
        """A fenced block and the place beneath it; the fence is longer than any in the code."""
        longest = max((len(run) for run in re.findall("`+", self.code)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}python\n{self.code}\n{fence}\n\n*{self.place}*\n"


@dataclass(frozen=True)
class Sources:
    """The output of a cell."""

    parts: tuple[Source, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {
            "text/markdown": "\n".join(part.markdown() for part in self.parts),
            "text/plain": "\n\n".join(f"# {part.place}\n{part.code}" for part in self.parts),
        }


def show(*objects: Any, docstring: bool = True) -> Sources:
    """The source of functions, classes or modules; ``docstring=False`` leaves only the algorithm.

    Decorated functions, partials, methods and generators show what their author wrote. An object
    without Python source (a builtin, an instance, a string) is an error.
    """
    if not objects:
        raise TypeError("show: nothing to show; give a function, a class or a module")
    return Sources(tuple(source(thing, docstring) for thing in objects))


def source(thing: Any, docstring: bool) -> Source:
    """The source of one object."""
    plain = undecorated(thing)
    try:
        lines, first = inspect.getsourcelines(plain)
    except (TypeError, OSError) as error:
        raise TypeError(
            f"show: {thing!r} has no Python source; give a function, a class or a module "
            "that is written in Python"
        ) from error
    code = textwrap.dedent("".join(lines)).strip("\n")
    return Source(code if docstring else without_docstrings(code), place(plain, max(first, 1)))


def undecorated(thing: Any) -> Any:
    """What the author wrote, under partials, properties, static and class methods, wrappers."""
    for kind, attribute in (
        (functools.partial, "func"),
        (functools.partialmethod, "func"),
        (property, "fget"),
        (functools.cached_property, "func"),
        (staticmethod | classmethod, "__func__"),
    ):
        if isinstance(thing, kind):
            return undecorated(getattr(thing, attribute))
    return inspect.unwrap(thing)


def place(thing: Any, line: int) -> str:
    """File and line, the file from its package down; a cell's own definitions are in a notebook."""
    file = Path(inspect.getsourcefile(thing) or "")
    package = (getattr(thing, "__module__", None) or thing.__name__).split(".")[0]
    root = getattr(sys.modules.get(package), "__file__", None)
    if root and file.is_relative_to(Path(root).parent):
        base = Path(root).parent
        base = base.parent if Path(root).name == "__init__.py" else base
        return f"{file.relative_to(base).as_posix()}, line {line}"
    return f"{file.name}, line {line}" if file.is_file() else f"this notebook, line {line}"


def without_docstrings(code: str) -> str:
    """The code less the docstrings that stand on lines of their own, and the blank line after."""
    lines = code.split("\n")
    for first, last in sorted(docstring_lines(code), reverse=True):
        if last < len(lines) and not lines[last].strip():
            last += 1
        del lines[first - 1 : last]
    return "\n".join(lines).strip("\n")


def docstring_lines(code: str) -> Iterator[tuple[int, int]]:
    """First and last line of every docstring with something after it in its block."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            doc, following = node.body[:2]
            last = doc.end_lineno or doc.lineno
            if last < following.lineno:
                yield doc.lineno, last
