"""Set, unset and check the address at which the project is published: `make address`.

It stands in adversarial_lab/address/address.toml. What cannot ask the library carries it in text:
README, pyproject.toml and CITATION.cff between the markers `address: NAME` and `end of address`,
notebooks/ as adversarial_lab/address/notebooks.py says. All of it is rewritten here, with nothing
but the standard library, so that a fresh clone needs neither an installation nor a built book.
"""

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from adversarial_lab.address import REPOSITORY, Address, read
from adversarial_lab.address.notebooks import addressed, text, unaddressed

ROOT = Path(__file__).resolve().parent.parent
SETTING = Path("adversarial_lab/address/address.toml")
NOTEBOOKS = Path("notebooks")
REGION = re.compile(
    r"(?P<open>^[^\n]*address: (?P<name>\w+)[^\n]*\n).*?(?P<close>^[^\n]*end of address)",
    re.M | re.S,
)
GITHUB = re.compile(r"(https?://(www\.)?github\.com/|git@github\.com:)(?P<path>[^?#]*)")
PUBLISHED = """
The book is at <{site}>.
Every page with code also runs in Colab and Binder, through the buttons at its top.

"""
UNPUBLISHED = """
Every page with code is a notebook as well. To run one: in a copy of the project,
`pip install . jupyterlab`, then `jupyter lab notebooks/pgd.ipynb`.

"""
URLS = """\
[project.urls]
Homepage = "{site}"
Source = "{source}"
Issues = "{source}/issues"
Changelog = "{source}/blob/{branch}/CHANGELOG.md"
"""
CITATION = "url: {site}\nrepository-code: {source}\n"
REGIONS = {  # name of a region: its text with an address, its text without
    "book": (PUBLISHED, UNPUBLISHED),
    "install": (
        "\n    pip install {requirement}\n\n",
        "\n    pip install .  # in a copy of the project\n\n",
    ),
    "urls": (URLS, ""),
    "citation": (CITATION, ""),
}
CARRIERS = {"README.md": 2, "pyproject.toml": 1, "CITATION.cff": 1}  # how many regions


def main(arguments: list[str] | None = None) -> None:
    """Set what is asked for, or say what is set; ends with 1 if the check finds something."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.repo is not None:
            _say(changed(ROOT, wanted(asked.repo, asked.branch, asked.site)))
        elif asked.branch or asked.site:
            raise ValueError("BRANCH and SITE belong to a REPO: make address REPO=owner/name ...")
        if asked.check or asked.expect:
            check(ROOT, asked.expect)
    except ValueError as error:
        sys.exit(f"address: {error}")
    print(described(read(ROOT / SETTING)))


def _parser():
    parser = argparse.ArgumentParser(prog="python -m tools.address", description=__doc__)
    parser.add_argument("--repo", help="owner/name on GitHub, or its address; empty: unset")
    parser.add_argument("--branch", default="", help="to link to between releases; else main")
    parser.add_argument("--site", default="", help="the book's; else owner.github.io/name")
    parser.add_argument("--check", action="store_true", help="is it the same everywhere?")
    parser.add_argument("--expect", metavar="REPO[@TAG]", help="fail unless it is this one")
    return parser


def wanted(repo: str, branch: str = "", site: str = "") -> Address:
    """The address that these arguments of `make address` ask for; ValueError says what is wrong."""
    if not repo:
        if branch or site:
            raise ValueError(
                "BRANCH and SITE belong to a REPO, and REPO is empty, which unsets all"
            )
        return Address()
    found = GITHUB.fullmatch(repo)
    path = found["path"].rstrip("/").removesuffix(".git") if found else repo
    parts = REPOSITORY.fullmatch(path)
    if not parts or set(parts["name"]) == {"."}:
        raise ValueError(
            f"REPO={repo!r} must be owner/name of a repository on GitHub, or https://github.com/"
            "owner/name: make address REPO=owner/name; empty, it unsets the address"
        )
    return Address(
        path, branch or "main", site=f"{(site or _pages(**parts.groupdict())).rstrip('/')}/"
    )


def _pages(owner: str, name: str) -> str:
    """Where GitHub Pages puts the site of a repository."""
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def changed(root: Path, new: Address) -> list[Path]:
    """Write the address everywhere; returns the files that are other than before."""
    texts = carried(root, read(root / SETTING), new)
    different = [path for path, text in texts.items() if (root / path).read_text("utf-8") != text]
    for path in different:
        partial = root / f"{path}.partial"
        partial.write_text(texts[path], encoding="utf-8", newline="\n")
        os.replace(partial, root / path)
    return different


def carried(root: Path, old: Address, new: Address) -> dict[Path, str]:
    """Every file that carries the old address, with its text under the new one."""
    texts = {Path(name): _regions(root / name, count, new) for name, count in CARRIERS.items()}
    for path in sorted((root / NOTEBOOKS).rglob("*.ipynb")):
        name = path.relative_to(root / NOTEBOOKS).with_suffix("").as_posix()
        bare = unaddressed(json.loads(path.read_text(encoding="utf-8")), name, old)
        texts[path.relative_to(root)] = text(addressed(bare, name, new))
    return texts | {SETTING: setting((root / SETTING).read_text(encoding="utf-8"), new)}


def setting(toml: str, address: Address) -> str:
    """The text of address.toml, set to this address."""
    for name, value in asdict(address).items():
        toml = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', toml, flags=re.MULTILINE)
    return toml


def _regions(path: Path, count: int, address: Address) -> str:
    def fill(match):
        template = REGIONS[match["name"]][0 if address else 1]
        derived = {"source": address.source, "requirement": address.requirement}
        return match["open"] + template.format(**asdict(address), **derived) + match["close"]

    filled, found = REGION.subn(fill, path.read_text(encoding="utf-8"))
    if found != count:
        raise ValueError(f"{path.name} has {found} regions `address: NAME`, not {count}")
    return filled


def check(root: Path, expected: str | None = None) -> None:
    """ValueError unless all files carry the address that is set, and it is of this repository."""
    address = read(root / SETTING)
    texts = carried(root, address, address)
    stale = [str(path) for path, text in texts.items() if (root / path).read_text("utf-8") != text]
    if stale:
        raise ValueError(f"another address stands in {', '.join(stale)}")
    if expected is not None:
        _check_published(address, *expected.split("@"))


def _check_published(address: Address, repository: str, tag: str = "") -> None:
    if repository.lower() != address.repository.lower():
        raise ValueError(
            f"the address is {address.repository or 'not set'}, this repository {repository}: run"
            f" make address REPO={repository}, and commit what it changes"
        )
    if tag and tag != address.tag:
        raise ValueError(f"the tag {tag} was not made by make release VERSION={tag[1:]}")


def described(address: Address) -> str:
    """The address in a sentence."""
    if not address:
        return "No address is set. To publish: make address REPO=owner/name [BRANCH=...] [SITE=...]"
    return f"The address is {address.source}, {address.ref}, and {address.site}"


def _say(paths: list[Path]) -> None:
    notebooks = sum(path.suffix == ".ipynb" for path in paths)
    names = [str(path) for path in paths if path.suffix != ".ipynb"]
    print("wrote", ", ".join([*names, f"{notebooks} notebooks"]) if paths else "nothing new")


if __name__ == "__main__":
    main()
