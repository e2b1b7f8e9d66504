"""Every command at work on small runs: what it prints, writes and returns, in a terminal and out of one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from carryover.base.files import sha256
from carryover.cli import demo
from carryover.evaluation import run as loop
from carryover.evaluation.record import RunRecord, evidence_path, unpack_evidence
from carryover.tests.terminal import TINY, Answer, call, one_line, start, typed

KINDS = {
    "streams": {"name", "summary", "embedded", "source", "setting"},
    "strategies": {"name", "summary", "needs", "source"},
    "benchmarks": {"name", "summary", "embedded", "version", "stream", "seeds"},
    "metrics": {"name", "summary", "unit", "better", "source"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two finished runs on one stream, and one on another."""
    root = tmp_path_factory.mktemp("made")
    seeds = ["--seeds", "0..2"]
    for name, stream in (("er", "split-digits"), ("finetune", "split-digits"), ("er", "rotated-digits")):
        out = root / (name if stream == "split-digits" else "other")
        assert call("run", name, stream, *TINY, *seeds, "--out", out).code == 0
    return root


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A copy, to which the test has gone."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def value(answer: Answer):
    """The one JSON value of a command that went well."""
    assert (answer.code, answer.err) == (0, ""), answer
    assert answer.out.count("\n") == 1 and answer.out.endswith("\n")
    return json.loads(answer.out)


def check_metrics(metrics: dict, seeds: int) -> None:
    """Every metric by name: fractions, and an interval from three seeds on."""
    assert {"acc", "bwt", "fwt_lopez_paz", "forgetting_chaudhry", "la"} <= metrics.keys()
    for metric in metrics.values():
        assert {"mean", "ci95", "per_seed", "unit"} <= metric.keys()
        assert len(metric["per_seed"]) == seeds and metric["unit"] in ("fraction", "ratio")
        if metric["mean"] is not None and seeds >= 3:
            low, high = metric["ci95"]
            assert low <= metric["mean"] <= high
        elif seeds < 3:
            assert metric["ci95"] is None
    assert 0 <= metrics["acc"]["mean"] <= 1
    assert metrics["acc"]["mean"] == pytest.approx(sum(metrics["acc"]["per_seed"]) / seeds)


# -- list ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_list(kind):
    rows = value(call("list", kind, "--json"))
    assert isinstance(rows, list) and rows and all(KINDS[kind] <= row.keys() for row in rows)
    assert [row["name"] for row in rows] == sorted({row["name"] for row in rows})
    assert all(row["summary"] and "\n" not in row["summary"] for row in rows)
    lines = call("list", kind).out.splitlines()
    assert [line.split()[0] for line in lines] == [row["name"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert row["summary"] in line and line.endswith("[needs data]") == (not row.get("embedded", True))


def test_list_knows_what_is_there():
    names = {kind: {row["name"] for row in value(call("list", kind, "--json"))} for kind in KINDS}
    assert {"split-digits", "rotated-digits", "split-mnist", "split-cifar100"} <= names["streams"]
    assert {"finetune", "joint", "er", "ewc", "gem", "lwf"} <= names["strategies"]
    assert {"split-digits", "gem-mnist-rotations"} <= names["benchmarks"]
    assert {"acc", "bwt", "fwt_lopez_paz"} <= names["metrics"]


def test_listing_imports_nothing_heavy():
    """`carryover list` answers at once."""
    check = "import sys; from carryover.cli.catalogue import *; [catalogue(kind) for kind in KINDS]; "
    check += "print(sorted({'torch', 'pandas', 'matplotlib', 'datasets', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "[]\n"


# -- run -------------------------------------------------------------------------------------------------------------


def test_run(place):
    answer = call("run", "er", "split-digits", *TINY, "--seeds", "0..1", "--out", "out")
    assert (answer.code, answer.err) == (0, "")
    assert "er on split-digits" in answer.out and "seeds: 2 complete (0, 1)" in answer.out
    assert answer.out.splitlines()[-1] == "record: out/record.json"
    assert sorted(p.name for p in Path("out").rglob("*")) == ["evidence", "record.json", "seed-0.bits", "seed-1.bits"]


def test_run_goes_to_a_folder_named_after_itself(place):
    assert call("run", "er", "split-digits", *TINY, "--seeds", "0").code == 0
    assert RunRecord.load("runs/split-digits/er").seeds == [0]


def test_run_json(place):
    result = value(call("run", "er", "split-digits", *TINY, "--seeds", "0..2", "--out", "out", "--json"))
    assert list(result) == ["benchmark", "strategy", "seeds", "record", "metrics"]
    assert (result["benchmark"], result["strategy"], result["seeds"]) == ("split-digits", "er", [0, 1, 2])
    assert result["record"] == "out/record.json" and Path(result["record"]).is_file()
    check_metrics(result["metrics"], 3)
    few = value(call("run", "er", "split-digits", *TINY, "--seeds", "1,0", "--json", "--out", "few"))
    check_metrics(few["metrics"], 2)
    assert few["seeds"] == [0, 1]


def test_run_takes_the_seeds_of_the_benchmark(place):
    options = "[options]\nn_tasks = 2\ntrain_per_task = 20\n"
    Path("mine.toml").write_text(f'stream = "split-digits"\nseeds = [3, 8]\n{options}')
    result = value(call("run", "er", "mine.toml", "--json"))
    assert (result["benchmark"], result["seeds"]) == ("mine", [3, 8])
    assert result["record"] == "runs/mine/er/record.json"


def test_settings_reach_strategy_model_and_stream(place):
    words = ["--set", "lr=0.02", "--set", "model.hidden=[7,5]", "--set", "stream.seed=4", "--set", "optimizer=adam"]
    assert call("run", "er", "rotated-digits", *TINY, *words, "--seeds", "0", "--out", "out").code == 0
    record = RunRecord.load("out")
    config = record.strategy.config
    assert (config["lr"], config["model.hidden"], config["optimizer"]) == (0.02, [7, 5], "adam")
    assert record.stream.seed == 4 and record.benchmark.settings["stream.n_tasks"] == 2
    assert "--set" in record.provenance.command and "model.hidden=[7, 5]" in record.provenance.command


def test_another_model_leaves_the_options_of_the_benchmarks_behind(place):
    words = ["--set", "model=slim-resnet18", "--set", "model.filters=10"]
    assert call("run", "finetune", "rotated-digits", *TINY, *words, "--seeds", "0", "--out", "out").code == 0
    assert RunRecord.load("out").strategy.config["model"] == "slim-resnet18"


def test_run_of_files_of_the_users_own(place):
    Path("mine.py").write_text(
        "from carryover.strategies.er import ER\nfrom carryover.streams import load_stream\n\n"
        "class Mine(ER):\n    '''Mine.'''\n\n"
        "def digits(*, tasks: int = 5):\n    return load_stream('split-digits', n_tasks=tasks, train_per_task=20)\n"
    )
    result = value(call("run", "mine.py:Mine", "mine.py:digits", "--set", "stream.tasks=2", "--seeds", "0", "--json"))
    assert (result["strategy"], result["benchmark"]) == ("mine", "digits")
    record = RunRecord.load(Path(result["record"]))
    assert record.strategy.source.startswith("user sha256:") and len(record.stream.tasks) == 2
    assert record.provenance.command[2:4] == ["mine.py:Mine", "mine.py:digits"]


def test_resume_adds_what_is_missing_and_keeps_the_rest(place):
    before = RunRecord.load("er")
    assert call("run", "er", "split-digits", *TINY, "--seeds", "1..4", "--out", "er", "--resume").code == 0
    after = RunRecord.load("er")
    assert after.seeds == [0, 1, 2, 3, 4] and after.runs[:3] == before.runs
    assert after.provenance == before.provenance


def test_threads_auto_is_recorded(place):
    assert call("run", "er", "split-digits", *TINY, "--seeds", "0", "--threads", "auto", "--out", "out").code == 0
    assert RunRecord.load("out").runs[0].measured.threads >= 1


# -- plot and compare ------------------------------------------------------------------------------------------------


def test_plot(place):
    paths = value(call("plot", "er", "--json"))
    assert paths == [f"er/{stem}.{kind}" for stem in ("transfer-matrix", "curves") for kind in ("png", "svg")]
    assert all(Path(path).stat().st_size > 1000 for path in paths)
    assert call("plot", "er/record.json", "--out", "figures").out.splitlines()[0] == "figures/transfer-matrix.png"
    assert Path("figures/transfer-matrix.png").read_bytes() == Path("er/transfer-matrix.png").read_bytes()


def test_plot_of_several_runs_compares_them(place):
    paths = value(call("plot", "er", "finetune", "--out", "figures", "--json"))
    assert {"figures/er/curves.svg", "figures/finetune/transfer-matrix.png", "figures/comparison.png",
            "figures/scores.svg"} <= set(paths)  # fmt: skip
    assert all(Path(path).is_file() for path in paths)


def test_plot_of_one_metric_against_another(place):
    paths = value(call("plot", "er", "finetune", "--against", "bwt,acc", "--out", "figures", "--json"))
    assert paths == ["figures/tradeoff.png", "figures/tradeoff.svg"] and all(Path(path).is_file() for path in paths)
    one_line(call("plot", "er", "--against", "acc"), 2, "give two metrics, such as transfer_mtil,last")
    one_line(call("plot", "er", "--against", "acc,bvt"), 2, "Did you mean 'bwt'")


def test_a_run_compared_with_itself_is_no_different(place):
    result = value(call("compare", "er", "er", "--json"))
    assert (result["a"], result["b"]) == ("er", "er")
    for row in result["metrics"]:
        assert row["difference"] == 0 and row["ci95"] == [0, 0] and row["p"] == 1 and row["seeds"] == 3
        assert {"metric", "a", "b", "unit"} <= row.keys()


def test_compare(place):
    there, back = (value(call("compare", *pair, "--json")) for pair in (("er", "finetune"), ("finetune", "er")))
    assert [row["metric"] for row in there["metrics"]] == ["acc", "bwt", "fwt_lopez_paz", "forgetting_chaudhry"]
    for row, other in zip(there["metrics"], back["metrics"], strict=True):
        assert row["difference"] == -other["difference"] and row["a"] == other["b"]
    lines = call("compare", "er", "finetune", "--metric", "acc", "--metric", "la", "--out", "figures").out.splitlines()
    assert lines[0] == "er minus finetune on split-digits, paired over seeds" and len(lines) == 3
    assert re.fullmatch(r"  acc +[+-]\d+\.\d\d points   95 % \[.*\]   p = \S+, 3 seeds", lines[1])
    assert Path("figures/comparison.png").is_file()


def test_compare_over_common_seeds(place):
    assert call("run", "gem", "split-digits", *TINY, "--seeds", "2..5", "--out", "gem").code == 0
    assert {row["seeds"] for row in value(call("compare", "er", "gem", "--json"))["metrics"]} == {1}
    assert "1 common seeds: too few for an interval" in call("compare", "er", "gem").out


# -- sweep -----------------------------------------------------------------------------------------------------------

SWEEP = """
strategies = ["finetune", "er"]
benchmarks = ["split-digits"]
seeds = "0..1"

[grid]
"stream.n_tasks" = [2]
"stream.train_per_task" = [20]
lr = [0.01, 0.1]

[grid.er]
memory = [10]
"""


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """The seeds that are really run."""
    seen, real = [], loop.run_seed

    def spy(strategy, stream, seed, **options):
        seen.append(seed)
        return real(strategy, stream, seed, **options)

    monkeypatch.setattr(loop, "run_seed", spy)
    return seen


def test_sweep(place, runs):
    Path("grid.toml").write_text(SWEEP)
    words = ["sweep", "grid.toml", "--workers", 1, "--json"]
    rows = value(call(*words))
    assert len(rows) == 4 and runs == [0, 1] * 4
    assert [row["strategy"] for row in rows] == ["finetune", "finetune", "er", "er"]
    assert [row["settings"]["lr"] for row in rows] == [0.01, 0.1] * 2
    assert ["memory" in row["settings"] for row in rows] == [False, False, True, True]
    for row in rows:
        assert row["benchmark"] == "split-digits" and row["seeds"] == [0, 1] and Path(row["record"]).is_file()
        assert Path(row["record"]).is_relative_to("grid")
        check_metrics(row["metrics"], 2)

    begun = time.monotonic()
    assert value(call(*words)) == rows and len(runs) == 8  # nothing was run again
    assert time.monotonic() - begun < 5

    path = Path(rows[2]["record"])
    record = json.loads(path.read_text())
    del record["runs"][1]
    path.write_text(json.dumps(record))
    assert value(call(*words)) == rows and runs[8:] == [1]  # the deleted seed alone

    Path("grid.toml").write_text(SWEEP.replace("0..1", "0..2"))
    assert [row["seeds"] for row in value(call(*words))] == [[0, 1, 2]] * 4 and runs[9:] == [2] * 4


def test_a_sweep_prints_a_table_a_benchmark(place):
    Path("grid.toml").write_text(SWEEP.replace('["split-digits"]', '["split-digits", "rotated-digits"]'))
    answer = call("sweep", "grid.toml", "--workers", 1, "--out", "elsewhere")
    assert (answer.code, answer.err) == (0, "") and Path("elsewhere/rotated-digits").is_dir()
    assert "…" not in answer.out and answer.out.count("ACC %") == 2
    for text in ("er  lr=0.01  memory=10", "finetune  lr=0.1", "all with stream.n_tasks=2, stream.train_per_task=20"):
        assert answer.out.count(text) == 2


def test_one_failing_run_of_a_sweep_does_not_stop_the_others(place):
    Path("mine.py").write_text(
        "from carryover.strategies.er import ER\n\nclass Mine(ER):\n"
        "    def begin_task(self, task):\n        raise ValueError('a bug')\n"
    )
    Path("grid.toml").write_text(SWEEP.replace('"finetune"', '"mine.py:Mine"').replace("[grid.er]\nmemory = [10]", ""))
    with pytest.raises(ValueError, match="a bug"):
        call("sweep", "grid.toml", "--workers", 1)
    assert RunRecord.load("grid/split-digits/er/stream.n_tasks=2,stream.train_per_task=20,lr=0.1").seeds == [0, 1]
    assert not Path("grid/split-digits/Mine/stream.n_tasks=2,stream.train_per_task=20,lr=0.1").exists()


# -- verify ----------------------------------------------------------------------------------------------------------


def forge(folder: Path, row: int, task: int) -> None:
    """One more right answer, in the counts and in the evidence, with the digest to match."""
    record = json.loads((folder / "record.json").read_text())
    sizes, run = record["stream"]["test_sizes"], record["runs"][0]
    path = evidence_path(folder, run["seed"])
    bits = unpack_evidence(path.read_bytes(), sizes)
    start = sum(sizes[:task])
    wrong = next(i for i in range(start, start + sizes[task]) if not bits[row, i])
    data, place = bytearray(path.read_bytes()), row * sum(sizes) + wrong
    data[place // 8] |= 0x80 >> place % 8
    path.write_bytes(data)
    run["correct"][row][task] += 1
    run["evidence"]["sha256"] = sha256(bytes(data))
    (folder / "record.json").write_text(json.dumps(record))


def test_verify(place):
    answer = call("verify", "er")
    assert (answer.code, answer.err) == (0, "") and answer.out.splitlines()[-1] == "passed"
    verdict = value(call("verify", "er", "--json"))
    assert list(verdict) == ["subject", "passed", "checks", "notes"] and verdict["passed"] is True
    assert all(check.keys() == {"check", "passed", "reason"} and check["passed"] for check in verdict["checks"])


def test_verify_by_running_again(place):
    verdict = value(call("verify", "er", "--rerun", 1, "--seeds", "0,2", "--json"))
    again = [check for check in verdict["checks"] if check["check"].startswith("re-run")]
    assert [check["check"] for check in again] == ["re-run of seed 0", "re-run of seed 2"]
    assert all(check["reason"] == "rows 0 to 1: 4 of 4 cells equal" for check in again)
    assert "rows 0 to 2: 6 of 6 cells equal" in call("verify", "er", "--rerun", 0).out


def test_only_a_rerun_shows_a_consistent_forgery(place):
    forge(place / "er", row=2, task=0)
    assert call("verify", "er").code == 0
    assert call("verify", "er", "--rerun", 1).code == 0  # which vouches for rows 0 and 1, and says so
    answer = call("verify", "er", "--rerun", 0)
    assert answer.code == 4 and "the largest difference is 1 answers" in answer.out
    assert answer.out.splitlines()[-1] == "FAILED"
    assert answer.err.startswith("carryover: er fails the check 're-run of seed 0'") and answer.err.count("\n") == 1


def test_a_rerun_with_other_settings_is_refused(place):
    path = Path("er/record.json")
    path.write_text(path.read_text().replace('"lr":', '"lr":0.5,"_":', 1).replace('"_":', '"momentum_":', 1))
    answer = call("verify", "er", "--rerun", 1)
    assert answer.code == 4 and answer.out == "" and "the strategy here is not the record's" in answer.err


# -- board -----------------------------------------------------------------------------------------------------------


def test_from_a_run_to_a_site(place):
    words = [
        "submit",
        "er",
        "--board",
        "board",
        "--as",
        "ada",
        "--name",
        "Replay",
        "--link",
        "code=https://example.org/x",
    ]
    added = value(call(*words, "--json"))
    assert list(added) == ["id", "path", "new", "findings"] and added["new"] is True
    assert re.fullmatch("[0-9a-f]{64}", added["id"]) and Path(added["path"], "submission.json").is_file()
    assert value(call(*words, "--json"))["new"] is False
    assert "is accepted" in call("submit", "finetune", "--board", "board").out
    assert value(call("verify", "board", "--json"))["passed"] is True
    assert value(call("verify", added["path"], "--rerun", 1, "--json"))["passed"] is True
    (index,) = value(call("site", "--board", "board", "--out", "site", "--json"))
    assert index.endswith("site/index.html")
    pages = "".join(path.read_text() for path in Path("site").rglob("*.html"))
    assert "Replay" in pages and "https://example.org/x" in pages and "finetune" in pages
    assert call("site", "--board", "board", "--out", "site").out == f"{index}\n"  # over itself


def test_a_damaged_board_fails_its_check(place):
    added = value(call("submit", "er", "--board", "board", "--json"))
    path = evidence_path(added["path"], 0)
    path.write_bytes(path.read_bytes()[::-1])
    answer = call("verify", "board")
    assert answer.code == 4 and "FAIL" in answer.out and answer.err.startswith("carryover: board fails the check")


# -- demo ------------------------------------------------------------------------------------------------------------


def check_demo(folder: Path, answer: Answer, strategies: tuple[str, ...], benchmarks: tuple[str, ...]) -> None:
    assert answer.code == 0 and answer.err.count("\n") == 1 and f"{len(strategies)} strategies" in answer.err
    for benchmark in benchmarks:
        assert f"{benchmark}: mean over seeds" in answer.out
        for strategy in strategies:
            assert RunRecord.load(folder / "runs" / benchmark / strategy).seeds == [0, 1]
            assert (folder / "figures" / benchmark / strategy / "transfer-matrix.png").is_file()
        assert (folder / "figures" / benchmark / "scores.svg").is_file()
    assert len(list((folder / "board/store").rglob("submission.json"))) == len(strategies) * len(benchmarks)
    assert (folder / "site/index.html").is_file()
    assert answer.out.splitlines()[-1] == f"The board: open {(folder / 'site/index.html').resolve().as_uri()}"
    assert "…" not in answer.out


def test_a_short_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "STRATEGIES", ("finetune", "gem"))
    monkeypatch.setattr(demo, "BENCHMARKS", ("split-digits",))
    words = ["demo", "--seeds", "0..1", "--workers", 1, "--out", tmp_path / "demo"]
    check_demo(tmp_path / "demo", call(*words), demo.STRATEGIES, demo.BENCHMARKS)
    check_demo(tmp_path / "demo", call(*words), demo.STRATEGIES, demo.BENCHMARKS)  # again: nothing is lost or doubled


@pytest.mark.slow
def test_the_demo(tmp_path):
    answer = typed("demo", "--seeds", "0..1", "--out", "demo", cwd=tmp_path, timeout=300)
    folder = tmp_path / "demo"
    check_demo(folder, answer, demo.STRATEGIES, demo.BENCHMARKS)


# -- terminals -------------------------------------------------------------------------------------------------------


def in_a_terminal(*words: str, out_too: bool = False, **environment: str) -> tuple[Answer, str]:
    """The answer of a process whose standard error is a terminal, and what the terminal got."""
    mine, theirs = pty.openpty()
    told = os.environ | {"TERM": "xterm", "COLUMNS": "80", "OMP_NUM_THREADS": "1"} | environment
    process = start(*words, stderr=theirs, env=told, **({"stdout": theirs} if out_too else {}))
    os.close(theirs)
    shown, begun = b"", time.monotonic()
    while time.monotonic() - begun < 120:
        ready, _, _ = select.select([mine], [], [], 0.1)
        try:
            shown += os.read(mine, 65536) if ready else b""
        except OSError:  # the last writer is gone
            break
    out = "" if out_too else process.stdout.read()
    code = process.wait(30)
    os.close(mine)
    return Answer(code, out, ""), shown.decode(errors="replace")


def test_progress_is_shown_on_a_terminal_and_stays_out_of_the_result(tmp_path):
    words = ["run", "gem", "rotated-digits", "--seeds", "0", "--out", str(tmp_path / "out"), "--json"]
    answer, shown = in_a_terminal(*words, "--set", "stream.n_tasks=3")
    assert answer.code == 0 and json.loads(answer.out)["seeds"] == [0]
    assert "preparing" in shown and "gem on rotated-digits" in shown and "%" in shown and "left" in shown
    assert re.search(r"[1-9]\d* ?%", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert shown.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in shown  # the cursor is back


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}])
def test_no_bars_on_a_terminal_that_cannot_draw(tmp_path, environment):
    words = ["run", "er", "split-digits", *TINY, "--seeds", "0", "--out", str(tmp_path / "out")]
    answer, shown = in_a_terminal(*words, **environment)
    assert answer.code == 0 and shown == "" and "er on split-digits" in answer.out


def test_a_table_fits_a_narrow_terminal(tmp_path):
    (tmp_path / "grid.toml").write_text(SWEEP.replace("0..1", "0..2"))
    answer, shown = in_a_terminal("sweep", str(tmp_path / "grid.toml"), "--workers", "1", out_too=True)
    table = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines()
    table = table[next(i for i, line in enumerate(table) if "ACC %" in line) :]
    assert answer.code == 0 and all(len(line) <= 80 and "…" not in line for line in table)
    assert any("lr=0.01" in line for line in table) and any("Forgetting %" in line for line in table)


def test_an_error_on_a_terminal_is_the_line_alone(tmp_path):
    answer, shown = in_a_terminal("run", "er", "split-digits", "--set", "lr=fast", "--out", str(tmp_path / "out"))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line for line in plain.replace("\r", "\n").splitlines() if line.strip() and "preparing" not in line]
    assert answer.code == 2 and answer.out == "" and len(lines) == 1 and lines[0].startswith("carryover: er: lr='fast'")


def living(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("how", "workers"),
    [
        (signal.SIGINT, 1),
        (signal.SIGKILL, 2),
        *(pytest.param(*rest, marks=pytest.mark.slow) for rest in ((signal.SIGINT, 2), (signal.SIGKILL, 1))),
        *(pytest.param(signal.SIGTERM, workers, marks=pytest.mark.slow) for workers in (1, 2)),
    ],
)
def test_interrupted(tmp_path, workers, how):
    """One line within two seconds, no process left behind, and a resumed run ends as if never stopped."""
    words = ["run", "er", "split-digits", "--set", "epochs=40", "--seeds", "0..1", "--checkpoint-every", "0.1"]
    process = start(*words, "--workers", workers, "--out", tmp_path / "out")
    begun = time.monotonic()
    while not list(tmp_path.glob("out/seeds/*.safetensors")):
        assert process.poll() is None and time.monotonic() - begun < 60
        time.sleep(0.02)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    begun = time.monotonic()
    out, err = process.communicate(timeout=30)
    while living(process.pid) and time.monotonic() - begun < 2:
        time.sleep(0.02)
    assert time.monotonic() - begun < 2 and living(process.pid) == []
    if how != signal.SIGKILL:
        line = "carryover: interrupted. What was finished is kept; the same command with --resume goes on.\n"
        assert (process.returncode, out, err) == (130, "", line)
    assert call(*words, "--out", tmp_path / "out", "--resume").code == 0
    assert call(*words, "--out", tmp_path / "whole").code == 0
    resumed, whole = RunRecord.load(tmp_path / "out"), RunRecord.load(tmp_path / "whole")
    assert resumed.result_digest() == whole.result_digest()
    assert max(run.measured.resumed for run in resumed.runs) == 1
    assert not (tmp_path / "out/seeds").exists()


def test_a_background_job_can_be_terminated(tmp_path):
    """Which a shell starts with interrupts ignored."""
    words = ["run", "er", "split-digits", "--set", "epochs=400", "--seeds", "0..0", "--checkpoint-every", "0.1"]
    ignoring = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = start(*words, "--out", tmp_path / "out", preexec_fn=ignoring)
    begun = time.monotonic()
    while not list(tmp_path.glob("out/seeds/*.safetensors")):
        assert process.poll() is None and time.monotonic() - begun < 60
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "") and err.startswith("carryover: interrupted.")


def test_a_run_whose_every_seed_diverges_says_so_and_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("run", "finetune", "split-digits", *TINY, "--seeds", "0..1", "--set", "lr=1e6", "--out", "out")
    assert answer.code == 1
    told = [f"seed {seed} diverged in task 1; the means leave it out. Try a lower lr." for seed in (0, 1)]
    assert answer.err.splitlines() == told
    assert [run.status for run in RunRecord.load("out").runs] == ["diverged", "diverged"]
