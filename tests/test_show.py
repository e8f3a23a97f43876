"""show(): the page carries the source that runs, and nothing else."""

import functools
import inspect
import json
import types

import pytest

from adversarial_lab import figures
from adversarial_lab import show as show_module
from adversarial_lab.figures import Picture, figure
from adversarial_lab.show import show


def markdown(*objects, **options):
    return show(*objects, **options)._repr_mimebundle_()["text/markdown"]


def block(text):
    """The code of the first fenced block."""
    fence, rest = text.split("python\n", 1)
    return rest.split(f"\n{fence}\n", 1)[0]


def documented(x):
    """One line.

    More lines, and a fence:

    ```python
    documented(1)
    ```
    """

    def inner(y):
        """Inner."""
        return y + x  # a comment stays

    return inner(1)


def only_a_docstring():
    """Nothing else."""


def on_one_line(x): "doc"; return x  # fmt: skip # noqa: E702


def counting(n):
    """A generator."""
    yield from range(n)


def decorated(function):
    """Hide a function behind another."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorated
@decorated
def wrapped(x):
    return "the original"


class Example:
    """A class."""

    @staticmethod
    def static(x):
        return "a static method"

    @classmethod
    def made(cls):
        return "a class method"

    @property
    def size(self):
        return "a property"

    def method(self):
        """A method."""
        return "a method"


def test_the_source_is_the_source():
    text = markdown(documented)
    assert block(text) == inspect.getsource(documented).rstrip("\n")
    assert text.startswith("````python\n"), "longer than the fence in the docstring"


def test_library_functions_are_shown_as_written():
    lines, first = inspect.getsourcelines(inspect.unwrap(figure))
    text = markdown(figure)
    assert block(text) == "".join(lines).rstrip("\n")
    assert text.endswith(f"*adversarial_lab/figures.py, line {first}*\n")


def test_a_module_starts_at_its_first_line():
    text = markdown(figures)
    assert block(text) == inspect.getsource(figures).rstrip("\n")
    assert text.endswith("*adversarial_lab/figures.py, line 1*\n")


def test_an_indented_method_is_shown_at_the_margin():
    assert block(markdown(Example.method)).startswith("def method(self):\n    ")
    assert block(markdown(Picture._repr_mimebundle_)).startswith("def _repr_mimebundle_(")


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (wrapped, "the original"),
        (functools.partial(functools.partial(wrapped), 1), "the original"),
        (Example.__dict__["static"], "a static method"),
        (Example.static, "a static method"),
        (Example.__dict__["made"], "a class method"),
        (Example.made, "a class method"),
        (Example.size, "a property"),
        (Example().method, "a method"),
        (functools.cache(counting), "yield from range(n)"),
        (Example, "class Example:"),
        (json.dumps, "skipkeys"),
    ],
)
def test_wrappers_do_not_hide_what_the_author_wrote(thing, expected):
    code = block(markdown(thing))
    assert expected in code and "return function(*args)" not in code


def test_without_docstrings_only_the_algorithm_is_left():
    code = block(markdown(documented, docstring=False))
    assert code == (
        "def documented(x):\n"
        "    def inner(y):\n"
        "        return y + x  # a comment stays\n"
        "\n"
        "    return inner(1)"
    )
    assert '"""' not in block(markdown(Example, docstring=False))


@pytest.mark.parametrize("thing", [only_a_docstring, on_one_line])
def test_a_docstring_that_holds_the_block_stays(thing):
    code = block(markdown(thing, docstring=False))
    assert code == inspect.getsource(thing).rstrip("\n")


@pytest.mark.parametrize("thing", [figures, show_module, Picture, figure, Example])
def test_what_is_left_still_runs(thing):
    stripped = block(markdown(thing, docstring=False))
    compile(stripped, "stripped", "exec")
    assert len(stripped) < len(block(markdown(thing)))


def test_several_objects_come_in_order():
    text = markdown(counting, wrapped)
    assert text.index("def counting") < text.index("def wrapped")
    plain = show(counting, wrapped)._repr_mimebundle_()["text/plain"]
    assert plain.startswith("# test_show.py, line ") and "```" not in plain


def test_a_cell_of_a_notebook_is_called_one(monkeypatch):
    import linecache

    code = "def cell():\n    return 1\n"
    linecache.cache["<cell 1>"] = (len(code), None, code.splitlines(True), "<cell 1>")
    namespace = {"__name__": "__main__"}
    exec(compile(code, "<cell 1>", "exec"), namespace)
    text = markdown(namespace["cell"])
    assert block(text) == code.rstrip("\n") and "*this notebook, line 1*" in text


@pytest.mark.parametrize("thing", [len, "pgd", 3, Example(), types.SimpleNamespace(), None, dict])
def test_what_has_no_source_is_an_error(thing):
    with pytest.raises(TypeError, match="has no Python source; give a function, a class"):
        show(thing)


def test_showing_nothing_is_an_error():
    with pytest.raises(TypeError, match="nothing to show"):
        show()
