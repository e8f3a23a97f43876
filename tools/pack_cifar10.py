"""Pack CIFAR-10 for a machine without a network: python -m tools.pack_cifar10 FOLDER

Six lossless pictures of 10,000 images each, with their labels, in FOLDER/cifar-10-batches-bin: half
the bytes of the public files. Copied to another machine, in as many parts as the way there wants,
`ADVERSARIAL_LAB_DATA=FOLDER` makes `data.load("cifar-10")` read them; it restores the public files
and compares their sha256. Pictures that are there already, and right, are not made again.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adversarial_lab.data import content, packed
from tools.make_mini import FORMATS, sprite

FILES = [f"cifar-10-batches-bin/{name}.bin" for name in
         (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]  # fmt: skip


def pack(raw: bytes, path: Path) -> None:
    """One public file as a picture at `path` and its labels beside it, each whole or not at all."""
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    part = path.with_suffix(".partial")
    part.write_text("".join(map(str, rows[:, 0])) + "\n")
    os.replace(part, path.with_suffix(".txt"))
    sprite(rows[:, 1:].reshape(-1, 3, 32, 32)).save(part, format="webp", **FORMATS["cifar-10"][1])
    os.replace(part, path)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pack_cifar10", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args(words).folder
    for file in tqdm(FILES, "pictures"):
        raw, path = content(file), (folder / file).with_suffix(".webp")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and packed(path) == raw):
            pack(raw, path)
        tqdm.write(f"{path.stat().st_size:>12,} bytes  {path}")


if __name__ == "__main__":
    main()
