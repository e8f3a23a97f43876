"""What to say where a package is missing that one part of the library needs.

    with or_say("a download needs"):
        import pooch

The import stands in the text as it is, so that whoever reads imports, a tool or a person, sees it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def or_say(who_needs: str, extra: str = "") -> Iterator[None]:
    """Import what is inside, or say who needs it, and the command that installs it.

    extra: of pyproject.toml; none for what the library always installs. Raises
    ModuleNotFoundError, and lets the failure of a package that is there pass as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # By the package's name and not by an import, because a page whose imports succeed does not
        # depend on the address, and must not run again when that is set.
        advice = sys.modules[__name__.partition(".")[0]].address.advice(extra)
        raise ModuleNotFoundError(f"{who_needs} {error.name}: {advice}", name=error.name) from error
