"""The look of every figure: ``figure`` makes one, ``images`` a grid, ``picture`` adds alt text.

Figures are plain ``matplotlib.figure.Figure`` objects made without pyplot: nothing is registered
globally, so nothing leaks and nothing has to be closed. The colours of ``PALETTE`` come from
Okabe and Ito, https://jfly.uni-koeln.de/color/, less those too pale for a line on white; each
keeps a contrast of 3:1 with the paper, on white and in the book's dark theme alike.

``to_svg`` and ``to_png`` give the same bytes for the same figure: no date, no random id.
"""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from adversarial_lab.needs import or_say

with or_say("a figure needs"):
    import matplotlib
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage, FigureImage
    from PIL import Image

PALETTE: dict[str, str] = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "grey": "#555555",
}

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=list(PALETTE.values())),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.4,
    "grid.linewidth": 0.6,
}

PIXELS_PER_INCH = 120  # on the page: ten-point type shows at 17 pixels, the size of the text
SVG, PNG = "image/svg+xml", "image/png"
_HEAVY_SVG = 120_000  # bytes above which a drawing with many paths is sent as pixels
_LONG_DECIMAL = re.compile(r"-?\d+\.\d{3,}")


class _Figure(Figure):
    """A figure that displays itself at the end of a cell, with or without an inline backend."""

    def _repr_png_(self) -> bytes:
        return to_png(self, dpi=PIXELS_PER_INCH)


def figure(
    width: float = 6.0, height: float = 3.4, nrows: int = 1, ncols: int = 1, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure of `width` by `height` inches in the book's style, and its axes.

    The axes are one ``Axes`` for a single panel and an array of them otherwise; further
    keywords (``sharey=True``, ``width_ratios=[2, 1]``) go to ``Figure.subplots``.
    """
    with matplotlib.rc_context(STYLE):
        fig = _Figure(figsize=(width, height), layout="constrained")
        return fig, fig.subplots(nrows, ncols, **subplots)


def images(
    rows: Sequence[Any] | Any,
    titles: Sequence[str] | Sequence[Sequence[str]] | None = None,
    labels: Sequence[str] | None = None,
    size: float = 1.0,
    spans: Sequence[float | None] | None = None,
) -> Figure:
    """A grid of images, `size` inches each: (h, w), (1, h, w) or (3, h, w), arrays or tensors.

    An image in [0, 1] is shown as it is. One with negative values is a perturbation, shown
    around mid-grey (colour) or from blue through white to red (one channel), scaled to its
    largest entry. `titles` has one string per column, or one list per row; `labels` one per row.
    `spans` has one entry per row: a number draws the row as perturbations on one scale, from
    minus to plus that number; None decides by the sign, as above.
    """
    grid = [list(row) for row in rows]
    nrows, ncols = len(grid), max((len(row) for row in grid), default=0)
    if ncols == 0:
        raise ValueError("images: rows holds no image; give a list of rows of images")
    per_row = _titles_per_row(titles, nrows)
    _check_length("labels", labels, nrows, "rows")
    _check_length("spans", spans, nrows, "rows")
    fig, axes = figure(
        size * ncols + (0.9 if labels else 0), (size + 0.25) * nrows, nrows, ncols, squeeze=False
    )
    for i, row in enumerate(grid):
        _check_length(f"titles for row {i}", per_row[i], len(row), "images")
        for j, ax in enumerate(axes[i]):
            span = spans[i] if spans else None
            _draw_image(ax, row[j] if j < len(row) else None, per_row[i][j : j + 1], span)
        if labels:
            axes[i, 0].set_ylabel(labels[i], rotation=0, ha="right", va="center")
    return fig


def _titles_per_row(titles: Sequence[Any] | None, nrows: int) -> list[Sequence[str]]:
    """One sequence of titles per row: column titles go above the first row only."""
    if not titles:
        return [()] * nrows
    if isinstance(titles[0], str):
        return [titles, *[()] * (nrows - 1)]
    _check_length("titles", titles, nrows, "rows")
    return list(titles)


def _check_length(name: str, given: Sequence[Any] | None, n: int, what: str) -> None:
    if given and len(given) != n:
        raise ValueError(f"images: {name} has {len(given)} entries for {n} {what}")


def _draw_image(ax: Axes, image: Any | None, title: Sequence[str], span: float | None) -> None:
    """One panel without ticks; without an image it is left empty."""
    ax.set(xticks=[], yticks=[], frame_on=False)
    ax.grid(False)
    if image is None:
        return
    array, colours = _shown(image, span)
    ax.imshow(array, interpolation="nearest", **colours)
    ax.set_title("".join(title), fontsize=9)


def _shown(image: Any, span: float | None) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The array ``imshow`` wants and its colour limits."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image, dtype=float)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[0] in (1, 3))):
        raise ValueError(
            f"images: an image has shape {array.shape}; give (h, w), (1, h, w) or (3, h, w)"
        )
    signed = span is not None or array.min() < 0
    largest = span or np.abs(array).max()
    if array.ndim == 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
        return (0.5 + array / (2 * largest) if signed else np.clip(array, 0, 1)), {}
    array = array.reshape(array.shape[-2:])
    if signed:
        return array, {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    return array, {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}


@dataclass(frozen=True)
class Picture:
    """A finished figure with its alt text, as a cell's output."""

    html: str
    png: str
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "image/png": self.png, "text/plain": self.alt}


def picture(fig: Figure, *, alt: str) -> Picture:
    """The figure with alt text, ready to end a cell: ``picture(fig, alt="Accuracy falls ...")``.

    `alt` says what a reader should see in the figure; an empty one is an error.
    """
    check_alt("picture", alt)
    style = f"<style>{static_text('figure.css')}</style>"
    return Picture(style + render(fig).img(alt), base64_text(to_png(fig)), alt)


def check_alt(function: str, alt: str) -> None:
    """Refuse an empty description."""
    if not alt.strip():
        raise ValueError(
            f"{function}: alt={alt!r} is empty; say in a sentence or two what the figure shows"
        )


def static_text(name: str) -> str:
    """A style sheet or script shipped with the package."""
    return resources.files("adversarial_lab").joinpath("_static", name).read_text("utf-8").strip()


def base64_text(data: bytes) -> str:
    """The bytes as text for a data URL."""
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Rendered:
    """An encoded figure: SVG or PNG bytes, its size on the page, and the paper it is drawn on."""

    mime: str
    data: bytes
    width: int
    height: int
    paper: str

    def img(self, alt: str) -> str:
        """The ``<img>`` tag with the data inside."""
        return (
            f'<img class="advx-img advx-{self.paper} dark-light" alt="{html.escape(alt)}" '
            f'width="{self.width}" height="{self.height}" '
            f'src="data:{self.mime};base64,{base64_text(self.data)}">'
        )


def render(fig: Figure, mime: str | None = None, colours: int = 0) -> Rendered:
    """The figure encoded as `mime`; by default SVG, or PNG where SVG would be pixels or heavy."""
    svg = to_svg(fig) if mime != PNG else ""
    if mime is None:
        mime = SVG if "<image" not in svg and len(svg) <= _HEAVY_SVG else PNG
    data = svg.encode() if mime == SVG else to_png(fig, colours)
    width, height = (round(inches * PIXELS_PER_INCH) for inches in fig.get_size_inches())
    return Rendered(mime, data, width, height, paper(fig))


def paper(fig: Figure) -> str:
    """``"ink"`` if a dark theme may invert the figure, ``"tone"`` where lightness has a meaning."""

    def has_tone(artist: Any) -> bool:
        filled_contours = getattr(artist, "filled", False)
        return isinstance(artist, (AxesImage, FigureImage, QuadMesh)) or bool(filled_contours)

    return "tone" if fig.findobj(has_tone) else "ink"


def to_svg(fig: Figure) -> str:
    """The figure as SVG, coordinates to a hundredth of a point."""
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "adversarial_lab", "svg.fonttype": "path"}):
        fig.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    lines = svg[svg.index("<svg") :].splitlines()
    return "\n".join(line if "scale(" in line else _shorter(line) for line in lines)


def _shorter(line: str) -> str:
    return _LONG_DECIMAL.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), line)


def to_png(fig: Figure, colours: int = 0, dpi: int = 144) -> bytes:
    """The figure as PNG, reduced to a palette of `colours` where that is not 0."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    if not colours:
        return buffer.getvalue()
    smaller = io.BytesIO()
    reduced = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    reduced.save(smaller, "png", optimize=True)
    return smaller.getvalue()
