"""The settings of a command, key=value, applied to a run's configuration."""

import dataclasses
import typing


def configure(config, settings: list[str]):
    """The configuration with key=value settings applied, each read as its field's type."""
    kinds = typing.get_type_hints(type(config))
    changes = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in kinds:
            raise ValueError(
                f"settings are key=value with key one of {list(kinds)}, got {setting!r}"
            )
        changes[key] = _read(key, text, kinds[key])
    return dataclasses.replace(config, **changes)


def _read(key: str, text: str, kind):
    options = typing.get_args(kind) or (kind,)
    if type(None) in options and text.lower() in ("none", "all"):
        return None
    kind = next(k for k in options if k is not type(None))
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{key} must be of type {kind.__name__}, got {text!r}") from None
