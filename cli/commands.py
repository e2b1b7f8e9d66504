"""The command line. Each command is a few lines around a function that Python users call too.

Results go to standard output, progress and errors to standard error; `--json` makes the result one JSON value.
Exit codes: 0 done, 1 another failure, 2 a wrong request, 3 an invalid file, 4 a mismatch, 6 reading or
writing failed, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.errors import CarryoverError, InvalidError, MismatchError, StorageError, UsageError, unknown
from ..base.machine import cores
from . import data as data_commands
from .settings import parse_settings

INTERRUPTED = 130
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Continual-learning benchmarks: run a strategy on a stream, plot the transfer matrix, submit it, publish it.",
    pretty_exceptions_enable=False,
)
app.add_typer(data_commands.app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for machines.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of data sets; else CARRYOVER_DATA, else a user cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Workers = Annotated[int, typer.Option(help="Processes; 0 takes one per core.", min=0, max=1024)]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
Board = Annotated[Path, typer.Option("--board", help="Folder of the board.")]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs, or record files.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"carryover {version('carryover')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
):
    pass


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="streams, strategies, benchmarks or metrics")], as_json: Json = False
):
    """What there is."""
    from .catalogue import KINDS, catalogue

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    rows = catalogue(kind)
    if as_json:
        from .console import dump

        return dump(rows)
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        mark = "" if row.get("embedded", True) else " [needs data]"
        print(f"{row['name']:<{width}}  {row['summary']}{mark}")
    return None


@app.command()
def run(
    strategy: Annotated[str, typer.Argument(help="A name, or path/to/file.py:Name.")],
    target: Annotated[
        str, typer.Argument(metavar="STREAM-OR-BENCHMARK", help="A name, path/to/file.py:Name, or a TOML file.")
    ],
    seeds: Annotated[str | None, typer.Option(help="0..4, or 0,2,5, or 7. Default: the benchmark's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting: lr=0.1, model.hidden=[64], stream.n_tasks=5.")
    ] = None,
    device: Device = "auto",
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in a folder that holds part of this run.")] = False,
    data: Data = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a missing data set.")] = False,
    workers: Workers = 1,
    threads: Annotated[str, typer.Option(help="Per process; auto measures the fastest.")] = "1",
    every: Annotated[float, typer.Option("--checkpoint-every", help="Seconds between checkpoints.", min=0.0)] = 30.0,
    as_json: Json = False,
):
    """Run a strategy on a stream or benchmark, over seeds."""
    from ..benchmarks.launch import Request, RunSpec, run_all
    from ..benchmarks.protocol import load_benchmark
    from ..benchmarks.sweep import parse_seeds
    from ..benchmarks.workers import local
    from ..evaluation.statistics import describe
    from .console import dump, say, watching

    benchmark = load_benchmark(target)
    chosen = parse_seeds(seeds) if seeds is not None else tuple(benchmark.seeds)
    settings = parse_settings(set_ or [])
    count = min(workers or cores(), len(chosen))
    spec = RunSpec(strategy, target, settings, str(data) if data else None, download, device, _threads(threads), every)
    leaf = strategy.rpartition(":")[2] if ".py" in strategy else strategy
    folder = out or Path("runs") / benchmark.name / leaf
    with watching() as watch:
        record = run_all([Request(spec, chosen, str(folder), resume, count)], watch, local(count))[0]
    if as_json:
        dump(
            {
                "benchmark": record.benchmark.name,
                "strategy": record.strategy.name,
                "seeds": record.seeds,
                "record": str(folder / "record.json"),
                "metrics": record.metrics(),
            }
        )
    else:
        print(describe(record, benchmark.scores))
        print(f"record: {folder / 'record.json'}")
    for seed in record.runs:
        if seed.status == "diverged":
            say(f"seed {seed.seed} diverged in task {seed.measured_rows}; the means leave it out. Try a lower lr.")
    if not record.complete:
        raise typer.Exit(1)


@app.command()
def pretrain(
    model: Annotated[str, typer.Argument(help="A backbone that is shipped: vit-micro, clip-micro or bc-micro.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: MODEL.safetensors.")] = None,
    steps: Annotated[int | None, typer.Option(help="Fewer for a trial. Default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe: text=bag, lr=1e-3.")] = None,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Default: as many as made the shipped file.")] = None,
    as_json: Json = False,
):
    """Make a shipped backbone again, from generated images or demonstrations alone."""
    from ..benchmarks.launch import resolved_device
    from ..evaluation.threads import threads as using
    from ..strategies.backbones.pretrain import THREADS, pretrain, recipe_of
    from ..strategies.config import configure
    from .console import dump, say, telling

    settings = {"seed": seed, **({} if steps is None else {"steps": steps}), **parse_settings(set_ or [])}
    recipe = configure(recipe_of(model), settings, model)
    where, path = resolved_device(device), out or Path(f"{model}.safetensors")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise StorageError(f"--out {path} cannot be written: it must be a file in a folder that exists.")
    with using(threads or THREADS[model]), telling(f"pre-training {model}") as tell:
        header = pretrain(path, recipe, where, lambda step: tell(step / recipe.steps))
    if as_json:
        return dump(header | {"file": str(path)})
    judged = ("success", "in attempts") if "success" in header else ("accuracy", "on images")
    say(f"{' '.join(judged)} it never saw: {header[judged[0]]:.1%}")
    print(f"{path}  sha256 {header['sha256']}")
    return None


@app.command()
def plot(
    folders: Folders,
    against: Annotated[
        str | None, typer.Option(help="Two metrics: all runs in one figure, as in transfer_mtil,last.")
    ] = None,
    film: Annotated[bool, typer.Option("--film", help="Attempts of a policy, just learnt and in the end.")] = False,
    tasks: Annotated[str | None, typer.Option(help="With --film: 1,4,10, say. Default: the first three.")] = None,
    out: Out = None,
    as_json: Json = False,
):
    """Transfer matrices as heat maps, PNG and SVG; several runs are also compared.

    Also subspaces and regimes, where a strategy reports them; with --against, only one metric against another; with
    --film, only films: a strip of pictures, PNG and SVG, and a GIF.
    """
    if against is not None:
        from ..evaluation.plots_tradeoff import plot_tradeoff

        names, place = against.split(","), out or Path(".")
        if len(names) != 2:
            raise UsageError(f"--against {against}: give two metrics, such as transfer_mtil,last.")
        plot_tradeoff([_record(folder) for folder in folders], *names, place)
        return _print_paths([place / f"tradeoff.{kind}" for kind in ("png", "svg")], as_json)
    records = [_record(folder) for folder in folders]
    places = [out / _label(f, folders) if out and len(folders) > 1 else out or _folder(f) for f in folders]
    written: list[Path] = []
    if film:
        from ..evaluation.films import load_films
        from ..evaluation.plots_films import animate_films, plot_films

        chosen = None if tasks is None else _tasks(tasks)
        for folder, record, place in zip(folders, records, places, strict=True):
            films = load_films(_folder(folder), record)
            plot_films(record, *films, chosen, place)
            written += [place / "films.png", place / "films.svg", animate_films(record, *films, chosen, place)]
        return _print_paths(written, as_json)
    from ..evaluation.plots import plot_comparison, plot_curves, plot_record, plot_scores
    from ..evaluation.plots_subspaces import plot_regimes, plot_subspaces

    for record, place in zip(records, places, strict=True):
        figures = {
            "transfer-matrix": plot_record(record, place),
            "curves": plot_curves(record, place),
            "subspaces": plot_subspaces(record, place),
            "regimes": plot_regimes(record, place),
        }
        drawn = [stem for stem, figure in figures.items() if figure is not None]
        written += [place / f"{stem}.{kind}" for stem in drawn for kind in ("png", "svg")]
    if len(records) > 1:
        place = out or Path(".")
        plot_comparison(records, place)
        plot_scores(records, place)
        written += [place / f"{stem}.{kind}" for stem in ("comparison", "scores") for kind in ("png", "svg")]
    return _print_paths(written, as_json)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR")],
    second: Annotated[Path, typer.Argument(metavar="DIR")],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="A metric; repeat for more.")] = None,
    out: Out = None,
    as_json: Json = False,
):
    """Two runs on the same stream: paired differences with intervals, and a difference heat map with --out."""
    from ..evaluation.report import comparison
    from .console import dump, visible

    a, b = _record(first), _record(second)
    if a.stream.fingerprint != b.stream.fingerprint:
        raise MismatchError(
            f"{first} and {second} ran on different data ({a.stream.name} and {b.stream.name}; the fingerprints "
            "differ), so their difference means nothing."
        )
    rows = comparison(a, b, metric or [])
    if out:
        from ..evaluation.plots import plot_comparison

        plot_comparison([a, b], out)
    if as_json:
        return dump({"a": a.strategy.name, "b": b.strategy.name, "metrics": rows})
    print(visible(f"{a.strategy.name} minus {b.strategy.name} on {a.stream.name}, paired over seeds"))
    for row in rows:
        print(_difference_line(row))
    return None


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml")],
    out: Out = None,
    data: Data = None,
    workers: Workers = 0,
    as_json: Json = False,
):
    """A grid of strategies, benchmarks, settings and seeds; runs only what has no record yet."""
    from ..benchmarks.launch import run_all
    from ..benchmarks.sweep import read_sweep
    from ..benchmarks.workers import local
    from .console import dump, show, watching

    common = {"data": str(data)} if data else {}
    count = workers or cores()
    requests = read_sweep(file, count, str(out) if out else None, **common)
    with watching() as watch:
        records = run_all(requests, watch, local(count))
    if as_json:
        return dump(
            [
                {
                    "benchmark": record.benchmark.name,
                    "strategy": record.strategy.name,
                    "settings": request.spec.settings,
                    "seeds": record.seeds,
                    "record": str(Path(request.folder) / "record.json"),
                    "metrics": record.metrics(),
                }
                for request, record in zip(requests, records, strict=True)
            ]
        )
    shown = {record.benchmark.name: request.spec.benchmark() for request, record in zip(requests, records, strict=True)}
    for name, benchmark in shown.items():
        show([r for r in records if r.benchmark.name == name], name, benchmark.scores)
    return None


@app.command()
def submit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")],
    board: Board,
    submitter: Annotated[str, typer.Option("--as", help="Your handle.")] = "anonymous",
    name: Annotated[str | None, typer.Option(help="What to call the method; default: the strategy's name.")] = None,
    description: Annotated[str, typer.Option(help="A sentence about it.")] = "",
    link: Annotated[list[str] | None, typer.Option(help="code=https://... or paper=https://...")] = None,
    as_json: Json = False,
):
    """Check a run against its benchmark and add it to a board."""
    from ..leaderboard.store import Board as Store
    from ..leaderboard.submission import make_submission

    submission = make_submission(folder, submitter, name, description, _links(link or []))
    added = Store(board).submit(submission, folder)
    if as_json:
        from .console import dump

        return dump(
            {"id": added.id, "path": str(added.path), "new": added.new, "findings": [str(f) for f in added.findings]}
        )
    print(added)
    for finding in added.findings:
        print(f"  {finding}")
    return None


@app.command()
def site(board: Board, out: Annotated[Path, typer.Option("--out", help="Folder of the site.")], as_json: Json = False):
    """Build a board's static site."""
    from ..leaderboard.site import build_site

    if not board.is_dir():
        raise StorageError(f"{board} is not a board: no such folder. `carryover submit DIR --board {board}` makes one.")
    _print_paths([build_site(board, out)], as_json)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder, a stored submission, or a board.")],
    rerun: Annotated[
        int | None, typer.Option(help="Run the first K tasks again and compare; 0 for all.", min=0)
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds to re-run; default: the first.")] = None,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
):
    """Check a run or a board: form, benchmark, evidence against every count; with --rerun, by running it again."""
    from .checks import verify_board, verify_run

    report = verify_board(folder) if (folder / "store").is_dir() else verify_run(
        folder, rerun, seeds, str(data) if data else None, device
    )  # fmt: skip
    if as_json:
        from .console import dump

        dump(report.as_dict())
    else:
        print(report)
    if not report.passed:
        failed = [(name, reason) for name, passed, reason in report.checks if not passed]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise MismatchError(f"{folder} fails the check {failed[0][0]!r}: {failed[0][1].rstrip('.')}{more}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("carryover-demo"),
    seeds: Annotated[str, typer.Option(help="Seeds of every run.")] = "0..4",
    workers: Workers = 0,
):
    """The whole path in under three minutes: five strategies, two streams, plots, a board and its site."""
    from ..benchmarks.sweep import parse_seeds
    from .demo import run_demo

    run_demo(out, parse_seeds(seeds), workers or cores())


# -- reading arguments ----------------------------------------------------------------------------------------------


def _threads(text: str) -> int:
    """A thread count, 0 for auto."""
    if text == "auto":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise UsageError(f"--threads {text}: a number from 1 to 1024, or auto.")
    return int(text)


def _tasks(text: str) -> list[int]:
    """Positions of tasks, which people number from 1."""
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if min(numbers) < 1:
        raise UsageError(f"--tasks {text[:60]}: numbers from 1 on, such as 1,4,10.")
    return [number - 1 for number in dict.fromkeys(numbers)]


def _links(pairs: list[str]) -> dict[str, str]:
    links: dict[str, str] = {}
    for pair in pairs:
        rel, _, url = pair.partition("=")
        if rel not in ("code", "paper", "log") or not url:
            raise UsageError(f"--link {pair[:60]!r}: write code=https://..., paper=https://... or log=https://...")
        if rel in links:
            raise UsageError(f"--link {rel} is given twice.")
        links[rel] = url
    return links


def _record(path: Path):
    from ..evaluation.record import RunRecord

    if path.is_dir() and not (path / "record.json").exists():
        raise StorageError(f"{path} holds no record.json; name the folder of a finished run.")
    record = RunRecord.load(path)
    if not record.runs:
        raise InvalidError(f"{path} holds a record without seeds; run it again with --resume.")
    return record


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _label(path: Path, among: list[Path]) -> str:
    """The shortest tail of a path that tells it apart from the others."""
    parts = [_folder(other).resolve().parts for other in among]
    mine = _folder(path).resolve().parts
    for length in range(1, len(mine) + 1):
        if sum(other[-length:] == mine[-length:] for other in parts) == 1:
            return "-".join(mine[-length:])
    return "-".join(mine[1:])


def _difference_line(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return f"  {row['metric']:<22} not defined over {row['seeds']} common seeds"
    line = f"  {row['metric']:<22} {100 * row['difference']:+.2f} points"
    if row["ci95"] is None:
        return f"{line}   {row['seeds']} common seeds: too few for an interval"
    low, high = (100 * end for end in row["ci95"])
    return f"{line}   95 % [{low:+.2f}, {high:+.2f}]   p = {row['p']:.3g}, {row['seeds']} seeds"


def _print_paths(paths: list[Path], as_json: bool) -> None:
    if as_json:
        from .console import dump

        return dump([str(path) for path in paths])
    for path in paths:
        print(path)
    return None


def main() -> None:
    """Run the command line; every foreseen failure is one line on standard error and an exit code."""
    _prepare()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except CarryoverError as error:
        _fail(str(error), error.code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", StorageError.code)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not the argument parser's own
            raise
        if not sys.argv[1:]:  # which has printed the help
            sys.exit(2)
        context = getattr(error, "ctx", None)
        known = f" See {context.command_path} --help." if context is not None else ""
        _fail(error.format_message().strip().rstrip(".") + f".{known}", getattr(error, "exit_code", 2))
    if code == INTERRUPTED:  # which the parser makes of Ctrl-C
        again = "the same command with --resume goes on" if "run" in sys.argv[1:2] else "start it again to go on"
        _fail(f"interrupted. What was finished is kept; {again}.", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _prepare() -> None:
    """Text that the output's encoding lacks is escaped; being terminated is being interrupted, and ends workers too.

    Also in a background job, which a shell starts with interrupts ignored.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _fail(message: str, code: int) -> None:
    from .console import visible

    line = visible(" ".join(message.split()))
    print(f"carryover: {line[:1000]}{' ...' * (len(line) > 1000)}", file=sys.stderr)
    sys.exit(code)
