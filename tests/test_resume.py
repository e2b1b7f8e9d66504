"""Stopped at any moment and started again, a run ends with the record of one that was never stopped."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from carryover.base import files
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.benchmarks.launch import run
from carryover.evaluation import run as loop
from carryover.evaluation.checkpoint import load_state, save_state
from carryover.evaluation.record import RunRecord, check_evidence
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.strategies.check import blob_stream
from carryover.strategies.trial import difference
from carryover.streams.core import CIL, DIL
from carryover.tests.toys import FROM_SCRATCH, granted

STREAM = blob_stream(CIL)
SMALL = {"model.hidden": [8]}


class Killed(BaseException):
    """Not an Exception, so that nothing tidies up on its way, as nothing does after a kill."""


def one_life(monkeypatch, name, path, keep, die, stream=STREAM):
    """Run with a chance to save at every step; only chance number `keep` is taken, and chance `die` is the end."""
    chances = []

    def save(path, state):
        chances.append(None)
        if len(chances) == keep:
            save_state(path, state)
        if len(chances) == die:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", save)
        try:
            return run_seed(load_strategy(name)(**SMALL), stream, 0, checkpoint=path, every=0.0)
        except Killed:
            return None


# -- in one process: at every step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["er", "gem", "ewc"])
def test_stopped_once_at_any_step(name, monkeypatch, tmp_path):
    """9 steps in 3 tasks, and a checkpoint after each task; up to two steps of work are lost besides."""
    whole, evidence = run_seed(load_strategy(name)(**SMALL), STREAM, 0)
    for keep in range(1, 13):
        path = tmp_path / f"{keep}.safetensors"
        assert one_life(monkeypatch, name, path, keep, min(keep + keep % 3, 12)) is None
        again, bits = run_seed(load_strategy(name)(**SMALL), STREAM, 0, checkpoint=path)
        assert again.result_digest() == whole.result_digest(), f"stopped at chance {keep}"
        assert bits == evidence
        assert again.measured.resumed == 1


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_stopped_after_every_single_step(name, monkeypatch, tmp_path):
    stream = blob_stream(granted(name, DIL))
    whole, evidence = run_seed(load_strategy(name)(**SMALL), stream, 0)
    path, lives, done = tmp_path / "c.safetensors", 0, None
    while done is None and lives < 100:
        done = one_life(monkeypatch, name, path, 1, 1, stream)
        lives += 1
    assert done[0].result_digest() == whole.result_digest()
    assert done[1] == evidence
    assert done[0].measured.resumed == lives - 1 == whole.cost.steps + len(stream)


def test_cpu_time_of_learning_is_kept(monkeypatch, tmp_path):
    """By a clock that goes on by a second whenever it is read: once after each step and at the end of each task."""
    seconds = iter(range(1000))
    monkeypatch.setattr(loop.time, "process_time", lambda: next(seconds))
    assert one_life(monkeypatch, "er", tmp_path / "c", 4, 4) is None  # after the first task of three, in three steps
    again, _ = run_seed(load_strategy("er")(**SMALL), STREAM, 0, checkpoint=tmp_path / "c")
    assert again.measured.train_cpu_ms == 1000 * (3 + 1 + 1 + 1)


def test_stopped_with_a_prefix_and_gone_on(tmp_path):
    path = tmp_path / "c.safetensors"
    whole, _ = run_seed(load_strategy("er")(), STREAM, 0)
    run_seed(load_strategy("er")(), STREAM, 0, checkpoint=path, until=2)
    again, _ = run_seed(load_strategy("er")(), STREAM, 0, checkpoint=path)
    assert again.result_digest() == whole.result_digest()


QUICK = {"stream.n_tasks": 2, "stream.train_per_task": 60} | SMALL


def test_stopped_before_and_after_every_file_is_written(monkeypatch, tmp_path):
    """Two seeds, and every moment at which the folder changes."""
    real, moments = files.os.replace, 0
    whole = run("er", "split-digits", 2, out=tmp_path / "whole", **QUICK)
    for after in (False, True):
        for moment in range(1, 100):
            count = 0

            def replace(source, target, moment=moment, after=after):
                nonlocal count
                count += 1
                if count == moment and not after:
                    raise Killed
                real(source, target)
                if count == moment:
                    raise Killed

            out = tmp_path / f"{moment}{after}"
            with monkeypatch.context() as patch:
                patch.setattr(files.os, "replace", replace)
                try:
                    run("er", "split-digits", 2, out=out, **QUICK)
                    break  # there was no such moment any more
                except Killed:
                    moments += 1
            record = run("er", "split-digits", 2, out=out, resume=True, **QUICK)
            assert record.result_digest() == whole.result_digest()
            check_evidence(out, RunRecord.load(out))
            assert not (out / "seeds").exists()
    assert moments >= 2 * 8  # header, record, and for each seed two checkpoints, its evidence and its result


# -- with processes: kill -9 ----------------------------------------------------------------------------------------


def command(name: str, out: Path) -> list[str]:
    settings = ["epochs=10" if name == "gem" else "epochs=25"]
    flags = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "carryover", "run", name, "split-digits", "--seeds", "0..1", *flags,
            "--out", str(out), "--checkpoint-every", "0.05"]  # fmt: skip


def newest(out: Path) -> float:
    """When the newest checkpoint was written."""
    return max((path.stat().st_mtime for path in out.glob("seeds/*.safetensors")), default=0.0)


def kill_repeatedly(name: str, kills: int, seed: int, whole: Path, out: Path) -> None:
    draw, done, killed = random.Random(seed), False, 0
    for _ in range(kills):
        before = newest(out)
        process = subprocess.Popen(
            [*command(name, out), "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and newest(out) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1]
        done = process.returncode == 0
        assert done or process.returncode == -signal.SIGKILL, errors
        killed += not done
        if done:
            break
    assert killed >= 2
    if not done:
        subprocess.run([*command(name, out), "--resume"], check=True, capture_output=True)
    ours, theirs = RunRecord.load(out), RunRecord.load(whole)
    assert ours.result_digest() == theirs.result_digest()
    assert sum(r.measured.resumed for r in ours.runs) >= 1
    for seed in (0, 1):
        bits = Path("evidence") / f"seed-{seed}.bits"
        assert (out / bits).read_bytes() == (whole / bits).read_bytes()


@pytest.fixture(scope="module", params=[pytest.param("er", marks=pytest.mark.slow), "gem"])
def uninterrupted(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "whole"
    subprocess.run(command(request.param, out), check=True, capture_output=True)
    return request.param, out


def test_killed_five_times(uninterrupted, tmp_path):
    name, whole = uninterrupted
    kill_repeatedly(name, 5, 0, whole, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_twenty_times(uninterrupted, tmp_path, seed):
    """Four runs of five kills each, per strategy."""
    name, whole = uninterrupted
    kill_repeatedly(name, 5, seed, whole, tmp_path / "out")


# -- damaged checkpoints --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small one, in the middle of a task."""
    path = tmp_path_factory.mktemp("checkpoint") / "0.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        one_life(patch, "er", path, 5, 5)
    return path


def refused(path: Path) -> bool:
    """Whether a checkpoint is refused in one line that names it; any other error goes through."""
    try:
        load_state(path)
    except InvalidError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return True
    return False


def test_a_truncated_checkpoint_is_refused(checkpoint, tmp_path):
    data, path = checkpoint.read_bytes(), tmp_path / "c.safetensors"
    for length in [0, 1, 7, 8, 9, 100, *range(200, len(data), len(data) // 100), len(data) - 1]:
        path.write_bytes(data[:length])
        assert refused(path), length
    path.write_bytes(data + b"\0")
    assert refused(path)


def test_a_flipped_bit_is_found_anywhere(checkpoint, tmp_path):
    """In the header, that is numbers, names and shapes, as in the tensors."""
    data, path = checkpoint.read_bytes(), tmp_path / "c.safetensors"
    header = 8 + int.from_bytes(data[:8], "little")
    draw, whole = random.Random(0), load_state(checkpoint)
    offsets = [*range(8), *draw.sample(range(8, header), 400), *draw.sample(range(header, len(data)), 200)]
    slipped = 0
    for offset in offsets:
        damaged = bytearray(data)
        damaged[offset] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        if not refused(path):  # then the bit must have meant nothing
            slipped += 1
            assert difference(load_state(path), whole) is None, offset
    assert slipped < 5


def test_a_damaged_number_beside_the_tensors_is_found(tmp_path):
    path = tmp_path / "c.safetensors"
    save_state(path, {"step": 1234, "weight": torch.ones(3)})
    data = path.read_bytes()
    assert data.count(b"1234") == 1
    path.write_bytes(data.replace(b"1234", b"1235"))
    assert refused(path)


def test_the_run_and_the_command_refuse_a_damaged_checkpoint(checkpoint, tmp_path):
    out = tmp_path / "out"
    path = out / "seeds" / "0.safetensors"
    path.parent.mkdir(parents=True)
    damaged = bytearray(checkpoint.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InvalidError, match="is damaged"):
        run_seed(load_strategy("er")(**SMALL), STREAM, 0, checkpoint=path)
    done = subprocess.run(
        [*command("er", out), "--seeds", "0", "--resume"], capture_output=True, text=True, check=False
    )
    assert done.returncode == InvalidError.code
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "is damaged" in lines[0]


def test_a_checkpoint_of_something_else_is_refused(checkpoint, tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    other = {"model.hidden": [9]}
    for name, settings, stream, seed in (
        ("er", SMALL, blob_stream(DIL), 0),
        ("er", SMALL, STREAM, 1),
        ("er", other, STREAM, 0),
        ("gem", SMALL, STREAM, 0),
    ):
        with pytest.raises(UsageError, match="belongs to another"):
            run_seed(load_strategy(name)(**settings), stream, seed, checkpoint=path)
    with pytest.raises(StorageError, match="does not exist"):
        load_state(tmp_path / "none.safetensors")


@pytest.mark.parametrize("part", ["model", "memory", "optimizer"])
def test_a_checkpoint_of_another_version_is_refused(checkpoint, tmp_path, part):
    path, state = tmp_path / "c.safetensors", load_state(checkpoint)
    state["strategy"][part] = {"something": "else"}
    save_state(path, state)
    with pytest.raises(InvalidError, match="does not fit this run"):
        run_seed(load_strategy("er")(**SMALL), STREAM, 0, checkpoint=path)


def test_what_a_checkpoint_holds_comes_back(tmp_path):
    state = {
        "tensors": [torch.rand(2, 3), torch.zeros(0, 4), torch.tensor(7), torch.rand(4, 4).T[1:], torch.ones(2) > 0],
        "plain": [None, True, -3, 2**70, 0.1, "text\u00b0", [], {}],
        "keys": {1: "one", "1": "text one", "tensor": {"tensor": 1, "dict": 2}},
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    }
    path = tmp_path / "c.safetensors"
    save_state(path, state)
    assert difference(state, load_state(path)) is None
    with pytest.raises(TypeError, match="not set"):
        save_state(path, {"bad": {1, 2}})
