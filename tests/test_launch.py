"""From a request to a record: in this process, in workers, in two processes at once; and the protocols that are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from carryover.base.errors import CarryoverError, InvalidError, StorageError, UsageError
from carryover.benchmarks import launch
from carryover.benchmarks.launch import Request, RunSpec, Watch, run, run_all
from carryover.benchmarks.protocol import FOLDER, Benchmark, load_benchmark, names, read_benchmark
from carryover.benchmarks.rerun import rerun
from carryover.benchmarks.sweep import combinations, parse_seeds, read_sweep
from carryover.benchmarks.workers import InProcess, LocalWorkers, local
from carryover.evaluation import run as loop
from carryover.evaluation.folder import RunFolder, identity_of
from carryover.evaluation.record import RunRecord, SeedRun, check_evidence
from carryover.strategies import load_strategy
from carryover.strategies import registry as strategies
from carryover.streams import SETTINGS, load_stream
from carryover.streams import registry as streams
from carryover.streams.named import stream_options
from carryover.tests.terminal import TINY, start

SMALL = {"stream.n_tasks": 2, "stream.train_per_task": 20}


def spec(strategy: str = "er", target: str = "split-digits", **settings) -> RunSpec:
    return RunSpec(strategy, target, SMALL | settings)


def request(folder: Path, *seeds: int, resume: bool = True, **settings) -> Request:
    return Request(spec(**settings), seeds or (0, 1), str(folder), resume)


@pytest.fixture
def whole(tmp_path) -> RunRecord:
    """Four seeds, one after the other in this process."""
    return run("er", "split-digits", range(4), out=tmp_path / "whole", **SMALL)


# -- where jobs run --------------------------------------------------------------------------------------------------


def test_workers_leave_what_this_process_leaves(tmp_path, whole):
    spread = run("er", "split-digits", range(4), out=tmp_path / "spread", workers=2, **SMALL)
    assert spread.result_digest() == whole.result_digest() and spread.seeds == [0, 1, 2, 3]
    for seed in range(4):
        paths = [tmp_path / place / f"evidence/seed-{seed}.bits" for place in ("whole", "spread")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    check_evidence(tmp_path / "spread", spread)


def test_a_run_without_a_folder_leaves_nothing(tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run("er", "split-digits", 4, **SMALL).result_digest() == whole.result_digest()
    assert sorted(tmp_path.rglob("*")) == before


def test_two_processes_share_a_folder(tmp_path, whole):
    words = ["run", "er", "split-digits", *TINY, "--out", tmp_path / "shared"]
    processes = [start(*words, "--seeds", seeds) for seeds in ("0..1", "2..3")]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    shared = RunRecord.load(tmp_path / "shared")
    assert shared.result_digest() == whole.result_digest()
    check_evidence(tmp_path / "shared", shared)
    assert not (tmp_path / "shared/seeds").exists()


def test_many_writers_lose_no_seed(tmp_path, whole):
    """Each puts its seed and folds what it finds; the folder is cleared under the others' hands."""
    header = whole.model_copy(update={"runs": []})
    folder = RunFolder(tmp_path / "crowded")
    folder.admit(header, list(range(40)), resume=False)

    def work(seed: int) -> None:
        folder.put(whole.runs[0].model_copy(update={"seed": seed}), bytes([seed]), identity_of(header))
        folder.gather()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert folder.record().seeds == list(range(40)) and len(list((folder.path / "evidence").iterdir())) == 40
    assert sorted(path.name for path in folder.path.iterdir()) == ["evidence", "record.json"]


def test_a_script_needs_no_guard_around_its_main_part(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun')\nimport carryover\n"
        f"record = carryover.run('er', 'split-digits', 2, workers=2, **{SMALL})\nprint(record.seeds)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("begun\n[0, 1]\n", "")


class Heard(Watch):
    def __init__(self):
        self.jobs, self.shares = [], {}

    def planned(self, jobs):
        self.jobs = list(jobs)

    def progress(self, number, share):
        self.shares.setdefault(number, []).append(share)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_grows_and_ends_at_one(tmp_path, workers):
    watch = Heard()
    run_all([request(tmp_path / "a"), request(tmp_path / "b", 5)], watch, local(workers))
    assert [(job.folder, job.seed) for job in watch.jobs] == [
        (str(tmp_path / "a"), 0), (str(tmp_path / "a"), 1), (str(tmp_path / "b"), 5),
    ]  # fmt: skip
    assert sorted(watch.shares) == [0, 1, 2]
    for shares in watch.shares.values():
        assert shares == sorted(shares) and shares[-1] == 1 and all(0 <= share < 1 for share in shares[:-1])


@pytest.mark.parametrize("launcher", [InProcess, lambda: LocalWorkers(2)])
def test_a_launcher_tries_all_and_raises_the_first_error(tmp_path, launcher):
    heard, places = {}, [request(tmp_path / name) for name in "abcd"]
    wrong = request(tmp_path / "wrong", lr=-1)
    with launcher() as place:
        assert [len(plan) for plan in place.map(Request.plan, places[:2])] == [2, 2]
        with pytest.raises(UsageError, match="lr=-1"):
            place.map(Request.plan, [places[2], wrong, places[3]], heard.__setitem__)
        assert heard == {0: 1.0, 2: 1.0} and (tmp_path / "d/seeds/header.json").exists()
        assert place.map(Request.plan, []) == []


# -- what fails ------------------------------------------------------------------------------------------------------

FAILING = """
import os
from carryover.base.errors import UsageError
from carryover.strategies.er import ER

class Odd(Exception):
    pass

class Refused(UsageError):
    code = 2

class X(ER):
    def begin_task(self, task):
        if self.context.seed == 1 and task.index == 1:
            {}
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "mishap, kind, says",
    [
        ("raise Refused('not this one')", UsageError, "not this one"),
        ("raise ValueError('a bug')", ValueError, "a bug"),
        ("raise Odd('very')", Exception, "very"),
    ],
)
def test_a_failing_job_does_not_lose_the_others(tmp_path, workers, mishap, kind, says):
    (tmp_path / "mine.py").write_text(FAILING.format(mishap))
    words = {"out": tmp_path / "out", "resume": True, **SMALL}
    with pytest.raises(kind, match=says):
        run(f"{tmp_path}/mine.py:X", "split-digits", 4, workers=workers, **words)
    record = RunRecord.load(tmp_path / "out")
    assert record.seeds == [0, 2, 3]
    assert (tmp_path / "out/seeds/1.safetensors").exists()  # what it had done before
    check_evidence(tmp_path / "out", record)


def test_a_worker_that_dies_is_one_line_and_what_was_finished_is_kept(tmp_path, monkeypatch):
    # the file stays as it is: an edited one would be another strategy
    (tmp_path / "mine.py").write_text(FAILING.format('os.environ.get("MISHAP") and os._exit(9)'))
    monkeypatch.setenv("MISHAP", "1")
    words = {"out": tmp_path / "out", "resume": True, **SMALL}
    with pytest.raises(CarryoverError, match="a worker process died"):
        run(f"{tmp_path}/mine.py:X", "split-digits", 4, workers=2, **words)
    monkeypatch.delenv("MISHAP")
    assert run(f"{tmp_path}/mine.py:X", "split-digits", 4, **words).seeds == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_wrong_with_any_request_is_found_before_any_runs(tmp_path, workers):
    wrong = Request(spec(lr=-1), (0,), str(tmp_path / "wrong"))
    with pytest.raises(UsageError, match="lr=-1"):
        run_all([request(tmp_path / "right"), wrong], None, local(workers))
    assert not list(tmp_path.rglob("*.bits")) and not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("seeds", [[], [-1], [0.5], ["0"], [True]])
def test_seeds_are_whole_numbers(tmp_path, seeds):
    with pytest.raises(UsageError, match="each a whole number"):
        run("er", "split-digits", seeds, out=tmp_path / "out", **SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (64, 64), {"a": 1}, object(), [[1]], 2**70])
def test_settings_are_what_a_record_can_hold(value):
    with pytest.raises(UsageError, match="a setting is"):
        RunSpec("er", "split-digits", {"model.hidden": value})


# -- what is there already -------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch) -> list[int]:
    """The seeds that are really run."""
    seen, real = [], loop.run_seed

    def spy(strategy, stream, seed, **options):
        seen.append(seed)
        return real(strategy, stream, seed, **options)

    monkeypatch.setattr(loop, "run_seed", spy)
    return seen


def test_a_folder_is_not_written_over(tmp_path):
    run_all([request(tmp_path)])
    with pytest.raises(UsageError, match="already holds seed 0"):
        request(tmp_path, 0, 5, resume=False).plan()
    assert [job.seed for job in request(tmp_path, 5, resume=False).plan()] == [5]  # other seeds are no conflict
    assert [job.seed for job in request(tmp_path, 0, 0, 6, 6).plan()] == [6]


@pytest.mark.parametrize(
    "change, says",
    [
        ({"lr": 0.2}, "other settings: no lr"),
        ({"strategy": "finetune"}, r"another strategy \(name"),
        ({"stream.seed": 1}, "other settings: no stream.seed"),
        ({"stream.train_per_task": 21}, "other settings: stream.train_per_task=20"),
        ({"target": "rotated-digits"}, r"another benchmark \(name"),
    ],
)
def test_another_run_is_refused_whether_finished_or_begun(tmp_path, change, says):
    first = request(tmp_path)
    (job, _) = first.plan()
    loop.run_seed(job.spec.make(), job.spec.stream(), 0, checkpoint=RunFolder(tmp_path).checkpoint(0), until=1)
    with pytest.raises(UsageError, match=says):
        request(tmp_path, **change).plan()
    run_all([first])
    with pytest.raises(UsageError, match=says):
        request(tmp_path, 7, **change).plan()


def test_a_request_that_left_nothing_but_its_header_is_forgotten(tmp_path):
    request(tmp_path).plan()
    assert (tmp_path / "seeds/header.json").exists()
    (record,) = run_all([request(tmp_path, lr=0.2)])
    assert record.strategy.config["lr"] == 0.2


def test_two_runs_that_begin_in_one_folder_at_once_are_not_mixed(tmp_path):
    """Both were admitted before either had left a trace; the later header stands, and the other's seeds are refused."""
    (job,) = request(tmp_path, 0).plan()
    (other,) = request(tmp_path, 1, lr=0.2).plan()
    job.run(lambda share: None)
    other.run(lambda share: None)
    with pytest.raises(InvalidError, match=r"0\.json belongs to another run"):
        RunFolder(tmp_path).gather()
    assert (tmp_path / "seeds/0.json").exists() and (tmp_path / "seeds/1.json").exists()


def test_a_deleted_seed_is_run_again_alone(tmp_path, ran):
    run_all([request(tmp_path, 0, 1, 2)])
    before = (tmp_path / "record.json").read_bytes()
    value = json.loads(before)
    del value["runs"][1]
    (tmp_path / "record.json").write_text(json.dumps(value))
    ran.clear()
    run_all([request(tmp_path, 0, 1, 2)])
    assert ran == [1]
    after = RunRecord.load(tmp_path)
    assert after.result_digest() == RunRecord.parse(json.loads(before), "before").result_digest()


def test_a_deleted_record_starts_anew(tmp_path, ran, whole):
    run_all([request(tmp_path / "run")])
    (tmp_path / "run/record.json").unlink()
    ran.clear()
    (record,) = run_all([request(tmp_path / "run")])
    assert ran == [0, 1] and [r.correct for r in record.runs] == [r.correct for r in whole.runs[:2]]


def test_seeds_finished_before_a_kill_are_folded_in(tmp_path, ran, whole):
    first, second = request(tmp_path / "run").plan()
    first.run(lambda share: None)  # and then a kill: nobody gathers
    (tmp_path / "run/seeds/.1.safetensors.123.tmp").write_bytes(b"torn")
    (tmp_path / "run/seeds/.0.safetensors.123.tmp").write_bytes(b"torn")
    ran.clear()
    (record,) = run_all([request(tmp_path / "run")])
    assert ran == [second.seed] and [r.correct for r in record.runs] == [r.correct for r in whole.runs[:2]]
    assert not (tmp_path / "run/seeds").exists()


def test_gathering_from_nothing_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="holds no run"):
        RunFolder(tmp_path / "none").gather()


def test_a_seed_that_does_not_fit_the_record_is_refused(tmp_path, whole):
    header = whole.model_copy(update={"runs": []})
    folder = RunFolder(tmp_path / "run")
    folder.admit(header, [0], resume=False)
    ragged = SeedRun(seed=0, status="partial", correct=[[None]])
    folder.put(ragged, None, identity_of(header))
    with pytest.raises(InvalidError, match="1 rows, but 2 tasks need 3"):
        folder.gather()
    assert not (tmp_path / "run/record.json").exists() and (tmp_path / "run/seeds/0.json").exists()


# -- benchmark files -------------------------------------------------------------------------------------------------

FILE = """
title = "Mine"
version = 3
summary = "For a test."
stream = "split-digits"
seeds = [4, 2]

[options]
n_tasks = 2
setting = "til"

[protocol]
epochs = 2
"model.hidden" = [16]

[strategies.er]
lr = 0.2
epochs = 3

[manifest]
test_sizes = [300, 299]
"""


def frozen(path: Path) -> Benchmark:
    """As installed; a user's own file is not frozen."""
    path.write_text(FILE)
    return read_benchmark(path)


def test_a_benchmark_file_is_read(tmp_path):
    mine = frozen(tmp_path / "mine-1.toml")
    assert (mine.name, mine.title, mine.version, mine.seeds) == ("mine-1", "Mine", 3, [4, 2])
    assert mine.options == {"n_tasks": 2, "setting": "til"} and mine.manifest.test_sizes == [300, 299]
    assert mine.settings("er") == {"epochs": 3, "model.hidden": [16], "lr": 0.2}
    assert mine.settings("gem") == mine.protocol and mine.embedded
    assert load_benchmark(str(tmp_path / "mine-1.toml")).version == 0


def test_a_stream_alone_is_an_unfrozen_benchmark():
    for name in set(streams.entries) - set(names()):
        assert load_benchmark(name) == Benchmark(name=name, stream=name, version=0)
    assert load_benchmark("path/to/My_File.py:My_Stream").name == "my-stream"
    assert load_benchmark("split-digits").version >= 1


def test_deviations(tmp_path):
    mine = frozen(tmp_path / "mine.toml")
    for same in ({}, {"epochs": 2}, {"stream.n_tasks": 2}, {"model.hidden": [16]}, {"lr": 5}, {"memory": 7}):
        assert mine.deviations(same) == []
    for other in ({"epochs": 1}, {"stream.n_tasks": 5}, {"model.hidden": [17]}, {"stream.seed": 1}):
        assert mine.deviations(other) == list(other)
    assert mine.deviations({"stream.seed": 0, "epochs": 4, "lr": 1}) == ["epochs", "stream.seed"]
    assert replace(mine, version=0).deviations({"epochs": 1}) == []


def test_a_record_admits_its_deviations():
    plain, tuned = spec().header(), RunSpec("er", "split-digits", {"lr": 0.3, "epochs": 5}).header()
    assert plain.benchmark.deviations == ["stream.n_tasks", "stream.train_per_task"]
    assert plain.benchmark.version == 0  # other data: not this benchmark's board
    assert (tuned.benchmark.deviations, tuned.benchmark.version) == ([], 1)
    changed = RunSpec("er", "split-digits", {"epochs": 4, "model.hidden": [8]}).header().benchmark
    assert (changed.deviations, changed.version) == (["epochs", "model.hidden"], 1)


@pytest.mark.parametrize("name", names())
def test_shipped_benchmarks_make_sense(name):
    benchmark = load_benchmark(name)
    assert benchmark.version >= 1 and benchmark.title and benchmark.source and len(benchmark.seeds) >= 3
    assert benchmark.summary.endswith(".") and len(benchmark.summary) <= 120
    known = stream_options(streams.load(benchmark.stream))
    assert set(benchmark.options) <= {*known, "setting"} and benchmark.options.get("setting", "cil") in SETTINGS
    assert set(benchmark.strategies) <= set(strategies.entries)
    for strategy in strategies.entries:  # each takes the shared protocol and its own settings
        config, given = RunSpec(strategy, name).make().config, benchmark.settings(strategy)
        for key in {"epochs", "model"} & given.keys():  # a learner without a loop has no epochs
            assert not hasattr(config, key) or getattr(config, key) == given[key]
        for setting in benchmark.protocol:
            assert setting not in benchmark.strategies.get(strategy, {})  # what is shared is shared


SLOW = {"split-miniimagenet-mini"}  # its pictures take ten seconds to draw


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names() if load_benchmark(n).embedded],
)
def test_embedded_benchmarks_are_what_their_manifests_pin(name):
    benchmark = load_benchmark(name)
    stream = RunSpec("finetune", name).stream()
    assert benchmark.manifest.fingerprint == stream.fingerprint
    assert benchmark.manifest.test_sizes == stream.test_sizes
    for strategy in benchmark.strategies:
        if all(getattr(stream.setting, need) for need in load_strategy(strategy).needs):
            RunSpec(strategy, name).try_setup()


def test_benchmark_files_are_plain_and_installed():
    assert names() == sorted(path.stem for path in FOLDER.glob("*.toml")) and len(names()) >= 6
    for path in FOLDER.glob("*.toml"):
        assert path.read_text().isprintable() is False and tomllib.loads(path.read_text())


# -- sweeps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, seeds",
    [
        ("0..4", (0, 1, 2, 3, 4)),
        ("3..3", (3,)),
        ("0,2,5", (0, 2, 5)),
        ("5,2,5", (5, 2)),
        ("7", (7,)),
        (" 1 , 2", (1, 2)),
        ([4, 1, 4], (4, 1)),
        ("2147483648", (2**31,)),
    ],
)
def test_seeds_are_parsed(value, seeds):
    assert parse_seeds(value) == seeds


def test_a_sweep_is_every_combination(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'strategies = ["er", "gem"]\nbenchmarks = ["split-digits", "rotated-digits"]\nseeds = [3]\ndevice = "cpu"\n'
        '[grid]\nlr = [0.1, 0.2]\n"model.hidden" = [[8, 8]]\nepochs = 1\n[grid.er]\nmemory = [10, 20, 30]\n'
    )
    requests = read_sweep(path, workers=3, data="elsewhere")
    assert len(requests) == 2 * (6 + 2) and len({r.folder for r in requests}) == 16
    first = requests[0]
    assert (first.seeds, first.resume, first.workers) == ((3,), True, 3)
    assert (first.spec.device, first.spec.data) == ("cpu", "elsewhere")
    assert first.spec.settings == {"lr": 0.1, "model.hidden": [8, 8], "epochs": 1, "memory": 10}
    assert first.folder == str(tmp_path / "grid/split-digits/er/lr=0.1,model.hidden=8x8,epochs=1,memory=10")
    assert read_sweep(path, out=str(tmp_path / "x"))[0].folder.startswith(str(tmp_path / "x"))
    assert combinations({}, "er") == [{}]
    assert combinations({"lr": [1], "gem": {"lr": [2, 3]}}, "gem") == [{"lr": 2}, {"lr": 3}]


def test_several_grids_stand_side_by_side(tmp_path):
    path = tmp_path / "grids.toml"
    path.write_text(
        'strategies = ["er", "gem"]\nbenchmarks = ["split-digits"]\nseeds = [3]\n'
        "[[grid]]\nlr = [0.1, 0.2]\n[[grid]]\nepochs = [1, 2]\nlr = 0.3\n[grid.er]\nmemory = 10\n[[grid]]\nlr = 0.2\n"
    )
    found = {name: [r.spec.settings for r in read_sweep(path) if r.spec.strategy == name] for name in ("er", "gem")}
    lr = [{"lr": 0.1}, {"lr": 0.2}]  # the last grid's comes again, and once
    assert found["gem"] == lr + [{"epochs": 1, "lr": 0.3}, {"epochs": 2, "lr": 0.3}]
    assert found["er"] == lr + [{"epochs": n, "lr": 0.3, "memory": 10} for n in (1, 2)]  # its own is of one grid
    assert combinations([{}, {"lr": [1]}, {"gem": {"lr": 1}}], "gem") == [{}, {"lr": 1}]


@pytest.mark.parametrize(
    ("grids", "says"),
    [
        ("grid = []", "must be a table"),
        ("grid = [3]", "must be a table"),
        ("[[grid]]\nlr = [1]\n[[grid]]\nlr = []", "grid.lr has no values"),
        ("[[grid]]\n[[grid]]\n[grid.gem]\nmemory = 3", "grid.gem is neither a strategy of this sweep"),
    ],
)
def test_every_grid_is_checked(tmp_path, grids, says):
    path = tmp_path / "grids.toml"
    path.write_text(f'strategies = ["er"]\nbenchmarks = ["split-digits"]\n{grids}\n')
    with pytest.raises(InvalidError, match=says):
        read_sweep(path)


def test_a_sweep_takes_the_benchmarks_seeds(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('strategies = ["er"]\nbenchmarks = ["split-digits"]\nout = "there"\n')
    (only,) = read_sweep(path)
    assert list(only.seeds) == load_benchmark("split-digits").seeds
    assert only.folder == str(tmp_path / "there/split-digits/er")


def test_a_stream_is_built_once_for_all_jobs(tmp_path, monkeypatch):
    launch._stream.cache_clear()
    run_all([request(tmp_path / "a"), request(tmp_path / "b", strategy="finetune")])
    assert launch._stream.cache_info().misses == 1


@pytest.mark.skipif(os.name != "posix", reason="folders are locked on POSIX systems")
def test_a_locked_folder_is_waited_for(tmp_path, whole):
    import fcntl
    import threading

    handle = os.open(tmp_path / "whole", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (RunFolder(tmp_path / "whole").gather(), done.set()))
    thread.start()
    assert not done.wait(0.3)
    os.close(handle)
    assert done.wait(10)
    thread.join()


MEANS = '''
from dataclasses import dataclass
import torch
from carryover.strategies import Strategy, strategy

@dataclass(frozen=True)
class MeansConfig:
    shrink: float = 0.0

@strategy("means")
class Means(Strategy):
    """Nearest class mean, without a gradient."""
    Config = MeansConfig
    stateful = ("total", "count")

    def setup(self, info, context):
        super().setup(info, context)
        self.total, self.count = torch.zeros(info.classes, 64), torch.zeros(info.classes)

    def learn(self, task):
        stored, y = task.train.rows(torch.arange(len(task.train)))
        self.total.index_add_(0, y, task.train.prepare(stored).flatten(1))
        self.count.index_add_(0, y, torch.ones(len(y)))

    def predict(self, inputs, query):
        means = self.total / self.count.clamp_min(1)[:, None] * (1 - self.config.shrink)
        return self.predicted(torch.cdist(inputs.flatten(1), means), query)

    def predicted(self, distance, query):
        if not query.classes:
            return torch.full((len(distance),), -1)
        columns = query.column_index(distance.device)
        return columns[distance[:, columns].argmin(1)]
'''


def test_a_learner_without_gradients_runs_on_a_frozen_benchmark(tmp_path):
    """The shared protocol's passes and networks say nothing to it; a setting that nobody has is still refused."""
    path = tmp_path / "means.py"
    path.write_text(MEANS)
    record = run(f"{path}:Means", "split-digits", seeds=1)
    assert record.benchmark.version == 1 and record.strategy.config == {"shrink": 0.0}
    assert record.metrics("acc")["acc"]["mean"] > 0.8
    with pytest.raises(UsageError, match="unknown setting of means 'epochs'"):
        run(f"{path}:Means", "split-digits", seeds=1, epochs=3)


def test_classes_and_streams_of_ones_own_run_as_they_are(whole):
    stream = load_stream("split-digits", n_tasks=2, train_per_task=30)
    record = run(load_strategy("er"), stream, seeds=1, epochs=2)
    named = run("er", "split-digits", seeds=1, epochs=2, **{"stream.n_tasks": 2, "stream.train_per_task": 30})
    assert record.stream == named.stream and record.strategy.source == "user" and record.benchmark.version == 0
    assert run(load_strategy("er"), stream, seeds=1, **{"stream.setting": "til"}).stream.setting == "til"
    with pytest.raises(UsageError, match="takes no option 'n_tasks'"):
        run("er", stream, seeds=1, **{"stream.n_tasks": 3})
    with pytest.raises(UsageError, match="worker processes"):
        run("er", stream, seeds=2, workers=2)


def test_an_edited_strategy_is_another_strategy(tmp_path):
    path = tmp_path / "means.py"
    path.write_text(MEANS)
    first = run(f"{path}:Means", "split-digits", seeds=1, out=tmp_path / "out")
    path.write_text(MEANS.replace("argmin", "argmax"))
    with pytest.raises(UsageError, match="another version of its code"):
        run(f"{path}:Means", "split-digits", seeds=2, out=tmp_path / "out", resume=True)
    second = run(f"{path}:Means", "split-digits", seeds=1)
    assert second.runs[0].correct != first.runs[0].correct


def test_what_is_not_there_is_a_difference_to_a_rerun(tmp_path):
    record = run("finetune", "split-digits", seeds=1, lr=1e6)  # diverges
    forged = json.loads(record.to_bytes())
    sizes = forged["stream"]["test_sizes"]
    forged["runs"][0] |= {"status": "complete", "correct": [[0] * len(sizes)] + [sizes] * len(sizes)}
    found = rerun(RunRecord.parse(forged, "forged"), 0)
    assert not found.exact and found.different >= len(sizes) ** 2
