"""The files of a class, in folders or in ZIPs, and the notebooks in them, read without trust."""

import json
import os
import re
import stat
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

LARGEST = 20 * 2**20  # bytes of a notebook that are read here
LARGEST_OUTPUTS = 200 * 2**20  # bytes of one whose outputs are taken out first, elsewhere
MOST_CELLS = 2000
MOST_MEMBERS = 5000  # files of a ZIP
NOTEBOOKS = (".ipynb", ".ipynb.txt", ".ipynb.json")  # as some browsers save one
SCRIPT = ".py"
LEFT_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints")
UTF_8_NAME = 0x800  # a ZIP's flag

# Reads a notebook on its standard input and writes it without outputs, in 2 GB of memory.
WITHOUT_OUTPUTS = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except ImportError:
    pass
notebook = json.load(sys.stdin.buffer)
parts = [notebook, *(notebook.get("worksheets") or [])]
for cell in (cell for part in parts for cell in part.get("cells") or []):
    cell.pop("outputs", None)
    cell.pop("attachments", None)
json.dump(notebook, sys.stdout)
"""


class Unreadable(Exception):
    """Not a notebook; the message says why."""


@dataclass(frozen=True)
class File:
    """One file of a class. `place` is its path below the class's folder, as a person reads it."""

    place: PurePosixPath
    path: Path
    member: str = ""  # its name in the ZIP at `path`
    changed: int = 0  # nanoseconds

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def hidden(self) -> bool:
        """What systems leave beside files: "._pgd.ipynb" of macOS is none of the student's."""
        *folders, name = self.place.parts
        return (
            name.startswith("._")
            or name in LEFT_BY_SYSTEMS
            or any(folder.startswith((".", "__")) for folder in folders)
        )

    @property
    def is_folder(self) -> bool:
        """An empty one, of no file but itself."""
        return not self.member and not self.path.is_symlink() and self.path.is_dir()

    @property
    def is_notebook(self) -> bool:
        return not self.hidden and self.name.lower().endswith(NOTEBOOKS)

    @property
    def is_script(self) -> bool:
        return not self.hidden and self.name.lower().endswith(SCRIPT)

    @property
    def stem(self) -> str:
        """The name without its ending and without what a second download adds, "(1)"."""
        ending = next((e for e in (*NOTEBOOKS[1:], NOTEBOOKS[0]) if self.name.lower().endswith(e)),
                      self.place.suffix)  # fmt: skip
        bare = self.name[: len(self.name) - len(ending)]
        return re.sub(r"(\s*\(\d+\)|\s*-\s*copy\s*\d*)+$", "", bare, flags=re.IGNORECASE)

    def content(self, most: int = LARGEST) -> bytes:
        """The bytes of an ordinary file of reasonable size. Raises Unreadable on any other."""
        return _member(self, most) if self.member else _ordinary(self.path, most)


def readable(name: str) -> str:
    """A name as text: systems keep bytes, and older ones wrote them in Latin-1."""
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def files(root: Path) -> Iterator[File]:
    """Every file below a folder, or in a ZIP. Links are listed (to be refused) and not followed.

    An empty folder is listed as if it were a file: somebody made it.
    """
    if root.is_file():
        yield from _members(File(PurePosixPath(), root))
        return
    for folder, folders, names in os.walk(root, followlinks=False):
        here = Path(folder)
        linked = [f for f in folders if (here / f).is_symlink()]
        folders.sort()
        if here != root and not folders and not names:
            yield _file(root, here)
        for name in sorted([*names, *linked]):
            file = _file(root, here / name)
            is_zip = name.lower().endswith(".zip") and not file.hidden
            yield from _members(file) if is_zip else [file]


def _file(root: Path, path: Path) -> File:
    place = PurePosixPath(*(readable(part) for part in path.relative_to(root).parts))
    return File(place, path, changed=path.lstat().st_mtime_ns)


def _members(file: File) -> Iterator[File]:
    """What a ZIP holds, as if it were a folder; the ZIP itself if it cannot be opened."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        members = []
    if not members or len(members) > MOST_MEMBERS or file.path.is_symlink():
        yield file
        return
    for info in members:
        inside = re.split(r"[/\\]", _member_name(info))
        parts = [part for part in inside if part not in ("", ".", "..") and ":" not in part]
        if parts:
            yield File(file.place.joinpath(*parts), file.path, info.filename, _time(info))


def _member_name(info: zipfile.ZipInfo) -> str:
    """Without the flag for UTF-8 the bytes may be anything; Python reads them as DOS did."""
    if info.flag_bits & UTF_8_NAME:
        return unicodedata.normalize("NFC", info.filename)
    return readable(os.fsdecode(info.filename.encode("cp437", errors="replace")))


def _time(info: zipfile.ZipInfo) -> int:
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0


def _member(file: File, most: int) -> bytes:
    try:
        with zipfile.ZipFile(file.path) as archive, archive.open(file.member) as stream:
            data = stream.read(most + 1)  # whatever size the ZIP says it has
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError,
            zipfile.BadZipFile, EOFError) as error:  # fmt: skip
        raise Unreadable(f"not to be read from the ZIP ({error})") from None
    if len(data) > most:
        raise Unreadable(f"the file has over {most >> 20} MB")
    return data


def _ordinary(path: Path, most: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "a link" if path.is_symlink() else f"not to be opened ({error.strerror})"
        raise Unreadable(f"the file is {why}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not an ordinary file")
        if status.st_size > most:
            size = f"the file has {status.st_size >> 20} MB"
            raise Unreadable(f"{size}, at most {most >> 20} are read")
        return file.read(most)


def text_of(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if it begins like that."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("the text is neither UTF-8 nor UTF-16") from None


def notebook_of(file: File) -> dict[str, Any]:
    """The notebook as JSON; a script counts as a notebook of one cell."""
    if file.is_script:
        return {"cells": [{"cell_type": "code", "source": text_of(file.content())}]}
    if not file.is_notebook:
        raise Unreadable("not a notebook")
    return _parsed(text_of(_small(file)))


def _parsed(text: str) -> dict[str, Any]:
    if not text.strip():
        raise Unreadable("the file is empty")
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise Unreadable("the JSON is nested too deeply") from None
    except ValueError:
        raise Unreadable("the file is not JSON, or cut off") from None
    if not isinstance(notebook, dict):
        raise Unreadable("the JSON is not a notebook")
    return notebook


def _small(file: File) -> bytes:
    """The notebook's bytes; of a large one without its outputs, which another process takes out."""
    data = file.content(LARGEST_OUTPUTS)
    if len(data) <= LARGEST:
        return data
    command = [sys.executable, "-I", "-c", WITHOUT_OUTPUTS]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Unreadable("it took over a minute to take out the outputs") from None
    if done.returncode or len(done.stdout) > LARGEST:
        size = f"the file has {len(data) >> 20} MB"
        raise Unreadable(f"{size}, and without its outputs it is no notebook of at most 20")
    return done.stdout


def read(file: File) -> list[str]:
    """The code cells in order. Raises Unreadable with the reason."""
    cells = cells_of(notebook_of(file))
    if cells is None or len(cells) > MOST_CELLS:
        raise Unreadable("the notebook has no list of cells")
    code = [_source(c) for c in cells if isinstance(c, dict) and c.get("cell_type") == "code"]
    if not code:
        raise Unreadable("the notebook has no code cell")
    return code


def cells_of(notebook: dict[str, Any]) -> list[Any] | None:
    """The cells, in format 3 those of its worksheets; None if there is no list of them."""
    sheets = notebook.get("worksheets")
    if "cells" not in notebook and isinstance(sheets, list):
        found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        return [cell for cells in found if isinstance(cells, list) for cell in cells]
    cells = notebook.get("cells")
    return cells if isinstance(cells, list) else None


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))  # format 3 says input
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""
