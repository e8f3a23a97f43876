"""Build the book: run the pages that need it, write the site strictly, export the notebooks.

A site is either finished, from exactly today's sources, or absent. Outputs of unchanged pages
come from the notebook cache (see page_key).

Sphinx writes every page anew, and so finds what is wrong between pages. It reads only the pages
that have changed since the last finished site, if nothing but pages has: the others had no
warning then and cannot have one now. After any other change, or a failure, it starts from nothing.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from tools import claims, export_notebooks, kernels, page_key
from tools.book import BUILD, HTML, ROOT, code_pages, config, pages, read_page

CACHE = BUILD / ".jupyter_cache"
FINISHED = BUILD / "finished.json"
DOCTREES = BUILD / ".doctrees"  # what Sphinx has read, page by page
REST = "all but the pages"
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
    return finished() == fingerprint()


def finished() -> dict[str, str]:
    """What the finished site was made from, see `fingerprint`; nothing if there is no such site."""
    return json.loads(FINISHED.read_text(encoding="utf-8")) if FINISHED.is_file() else {}


def fingerprint() -> dict[str, str]:
    """All that the site is made from, as hashes: of every page, and of all the rest in one."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(claims.content().encode())  # of the tests, the site shows no more
    hashes = {path.as_posix(): _hash(path) for path in _files([*SOURCES, "requirements.txt"])}
    named = {f"{name}.md" for name in pages()} & hashes.keys()
    found = {page: hashes.pop(page) for page in sorted(named)}
    digest.update("".join(f"{path} {hashes[path]}\n" for path in sorted(hashes)).encode())
    return {REST: digest.hexdigest(), **found}


def _hash(path: Path) -> str:
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


def only_pages_changed(old: dict[str, str], new: dict[str, str]) -> bool:
    """Whether Sphinx, which looks at dates, will find all that has changed since `FINISHED`."""
    if old.keys() != new.keys() or old[REST] != new[REST]:
        return False
    changed = [ROOT / page for page in new if new[page] != old[page]]
    return all(page.stat().st_mtime > FINISHED.stat().st_mtime for page in changed)


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
    before = fingerprint()
    if not only_pages_changed(finished(), before):
        shutil.rmtree(DOCTREES, ignore_errors=True)
    FINISHED.unlink(missing_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    page_key.prepare_environment()
    run_pages()
    write_site()
    FINISHED.write_text(json.dumps(before))  # of what was read, should somebody have typed since


def run_pages() -> None:
    """Execute, side by side, the pages whose outputs are not in the cache."""
    cache = get_cache(CACHE)
    todo = {p: nb for p, nb in _notebooks().items() if not _cached(cache, nb)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(todo, pool.map(_execute, todo, todo.values()), strict=True))
    for path, result in results.items():
        if not result.error:
            data = {"execution_seconds": result.seconds}
            bundle = CacheBundleIn(todo[path], str(path), data=data)
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    if failed := {path: result.error for path, result in results.items() if result.error}:
        sys.exit("\n".join(f"{p.relative_to(ROOT)} failed:\n{failed[p]}" for p in failed))


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
    name = path.relative_to(ROOT)
    print(f"running {name}\n", end="", flush=True)  # one write: threads
    done = kernels.execute(notebook, path.parent, config()["execute"]["timeout"])
    print(f"  {name}: {done.seconds:.0f} s\n", end="", flush=True)
    unknown = page_key.unexpected(done.opened, path.read_text(encoding="utf-8"))
    if unknown and not done.error:
        files = ", ".join(p.relative_to(ROOT).as_posix() for p in unknown)
        message = f"it opened {files}; tools/page_key.py does not know that, and must"
        return replace(done, error=message)
    return done


def write_site() -> None:
    """Run Sphinx, every warning an error; it reads what is new in `DOCTREES`, and writes it all."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run([jupyter_book, "build", *options, ROOT], check=False)
    if done.returncode:
        shutil.rmtree(HTML, ignore_errors=True)
        shutil.rmtree(DOCTREES, ignore_errors=True)
        sys.exit("The book has errors: see above.")


if __name__ == "__main__":
    main()
