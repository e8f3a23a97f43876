"""The command line says what there is, and hands the words over."""

import subprocess
import sys

import pytest

import adversarial_lab
from adversarial_lab.__main__ import COMMANDS, main
from tools.book import ROOT


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_it_says_what_there_is(words, capsys):
    if words:
        with pytest.raises(SystemExit, match="0"):
            main(words)
    else:
        assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name}" in said for name in COMMANDS)
    assert "adversarial-lab COMMAND" in said and "textbook" in said


def test_it_prints_the_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{adversarial_lab.__version__}\n"


def test_an_unknown_command_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["walk"])
    said = capsys.readouterr().err
    assert "'walk'" in said and all(name in said for name in COMMANDS)


def test_a_command_gets_its_words_and_gives_its_status(capsys):
    assert main(["runs", "pgd", "--scale", "huge"]) == 2
    assert "scale must be one of" in capsys.readouterr().err
    assert main(["exercises", "--root", "/nowhere", "check"]) == 1
    assert main(["runs", "--list"]) == 0
    assert "robust --scale class" in capsys.readouterr().out


def test_python_m_does_the_same():
    command = [sys.executable, "-m", "adversarial_lab"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "\n  exercises " in done.stdout
