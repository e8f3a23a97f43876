"""The frames of a page: `draw` on the whole grid, encoded once each and packed together.

Frames of one figure differ in a few lines of their SVG. The payload is a table of all distinct
lines and, for each frame, the numbers of its lines, as gzipped JSON; frames with pixels are PNG
with 64 colours. For 121 scatter plots that is 25 KB instead of 3.4 MB.
"""

import gzip
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from adversarial_lab.explore.sliders import Slider, shown
from adversarial_lab.figures import SVG, Rendered, base64_text, render, to_png

COLOURS = 64


@dataclass(frozen=True)
class Frames:
    """Every state of a figure: the opening one in full, all of them as indices and sentences."""

    first: Rendered
    fallback: bytes
    start: int
    index: tuple[int, ...]
    sentences: tuple[str, ...]
    payload: str


def drawn(
    draw: Callable[..., Any], values: Mapping[str, Any], sliders: Sequence[Slider]
) -> tuple[Figure, str]:
    """The figure of `draw` at these values and its sentence, made from the values if it has none.

    An exception in `draw` says at which values it happened.
    """
    try:
        result = draw(**values)
    except Exception as error:
        state = ", ".join(f"{name}={value!r}" for name, value in values.items())
        error.add_note(f"while drawing {state}")
        raise
    fig, sentence = result if isinstance(result, tuple) and len(result) == 2 else (result, "")
    if not isinstance(fig, Figure) or not isinstance(sentence, str):
        raise TypeError(
            f"explore: draw returned {type(result).__name__}; "
            "it must return a matplotlib Figure, or (Figure, sentence)"
        )
    return fig, sentence or generated(sliders, values)


def generated(sliders: Sequence[Slider], values: Mapping[str, Any]) -> str:
    """A sentence that states the values."""
    return ", ".join(f"{s.label} = {shown(values[s.name])}" for s in sliders) + "."


def release(fig: Figure) -> None:
    """Close a figure that pyplot made, which would otherwise be kept and shown again."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)


def states(sliders: Sequence[Slider]) -> list[dict[str, Any]]:
    """Every combination of grid values, the last slider running fastest."""
    grids = [[(s.name, s.values[i]) for i in s.grid] for s in sliders]
    return [dict(combination) for combination in itertools.product(*grids)]


def start_state(sliders: Sequence[Slider]) -> int:
    """The position of the opening combination in ``states``."""
    position = 0
    for slider in sliders:
        position = position * len(slider.grid) + slider.grid_start
    return position


def make_frames(draw: Callable[..., Any], sliders: Sequence[Slider]) -> Frames:
    """Draw every state once, the opening one first: it decides between SVG and PNG for all."""
    grid, start = states(sliders), start_state(sliders)
    fig, sentence = drawn(draw, grid[start], sliders)
    first, fallback = render(fig, colours=COLOURS), to_png(fig)
    release(fig)
    frames = {start: (first.data, sentence)}
    for k in range(len(grid)):
        if k != start:
            frames[k] = frame(draw, grid[k], sliders, first.mime)
    encoded, sentences = zip(*(frames[k] for k in range(len(grid))), strict=True)
    distinct = list(dict.fromkeys(encoded))
    index = tuple(distinct.index(data) for data in encoded)
    return Frames(first, fallback, start, index, sentences, pack(distinct, first.mime))


def frame(
    draw: Callable[..., Any], values: Mapping[str, Any], sliders: Sequence[Slider], mime: str
) -> tuple[bytes, str]:
    """One encoded state and its sentence."""
    fig, sentence = drawn(draw, values, sliders)
    data = render(fig, mime, COLOURS).data
    release(fig)
    return data, sentence


def pack(frames: Sequence[bytes], mime: str) -> str:
    """Base64 of gzipped JSON: ``lines``, and per frame a list of line numbers or a PNG."""
    lines: dict[str, int] = {}
    if mime == SVG:
        packed: list[Any] = [
            [lines.setdefault(line, len(lines)) for line in frame.decode().split("\n")]
            for frame in frames
        ]
    else:
        packed = [base64_text(frame) for frame in frames]
    text = json.dumps({"lines": list(lines), "frames": packed}, separators=(",", ":"))
    return base64_text(gzip.compress(text.encode(), compresslevel=9, mtime=0))
