"""Streams by name: how one is announced, and how it is loaded with options from a command line or a benchmark file."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints

from ..base.errors import CarryoverError, UsageError, unknown
from .core import SETTINGS, Setting, Stream

GIVEN = ("data", "download")  # told by the caller, not options of the stream


def stream(name: str, *, embedded: bool, setting: str = "cil", needs: str = "") -> Callable[[Callable], Callable]:
    """Announce a function that returns a `Stream`. The registry reads the arguments from the source: use literals.

    Args:
        name: what users type.
        embedded: whether it needs no file beyond this installation.
        setting: the one it has by default, for listings.
        needs: the data set that it reads, for listings.
    """

    def announce(function: Callable) -> Callable:
        function.announced = {"name": name, "embedded": embedded, "setting": setting, "needs": needs}
        return function

    return announce


def load_stream(
    name: str,
    /,
    *,
    data: str | Path | None = None,
    download: bool = False,
    setting: str | None = None,
    scored_on: str = "test",
    **options: Any,
) -> Stream:
    """A stream by its name, or by `path/to/file.py:Name` (a function that returns a `Stream`, or a `Stream`).

    Args:
        data: folder of the data sets; see `sources.data_root`.
        download: fetch a missing data set.
        setting: another setting than the stream's own, such as "til".
        scored_on: "test", or "validation" to choose settings by what the tasks hold out (`val_fraction`).
        options: of the stream; their names and types are checked against the function's signature.

    Raises:
        UsageError: an unknown name, option or value.
        StorageError: the data set is not there.
    """
    from . import registry

    if not isinstance(setting, (str, Setting, NoneType)):
        raise unknown("setting", str(setting), SETTINGS)
    found = registry.load(name)
    if isinstance(found, Stream):
        if options:
            raise UsageError(f"{name} is a Stream, not a function: it takes no option {sorted(options)[0]!r}.")
    elif callable(found):
        given = _checked(found, name, options)
        known = inspect.signature(found).parameters
        given |= {k: v for k, v in {"data": data, "download": download}.items() if k in known}
        try:
            inspect.signature(found).bind(**given)
        except TypeError as error:
            raise UsageError(f"{name} cannot be called with these options: {error}.") from None
        found = _called(found, given, name) if ".py" in name else found(**given)
    if not isinstance(found, Stream):
        raise UsageError(f"{name} gave {type(found).__name__}, not a Stream.")
    if ".py" in name:
        _called(_touch, {"stream": found}, name)
    return presented(found, setting, scored_on)


def presented(stream: Stream, setting: str | Setting | None = None, scored_on: str = "test") -> Stream:
    """A stream under another setting perhaps, or judged on validation data."""
    if scored_on not in ("test", "validation"):
        raise unknown("value of stream.scored_on", str(scored_on), ("test", "validation"))
    stream = stream if setting is None else stream.with_setting(setting)
    return stream if scored_on == "test" else stream.on_validation()


def _called(function: Callable, given: dict[str, Any], name: str) -> Any:
    """Call what stands in a file of the user's; a failure is one line."""
    try:
        return function(**given)
    except CarryoverError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name} gives no usable stream: {type(error).__name__}: {error}. check_stream tells more."
        ) from error


def _touch(stream: Stream) -> None:
    """Read once what every run reads, so that nonsense is found here."""
    _ = stream.info, stream.test_sizes, stream.fingerprint
    for index in range(len(stream)):
        _ = stream.shown(index), stream.query(index, 1), stream.tasks[index].train.to("cpu")


def stream_options(function: Callable) -> dict[str, inspect.Parameter]:
    """The options of a named stream by name, with their types resolved where they can be.

    `**options: Unpack[SplitOptions]` stands for the keys of that typed dict.
    """
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # a type imported for the checker alone
        parameters = inspect.signature(function).parameters
    known = {}
    for name, parameter in parameters.items():
        if get_origin(parameter.annotation) is Unpack:
            hints = get_type_hints(get_args(parameter.annotation)[0])
            known |= {k: inspect.Parameter(k, parameter.KEYWORD_ONLY, annotation=hint) for k, hint in hints.items()}
        elif name not in GIVEN:
            known[name] = parameter
    return known


def _checked(function: Callable, name: str, options: dict[str, Any]) -> dict[str, Any]:
    known = stream_options(function)
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return options
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of {name}", option, [*known, "setting", "scored_on"])
        hint = known[option].annotation
        if not _fits(value, hint):
            raise UsageError(f"option {option!r} of {name} must be {_words(hint)}; got {value!r}.")
    return options


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a command line is of a type; a type that is not understood here accepts anything."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in args)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in args)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(_fits(one, args[0]) for one in value)
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint in (int, str, bool):
        return type(value) is hint
    return True


def _words(hint: Any) -> str:
    """A type in the words of an error message."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in args)
    if origin is Literal:
        return " or ".join(repr(one) for one in args)
    if origin is list:
        return f"a list of {_words(args[0])}"
    plain = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
    return plain.get(hint, str(hint))
