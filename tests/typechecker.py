"""The checker behind jaxtyping's shapes in this suite: an int may stand where a float is asked.

jaxtyping asks for 2,500 of them while the tests are collected; each is compiled when first called.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from beartype import BeartypeConf, beartype

_strict = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable) -> Callable:
    """The function, with its arguments and its value checked against its annotations."""
    compiled = cache(lambda: _strict(function))

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return checked
