"""What a piece of Python asks of the library, read from its text without running it.

Names are dotted. An import asks for a name; so does every use of a name that an import has bound
(`import adversarial_lab as al; al.pgd.pgd`), because a package may import a module only when an
attribute is asked for: in its `__getattr__`, which is therefore read apart from the rest. Where
the text does not say which module is loaded by its name, every module that it could be is asked
for.
"""

import ast
import re
import symtable
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

PACKAGE = "adversarial_lab"
LOADERS = {  # they import what a string names
    "__import__",
    "exec_module",
    "import_module",
    "load_module",
    "locate",
    "resolve_name",
    "run_module",
    "run_path",
    "spec_from_file_location",
}
DOTTED = re.compile(rf"{PACKAGE}(\.\w+)+")


@dataclass(frozen=True)
class Use:
    """A name whose value is used; `argument` is the first one, if it is called with a literal."""

    name: str
    argument: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a text asks for: imports, "a.b.*" for all below a.b; values; its literal strings."""

    imports: frozenset[str] = field(default_factory=frozenset)
    uses: frozenset[Use] = field(default_factory=frozenset)
    texts: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Module:
    """A module: what its text asks for, and what it does for attributes that it does not define."""

    always: Asked
    on_demand: Asked | None  # by a package's `__getattr__`
    defined: frozenset[str]
    table: Mapping[str, frozenset[str]]  # literal strings that stand for literal strings


@cache
def read(text: str, package: str, is_package: bool) -> Module:
    """The module with this text; `package` is the one it lives in, or is."""
    tree = ast.parse(text)
    symbols = symtable.symtable(text, package, "exec").get_symbols()
    defined = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    apart = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]
    if not is_package or "__getattr__" not in defined:
        return Module(asked(tree, package), None, frozenset(defined), {})
    below = f"{package}.*"
    demand = asked(ast.Module([*apart], []), package, below)
    if not apart:  # some other function has made it
        demand = Asked(frozenset({below}))
    tree.body = [node for node in tree.body if node not in apart]
    return Module(asked(tree, package), demand, frozenset(defined), _table(tree))


def asked(tree: ast.AST, package: str = "", unknown: str = f"{PACKAGE}.*") -> Asked:
    """What the code asks for; `unknown` is all that a loader of an unknown name may load."""
    nodes = list(ast.walk(tree))
    bound = _bound(nodes, package)
    loaded = set(_loaded(nodes, package, unknown))
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    imports = {name for node in nodes for name in _imported(node, package)}
    imports |= loaded | {text for text in texts if DOTTED.fullmatch(text)}
    used = _Uses(bound)
    used.visit(tree)
    others = {Use(name) for name in loaded | _passed_on(nodes, package) if not name.endswith("*")}
    return Asked(
        frozenset(filter(_in_library, imports)),
        frozenset(use for use in used.found | others if _in_library(use.name)),
        frozenset(texts),
    )


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{_base(node, package)}.{alias.name}" for alias in node.names)


def _base(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
    return ".".join([*above, *filter(None, [node.module])])


def _bound(nodes: list[ast.AST], package: str) -> dict[str, set[str]]:
    """The library's names that the code's own names may stand for, whatever their scope."""
    bound = defaultdict(set)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                bound[alias.asname or root].add(alias.name if alias.asname else root)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                bound[alias.asname or alias.name].add(f"{_base(node, package)}.{alias.name}")
    return {name: targets for name, targets in bound.items() if any(map(_in_library, targets))}


def _in_library(name: str) -> bool:
    return name.split(".")[0] == PACKAGE


def _passed_on(nodes: list[ast.AST], package: str) -> set[str]:
    """What `from` imports and the code itself never uses: others may, from here."""
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    return {
        f"{_base(node, package)}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name) not in used
    }


class _Uses(ast.NodeVisitor):
    """Every use of a bound name, with the attributes asked of it."""

    def __init__(self, bound: Mapping[str, set[str]]) -> None:
        self.bound, self.found = bound, set[Use]()

    def visit_Call(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(literal)), *_]:
                self._use(node.func, literal)
            case _:
                self._use(node.func, None)
        for part in [*node.args, *node.keywords]:
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._use(node, None)

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node, None)

    def _use(self, node: ast.expr, argument: str | None) -> None:
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            self.visit(node)
        elif isinstance(node.ctx, ast.Load):
            targets = self.bound.get(node.id, ())
            self.found |= {Use(".".join([name, *attributes]), argument) for name in targets}


def _loaded(nodes: list[ast.AST], package: str, unknown: str) -> Iterator[str]:
    """What the code loads by its name: one module, all of a package, or `unknown`."""
    known = set()
    for node in nodes:
        if isinstance(node, ast.Call) and _mentions_loader(node.func):
            known.add(node.func)
            yield from _target(node.args[0] if node.args else None, package, unknown)
    if any(_mentions_loader(node) for node in nodes if node not in known):
        yield unknown


def _mentions_loader(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return name in LOADERS
        case ast.alias(name=name, asname=str()):
            return name in LOADERS
    return False


def _target(node: ast.expr | None, package: str, unknown: str) -> Iterator[str]:
    parts = _parts(node, package)
    start = "".join(parts[: parts.index(None)] if None in parts else parts)  # type: ignore[arg-type]
    if None not in parts and not start.startswith("."):
        yield start.replace(":", ".")  # an entry point's
    elif "." in start.lstrip("."):
        yield f"{start.rpartition('.')[0]}.*"
    else:
        yield unknown


def _parts(node: ast.expr | None, package: str) -> list[str | None]:
    """The pieces that a string is put together from, None for what is known only later."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return [part for value in values for part in _parts(value, package)]
        case ast.FormattedValue(value=value, format_spec=None):
            return _parts(value, package)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _parts(left, package) + _parts(right, package)
        case ast.Name(id="__name__" | "__package__"):
            return [package]
    return [None]


def _table(tree: ast.AST) -> dict[str, frozenset[str]]:
    table = defaultdict(set)
    for display in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
        for key, value in zip(display.keys, display.values, strict=True):
            match key, value:
                case ast.Constant(value=str(name)), ast.Constant(value=str(home)):
                    table[name].add(home)
    return {name: frozenset(homes) for name, homes in table.items()}
