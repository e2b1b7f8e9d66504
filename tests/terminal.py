"""The command line from inside a test: as a user types it, and what comes back."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from carryover.cli import main

TINY = ["--set", "stream.n_tasks=2", "--set", "stream.train_per_task=20"]


@dataclass(frozen=True)
class Answer:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(*words: str | Path) -> Answer:
    """`carryover WORDS` in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["carryover", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return Answer(code, out.getvalue(), err.getvalue())


def start(*words: str | Path, **options: object) -> subprocess.Popen:
    """`carryover WORDS` in a process of its own, in a session of its own, as from a terminal.

    It hears interrupts even if these tests were started in the background, where they are ignored.
    """
    command = [sys.executable, "-m", "carryover", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    hearing = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, **{**pipes, "start_new_session": True, "preexec_fn": hearing, **options})


def typed(*words: str | Path, timeout: float = 120, **options: object) -> Answer:
    """`start`, to the end."""
    process = start(*words, **options)
    out, err = process.communicate(timeout=timeout)
    return Answer(process.returncode, out, err)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its bytes; None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def one_line(answer: Answer, code: int, *says: str) -> None:
    """The answer is a failure in one line of standard error, and nothing else."""
    assert answer.out == "", answer
    assert answer.err.startswith("carryover: ") and answer.err.count("\n") == 1 and answer.err.endswith("\n"), answer
    for words in says:
        assert words in answer.err, answer
    assert answer.code == code, answer
