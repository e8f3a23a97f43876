"""Make the embedded subsets from the full data sets: python tools/make_mini.py

Needs the full MNIST and CIFAR-10 (see `adversarial_lab.data`). The subset is the first rows of
each split, in their order: 1,000 + 1,000 of MNIST, 500 + 500 of CIFAR-10. Writes, per set and
split, a lossless sprite (25 images a row) and the labels as one line of digits. Running it again
gives the same pixels; the compressed bytes may differ between releases of Pillow.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adversarial_lab.data import LOADERS, MINI_COLUMNS, SPLITS

SIZES = {"mnist": 1000, "cifar-10": 500}  # images per split
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist": (".png", {"optimize": True}),
    "cifar-10": (".webp", {"lossless": True, "quality": 100, "method": 6, "exact": True}),
}
FOLDER = Path(__file__).resolve().parents[1] / "adversarial_lab" / "_data"


def sprite(pixels: np.ndarray) -> Image.Image:
    """(n, c, h, w) bytes -> an image of n / 25 rows of 25 images."""
    n, c, h, w = pixels.shape
    tiles = pixels.reshape(n // MINI_COLUMNS, MINI_COLUMNS, c, h, w).transpose(0, 3, 1, 4, 2)
    picture = tiles.reshape(n // MINI_COLUMNS * h, MINI_COLUMNS * w, c)
    return Image.fromarray(picture.squeeze())


def main() -> None:
    for name, n in SIZES.items():
        for split in SPLITS:
            pixels, digits = LOADERS[name](split)
            stem = FOLDER / f"{name}-mini-{split}"
            suffix, options = FORMATS[name]
            sprite(pixels[:n]).save(stem.with_suffix(suffix), **options)
            stem.with_suffix(".txt").write_text("".join(map(str, digits[:n])) + "\n")
            print(f"{stem.with_suffix(suffix).stat().st_size:>9,} bytes  {name}-mini {split}: {n}")


if __name__ == "__main__":
    main()
