"""Which warnings are errors under pytest: all of ours, of others' those that are listed."""

import sysconfig
import warnings
from pathlib import Path

import pytest

from tools.book import ROOT

SITE = Path(sysconfig.get_path("purelib"))
BAD = 'text = "\\d"\n'  # the compiler warns: an escape that is none


@pytest.mark.parametrize(
    ("category", "module"),
    [
        (UserWarning, "adversarial_lab"),
        (DeprecationWarning, "adversarial_lab.transport.line"),
        (FutureWarning, "tools.book"),
        (ResourceWarning, "test_threat"),
        (UserWarning, "<string>"),  # code of a cell or an exercise
        (RuntimeWarning, "numpy.linalg._linalg"),
        (RuntimeWarning, "scipy.optimize"),
        (UserWarning, "torch.optim.lr_scheduler"),
        (pytest.PytestUnraisableExceptionWarning, "_pytest.unraisableexception"),
    ],
)
def test_what_is_ours_or_listed_is_an_error(category, module):
    with pytest.raises(category, match="this one"):
        warnings.warn_explicit("this one", category, "file.py", 1, module=module)


@pytest.mark.parametrize(
    ("category", "module"),
    [
        (DeprecationWarning, "torch.jit._script"),
        (SyntaxWarning, "ot.datasets"),
        (UserWarning, "torch.cuda"),  # a driver that is too old
        (FutureWarning, "adversarial_laboratory"),
    ],
)
def test_what_others_write_for_themselves_is_none(category, module):
    with pytest.warns(category, match="that one"):
        warnings.warn_explicit("that one", category, "file.py", 1, module=module)


@pytest.mark.parametrize("place", ["ot/datasets.py", "ot/tests/test_ot.py"])
def test_a_library_that_is_not_compiled_beforehand_can_be_imported(place):
    """Installers may leave that to the first import, and old escapes in POT then warn."""
    with warnings.catch_warnings(record=True) as caught:
        compile(BAD, str(SITE / place), "exec")
    assert "invalid escape sequence" in str(caught[0].message)


@pytest.mark.parametrize("place", ["adversarial_lab/pgd.py", "tests/test_pgd.py", "_ext/new.py"])
def test_our_own_files_must_compile_without_a_warning(place):
    with pytest.raises(SyntaxError, match="invalid escape sequence"):
        compile(BAD, str(ROOT / place), "exec")
