"""When must a page run again? When its cells, or anything they can see, have changed.

The notebook cache compares code cells and nothing else, so an edit in the library would leave
yesterday's output under today's code. Every page therefore gets one more cell at its end, never
shown: a comment with a hash of all else the cells depend on. The cache then notices by itself,
and keeps no second record that could disagree with the first.

A page depends on the library modules it imports, directly or through others; on the data and
weights shipped with the library; on the recorded results; on the exercises, if its cells name
them; on the pinned requirements and the Python version. A module that imports by name at run time
depends on the whole library.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from tools.book import ROOT, is_executed, read_page

PACKAGE = "adversarial_lab"


def prepare_environment() -> None:
    """Set what the kernels of a book build inherit: static figures, this checkout, no bars."""
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    os.environ["ADVERSARIAL_LAB_STATIC"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # a progress bar is for a reader who waits
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # pages run side by side


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
    cells = [c.source for c in read_page(text).cells if c.cell_type == "code"]
    code = TransformerManager().transform_cell("\n".join(cells))  # magics become calls
    modules = _modules(code, root)
    sets = (root / "exercises").glob("*/*.*") if "exercises" in code else ()
    return modules | _data_files(root, modules) | {path for path in sets if path.is_file()}


def _data_files(root: Path, modules: set[Path]) -> set[Path]:
    shipped = (root / PACKAGE).rglob("*") if modules else ()
    candidates = [root / "requirements.txt", *shipped, *(root / "book/results").glob("*.json")]
    return {p for p in candidates if p.is_file() and p.suffix not in {".py", ".pyc"}}


def _modules(code: str, root: Path) -> set[Path]:
    found: set[Path] = set()
    pending = _imported(code, "", root)
    while pending:
        name, path = pending.popitem()
        if path not in found:
            found.add(path)
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            pending |= _imported(path.read_text(encoding="utf-8"), package, root)
    return found


def _imported(code: str, package: str, root: Path) -> dict[str, Path]:
    """Library modules that `code`, living in `package`, imports: dotted name -> file."""
    if "import_module" in code or "__import__" in code:
        return _whole_library(root)
    dotted = {name for node in ast.walk(ast.parse(code)) for name in _names(node, package)}
    prefixes = {".".join(d.split(".")[: i + 1]) for d in dotted for i in range(d.count(".") + 1)}
    files = {name: _file(name, root) for name in prefixes if name.split(".")[0] == PACKAGE}
    return {name: path for name, path in files.items() if path}


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _file(name: str, root: Path) -> Path | None:
    stem = root.joinpath(*name.split("."))
    options = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in options if path.is_file()), None)


def _whole_library(root: Path) -> dict[str, Path]:
    files = (root / PACKAGE).rglob("*.py")
    return {".".join(p.relative_to(root).with_suffix("").parts): p for p in files}
