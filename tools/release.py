"""Make a release: `make release VERSION=0.2.0`, or with DRY_RUN=1 see what it would be.

All happens in a clone, which takes nothing along that is not committed. There, one commit names the
version in the library, CITATION.cff and CHANGELOG.md, and pins what carries the address to the tag;
it is tagged, and its wheel built; one more commit leads the notebooks back to the branch. At the
very end both commits, the tag and the wheel come here; a dry run leaves them behind. To publish
is to push them: .github/workflows/publish.yml does the rest.
"""

import argparse
import datetime
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from packaging.version import Version

from adversarial_lab import address as published
from tools import address
from tools.book import ROOT

VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}((a|b|rc)[1-9]\d*)?", re.A)
CHECKS = ["lint", "test"]
SECTION = "^## {}\\b[^\\n]*\n(.*?)(?=^## |\\Z)"
PLACES = {  # file: the text that names a version, and what it becomes
    "adversarial_lab/__init__.py": [('^__version__ = ".*"$', '__version__ = "{version}"')],
    "CITATION.cff": [
        ("^version: .*$", "version: {version}"),
        ("^date-released: .*$", 'date-released: "{today}"'),
    ],
    "CHANGELOG.md": [("^## Unreleased$", "## Unreleased\n\n## {version} - {today}")],
}


def main(arguments: list[str] | None = None) -> None:
    """Release, or write the files of a release that is checked out."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--version", default="", help="as in 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="do all in a clone, and drop it")
    parser.add_argument(
        "--assets", type=Path, help="write the wheel and notes of what git has here"
    )
    asked = parser.parse_args(arguments)
    try:
        if asked.assets:
            assets(ROOT, asked.assets)
        else:
            release(ROOT, asked.version, asked.dry_run)
    except ValueError as error:
        sys.exit(f"release: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"release: stopped, nothing is changed: {shlex.join(map(str, error.cmd))}")


def release(root: Path, version: str, dry_run: bool = False) -> None:
    """Everything in a clone; then fetch the result, unless it is a dry run. ValueError: refused."""
    check(root, version, dry_run)
    if dry_run:
        print(f"Dry run: not run are make {' '.join(CHECKS)}; uncommitted changes are left out.")
    else:
        subprocess.run(["make", *CHECKS], cwd=root, check=True)
        check(root, version)  # the book has written its notebooks meanwhile
    branch, tag = git(root, "branch", "--show-current"), f"v{version}"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        git(root, "clone", "--quiet", "--no-tags", "--branch", branch, str(root), str(clone))
        wheel = written(root, clone, version)
        print(
            git(clone, "log", "--stat", "--reverse", "--format=%n%s", f"origin/{branch}..{branch}")
        )
        print(f"tag {tag}, {wheel.name}")
        if not dry_run:
            git(root, "fetch", "--quiet", str(clone), f"refs/tags/{tag}:refs/tags/{tag}")
            git(root, "pull", "--quiet", "--ff-only", str(clone), branch)
            (root / "dist").mkdir(exist_ok=True)
            shutil.copy(wheel, root / "dist")
            print(f"To publish it: git push --atomic origin {branch} {tag}")


def check(root: Path, version: str, dry_run: bool = False) -> None:
    """ValueError, and why, if this version cannot be released from here."""
    _check_version(root, version)
    branch, here = git(root, "branch", "--show-current"), published.read(root / address.SETTING)
    if branch != here.branch:
        raise ValueError(f"releases are made on {here.branch}, not on {branch or 'no branch'}")
    if git(root, "tag", "--list", f"v{version}"):
        raise ValueError(f"the tag v{version} is there already")
    if not dry_run and (changed := git(root, "status", "--porcelain")):
        raise ValueError(f"commit or stash first:\n{changed}")
    address.check(root)


def _check_version(root: Path, version: str) -> None:
    if not VERSION.fullmatch(version):
        raise ValueError(f"VERSION={version!r} must be like 0.2.0 or 0.2.0rc1")
    init = (root / "adversarial_lab/__init__.py").read_text(encoding="utf-8")
    if Version(version) < Version(now := re.findall('^__version__ = "(.*)"', init, re.M)[0]):
        raise ValueError(f"VERSION={version!r} is before {now}")
    if not notes(root, "Unreleased"):
        raise ValueError("CHANGELOG.md has nothing under Unreleased")


def written(root: Path, clone: Path, version: str) -> Path:
    """Both commits and the tag, in the clone; returns the wheel of the tag."""
    for key in ("user.name", "user.email"):  # which may be set for this repository alone
        if who := git(root, "config", "--default", "", key):
            git(clone, "config", key, who)
    today = datetime.date.today().isoformat()
    for name, rules in PLACES.items():
        text = (clone / name).read_text(encoding="utf-8")
        for pattern, to in rules:
            text = re.sub(pattern, to.format(version=version, today=today), text, flags=re.M)
        (clone / name).write_text(text, encoding="utf-8")
    before, tag = published.read(clone / address.SETTING), f"v{version}"
    address.changed(clone, replace(before, tag=tag))
    git(clone, "commit", "--quiet", "--all", "-m", f"Release {version}")
    git(clone, "tag", "--annotate", "-m", f"Release {version}", tag)
    assets(clone, clone.parent / "assets")
    address.changed(clone, before)
    git(clone, "commit", "--quiet", "--all", "-m", f"After {version}, back to {before.branch}")
    (wheel,) = (clone.parent / "assets").glob("*.whl")
    return wheel


def assets(root: Path, folder: Path) -> None:
    """Write the wheel of what git has, of nothing that lies about, and its notes to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tree:
        git(root, "checkout-index", "--all", f"--prefix={tree}/")
        build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder.resolve()), tree]
        subprocess.run([sys.executable, "-m", *build], check=True, stdout=subprocess.DEVNULL)
    tag = published.read(root / address.SETTING).tag
    text = notes(root, re.escape(tag.removeprefix("v")) or "Unreleased")
    (folder / "notes.md").write_text(text + "\n", encoding="utf-8")


def notes(root: Path, version: str) -> str:
    """What CHANGELOG.md says of a version, without the heading."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(SECTION.format(version), text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def git(root: Path, *arguments: str) -> str:
    """What git prints; CalledProcessError shows what it complains of."""
    done = subprocess.run(
        ["git", "-C", root, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
