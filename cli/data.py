"""`carryover data`: what data sets a stream reads, whether they are there, and how to get them; and back into files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import StorageError
from .settings import parse_settings

app = typer.Typer(no_args_is_help=True, help="The data sets that streams read.")
STATES = {True: "there", False: "missing", None: "unknown"}
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for machines.")]


@app.command()
def status(
    stream: Annotated[str, typer.Argument(help="A stream's name, or path/to/file.py:Name.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of data sets; else CARRYOVER_DATA, else a user cache.")
    ] = None,
    as_json: Json = False,
):
    """What a stream needs: what is there, what is missing, and how to get it.

    Exit code 0 if nothing is known to be missing, otherwise 6.
    """
    from ..streams.needs import needs
    from ..streams.sources import data_root

    found = needs(stream, data)
    complete = all(need.there is not False for need in found)
    if as_json:
        from .console import dump

        rows = [dataclasses.asdict(need) for need in found]
        dump({"stream": stream, "root": str(data_root(data)), "complete": complete, "needs": rows})
    else:
        _print(stream, found, data_root(data))
    if not complete:
        raise typer.Exit(StorageError.code)


@app.command()
def export(
    stream: Annotated[str, typer.Argument(help="A stream of the table-top, such as libero-object-mini.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the stream: n_tasks=2, observe=camera.")
    ] = None,
    as_json: Json = False,
):
    """Write a stream's demonstrations and initial states in the layout of LIBERO's files.

    They are read again with `--set stream.files=FOLDER`.
    """
    from ..streams import load_stream
    from ..streams.tabletop.files import export as write

    options = {name.removeprefix("stream."): value for name, value in parse_settings(set_ or []).items()}
    paths = write(load_stream(stream, **options), folder)
    if as_json:
        from .console import dump

        dump([str(path) for path in paths])
    else:
        print(f"{len(paths)} files are in {paths[0].parent}")


def _print(stream: str, found: list, root: Path) -> None:
    """A line for each data set, and below it how to get one that is not there."""
    if not found:
        return print(f"{stream} needs no data.")
    there = sum(need.there is True for need in found)
    print(f"{stream}: {there} of {len(found)} data sets are in {root}")
    width = max(len(need.name) for need in found)
    for need in found:
        print(f"  {need.name:<{width}}  {STATES[need.there]:<7}  {need.where}")
        if need.there:
            continue
        margin = " " * (width + 13)
        if need.partly:
            print(f"{margin}lacks {', '.join(need.lacks)}")
        print(f"{margin}{need.get}{', or run with --download' if need.download else ''}")
        if need.hub:
            print(f'{margin}or read a copy: stream.hub=["{need.name}={need.hub}"]')
    return None
