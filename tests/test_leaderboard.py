"""Submissions, store, events and verification: what is refused, what survives, and what is counted again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from carryover.base.errors import CarryoverError, InvalidError, StorageError, UsageError
from carryover.base.files import canonical, sha256
from carryover.base.urls import check_url
from carryover.evaluation.record import RunRecord, evidence_path
from carryover.leaderboard.rules import board_key, check, division
from carryover.leaderboard.store import Board
from carryover.leaderboard.submission import Submission, make_submission, read_evidence, validate
from carryover.leaderboard.verify import verify
from carryover.tests.boards import BENCH, FINGERPRINT, enter, find, make_run, make_value, other


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder."""
    return make_run(tmp_path / "run")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """An empty board."""
    return Board(tmp_path / "board")


def codes(record: RunRecord, manifest=BENCH, evidence=None) -> set[str]:
    return {finding.code for finding in check(record, manifest, evidence)}


def parse(value: dict, folder: Path) -> RunRecord:
    return RunRecord.parse(value, folder)


# -- form ------------------------------------------------------------------------------------------------------------


def test_a_submission_survives_its_bytes(run):
    submission = make_submission(run, "ada", "Replay", "Of 200 samples.", {"code": "https://example.org/x?y=1"})
    data = submission.to_bytes()
    again = Submission.parse(data, "x")
    assert again == submission and again.to_bytes() == data and submission.id == sha256(data)


HOSTILE = {
    "duplicate key": (b'"license":', b'"license":"CC0-1.0","license":', "occurs twice"),
    "NaN": (b'"lr":0.05', b'"lr":NaN', "not a JSON number"),
    "overflow": (b'"lr":0.05', b'"lr":1e999', "out of range"),
    "lone surrogate": (b'"Replay"', b'"Re\\ud800play"', "U+D800"),
    "direction": (b'"Replay"', b'"Re\\u202eplay"', "U+202E"),
    "zero width": (b'"Replay"', b'"Re\\u200bplay"', "U+200B"),
    "escape to a terminal": (b'"Replay"', b'"Re\\u001b[2Jplay"', "U+001B"),
    "invisible": (b'"Replay"', b'"\\u3164"', "U+3164"),
    "not NFC": (b'"Replay"', b'"Re\\u0301play"', "NFC"),
    "zalgo": (b'"Replay"', b'"R\\u0315\\u0315\\u0315"', "combining"),
    "control in a key": (b'"lr":', b'"l\\u0007r":', "U+0007"),
    "aggregate": (b'"license":', b'"acc":0.99,"license":', "Extra inputs"),
    "version": (b'"license":"CC0-1.0"', b'"license":"MIT"', "CC0-1.0"),
    "handle as a path": (b'"submitter":"ada"', b'"submitter":"../ada"', "pattern"),
    "blank name": (b'"name":"Replay"', b'"name":" "', "blank"),
    "fraction as count": (b'"correct":[[0,', b'"correct":[[0.5,', "integer"),
    "bool as count": (b'"correct":[[0,', b'"correct":[[true,', "integer"),
    "more right than tested": (b'"correct":[[0,', b'"correct":[[41,', "41 correct of 40"),
    "ragged": (b'"correct":[[0,', b'"correct":[[', "cells"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_malformed_submissions_answer_in_one_line(run, case):
    old, new, reason = HOSTILE[case]
    data = make_submission(run, "ada", "Replay").to_bytes()
    assert old in data
    with pytest.raises(InvalidError, match="^[^\n]*$") as error:
        Submission.parse(data.replace(old, new, 1), "x")
    assert reason in str(error.value)
    assert str(error.value).isascii(), "a hostile text reached the terminal"


def test_size_and_depth_are_limited(run):
    with pytest.raises(InvalidError, match="allowed"):
        Submission.parse(b" " * (4 * 2**20 + 1), "x")
    with pytest.raises(InvalidError, match="nested"):
        Submission.parse(b"[" * 10**5, "x")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "data:text/html,x", "http://example.org/", "https://u:p@example.org/", "https://",
        "https://example.org/\n", "https://example.org/\"onclick=x", "https:///etc/passwd", "//example.org/",
        "https://exämple.org/", "https://example.org\\@evil.org/", "HTTPS://EXAMPLE.ORG/",
        "https://example.org/" + "a" * 500,
    ],
)  # fmt: skip
def test_addresses_other_than_plain_https_are_refused(run, url):
    with pytest.raises(ValueError):
        check_url(url)
    with pytest.raises(InvalidError):
        make_submission(run, "ada", links={"code": url})


# -- findings --------------------------------------------------------------------------------------------------------


def test_an_honest_run_has_no_findings(run):
    record = RunRecord.load(run)
    assert check(record, BENCH, read_evidence(run, record)) == []
    assert division([]) == "ranked"


@pytest.mark.parametrize(
    ("code", "changes", "manifest"),
    [
        ("E105", {"benchmark": {"version": 2}}, BENCH),
        ("E105", {"benchmark": {"name": "../../etc"}}, BENCH),
        ("E106", {"stream": {"setting": "til"}}, BENCH),
        ("E107", {"sizes": [40, 40]}, BENCH),
        ("E108", {"sizes": [40, 40, 30, 51]}, BENCH),
        ("E109", {"stream": {"fingerprint": "cd" * 32}}, BENCH),
        ("E110", {"strategy": {"config": {"token": "ghp_" + "a" * 36}}}, BENCH),
        ("N201", {"seeds": (0, 1, 2, 3)}, BENCH),
        ("N201", {"seeds": (0, 1)}, other(seeds=[])),
        ("N202", {"benchmark": {"deviations": ["epochs"]}}, BENCH),
        ("N202", {"benchmark": {"settings": {"epochs": 9}}}, other(protocol={"epochs": 1})),
        ("N202", {"benchmark": {"settings": {"stream.setting": "cil"}}}, other(protocol={"epochs": 1})),
        ("W304", {"seeds": (0, 1, 2, 3, 4, 9)}, BENCH),
        ("W305", {"provenance": {"dirty": True}}, BENCH),
        ("W307", {"provenance": {"command": ["carryover", "run", "/home/ada/x.py"]}}, BENCH),
    ],
)
def test_each_finding_has_its_code(tmp_path, code, changes, manifest):
    assert codes(parse(make_value(tmp_path, **changes), tmp_path), manifest) == {code}


def test_a_run_whose_predictions_leaned_on_the_test_batch_is_not_ranked(tmp_path):
    value = make_value(tmp_path)
    value["runs"][1]["usage"] = {"test_batch": 24}
    record = parse(value, tmp_path)
    findings = check(record, BENCH, read_evidence(tmp_path, record))
    assert [finding.code for finding in findings] == ["N203"] and division(findings) == "open"


@pytest.mark.parametrize("digests", [["ab" * 32] * 4 + ["cd" * 32], ["ab" * 32] * 5, [None] * 5])
def test_other_weights_than_the_benchmarks_are_not_ranked(tmp_path, digests):
    value = make_value(tmp_path)
    for run, digest in zip(value["runs"], digests, strict=True):
        run["usage"] = {"pretrained": {"name": "vit-x", "sha256": digest}} if digest else {}
    record = parse(value, tmp_path)
    evidence = read_evidence(tmp_path, record)
    findings = check(record, other(weights="ef" * 32), evidence)
    assert [finding.code for finding in findings] == ["N204"] and division(findings) == "open"
    agreeing = check(record, other(weights=digests[0]), evidence)
    assert [finding.code for finding in agreeing] == ["N204"] * (len(set(digests)) > 1)
    assert other(weights=None).filled(record).weights == digests[0]


def test_seeds_that_do_not_count_do_not_complete_a_submission(tmp_path):
    findings = check(parse(make_value(tmp_path, seeds=(0, 1, 2, 8, 9)), tmp_path), BENCH)
    assert division(findings) == "incomplete"


def test_an_unfinished_seed_is_incomplete(tmp_path):
    value = make_value(tmp_path)
    value["runs"][2] |= {"status": "diverged"}
    value["runs"][2]["correct"][-1] = [None] * 4
    record = parse(value, tmp_path)
    assert division(check(record, BENCH, read_evidence(tmp_path, record))) == "incomplete"


def test_suspicions_are_warnings(tmp_path):
    value = make_value(tmp_path)
    value["runs"][1]["correct"] = value["runs"][0]["correct"]
    value["runs"][2]["correct"][1][3] = 1  # classes of task 4, after task 1
    value["runs"][3]["evidence"] = None
    value["runs"][4]["usage"] = {"task_id_reads": 7}
    findings = check(parse(value, tmp_path), BENCH)
    assert [finding.code for finding in findings] == ["W301", "W302", "W303", "W306"]
    assert division(findings) == "ranked"


def test_classes_that_come_back_are_no_foresight(tmp_path):
    value = make_value(tmp_path, stream={"classes": [[0, 1]] * 4})
    for run in value["runs"]:
        run["correct"][1][3] = 1
    assert codes(parse(value, tmp_path)) == set()


@pytest.mark.parametrize(
    ("code", "forge"),
    [
        ("E111", lambda path: path.unlink()),
        ("E112", lambda path: path.write_bytes(path.read_bytes() + b"\0")),
        ("E112", lambda path: path.write_bytes(b"")),
        ("E113", lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])),
    ],
)
def test_evidence_is_checked_to_the_byte(run, code, forge):
    forge(evidence_path(run, 2))
    record = RunRecord.load(run)
    assert codes(record, BENCH, read_evidence(run, record)) == {code}


def test_forged_counts_do_not_match_the_bits(run):
    value = json.loads((run / "record.json").read_bytes())
    value["runs"][0]["correct"][4][1] += 1
    record = parse(value, run)
    assert codes(record, BENCH, read_evidence(run, record)) == {"E114"}


def test_numbers_beyond_any_machine_are_refused(tmp_path):
    value = make_value(tmp_path)
    value["runs"][0]["cost"]["train_flops"] = 10**31
    assert codes(parse(value, tmp_path)) == {"E104"}
    value["runs"][0]["seed"] = -1
    assert codes(parse(value, tmp_path)) == {"E103", "E104"}
    value = make_value(tmp_path)
    value["stream"]["test_sizes"][0] = 2**53
    assert codes(parse(value, tmp_path)) == {"E102"}


# -- store -----------------------------------------------------------------------------------------------------------


def test_a_submission_is_stored_under_its_digest(board, tmp_path):
    id = enter(board, tmp_path / "run")
    folder = board.root / "store/toy-digits/1" / id[:2] / id
    assert sha256((folder / "submission.json").read_bytes()) == id
    assert sorted(p.name for p in (folder / "evidence").iterdir()) == [f"seed-{s}.bits" for s in range(5)]
    entry = board.entries()[0]
    assert (entry.id, entry.status.state, entry.status.accepted) == (id, "accepted", "2026-02-01T12:00:00Z")
    assert board.fsck() == []


def test_an_exact_duplicate_changes_nothing_and_says_so(board, run):
    submission = make_submission(run, "ada")
    assert board.submit(submission, run, find).new
    before = {path: path.stat().st_mtime_ns for path in board.root.rglob("*")}
    again = board.submit(submission, run, find)
    assert not again.new and "already" in str(again)
    assert before == {path: path.stat().st_mtime_ns for path in board.root.rglob("*")}


def test_what_is_refused_leaves_no_trace(board, tmp_path):
    run = make_run(tmp_path / "run", stream={"fingerprint": "cd" * 32})
    with pytest.raises(InvalidError, match="E109"):
        board.submit(make_submission(run, "ada"), run, find)
    with pytest.raises(InvalidError, match="not installed"):
        board.submit(make_submission(make_run(run, benchmark={"version": 7}), "ada"), run, find)
    assert not board.root.exists()


def test_names_never_lead_out_of_the_store(board, tmp_path):
    for i, name in enumerate(["../../../../etc/passwd", "/absolute", "..", "a/b", "CON", "ünïcode", ""]):
        run = make_run(tmp_path / f"run{i}", benchmark={"name": name, "version": 0}, stream={"name": name})
        board.submit(make_submission(run, "ada"), run, find)
        assert "/" not in board_key(RunRecord.load(run))[0]
    places = {path.parent.parent.parent.parent for path in board.folders()}
    assert places == {board.root / "store"} and len(list(board.folders())) == 7
    assert board.fsck() == []


def test_open_boards_keep_streams_and_settings_apart(board, tmp_path):
    free = {"name": "mine", "version": 0}
    enter(board, tmp_path / "a", benchmark=free, stream={"name": "mine"})
    enter(board, tmp_path / "b", benchmark=free, stream={"name": "mine", "setting": "til"})
    enter(board, tmp_path / "c", benchmark=free, stream={"name": "mine", "fingerprint": "cd" * 32})
    assert len({entry.board for entry in board.entries()}) == 3
    with pytest.raises(InvalidError, match="E108"):  # the first submission fixed the test sizes
        enter(board, tmp_path / "d", benchmark=free, stream={"name": "mine"}, sizes=[40, 40, 30, 60])


def test_links_are_refused(board, run, tmp_path):
    submission = make_submission(run, "ada")
    target = evidence_path(run, 0)
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidError, match="plain file"):
        board.submit(submission, run, find)
    target.unlink()
    os.mkfifo(target)
    with pytest.raises(InvalidError, match="plain file"):
        board.submit(submission, run, find)
    target.unlink()
    (tmp_path / "elsewhere").rename(target)
    (run / "evidence").rename(tmp_path / "bits")
    (run / "evidence").symlink_to(tmp_path / "bits")
    with pytest.raises(InvalidError, match="is a link"):
        board.submit(submission, run, find)
    (run / "evidence").unlink()
    (tmp_path / "bits").rename(run / "evidence")
    board.root.mkdir()
    (tmp_path / "outside").mkdir()
    (board.root / "store").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="is a link"):
        board.submit(submission, run, find)
    assert not list((tmp_path / "outside").iterdir())


def _submit_in_a_process(root: Path, run: Path, barrier) -> None:
    barrier.wait()
    Board(root).submit(make_submission(run, "ada"), run, find, at="2026-02-01T12:00:00Z")


def test_concurrent_submitters_do_not_disturb_each_other(board, tmp_path):
    runs = [make_run(tmp_path / f"run{i}", memory=0.5 + i / 10) for i in range(2)]
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(4)  # each run twice: two duplicates race as well
    workers = [fork.Process(target=_submit_in_a_process, args=(board.root, run, barrier)) for run in runs * 2]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(board.entries()) == 2 and board.fsck() == []


STEPS = ("mkdir", "fsync", "rename", "replace")


def _strike(monkeypatch, at: int, blow) -> list[str]:
    """Let the n-th step that touches the disk fail; returns the names of the steps that were taken."""
    taken: list[str] = []

    def wrapped(name, real):
        def step(*args, **kwargs):
            taken.append(name)
            return blow() if len(taken) == at + 1 else real(*args, **kwargs)

        return step

    for name in STEPS:
        monkeypatch.setattr(os, name, wrapped(name, getattr(os, name)))
    return taken


def _full_disk() -> None:
    raise OSError(28, "No space left on device")


def test_a_failure_at_any_step_leaves_a_sound_board(board, run, tmp_path):
    first = enter(board, tmp_path / "first", memory=0.5)
    submission, outcomes = make_submission(run, "ada"), []
    for at in range(100):
        root = tmp_path / f"board-{at}"
        shutil.copytree(board.root, root)
        with pytest.MonkeyPatch.context() as patch:
            taken = _strike(patch, at, _full_disk)
            try:
                Board(root).submit(submission, run, find)
                outcomes.append("done")
            except StorageError as error:
                assert "No space left" in str(error)
                outcomes.append("failed")
        visible = [e.id for e in Board(root).entries() if e.status.accepted and e.id != first]
        problems = [line for line in Board(root).fsck() if "never accepted" not in line]
        assert problems == [], taken
        assert visible in ([], [submission.id])
        Board(root).submit(submission, run, find)
        assert Board(root).fsck() == [] and len(Board(root).entries()) == 2
        if len(taken) <= at:
            break
    assert outcomes.count("failed") > 10 and outcomes[-1] == "done"


def test_a_kill_at_any_step_leaves_a_sound_board(board, run, tmp_path):
    submission, killed = make_submission(run, "ada"), 0
    for at in range(100):
        root = tmp_path / f"board-{at}"
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                _strike(patch, at, lambda: os._exit(9))
                Board(root).submit(submission, run, find)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for entry in Board(root).entries():  # whatever can be seen is whole
            assert validate(entry.submission, BENCH, read_evidence(entry.path, entry.submission.record)) == []
        assert all("interrupted write" in line or "never accepted" in line for line in Board(root).fsck()), Board(
            root
        ).fsck()
        Board(root).submit(submission, run, find)
        assert [e.status.state for e in Board(root).entries()] == ["accepted"]
        if code == 0:
            break
        killed += 1
    assert killed > 10


def test_fsck_finds_every_flipped_byte(board, tmp_path):
    enter(board, tmp_path / "run")
    for path in [p for p in board.root.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert any(str(path) in line or path.stem.replace("-", " ") in line for line in board.fsck()), path
        path.write_bytes(whole)
    assert board.fsck() == []


def test_fsck_finds_what_is_missing_or_does_not_belong(board, tmp_path):
    id = enter(board, tmp_path / "run")
    board.withdraw(id[:12], "ada", "a mistake")
    folder = next(board.folders())
    (folder / "evidence/seed-99.bits").write_bytes(b"x")
    (board.root / "store/readme.txt").write_text("hello")
    (folder.parent / ".tmp-1-abc").mkdir()
    lines = board.fsck()
    assert len(lines) == 3 and all("\n" not in line for line in lines)
    accepted = next(p for p in board.root.glob("events/*") if b'"accepted"' in p.read_bytes())
    accepted.unlink()
    assert any("before it is missing" in line for line in board.fsck())


# -- events ----------------------------------------------------------------------------------------------------------


def test_status_is_a_fold_in_the_order_of_cause_and_effect(board, tmp_path):
    id = enter(board, tmp_path / "run", day=5)
    board.withdraw(id, "ada", "wrong labels", at="2026-01-01T00:00:00Z")  # a clock that is behind
    status = board.status(id)
    assert status.state == "withdrawn" and [e.kind for e in status.history] == ["accepted", "withdrawn"]
    board.record("verified", id, "bob", level="full", outcome="agrees")
    board.record("verified", id, "eve", level="prefix", outcome="differs")
    assert board.status(id).level == "full" and board.status(id).state == "withdrawn"
    assert board.fsck() == []


def test_events_are_checked(board, tmp_path):
    id = enter(board, tmp_path / "run")
    for kind, actor, more in [
        ("deleted", "ada", {}),
        ("withdrawn", "<b>", {}),
        ("withdrawn", "ada", {"reason": "\u202e"}),
        ("withdrawn", "ada", {"reason": "\ud800"}),
        ("verified", "ada", {}),
    ]:
        with pytest.raises(InvalidError):
            board.record(kind, id, actor, **more)
    with pytest.raises(UsageError):
        board.withdraw("../../etc", "ada", "")
    with pytest.raises(UsageError):
        board.withdraw("0" * 64, "ada", "")


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_passes_what_is_whole(board, run, tmp_path):
    enter(board, tmp_path / "run2")
    for folder in (run, next(board.folders())):
        report = verify(folder, find)
        assert report.passed and report.level == "recompute", str(report)
        assert "all 100 cells" in str(report)


def test_verify_names_the_check_that_fails(run):
    data = (run / "record.json").read_bytes()
    value = json.loads(data)
    value["runs"][3]["correct"][4][0] -= 1
    (run / "record.json").write_bytes(canonical(value))
    failed = [check for check in verify(run, find).checks if not check.passed]
    assert [check.name for check in failed] == ["counts"] and "E114" in failed[0].reason
    (run / "record.json").write_bytes(data.replace(FINGERPRINT.encode(), b"cd" * 32))
    assert [check.name for check in verify(run, find).checks if not check.passed] == ["data"]
    (run / "record.json").write_bytes(b"{")
    assert [check.name for check in verify(run, find).checks if not check.passed] == ["form"]


def test_verify_notices_a_changed_store(board, tmp_path):
    enter(board, tmp_path / "run")
    folder = next(board.folders())
    path = folder / "submission.json"
    path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
    report = verify(folder, find)
    assert not report.passed and "was changed" in str(report)
    with pytest.raises(CarryoverError, match="was changed"):
        board.entries()


def test_import_needs_no_torch():
    code = "import sys, carryover.leaderboard.verify, carryover.leaderboard.site; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
