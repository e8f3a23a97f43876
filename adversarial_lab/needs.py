"""What to say where a package is missing that one part of the library needs.

    with or_say("a download needs"):
        import pooch

The import stands in the text as it is, so that whoever reads imports, a tool or a person, sees it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from adversarial_lab.address import advice


@contextmanager
def or_say(who_needs: str, extra: str = "") -> Iterator[None]:
    """Import what is inside, or say who needs it, and the command that installs it.

    extra: of pyproject.toml; none for what the library always installs. Raises
    ModuleNotFoundError, and lets the failure of a package that is there pass as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{who_needs} {error.name}: {advice(extra)}", name=error.name
        ) from error
