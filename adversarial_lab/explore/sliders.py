"""What a slider offers: every value with a kernel, a grid of them on the built page.

A specification is ``(lo, hi, step)`` or ``(lo, hi, step, start)``, both ends included, or a list
of options; a list starts at its first option. Values are rounded to ten decimals, so that ten
steps of 0.1 make 1 and not 0.9999999999999999.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True)
class Slider:
    """A named choice: `values` live, the values at `grid` on the page, the one at `start` first."""

    name: str
    label: str
    values: tuple[Any, ...]
    grid: tuple[int, ...]
    start: int

    @property
    def texts(self) -> tuple[str, ...]:
        """Every value as it is shown."""
        return tuple(shown(value) for value in self.values)

    @property
    def grid_start(self) -> int:
        """Where on the grid the starting value lies."""
        return self.grid.index(self.start)


def shown(value: Any) -> str:
    """A value as readers see it: four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def make_sliders(
    draw: Callable[..., Any],
    specs: Mapping[str, Any],
    static: Mapping[str, Any],
    labels: Mapping[str, str],
) -> tuple[Slider, ...]:
    """One slider per specification, checked against the parameters of `draw`."""
    check_parameters(draw, specs)
    check_names("static", static, specs)
    check_names("labels", labels, specs)
    return tuple(
        make_slider(name, spec, static.get(name), labels.get(name, name))
        for name, spec in specs.items()
    )


def make_slider(name: str, spec: Any, coarse: Any = None, label: str = "") -> Slider:
    """The slider of one specification; `coarse` is how many, or which, values the page has."""
    if isinstance(spec, tuple):
        values, start = range_values(name, spec)
    elif isinstance(spec, list | range):
        values, start = option_values(name, spec), 0
    else:
        raise TypeError(
            f"explore: {name}={spec!r} is no slider; give (lo, hi, step[, start]) or a list"
        )
    return Slider(name, label or name, values, grid_of(name, values, start, coarse), start)


def range_values(name: str, spec: tuple[Any, ...]) -> tuple[tuple[Any, ...], int]:
    """The values from lo to hi and the position of the start."""
    if len(spec) not in (3, 4) or not all(is_number(number) for number in spec):
        raise TypeError(
            f"explore: {name}={spec!r} is no range; give three or four finite numbers "
            "(lo, hi, step[, start]), or a list for a choice of options"
        )
    lo, hi, step = spec[:3]
    if lo > hi:
        raise ValueError(f"explore: {name}={spec!r} has lo={lo} > hi={hi}")
    if step <= 0:
        raise ValueError(f"explore: {name}={spec!r} has step={step}; it must be positive")
    start = spec[3] if len(spec) == 4 else lo
    if not lo <= start <= hi:
        raise ValueError(f"explore: {name}={spec!r} has start={start} outside [{lo}, {hi}]")
    count = math.floor((hi - lo) / step + 1e-9) + 1
    values = tuple(tidy(lo + i * step) for i in range(count))
    return values, nearest(values, start)


def is_number(value: Any) -> bool:
    """A finite real number, and not a truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def tidy(value: Any) -> Any:
    """An integer as it is; a float without the dust of repeated addition, and without -0.0."""
    return int(value) if isinstance(value, Integral) else round(float(value), 10) + 0.0


def option_values(name: str, options: Sequence[Any]) -> tuple[Any, ...]:
    """The options, which must be there and look different."""
    texts = [shown(option) for option in options]
    if not texts:
        raise ValueError(f"explore: {name}={options!r} is empty; give at least one option")
    if len(set(texts)) < len(texts):
        raise ValueError(f"explore: {name}={options!r} has options that read the same")
    return tuple(options)


def grid_of(name: str, values: tuple[Any, ...], start: int, coarse: Any) -> tuple[int, ...]:
    """Positions of the values on the page, evenly spread or nearest to those asked for.

    The start is always among them, so that the page opens where the live figure does.
    """
    last = len(values) - 1
    if coarse is None:
        return tuple(range(len(values)))
    if isinstance(coarse, int) and coarse >= 1:
        count = min(coarse, len(values))
        chosen = {round(i * last / max(count - 1, 1)) for i in range(count)}
    elif isinstance(coarse, list | tuple) and coarse:
        chosen = {position(name, values, value) for value in coarse}
    else:
        raise ValueError(
            f"explore: static[{name!r}]={coarse!r}; give a positive number of values, or a list"
        )
    return tuple(sorted(chosen | {start}))


def position(name: str, values: tuple[Any, ...], value: Any) -> int:
    """Where a value asked for lies: itself, or the nearest of a slider of numbers."""
    if value in values:
        return values.index(value)
    if is_number(value) and all(is_number(known) for known in values):
        return nearest(values, value)
    raise ValueError(f"explore: static[{name!r}] asks for {value!r}; choices: {list(values)}")


def nearest(values: Sequence[Any], value: Any) -> int:
    """The position of the value nearest to the one given."""
    return min(range(len(values)), key=lambda i: abs(values[i] - value))


def check_names(argument: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Every key names a slider."""
    for name in given:
        if name not in known:
            raise ValueError(f"explore: {argument} names {name!r}; sliders: {list(known)}")


def check_parameters(draw: Callable[..., Any], specs: Mapping[str, Any]) -> None:
    """`draw` takes every slider, and needs nothing else."""
    if not specs:
        raise ValueError("explore: there is no slider; add one, such as eps=(0.0, 1.0, 0.1)")
    parameters = signature(draw).parameters
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    for name in specs:
        if name not in parameters and not takes_any:
            raise ValueError(
                f"explore: draw has no parameter for the slider {name!r}; "
                f"its parameters: {list(parameters)}"
            )
    variadic = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    for name, parameter in parameters.items():
        required = parameter.default is Parameter.empty and parameter.kind not in variadic
        if required and name not in specs:
            raise ValueError(f"explore: draw needs {name!r}; add a slider or a default for it")
