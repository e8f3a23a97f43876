"""Files that are there whole or not at all, and errors that say which file they are about."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write, a neighbour of `path` that takes its place at the end of the block.

    If the block fails, or is interrupted, `path` stays as it was and the neighbour goes. OSError
    names `path`; a failed write of safetensors becomes one, of the same number.
    """
    neighbour = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield neighbour
            os.replace(neighbour, path)
    finally:
        neighbour.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside, a failure of the operating system becomes an OSError that names `path`."""
    try:
        yield
    except SafetensorError as error:
        if not (found := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error
    except OSError as error:
        about = str(error.filename or path)
        if error.errno is None or not about.startswith(str(path)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_full(error: BaseException) -> bool:
    """Is there no room left, on the disk or in the user's share of it?"""
    return isinstance(error, OSError) and error.errno in FULL


def check_folder(argument: str, folder: Path) -> None:
    """Make the folder; ValueError if it is a file, or if nothing can be written there."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{argument} must be a folder, got {str(folder)!r}, which is a file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / f".can-write-{os.getpid()}") as attempt:
            attempt.write_bytes(b"yes")
        (folder / f".can-write-{os.getpid()}").unlink()
    except OSError as error:
        raise ValueError(
            f"{argument} must be a folder that can be written, got {str(folder)!r}:"
            f" {error.strerror or error}"
        ) from error
