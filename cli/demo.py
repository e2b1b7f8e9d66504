"""`carryover demo`: from nothing to a published board, on data that comes with the package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..base.errors import UsageError
from ..benchmarks.launch import Request, RunSpec, run_all
from ..benchmarks.protocol import SCORES
from ..benchmarks.workers import local
from .console import say, show, watching

STRATEGIES = ("finetune", "er", "ewc", "gem", "joint")
BENCHMARKS = ("rotated-digits", "split-digits")


def run_demo(folder: Path, seeds: Sequence[int], workers: int) -> None:
    """Run, tabulate, plot, submit, build the site, and say where to look."""
    if folder.exists() and not (folder.is_dir() and ((folder / "runs").is_dir() or not any(folder.iterdir()))):
        raise UsageError(f"{folder} holds something else; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    requests = [
        Request(RunSpec(s, b), tuple(seeds), str(folder / "runs" / b / s), resume=True, workers=workers)
        for b in BENCHMARKS
        for s in STRATEGIES
    ]
    say(f"{len(STRATEGIES)} strategies on {len(BENCHMARKS)} streams, {len(seeds)} seeds each, {workers} processes.")
    with watching() as watch:
        records = run_all(requests, watch, local(workers))
    # torch and matplotlib come into this process only now that the workers, which hold their own, are gone
    from ..evaluation.plots import plot_comparison, plot_record, plot_scores
    from ..leaderboard.site import build_site
    from ..leaderboard.store import Board
    from ..leaderboard.submission import make_submission

    board = Board(folder / "board")
    for name in BENCHMARKS:
        mine = [(r, rec) for r, rec in zip(requests, records, strict=True) if rec.benchmark.name == name]
        title = f"{name}: mean over seeds{', 95 % intervals' * (len(seeds) > 2)}"
        show([record for _, record in mine], title, SCORES)
        figures = folder / "figures" / name
        for request, record in mine:
            plot_record(record, figures / record.strategy.name)
            submission = make_submission(request.folder, "demo")
            board.submit(submission, request.folder)
        plot_scores([record for _, record in mine], figures)
        plot_comparison([record for _, record in mine if record.strategy.name in ("finetune", "gem")], figures)
    index = build_site(board.root, folder / "site")
    print(f"\n{time.monotonic() - begun:.0f} s. Heat maps: {folder / 'figures'}/BENCHMARK/STRATEGY/transfer-matrix.png")
    print(f"The board: open {index.resolve().as_uri()}")
