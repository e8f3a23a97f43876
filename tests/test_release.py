"""A release of a small project, real and dry, and what a push of its tag would publish."""

import datetime
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

from adversarial_lab.address import Address
from tools import address as command
from tools import release
from tools.book import ROOT

LAB = Address("an-author/the-lab", site="https://an-author.github.io/the-lab/")
WORKFLOW = ROOT / ".github/workflows/publish.yml"
pytestmark = [
    pytest.mark.slow,  # wheels are built
    pytest.mark.skipif(not shutil.which("git"), reason="git is not installed"),
]


def git(root, *arguments):
    return release.git(root, *arguments)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with all that carries an address or a version, at 0.1.0; `make` does nothing."""
    root = tmp_path / "a project"
    names = [*command.CARRIERS, command.SETTING, *release.PLACES, "LICENSE", ".gitignore"]
    names += ["adversarial_lab/address/__init__.py", "notebooks/cka.ipynb"]
    for name in [*names, "notebooks/exercises/pgd.ipynb", ".ci/publish"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    command.changed(root, LAB)
    log = (root / "CHANGELOG.md").read_text().partition("## Unreleased")[0]
    (root / "CHANGELOG.md").write_text(f"{log}## Unreleased\n\n### Added\n\n- A thing.\n")
    (root / "adversarial_lab/__init__.py").write_text('__version__ = "0.1.0"\n')
    git(root, "-c", "init.defaultBranch=main", "init", "--quiet")
    for key, value in {
        "user.name": "An Author",
        "user.email": "a@b.c",
        "commit.gpgsign": "false",
    }.items():
        git(root, "config", key, value)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "First")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/made"\n')
    (tmp_path / "bin/make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return root


def at(root, ref, name):
    return git(root, "show", f"{ref}:{name}")


def test_a_release_pins_everything_to_its_tag_and_leads_back_to_the_branch(project):
    first = git(project, "rev-parse", "HEAD")
    release.release(project, "0.2.0")
    assert (project.parent / "made").read_text() == "lint test\n"
    assert git(project, "log", "--format=%s by %an") == (
        "After 0.2.0, back to main by An Author\nRelease 0.2.0 by An Author\nFirst by An Author"
    )
    assert git(project, "rev-parse", "v0.2.0^{commit}") == git(project, "rev-parse", "HEAD~1")
    assert git(project, "cat-file", "-t", "v0.2.0") == "tag" and not git(project, "status", "-s")
    today = datetime.date.today().isoformat()
    citation = at(project, "v0.2.0", "CITATION.cff")
    assert f'version: 0.2.0\ndate-released: "{today}"\n' in citation
    assert f"## Unreleased\n\n## 0.2.0 - {today}\n\n### Added" in at(
        project, "v0.2.0", "CHANGELOG.md"
    )
    for ref, pinned in [("v0.2.0", "v0.2.0"), ("HEAD", "main"), (first, "main")]:
        for name in ("README.md", "notebooks/cka.ipynb", "notebooks/exercises/pgd.ipynb"):
            assert re.findall(r"the-lab@([\w.]+)", at(project, ref, name)) == [pinned]
        links = re.findall(r"/blob/([\w.]+)/", at(project, ref, "notebooks/exercises/pgd.ipynb"))
        assert set(links) == {pinned}
    changed = git(project, "diff", "--name-only", first, "HEAD").split()
    assert set(changed) == set(release.PLACES)
    command.check(project, LAB.repository)


def test_the_wheel_is_the_tags(project):
    (project / "adversarial_lab/left.partial").write_text("ignored by git")
    release.release(project, "0.2.0rc1")
    (wheel,) = (project / "dist").iterdir()
    assert wheel.name == "adversarial_lab_companion-0.2.0rc1-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed:
        assert b'tag = "v0.2.0rc1"' in packed.read(str(command.SETTING))
        assert not any(name.endswith(".partial") for name in packed.namelist())


@pytest.mark.parametrize("here", [LAB, Address()], ids=["set", "unset"])
def test_a_dry_run_does_the_same_and_leaves_nothing(here, project, capsys):
    command.changed(project, here)
    git(project, "commit", "--quiet", "--allow-empty", "-am", "Address")
    (project / "LICENSE").write_text("being edited\n")
    before = git(project, "for-each-ref"), git(project, "status", "--porcelain")
    release.release(project, "0.2.0", dry_run=True)
    assert before == (git(project, "for-each-ref"), git(project, "status", "--porcelain"))
    assert not (project.parent / "made").exists() and not (project / "dist").exists()
    said = capsys.readouterr().out
    assert "Release 0.2.0" in said and "back to main" in said and "companion-0.2.0-py3" in said


@pytest.mark.parametrize(
    ("spoil", "version", "why"),
    [
        (None, "0.2", "VERSION='0.2' must be like 0.2.0"),
        (None, "v0.2.0", "must be like"),
        (None, "", "must be like"),
        (None, "0.1.0rc1", "'0.1.0rc1' is before 0.1.0"),
        (None, "0.0.9", "is before 0.1.0"),
        (["tag", "v0.2.0"], "0.2.0", "the tag v0.2.0 is there already"),
        (["checkout", "--quiet", "-b", "topic"], "0.2.0", "made on main, not on topic"),
        (["checkout", "--quiet", "--detach"], "0.2.0", "made on main, not on no branch"),
        (["rm", "--quiet", "LICENSE"], "0.2.0", "commit or stash first:\nD  LICENSE"),
    ],
)
def test_what_cannot_be_released_is_refused_in_words(spoil, version, why, project):
    if spoil:
        git(project, *spoil)
    before = git(project, "for-each-ref")
    with pytest.raises(ValueError, match=re.escape(why)):
        release.release(project, version)
    assert git(project, "for-each-ref") == before and not (project.parent / "made").exists()


def test_nothing_new_is_no_release(project):
    release.release(project, "0.1.0")
    with pytest.raises(ValueError, match="nothing under Unreleased"):
        release.release(project, "0.2.0")


def test_a_check_that_fails_stops_it(project):
    (project.parent / "bin/make").write_text("#!/bin/sh\nexit 3\n")
    before = git(project, "for-each-ref")
    with pytest.raises(subprocess.CalledProcessError):
        release.release(project, "0.2.0")
    assert git(project, "for-each-ref") == before


def publish(project, **environment):
    """Run .ci/publish as the workflow does, the tools being those of this checkout."""
    runner = project / ".venv/bin/python"
    runner.parent.mkdir(parents=True, exist_ok=True)
    runner.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    runner.chmod(0o755)
    shutil.copytree(ROOT / "tools", project / "tools", dirs_exist_ok=True)
    for path in (ROOT / "adversarial_lab/address").glob("*.py"):
        shutil.copy(path, project / "adversarial_lab/address")
    return subprocess.run(
        [project / ".ci/publish"], env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_what_the_workflow_publishes_is_the_release(project):
    release.release(project, "0.2.0")
    git(project, "checkout", "--quiet", "v0.2.0")
    shutil.rmtree(project / "dist")
    tag = {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v0.2.0"}
    done = publish(project, GITHUB_REPOSITORY="an-author/the-lab", **tag)
    assert done.returncode == 0, done.stderr
    assert (project.parent / "made").read_text() == "lint test\nbook\n"
    assert (project / "dist/adversarial_lab_companion-0.2.0-py3-none-any.whl").is_file()
    assert (project / "dist/notes.md").read_text() == "### Added\n\n- A thing.\n"


def test_a_fork_publishes_nothing(project):
    done = publish(project, GITHUB_REPOSITORY="me/fork")
    assert (
        done.returncode and "this repository me/fork: run make address REPO=me/fork" in done.stderr
    )
    assert not (project.parent / "made").exists() and not (project / "dist").exists()


def test_notebooks_that_the_book_writes_anew_stop_it(project):
    make = project.parent / "bin/make"
    make.write_text('#!/bin/sh\necho "{}" > notebooks/cka.ipynb\n')
    done = publish(project, GITHUB_REPOSITORY="an-author/the-lab")
    assert done.returncode and not (project / "dist").exists()


def test_the_workflow_publishes_on_a_tag_alone_and_what_was_built():
    """Nothing here can run GitHub's actions; this is what they are told."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    triggers = workflow[True]  # "on", to YAML
    assert triggers["push"] == {"tags": ["v*"]} and "pull_request" not in triggers
    jobs, tagged = workflow["jobs"], "startsWith(github.ref, 'refs/tags/v')"
    assert workflow["permissions"] == {"contents": "read"} and "permissions" not in jobs["build"]
    assert jobs["site"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert jobs["wheel"]["permissions"] == {"contents": "write"}
    assert all(
        jobs[name]["if"] == tagged and jobs[name]["needs"] == "build" for name in ("site", "wheel")
    )
    steps = {s.get("uses", s.get("run")).split("@")[0]: s for s in jobs["build"]["steps"]}
    assert steps["actions/upload-pages-artifact"]["with"]["path"] == "_build/html"
    upload, (download, _) = steps["actions/upload-artifact"], jobs["wheel"]["steps"]
    assert upload["with"] == download["with"] == {"name": "release", "path": "dist"}
    assert ".ci/publish" in steps and os.access(ROOT / ".ci/publish", os.X_OK)


@pytest.mark.parametrize("tag, early", [("v0.2.0", ""), ("v0.2.0rc1", "--prerelease")])
def test_the_release_is_made_of_the_wheel_and_its_notes(tag, early, tmp_path):
    run = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["wheel"]["steps"][-1]["run"]
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/a.whl").touch()
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "gh").chmod(0o755)
    found = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GITHUB_REF_NAME": tag}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", run], cwd=tmp_path, env=found, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    wanted = f"release create {tag} dist/a.whl --verify-tag {early} --title {tag}"
    assert done.stdout.split() == f"{wanted} --notes-file dist/notes.md".split()
