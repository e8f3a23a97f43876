"""Build the book: run the pages that need it, write the site strictly, export the notebooks.

A site is either finished, from exactly today's sources, or absent. Outputs of unchanged pages
come from the notebook cache (see page_key); Sphinx itself always starts from nothing, because an
incremental run forgets the warnings of pages it does not read again and turns red into green.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution

from tools import claims, export_notebooks, page_key
from tools.book import BUILD, HTML, ROOT, code_pages, config, read_page

CACHE = BUILD / ".jupyter_cache"
FINISHED = BUILD / "finished"
RUNNING = ("book", "results", ".safetensors")
SOURCES = [
    "_config.yml",
    "_toc.yml",
    "_ext",
    "_theme",
    "_vendor",
    "adversarial_lab",
    "book",
    "tools",
]


def main() -> None:
    """Build what is not up to date and say where it is."""
    if not is_current():
        build()
    changed = export_notebooks.export_all()
    print(
        *(f"wrote {path.relative_to(ROOT)}" for path in changed), sep="\n", end="\n" * bool(changed)
    )
    print(f"The book is at {HTML / 'index.html'}")


def is_current() -> bool:
    """Whether the finished site was built from exactly today's sources."""
    return FINISHED.is_file() and FINISHED.read_text() == fingerprint()


def fingerprint() -> str:
    """A hash over everything that the site is made from."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(claims.content().encode())  # of the tests, the site shows no more
    for path in sorted(_files(SOURCES + ["requirements.txt"])):
        digest.update(f"{path} {hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(names: list[str]) -> set[Path]:
    found = {p for name in names for p in [ROOT / name, *(ROOT / name).rglob("*")] if p.is_file()}
    passing = {".partial", ".pyc"}  # and a run in progress keeps its weights beside its record
    return {
        path
        for path in (p.relative_to(ROOT) for p in found)
        if path.suffix not in passing and path.parts[:2] + (path.suffix,) != RUNNING
    }


def build() -> None:
    """Run the pages, then write the whole site; leaves nothing behind if that fails."""
    FINISHED.unlink(missing_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    before = fingerprint()
    page_key.prepare_environment()
    run_pages()
    write_site()
    FINISHED.write_text(before)  # of what was read, should somebody have typed meanwhile


def run_pages() -> None:
    """Execute, side by side, the pages whose outputs are not in the cache."""
    import matplotlib.font_manager  # noqa: F401  (a first import writes to stderr: not in a page)

    cache = get_cache(CACHE)
    todo = {p: nb for p, nb in _notebooks().items() if not _cached(cache, nb)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(todo, pool.map(_execute, todo, todo.values()), strict=True))
    for path, result in results.items():
        if result.err is None:
            data = {"execution_seconds": result.time}
            bundle = CacheBundleIn(todo[path], str(path), data=data)
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    if failed := {path: result for path, result in results.items() if result.err}:
        sys.exit(
            "\n".join(f"{p.relative_to(ROOT)} failed:\n{failed[p].exc_string}" for p in failed)
        )


def _notebooks():
    texts = {path: path.read_text(encoding="utf-8") for path in code_pages()}
    return {path: read_page(page_key.stamped(text)) for path, text in texts.items()}


def _cached(cache, notebook) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def _execute(path, notebook):
    print(f"running {path.relative_to(ROOT)}\n", end="", flush=True)  # one write: threads
    timeout = config()["execute"]["timeout"]
    patient = {"startup_timeout": timeout, "extra_arguments": ["--IPKernelApp.log_level=40"]}
    result = single_nb_execution(notebook, path.parent, timeout, allow_errors=False, **patient)
    print(f"  {path.relative_to(ROOT)}: {result.time:.0f} s\n", end="", flush=True)
    return result


def write_site() -> None:
    """Run Sphinx over all pages, every warning an error."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["--all", "-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run([jupyter_book, "build", *options, ROOT], check=False)
    if done.returncode:
        shutil.rmtree(HTML, ignore_errors=True)
        sys.exit("The book has errors: see above.")


if __name__ == "__main__":
    main()
