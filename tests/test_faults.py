"""Whatever is wrong with what it is given, Carryover says so in one line, and loses nothing."""

from __future__ import annotations

import copy
import errno
import gzip
import json
import os
import pickle
import shlex
import shutil
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from carryover.benchmarks import launch
from carryover.evaluation.folder import RunFolder
from carryover.evaluation.record import RunRecord, evidence_path
from carryover.evaluation.run import run_seed
from carryover.tests.terminal import TINY, call, one_line, snapshot, typed
from safetensors.torch import save_file

USAGE, INVALID, MISMATCH, STORAGE = 2, 3, 4, 6  # the documented exit codes


def stop_after_a_task(folder: Path, strategy: str, seed: int) -> None:
    """Leave what a run leaves that was killed in the middle: a header and a checkpoint."""
    spec = launch.RunSpec(strategy, "split-digits", {"stream.n_tasks": 2, "stream.train_per_task": 20})
    (job,) = launch.Request(spec, (seed,), str(folder), resume=True).plan()
    run_seed(spec.make(), spec.stream(), seed, checkpoint=RunFolder(folder).checkpoint(seed), until=1)
    assert job.seed == seed and RunFolder(folder).checkpoint(seed).exists()


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A folder as users have it: finished runs, a run that was killed, a file, an empty folder."""
    root = tmp_path_factory.mktemp("template")
    seeds = ["--seeds", "0..1"]
    assert call("run", "er", "split-digits", *TINY, *seeds, "--out", root / "done").code == 0
    assert call("run", "er", "rotated-digits", *TINY, *seeds, "--out", root / "other").code == 0
    stop_after_a_task(root / "begun", "er", 0)
    stop_after_a_task(root / "elsewhere", "er", 1)
    stop_after_a_task(root / "foreign", "finetune", 0)
    (root / "file").write_text("something")
    (root / "folder").mkdir()
    return root


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Path:
    """A copy of it, to which the test has gone."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path / "no-data"))
    return folder


@pytest.fixture
def fresh() -> None:
    """No stream is remembered: the memory goes by names, and here every test has a file of the same name."""
    launch._stream.cache_clear()


def refused(place: Path, words: list[str | Path], code: int, *says: str) -> None:
    """One line, the right code, and not a byte of the folder is other than before."""
    before = snapshot(place)
    one_line(call(*words), code, *says)
    assert snapshot(place) == before


# -- words on the command line ---------------------------------------------------------------------------------------

RUN = "run er split-digits"
WORDS = [
    # commands and kinds
    ("nope", USAGE, "No such command 'nope'"),
    ("rnu er split-digits", USAGE, "Did you mean 'run'"),
    ("''", USAGE, "No such command"),
    ("--nope", USAGE, "No such option: --nope"),
    ("list", USAGE, "Missing argument"),
    ("list strategys", USAGE, "Did you mean 'strategies'"),
    ("list ''", USAGE, "Available: benchmarks, metrics, strategies, streams"),
    ("list '\x1b[2J'", USAGE, "unknown kind '\\x1b[2J'"),
    ("list streams extra", USAGE, "unexpected extra argument"),
    ("list streams --jsn", USAGE, "--json"),
    ("list streams --json=yes", USAGE, "does not take a value"),
    # names
    ("run", USAGE, "Missing argument"),
    ("run er", USAGE, "STREAM-OR-BENCHMARK"),
    (f"{RUN} extra", USAGE, "unexpected extra argument"),
    (f"{RUN} --unknown", USAGE, "No such option: --unknown. See carryover run --help"),
    ("run er split-digit", USAGE, "Did you mean 'split-digits'"),
    ("run er ''", USAGE, "unknown benchmark or stream ''"),
    ("run er 'split-digits\n\nx'", USAGE, "unknown benchmark or stream"),
    ("run er SPLIT-DIGITS", USAGE, "unknown benchmark or stream"),
    ("run er done", USAGE, "unknown benchmark or stream 'done'"),
    ("run er done/record.json", USAGE, "unknown benchmark or stream"),
    ("run erx split-digits", USAGE, "Did you mean 'er'"),
    ("run '' split-digits", USAGE, "unknown strategy ''"),
    ("run 'ér' split-digits", USAGE, "unknown strategy"),
    ("run e\udcffr split-digits", USAGE, "unknown strategy"),
    # seeds
    (f"{RUN} --seeds", USAGE, "requires an argument"),
    *((f"{RUN} --seeds {seeds}", USAGE, "write 0..4, or 0,2,5") for seeds in (
        "''", "5..0", "-1", "0..-1", "1.5", "0,,1", "0..1..2", "0..", "..3", "0..99999999999", "0..999999999",
        "9" * 30, "9" * 5000, "nan", "²", "'0 1'", "0x1", "zero", "0;1",
    )),
    # settings: form
    *((f"{RUN} --set {pair}", USAGE, "write name=value") for pair in ("lr", "=1", "''", "' =3'")),
    (f"{RUN} --set lr=0.1 --set lr=0.2", USAGE, "--set lr is given twice"),
    (f"{RUN} --set lr=0.1 --set ' lr=0.2'", USAGE, "--set lr is given twice"),
    (f"{RUN} --set lr=\udcff", USAGE, "lr=\\udcff"),
    (f"{RUN} --set {'x' * 300}=1", USAGE, "a setting is"),
    (f"{RUN} --set '{{}}=1'", USAGE, "unknown setting of er '{}'"),
    # settings: names
    (f"{RUN} --set memroy=3", USAGE, "Did you mean 'memory'"),
    (f"{RUN} --set margin=1", USAGE, "unknown setting of er 'margin'"),
    ("run finetune split-digits --set memory=3", USAGE, "unknown setting of finetune 'memory'"),
    (f"{RUN} --set .lr=2", USAGE, "Did you mean 'lr'"),
    (f"{RUN} --set lr.x=2", USAGE, "unknown setting of er 'lr.x'"),
    (f"{RUN} --set model.=2", USAGE, "unknown setting of er 'model.'"),
    (f"{RUN} --set model.hiden=3", USAGE, "Did you mean 'hidden'"),
    (f"{RUN} --set model.hidden.x=2", USAGE, "hidden.x"),
    (f"{RUN} --set stream=2", USAGE, "unknown setting of er 'stream'"),
    (f"{RUN} --set stream.=2", USAGE, "unknown option of split-digits ''"),
    (f"{RUN} --set stream.n_task=2", USAGE, "Did you mean 'n_tasks'"),
    (f"{RUN} --set strean.n_tasks=2", USAGE, "strean.n_tasks"),
    (f"{RUN} --set stream.angles=[1]", USAGE, "unknown option of split-digits 'angles'"),
    (f"{RUN} --set stream.data=x", USAGE, "use --data"),
    (f"{RUN} --set stream.download=true", USAGE, "use --download"),
    (f"{RUN} --set stream.name=x", USAGE, "unknown option of split-digits 'name'"),
    # settings: values
    *((f"{RUN} --set lr={value}", USAGE, "lr=") for value in (
        "", "fast", "NaN", "nan", "Infinity", "-Infinity", "1e999", "-1e999", "-1", "0", "true", "null", "[]", "[0.1]",
        "{}", "[[1]]", "0,1", "1_0", "9" * 5000, "'0.1 '0", "½",
    )),
    *((f"{RUN} --set epochs={value}", USAGE, "epochs=") for value in ("1.5", "0", "-1", "9" * 20, "1e3", "two")),
    *((f"{RUN} --set batch_size={value}", USAGE, "batch_size=") for value in ("-3", "0", "1e3", "9999999999")),
    *((f"{RUN} --set momentum={value}", USAGE, "momentum=") for value in ("nan", "-0.1", "inf", "high")),
    *((f"{RUN} --set weight_decay={value}", USAGE, "weight_decay=") for value in ("-1", "null")),
    *((f"{RUN} --set optimizer={value}", USAGE, "'sgd', 'adam' or 'adamw'") for value in ("sdg", "1", "SGD", "")),
    (f"{RUN} --set compete=everything", USAGE, "'setting', 'task', 'seen' or 'all'"),
    (f"{RUN} --set model=mpl", USAGE, "Did you mean 'mlp'"),
    (f"{RUN} --set model=3", USAGE, "model=3"),
    (f"{RUN} --set model={'y' * 3000}", USAGE, "unknown backbone"),
    (f"{RUN} --set model=slim-resnet18 --set model.norm=layer", USAGE, "norm='layer'"),
    *((f"{RUN} --set model.hidden={value}", USAGE, "hidden") for value in (
        "-3", "0", "[64,0]", "many", "1e9", "null", "[[1]]", "[1.5]", "{}", "[" * 2000,
    )),
    (f"{RUN} --set model_options=3", USAGE, "model_options"),
    (f"{RUN} --set model_options={{}}", USAGE, "a setting is"),
    *((f"{RUN} --set memory={value}", USAGE, "memory=") for value in ("0", "-1", "many", "99999999999", "1.5")),
    *((f"{RUN} --set replay_batch={value}", USAGE, "replay_batch=") for value in ("-3", "x")),
    *((f"run gem split-digits --set {pair}", USAGE, pair.split("=")[0]) for pair in (
        "margin=-1", "margin=NaN", "ridge=0", "lr=-1", "lr=inf", "parity=maybe",
    )),
    *((f"run ewc split-digits --set {pair}", USAGE, pair.split("=")[0]) for pair in (
        "strength=-1", "strength=1e999", "decay=2", "decay=NaN", "fisher=some", "fisher_samples=-1", "fisher_batch=0",
    )),
    ("run gem split-digits --set optimizer=adam", USAGE, "gem needs plain SGD"),
    ("run gem split-digits --set momentum=0.5", USAGE, "gem needs plain SGD"),
    ("run gem split-digits --set stream.setting=task-free", USAGE, "gem needs boundaries"),
    (f"{RUN} --set epochs=2 --set stream.setting=online", USAGE, "Set epochs=1"),
    # settings of the stream
    *((f"{RUN} --set stream.n_tasks={value}", USAGE, "n_tasks") for value in (
        "0", "3", "two", "2.0", "true", "null", "-2", "9" * 22, "[2]", "NaN",
    )),
    *((f"{RUN} --set stream.seed={value}", USAGE, "seed") for value in ("x", "1.5", "true", "9" * 30)),
    *((f"{RUN} --set stream.class_order={value}", USAGE, "class_order") for value in (
        "alphabetical", "[0,1]", "[0,0,1,2,3,4,5,6,7,8]", "3", '[\\"a\\"]', "[]",
    )),
    *((f"{RUN} --set stream.train_per_task={value}", USAGE, "train_per_task") for value in (
        "0", "-1", "100000", "1e2", "few",
    )),
    *((f"{RUN} --set stream.val_fraction={value}", USAGE, "val_fraction") for value in (
        "1", "-0.1", "nan", "NaN", "1e999", "true",
    )),
    *((f"{RUN} --set stream.setting={value}", USAGE, "Available: cil, dil, online, task-free, til") for value in (
        "tli", "3", '[\\"til\\"]', "''", "CIL",
    )),
    *((f"run er rotated-digits --set stream.angles={value}", USAGE, "angles") for value in (
        "[1,2]", "5", '[\\"a\\"]', "[1e999,1,1,1,1,1,1,1,1,1]", "[]", "[[1]]",
    )),
    *((f"run er rotated-digits --set stream.max_angle={value}", USAGE, "max_angle") for value in (
        "0", "-10", "NaN", "1e999", "361", "wide",
    )),
    ("run er rotated-digits --set stream.interpolation=bicubic", USAGE, "'bilinear' or 'nearest'"),
    ("run er permuted-digits --set stream.identity_first=yes", USAGE, "true or false"),
    # the other options of run
    *((f"{RUN} --device {value}", USAGE, "--device") for value in (
        "gpu", "''", "meta", "cuda:99", "cuda:-1", "cpu:x", "mps", "CPU",
    )),
    *((f"{RUN} --workers {value}", USAGE, "--workers") for value in ("-1", "many", "1.5", "9999", "''", "nan")),
    *((f"{RUN} --threads {value}", USAGE, "from 1 to 1024, or auto") for value in (
        "0", "-1", "many", "²", "99999", "''", "1.0", "AUTO",
    )),
    *((f"{RUN} --checkpoint-every {value}", USAGE, "--checkpoint-every") for value in ("-1", "soon", "nan", "''")),
    (f"{RUN} --download=yes", USAGE, "does not take a value"),
    (f"{RUN} --resume=maybe", USAGE, "does not take a value"),
    (f"{RUN} --out", USAGE, "requires an argument"),
    (f"{RUN} --out file", USAGE, "file is a file; --out names a folder"),
    (f"{RUN} --out file/inside", STORAGE, "cannot be written: Not a directory"),
    (f"{RUN} --out /proc/nowhere", STORAGE, "cannot be written"),
    (f"{RUN} --out {'x' * 300}", STORAGE, "File name too long"),
    (f"{RUN} --out done", USAGE, "Choose another --out"),
    (f"{RUN} --out done --resume", USAGE, "other settings: stream.n_tasks=2, stream.train_per_task=20"),
    (f"{RUN} {shlex.join(TINY)} --seeds 0..1 --out done", USAGE, "Add --resume"),
    (f"{RUN} {shlex.join(TINY)} --seeds 0..1 --out begun", USAGE, "Add --resume"),
    (f"{RUN} {shlex.join(TINY)} --set lr=0.2 --seeds 3 --out done", USAGE, "no lr"),
    (f"run gem split-digits {shlex.join(TINY)} --out done --resume", USAGE, "another strategy (name"),
    (f"run er rotated-digits {shlex.join(TINY)} --out begun --resume", USAGE, "another benchmark (name"),
    ("run er split-mnist", STORAGE, "run again with --download"),
    ("run er split-mnist --data nowhere", STORAGE, "put its four IDX files into nowhere/MNIST/raw"),
    ("run er split-mnist --data file", STORAGE, "MNIST is not under file"),
    ("run er split-cifar10 --data ''", STORAGE, "unpack cifar-10-binary.tar.gz"),
    ("run er nowhere.toml", STORAGE, "nowhere.toml does not exist"),
    ("run nowhere.py:X split-digits", USAGE, "nowhere.py does not exist"),
    ("run nowhere.py split-digits", USAGE, "write nowhere.py:Name"),
    ("run er nowhere.py:f", USAGE, "nowhere.py does not exist"),
    ("run er nowhere.py", USAGE, "write nowhere.py:Name"),
    ("run 'x.py:a b' split-digits", USAGE, "names a file but no strategy"),
    # the other commands
    ("plot", USAGE, "Missing argument"),
    ("plot nowhere", STORAGE, "nowhere does not exist"),
    ("plot ''", STORAGE, "holds no record.json"),
    ("plot folder", STORAGE, "folder holds no record.json"),
    ("plot file", INVALID, "file: not JSON"),
    ("plot done/evidence/seed-0.bits", INVALID, "seed-0.bits"),
    ("plot done nowhere", STORAGE, "nowhere does not exist"),
    ("plot done --out file", STORAGE, "cannot be written"),
    ("plot done --out file/x", STORAGE, "Not a directory"),
    ("plot done other --out file", STORAGE, "cannot be written"),
    ("plot done --nope", USAGE, "No such option"),
    ("compare done", USAGE, "Missing argument"),
    ("compare done nowhere", STORAGE, "nowhere does not exist"),
    ("compare folder done", STORAGE, "folder holds no record.json"),
    ("compare done other", MISMATCH, "different data"),
    ("compare done done done", USAGE, "unexpected extra argument"),
    ("compare done done --metric acx", USAGE, "Did you mean 'acc'"),
    ("compare done done --metric ''", USAGE, "unknown metric ''"),
    ("compare done done --metric nowhere.py:f", USAGE, "nowhere.py does not exist"),
    ("compare done done --out file", STORAGE, "cannot be written"),
    ("sweep", USAGE, "Missing argument"),
    ("sweep nowhere.toml", STORAGE, "nowhere.toml does not exist"),
    ("sweep folder", STORAGE, "folder is a folder"),
    ("sweep file", INVALID, "file: not TOML"),
    ("submit done", USAGE, "--board"),
    ("submit nowhere --board board", STORAGE, "nowhere does not exist"),
    ("submit folder --board board", STORAGE, "record.json does not exist"),
    ("submit file --board board", INVALID, "file: not JSON"),
    ("submit done --board file", STORAGE, "cannot be written"),
    ("submit done --board file/x", STORAGE, "cannot be written"),
    *((f"submit done --board board --as {who}", INVALID, "submitter") for who in ("''", "'a b'", "../x", "x" * 100)),
    *((f"submit done --board board --name {name}", INVALID, "method.name") for name in (
        "' '", "x" * 100, "'a\x1b[2J'", "'a\u202eb'",
    )),
    (f"submit done --board board --description {'x' * 501}", INVALID, "method.description"),
    *((f"submit done --board board --link {link}", USAGE, "write code=https://") for link in (
        "''", "code", "code=", "home=https://example.org", "=https://example.org",
    )),
    *((f"submit done --board board --link {link}", INVALID, "https://") for link in (
        "code=http://example.org", "paper=javascript:1", "log=https://",
    )),
    ("submit done --board board --link code=https://a.org --link code=https://b.org", USAGE, "given twice"),
    ("site --board nowhere --out site", STORAGE, "nowhere is not a board"),
    ("site --board file --out site", STORAGE, "file is not a board"),
    ("site --board folder", USAGE, "--out"),
    ("site --board folder --out file", USAGE, "not a folder"),
    ("site --board folder --out file/x", STORAGE, "cannot be written"),
    ("verify", USAGE, "Missing argument"),
    ("verify nowhere", USAGE, "nowhere is not a folder"),
    ("verify file", USAGE, "file is not a folder"),
    ("verify folder", STORAGE, "record.json does not exist"),
    *((f"verify done --rerun {value}", USAGE, "--rerun") for value in ("-1", "x", "1.5", "''")),
    ("verify done --rerun 1 --seeds 7", USAGE, "no seed 7"),
    ("verify done --rerun 1 --seeds x", USAGE, "write 0..4"),
    ("verify done --rerun 1 --device gpu", USAGE, "--device"),
    ("verify done --seeds 0", USAGE, "add --rerun"),
    ("demo extra", USAGE, "unexpected extra argument"),
    ("demo --out file", USAGE, "choose another --out"),
    ("demo --out done", USAGE, "choose another --out"),
    ("demo --out file/x", STORAGE, "Not a directory"),
    ("demo --out x --seeds zero", USAGE, "write 0..4"),
    ("demo --out x --workers -1", USAGE, "--workers"),
]  # fmt: skip


@pytest.mark.parametrize("line, code, says", WORDS, ids=[ascii(line)[1:60] for line, _, _ in WORDS])
def test_words(place, line, code, says):
    refused(place, shlex.split(line), code, says)


PROCESSES = (
    "nope",
    "list strategys",
    "run er split-digit",
    f"{RUN} --seeds 5..0",
    f"{RUN} --set lr=fast",
    f"{RUN} --set stream.val_fraction=1e999",
    f"{RUN} --out file/inside",
    "run er split-mnist --data nowhere",
    "run e\udcffr split-digits",
    "plot nowhere",
    "compare done other",
    "verify folder",
    "sweep file",
)


def test_words_in_a_process_of_their_own(place):
    """The same through a real terminal's pipes: nothing but the line, not even from an import."""
    expected = {line: (code, says) for line, code, says in WORDS}
    before = snapshot(place)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda line: typed(*shlex.split(line)), PROCESSES))
    for line, answer in zip(PROCESSES, answers, strict=True):
        one_line(answer, *expected[line])
    assert snapshot(place) == before


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_is_no_error(words):
    answer = call(*words)
    assert (answer.code, answer.err) == (0, "") and len(answer.out) > 10


def test_no_words_print_the_help():
    answer = typed()
    assert answer.code == 2 and "Usage" in answer.out and answer.err.strip() == ""


# -- TOML files ------------------------------------------------------------------------------------------------------

OK = 'stream="split-digits"\n'
BENCHMARKS = [
    ("", INVALID, "b.toml: stream: Field required"),
    ("stream", INVALID, "b.toml: not TOML"),
    ("stream = 3", INVALID, "stream: Input should be a valid string"),
    ('stream = "nope"', USAGE, "unknown stream 'nope'"),
    ('stream = ""', USAGE, "unknown stream ''"),
    ('stream = "b.toml"', USAGE, "unknown stream 'b.toml'"),
    ('stream = "split-digits\\u0000"', USAGE, "Did you mean 'split-digits'"),
    (f"{OK}titel = 'x'", USAGE, "unknown key in b.toml: 'titel'. Did you mean 'title'"),
    (f"{OK}name = 'x'", USAGE, "unknown key in b.toml: 'name'"),
    (f"{OK}stream = 'x'", INVALID, "not TOML"),
    (f"{OK}seeds = []", INVALID, "seeds"),
    (f"{OK}seeds = [-1]", INVALID, "seeds.0"),
    (f"{OK}seeds = [0.5]", INVALID, "seeds.0"),
    (f"{OK}seeds = [true]", INVALID, "seeds.0"),
    (f"{OK}seeds = '0..4'", INVALID, "seeds"),
    (f"{OK}seeds = [{'9' * 4000}]", INVALID, "seeds.0"),
    (f"{OK}version = -1", INVALID, "version"),
    (f"{OK}version = 'one'", INVALID, "version"),
    (f"{OK}options = 3", INVALID, "options"),
    (f"{OK}[options]\nn_task = 2", USAGE, "Did you mean 'n_tasks'"),
    (f"{OK}[options]\nn_tasks = 'two'", USAGE, "must be an integer"),
    (f"{OK}[options]\nn_tasks = nan", USAGE, "a setting is"),
    (f"{OK}[options]\nval_fraction = inf", USAGE, "a setting is"),
    (f"{OK}[options]\nn_tasks = 2020-01-01", USAGE, "a setting is"),
    (f"{OK}[options]\nn_tasks = {{a = 1}}", USAGE, "a setting is"),
    (f"{OK}[options]\nsetting = 'tli'", USAGE, "Did you mean 'til'"),
    (f"{OK}[protocol]\nepoch = 1", USAGE, "Did you mean 'epochs'"),
    (f"{OK}[protocol]\nepochs = 0", USAGE, "epochs=0"),
    (f"{OK}[protocol]\nmodel.hidden = [3]", USAGE, "a setting is"),
    (f"{OK}[strategies]\ner = 1", INVALID, "strategies.er"),
    (f"{OK}[strategies.er]\nmemroy = 1", USAGE, "Did you mean 'memory'"),
    (f"{OK}[manifest]\nfingerprint = 3", INVALID, "manifest.fingerprint"),
    ("x = " + "[" * 5000, INVALID, "not TOML"),
    ("x = " + "9" * 5000, INVALID, "not TOML"),
    (" " * 2_000_000, INVALID, "more than the 1,048,576 allowed"),
    ("\ufeff" + OK, INVALID, "not TOML"),
    (b"\xff\xfe", INVALID, "not UTF-8 at byte 0"),
    (b"\x00", INVALID, "not TOML"),
]


@pytest.mark.parametrize("content, code, says", BENCHMARKS, ids=[ascii(c[:50]) for c, _, _ in BENCHMARKS])
def test_benchmark_files(place, content, code, says):
    write(place / "b.toml", content)
    refused(place, ["run", "er", "b.toml"], code, says)


@pytest.mark.parametrize("name", ["Bad Name.toml", "ü.toml", "-.toml", ".toml", "a" * 64 + ".toml"])
def test_benchmark_file_names(place, name):
    write(place / name, OK)
    refused(place, ["run", "er", f"./{name}"], INVALID, "file name is its name")


FINE = 'strategies=["er"]\nbenchmarks=["split-digits"]\n'
SWEEPS = [
    ("", INVALID, "strategies must be a list of names"),
    ("x", INVALID, "not TOML"),
    ("strategies=[]", INVALID, "strategies must be"),
    ("strategies='er'", INVALID, "strategies must be"),
    ("strategies=[1]", INVALID, "strategies must be"),
    ("strategies=['er']", INVALID, "benchmarks must be"),
    ("strategies=['erx']\nbenchmarks=['split-digits']", USAGE, "Did you mean 'er'"),
    ("strategies=['er','er']\nbenchmarks=['split-digits']", INVALID, "would share the folder"),
    ("strategies=['er']\nbenchmarks=['split-digit']", USAGE, "Did you mean 'split-digits'"),
    (f"{FINE}seed='0'", USAGE, "Did you mean 'seeds'"),
    *((f"{FINE}seeds={s}", USAGE, "write 0..4") for s in ("3", "[]", "'x'", "[-1]", "[true]", "[1.0]", "[nan]")),
    (f"{FINE}out=3", INVALID, "out must be text"),
    (f"{FINE}out='file'", STORAGE, "cannot be written"),
    (f'{FINE}out="a\\u0000"', INVALID, "out must be text"),
    (f"{FINE}data=3", INVALID, "data must be text"),
    (f"{FINE}device=3", INVALID, "device must be text"),
    (f"{FINE}device='gpu'", USAGE, "--device 'gpu'"),
    (f"{FINE}grid=3", INVALID, "grid must be a table"),
    (f"{FINE}[grid]\ner=3", INVALID, "grid.er must be a table"),
    (f"{FINE}[grid]\nlr=[]", INVALID, "grid.lr has no values"),
    (f"{FINE}[grid.er]\nlr=[]", INVALID, "grid.er.lr has no values"),
    (f"{FINE}[grid]\nlr=['fast']", USAGE, "lr='fast'"),
    (f"{FINE}[grid]\nlr=[0.1,0.1]", INVALID, "would share the folder"),
    (f"{FINE}[grid]\nlr=[nan]", USAGE, "a setting is"),
    (f"{FINE}[grid]\nlr=[1979-05-27]", USAGE, "a setting is"),
    (f"{FINE}[grid]\nlr=[[[1]]]", USAGE, "a setting is"),
    (f"{FINE}[grid]\nmemroy=[3]", USAGE, "Did you mean 'memory'"),
    (f"{FINE}[grid]\nmodel.hidden=[3]", INVALID, "needs quotes"),
    (f"{FINE}[grid.erx]\nlr=[1]", INVALID, "grid.erx is neither a strategy"),
    (f"{FINE}[grid]\n'stream.n_tasks'=[3]", USAGE, "10 classes do not divide"),
    (f"{FINE}[grid]\n'stream.data'=['x']", USAGE, "use --data"),
    (f"{FINE}[grid]\n'a/../../x'=[1]", USAGE, "unknown setting of er 'a/../../x'"),
    (f"{FINE}[grid]\n" + "\n".join(f"a{i}=[1,2,3,4]" for i in range(20)), USAGE, "more than 10,000 combinations"),
    (b"\xff", INVALID, "not UTF-8"),
]


@pytest.mark.parametrize("content, code, says", SWEEPS, ids=[ascii(c[-40:]) for c, _, _ in SWEEPS])
def test_sweep_files(place, content, code, says):
    write(place / "s.toml", content)
    refused(place, ["sweep", "s.toml", "--workers", "1"], code, says)


# -- data sets -------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits_of(n: int) -> np.ndarray:
    return (np.arange(n) % 10).astype(np.uint8)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
IDX = [
    (IMAGES, lambda data: data[:-100], "truncated or corrupt"),
    (IMAGES, lambda data: data + b"x", "truncated or corrupt"),
    (IMAGES, lambda data: b"", "not an IDX file"),
    (IMAGES, lambda data: b"\x00\x00\x08\x01" + data[4:], "not an IDX file"),
    (IMAGES, lambda data: b"PK\x03\x04" + data[4:], "not an IDX file"),
    (IMAGES, lambda data: data[:4] + b"\xff" * 4 + data[8:], "truncated or corrupt"),
    (IMAGES, lambda data: gzip.compress(data), "not an IDX file"),
    (LABELS, lambda data: data[:-1], "truncated or corrupt"),
    (LABELS, lambda data: data[:-1] + b"\x0a", "the label 10"),
    (LABELS, lambda data: idx(digits_of(39)), "40 images"),
]


@pytest.mark.parametrize("name, damage, says", IDX, ids=range(len(IDX)))
def test_idx_files(place, fresh, name, damage, says):
    folder, draw = place / "data/MNIST/raw", np.random.RandomState(0)
    for part, n in (("train", 40), ("t10k", 20)):
        write(folder / f"{part}-images-idx3-ubyte", idx(draw.randint(0, 256, (n, 28, 28)).astype(np.uint8)))
        write(folder / f"{part}-labels-idx1-ubyte", idx(digits_of(n)))
    write(folder / name, damage((folder / name).read_bytes()))
    refused(place, ["run", "er", "split-mnist", "--data", "data"], INVALID, name, says)


def cifar_rows(n: int, label: int = 0) -> bytes:
    return (bytes([label]) + bytes(3072)) * n


CIFAR = [
    ("test_batch.bin", cifar_rows(2)[:-1], "not a multiple of 3,073"),
    ("data_batch_3.bin", cifar_rows(2) + b"x", "not a multiple of 3,073"),
    ("data_batch_1.bin", b"", "not a multiple of 3,073"),
    ("test_batch.bin", cifar_rows(2, label=10), "the label 10"),
]


@pytest.mark.parametrize("name, content, says", CIFAR, ids=range(len(CIFAR)))
def test_cifar_files(place, fresh, name, content, says):
    folder = place / "data/cifar-10-batches-bin"
    for file in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        write(folder / file, cifar_rows(2))
    write(folder / name, content)
    refused(place, ["run", "er", "split-cifar10", "--data", "data"], INVALID, name, says)


def test_a_pickle_of_unknown_origin_is_not_opened(place, fresh):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(place / "exploded"),)

    names = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    for name in names:
        write(place / "data/cifar-10-batches-py" / name, pickle.dumps(Bomb()))
    refused(place, ["run", "er", "split-cifar10", "--data", "data"], INVALID, "is a pickle and not the published one")


def png(path: Path, size: int = 8) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(len(str(path))).randint(0, 256, (size, size)).astype(np.uint8)).save(path)


def no_pictures(folder: Path) -> None:
    write(folder / "a/readme.txt", "none here")


def corrupt_picture(folder: Path) -> None:
    png(folder / "b/1.png")
    write(folder / "b/2.png", (folder / "b/1.png").read_bytes()[:40])


def a_text_for_a_picture(folder: Path) -> None:
    write(folder / "b/1.png", "no picture")


def unequal_pictures(folder: Path) -> None:
    png(folder / "a/1.png", 8)
    png(folder / "b/1.png", 9)


PICTURES = [
    (lambda folder: None, STORAGE, "is not a folder"),
    (lambda folder: folder.mkdir(), USAGE, "holds no folder with images"),
    (no_pictures, USAGE, "holds no folder with images"),
    (corrupt_picture, INVALID, "2.png cannot be decoded"),
    (a_text_for_a_picture, INVALID, "1.png cannot be decoded"),
    (unequal_pictures, USAGE, "give size="),
]


@pytest.mark.parametrize("damage, code, says", PICTURES, ids=range(len(PICTURES)))
def test_image_folders(place, fresh, damage, code, says):
    write(place / "mine.py", "from carryover.streams import from_folder, split\n\n"
          "def mine():\n    return split(from_folder('pictures'), 2, name='mine')\n")  # fmt: skip
    damage(place / "pictures")
    refused(place, ["run", "er", "mine.py:mine"], code, says)


# -- files of the user's own -----------------------------------------------------------------------------------------

HEAD = "from carryover.strategies import Strategy\n"
STRATEGIES = [
    ("class X(:\n", "line 1: SyntaxError"),
    ("\n\nimport nowhere_to_be_found\n", "line 3: ModuleNotFoundError"),
    ("x = 1\n1 / 0\n", "line 2: ZeroDivisionError"),
    ("import sys\nsys.exit(0)\n", "line 2: SystemExit"),
    ("from carryover.base.errors import UsageError\nraise UsageError('not\\nready')\n", "not ready"),
    ("", "defines no 'X'"),
    ("Y = 1\n", "defines no 'X'"),
    ("X = 3\n", "is not a strategy"),
    ("def X():\n    pass\n", "is not a strategy"),
    ("class X:\n    pass\n", "is not a strategy"),
    (HEAD + "class X(Strategy):\n    pass\n", "names no settings"),
    (HEAD + "class X(Strategy):\n    Config = dict\n", "names no settings"),
    (b"\xff\xfe\x00", "SyntaxError"),
    (b"X = 1\x00", "null bytes"),
    ("from carryover.base.errors import UsageError\nfrom carryover.strategies.er import ER\nclass X(ER):\n"
     "    def setup(self, info, context):\n        raise UsageError('I only know tables.')\n", "I only know tables"),
]  # fmt: skip


@pytest.mark.parametrize("content, says", STRATEGIES, ids=range(len(STRATEGIES)))
def test_strategy_files(place, content, says):
    write(place / "mine.py", content)
    refused(place, ["run", "mine.py:X", "split-digits"], USAGE, says)


MAKE = "from carryover.streams import Stream, Task, load_stream\nfrom carryover.streams.core import CIL\n"
STREAMS = [
    ("def f(:\n", "SyntaxError"),
    ("def f():\n    pass\n", "gave NoneType, not a Stream"),
    ("f = 3\n", "gave int, not a Stream"),
    ("def f():\n    return [1, 2]\n", "gave list, not a Stream"),
    ("def f():\n    raise ValueError('no\\nluck')\n", "ValueError: no luck"),
    ("def f():\n    return f()\n", "RecursionError"),
    ("def f(size):\n    pass\n", "missing a required argument: 'size'"),
    (MAKE + "def f():\n    return Stream('f', 1, CIL, [], [], 3)\n", "has no tasks"),
    (MAKE + "def f():\n    return Stream('f', 1, CIL, [1], [2, 3], 3)\n", "1 tasks but 2 test sets"),
    (MAKE + "def f():\n    return Stream('f', 1, CIL, [1], [2], 3)\n", "gives no usable stream: AttributeError"),
    (MAKE + "def f():\n    return Stream('f', 1, 'cil', *(list(load_stream('split-digits').tasks),) * 2, 10)\n",
     "gives no usable stream"),
    (MAKE + "def f():\n    return load_stream('nope')\n", "unknown stream 'nope'"),
    (MAKE + "f = load_stream('split-digits', n_tasks=3)\n", "10 classes do not divide"),
]  # fmt: skip


@pytest.mark.parametrize("content, says", STREAMS, ids=range(len(STREAMS)))
def test_stream_files(place, fresh, content, says):
    write(place / "mine.py", content)
    refused(place, ["run", "er", "mine.py:f"], USAGE, says)


def test_options_of_a_users_stream(place, fresh):
    write(place / "mine.py", MAKE + "f = load_stream('split-digits')\ndef g(*, n: int = 2): return f\n")
    refused(place, ["run", "er", "mine.py:f", "--set", "stream.n=2"], USAGE, "takes no option 'n'")
    refused(place, ["run", "er", "mine.py:g", "--set", "stream.n=x"], USAGE, "must be an integer")
    refused(place, ["run", "er", "mine.py:g", "--set", "stream.m=2"], USAGE, "Available: n, scored_on, setting")


BUGGY = """
from carryover.strategies.er import ER

class X(ER):
    def end_task(self, task):
        if self.context.seed == 1:
            raise KeyError("a bug of the user's")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_while_learning_keeps_its_traceback_and_loses_no_other_seed(place, workers):
    """It is theirs to debug, so the traceback stays; what the other seeds did is recorded."""
    write(place / "mine.py", BUGGY)
    words = ["run", "mine.py:X", "split-digits", *TINY, "--seeds", "0..2", "--out", "out", "--workers", workers]
    answer = typed(*words)
    assert answer.code == 1 and answer.out == ""
    assert "Traceback" in answer.err and "mine.py" in answer.err and "a bug of the user's" in answer.err
    assert RunRecord.load("out").seeds == [0, 2]
    write(place / "mine.py", BUGGY.replace("== 1", "== 9"))  # seeds of two versions do not belong in one record
    one_line(call(*words[:-1], 1, "--resume"), 2, "another version of its code")
    assert RunRecord.load("out").seeds == [0, 2]


def test_an_error_in_a_worker_is_the_same_line(place):
    words = ["run", "er", "split-digits", *TINY, "--set", "lr=fast", "--seeds", "0..1"]
    alone, spread = call(*words), call(*words, "--workers", 2)
    one_line(spread, USAGE, "lr='fast'")
    assert spread == alone


# -- checkpoints -----------------------------------------------------------------------------------------------------


def flip(data: bytes, at: float) -> bytes:
    position = int(len(data) * at)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


CHECKPOINTS: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "empty": (lambda data: b"", INVALID, "truncated or not a checkpoint"),
    "half": (lambda data: data[: len(data) // 2], INVALID, "truncated or not a checkpoint"),
    "a byte short": (lambda data: data[:-1], INVALID, "truncated or not a checkpoint"),
    "a byte long": (lambda data: data + b"\0", INVALID, "truncated or not a checkpoint"),
    "flipped first": (lambda data: flip(data, 0), INVALID, "not a checkpoint"),
    "flipped middle": (lambda data: flip(data, 0.5), INVALID, "damaged"),
    "flipped late": (lambda data: flip(data, 0.99), INVALID, "damaged"),
    "other count": (lambda data: data.replace(b'\\"step\\"', b'\\"stup\\"', 1), INVALID, "damaged"),
    "text": (lambda data: b"hello" * 100, INVALID, "not a checkpoint"),
    "pickle": (lambda data: pickle.dumps({"model": 1}), INVALID, "not a checkpoint"),
    "torch": (lambda data: b"PK\x03\x04" + data, INVALID, "not a checkpoint"),
    "huge header": (lambda data: b"\xff" * 8 + data[8:], INVALID, "not a checkpoint"),
    "JSON": (lambda data: b"{}", INVALID, "not a checkpoint"),
}
ON = ["run", "er", "split-digits", *TINY, "--seeds", "0", "--out", "begun", "--resume"]


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(place, case):
    damage, code, says = CHECKPOINTS[case]
    path = place / "begun/seeds/0.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refused(place, ON, code, "begun/seeds/0.safetensors", says)


@pytest.mark.parametrize("source", ["elsewhere/seeds/1", "foreign/seeds/0"])
def test_a_checkpoint_of_another_run(place, source):
    shutil.copy(place / f"{source}.safetensors", place / "begun/seeds/0.safetensors")
    refused(place, ON, USAGE, "belongs to another seed, stream or strategy")


def test_a_checkpoint_that_is_a_folder(place):
    (place / "begun/seeds/0.safetensors").unlink()
    (place / "begun/seeds/0.safetensors").mkdir()
    one_line(call(*ON), STORAGE, "0.safetensors cannot be read")


def test_tensors_that_are_no_checkpoint(place):
    save_file({"weight": torch.zeros(3)}, place / "begun/seeds/0.safetensors")
    refused(place, ON, INVALID, "not a checkpoint")


def test_an_untouched_checkpoint_goes_on(place):
    assert call(*ON).code == 0
    assert call(*ON[:-3], "--out", "whole").code == 0
    assert RunRecord.load("begun").result_digest() == RunRecord.load("whole").result_digest()


# -- records ---------------------------------------------------------------------------------------------------------


def edited(change: Callable[[dict], object]) -> Callable[[str], str]:
    """A damage done to the parsed record."""

    def damage(text: str) -> str:
        value = json.loads(text)
        change(value)
        return json.dumps(value)

    return damage


def cell(i: int, j: int, value: object) -> Callable[[str], str]:
    return edited(lambda record: record["runs"][0]["correct"][i].__setitem__(j, value))


RECORDS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda text: "", "not JSON"),
    "truncated": (lambda text: text[: len(text) // 2], "not JSON"),
    "twice": (lambda text: text + text, "not JSON"),
    "byte order mark": (lambda text: "\ufeff" + text, "not JSON"),
    "Python": (lambda text: repr(json.loads(text)), "not JSON"),
    "duplicate key": (lambda text: text.replace('"runs":', '"runs":[],"runs":', 1), "'runs' occurs twice"),
    "NaN": (lambda text: text.replace('"seed":0', '"seed":NaN', 1), "NaN is not a JSON number"),
    "Infinity": (lambda text: text.replace('"seed":0', '"seed":-Infinity', 1), "not a JSON number"),
    "1e999": (lambda text: text.replace('"seed":0', '"seed":1e999', 1), "out of range"),
    "5000 digits": (lambda text: text.replace('"seed":0', '"seed":' + "9" * 5000, 1), "too long"),
    "deep list": (lambda text: "[" * 100_000, "nested deeper"),
    "deep object": (lambda text: '{"a":' * 100 + "1" + "}" * 100, "nested deeper"),
    "not UTF-8": (lambda text: b"\xff\xfe" + text.encode(), "not UTF-8 at byte 0"),
    "Latin-1": (lambda text: text.replace('"er"', '"ér"').encode("latin-1"), "not UTF-8"),
    "20 MB": (lambda text: text + " " * 20_000_000, "more than the 16,777,216 allowed"),
    "a list": (lambda text: "[]", "valid dictionary"),
    "a number": (lambda text: "3", "valid dictionary"),
    "null": (lambda text: "null", "valid dictionary"),
    "other schema": (edited(lambda record: record.update(schema_version="2.0")), "schema_version"),
    "number as schema": (edited(lambda record: record.update(schema_version=1.0)), "schema_version"),
    "unknown field": (edited(lambda record: record.update(acc=0.99)), "acc: Extra inputs"),
    "unknown inner field": (edited(lambda record: record["runs"][0].update(acc=1)), "runs.0.acc"),
    "missing part": (edited(lambda record: record.pop("stream")), "stream: Field required"),
    "missing counts": (edited(lambda record: record["runs"][0].pop("correct")), "runs.0.correct"),
    "negative": (cell(0, 0, -1), "runs.0.correct.0.0"),
    "above n": (cell(0, 0, 10**6), "1000000 correct of 300"),
    "fraction": (cell(0, 0, 0.5), "runs.0.correct.0.0"),
    "whole float": (cell(0, 0, 3.0), "runs.0.correct.0.0"),
    "true": (cell(0, 0, True), "runs.0.correct.0.0"),
    "text": (cell(0, 0, "3"), "runs.0.correct.0.0"),
    "hole": (cell(1, 0, None), "complete, but row 1, task 0 was not measured"),
    "ragged": (edited(lambda record: record["runs"][0]["correct"][0].pop()), "row 0 has 1 cells"),
    "short": (edited(lambda record: record["runs"][0]["correct"].pop()), "2 rows, but 2 tasks need 3"),
    "long": (edited(lambda record: record["runs"][0]["correct"].append([0, 0])), "4 rows"),
    "status": (edited(lambda record: record["runs"][0].update(status="finished")), "runs.0.status"),
    "seed twice": (edited(lambda record: record["runs"].append(record["runs"][0])), "a seed occurs twice"),
    "fingerprint": (edited(lambda record: record["stream"].update(fingerprint="xyz")), "stream.fingerprint"),
    "no tasks": (edited(lambda record: (record["stream"].update(tasks=[], classes=[], test_sizes=[]),
                                        record.update(runs=[]))), "at least one task"),
    "no test cases": (edited(lambda record: record["stream"].update(test_sizes=[0, 299])), "test cases"),
    "classes": (edited(lambda record: record["stream"]["classes"].pop()), "1 class lists"),
    "long name": (edited(lambda record: record["strategy"].update(name="x" * 300)), "strategy.name"),
    "surrogate": (lambda text: text.replace('"er"', '"e\\ud800r"'), "strategy.name"),
    "cost": (edited(lambda record: record["runs"][0]["cost"].update(train_flops=10**400)), "cost.train_flops"),
    "negative cost": (edited(lambda record: record["runs"][0]["cost"].update(steps=-1)), "cost.steps"),
}  # fmt: skip
READERS = {
    "plot": ["plot", "bad"],
    "compare": ["compare", "done", "bad"],
    "submit": ["submit", "bad", "--board", "board"],
    "verify": ["verify", "bad"],
    "run": ["run", "er", "split-digits", *TINY, "--seeds", "0..2", "--out", "bad", "--resume"],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", RECORDS)
def test_records(place, case, reader):
    damage, says = RECORDS[case]
    (place / "done").rename(place / "bad")
    shutil.copytree(place / "other", place / "done")
    write(place / "bad/record.json", damage((place / "bad/record.json").read_text()))
    refused(place, READERS[reader], INVALID, "record.json", says)


def test_a_record_without_seeds(place):
    path = place / "done/record.json"
    path.write_text(edited(lambda record: record.update(runs=[]))(path.read_text()))
    refused(place, ["plot", "done"], INVALID, "without seeds")
    refused(place, ["compare", "other", "done"], INVALID, "without seeds")


def test_a_name_does_not_steer_the_terminal(place):
    record = json.loads((place / "done/record.json").read_text())
    record["strategy"]["name"] = "er\x1b[2J\r\n"
    write(place / "done/record.json", json.dumps(record))
    answer = call("compare", "done", "done")
    assert answer.code == 0 and "\x1b" not in answer.out and "er\\x1b[2J\\r\\n minus" in answer.out


SEEDS = {
    "truncated": (lambda text: text[:50], "not JSON"),
    "not a result": (lambda text: "{}", "not a seed's result"),
    "a list": (lambda text: "[]", "not a seed's result"),
    "another seed": (edited(lambda value: value["run"].update(seed=3)), "belongs to another run"),
    "another run": (edited(lambda value: value.update(identity="0" * 64)), "belongs to another run"),
    "ragged": (edited(lambda value: value["run"].update(correct="none")), "correct"),
}


@pytest.mark.parametrize("case", SEEDS)
def test_seeds_on_their_way(place, case):
    """A finished seed that is not in the record yet is checked before anything runs, and named."""
    spec = launch.RunSpec("er", "split-digits", {"stream.n_tasks": 2, "stream.train_per_task": 20})
    (job,) = launch.Request(spec, (2,), "done", resume=True).plan()
    job.run(lambda share: None)
    path = place / "done/seeds/2.json"
    damage, says = SEEDS[case]
    path.write_text(damage(path.read_text()))
    words = [*READERS["run"][:-2], "done", "--resume"]
    refused(place, words, INVALID, "2.json", says, "Remove it to run the seed again")


# -- evidence --------------------------------------------------------------------------------------------------------

EVIDENCE = {
    "flipped": (lambda path: path.write_bytes(flip(path.read_bytes(), 0.5)), "E113"),
    "short": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "E112"),
    "empty": (lambda path: path.write_bytes(b""), "E112"),
    "long": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "E112"),
    "missing": (lambda path: path.unlink(), "E111"),
}


@pytest.mark.parametrize("case", EVIDENCE)
def test_evidence(place, case):
    """A submission is refused in a line; a verification prints its verdict, and the line says which check failed."""
    damage, finding = EVIDENCE[case]
    damage(evidence_path(place / "done", 0))
    refused(place, ["submit", "done", "--board", "board"], INVALID, finding)
    before = snapshot(place)
    answer = call("verify", "done", "--json")
    verdict = json.loads(answer.out)
    failed = [c["reason"] for c in verdict["checks"] if not c["passed"]]
    assert not verdict["passed"] and failed[0][:4] == finding
    assert all(reason.startswith("not checked") for reason in failed[1:])  # what hangs on it
    one_line(type(answer)(answer.code, "", answer.err), MISMATCH, finding)
    assert snapshot(place) == before


def test_counts_against_the_evidence(place):
    path = place / "done/record.json"
    record = copy.deepcopy(json.loads(path.read_text()))
    record["runs"][0]["correct"][2][1] += 1
    path.write_text(json.dumps(record))
    refused(place, ["submit", "done", "--board", "board"], INVALID, "E114")
    answer = call("verify", "done")
    assert answer.code == MISMATCH and "FAIL  counts" in answer.out and "E114" in answer.err


def test_evidence_that_is_a_link(place):
    path = evidence_path(place / "done", 0)
    path.unlink()
    path.symlink_to("/etc/passwd")
    refused(place, ["submit", "done", "--board", "board"], INVALID, "not a plain file")
    refused(place, ["verify", "done"], INVALID, "not a plain file")


# -- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 10))
def test_a_full_disk_at_any_write(place, monkeypatch, number):
    """Header, checkpoints, evidence, results, record: one line, and a resumed run ends as if nothing had happened."""
    writes, real = [], os.fsync

    def fsync(handle: int) -> None:
        writes.append(handle)
        if len(writes) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    before = snapshot(place)
    words = ["run", "er", "split-digits", *TINY, "--seeds", "2", "--out", "fresh", "--checkpoint-every", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        one_line(call(*words), STORAGE, "cannot be written: No space left on device")
    after = snapshot(place)
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if path.endswith(".tmp")]
    assert call(*words, "--resume").code == 0
    assert call(*words[:-4], "--out", "undisturbed").code == 0
    assert RunRecord.load("fresh").result_digest() == RunRecord.load("undisturbed").result_digest()


def test_an_output_that_is_full(place):
    with open("/dev/full", "w") as full:
        answer = typed("list", "metrics", stdout=full)
    assert answer.code == STORAGE and answer.err == "carryover: No space left on device.\n"


def test_a_reader_that_leaves_early(place):
    read, write_end = os.pipe()
    os.close(read)
    answer = typed("list", "metrics", stdout=write_end)
    os.close(write_end)
    assert answer.err == ""


def test_an_output_that_knows_only_ascii(place, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    answer = typed("run", "er", "rotated-digits", *TINY, "--seeds", "0..2", "--out", "some where ü")
    assert answer.code == 0 and answer.err == "" and "some where \\xfc" in answer.out


@pytest.mark.parametrize("words", [["plot", "done"], ["verify", "done"], ["run", "er", "b.toml"]])
def test_a_file_that_may_not_be_read(place, monkeypatch, words):
    def closed(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    write(place / "b.toml", OK)
    before = snapshot(place)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", closed)
        answer = call(*words)
    one_line(answer, STORAGE, "cannot be read: Permission denied")
    assert snapshot(place) == before


def test_running_out_of_memory(place, monkeypatch):
    def greedy(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")

    with monkeypatch.context() as patch:
        patch.setattr("carryover.strategies.er.ER.loss", greedy)
        refused(place, ["run", "er", "split-digits", *TINY, "--seeds", "0", "--out", "x"], 1, "ran out of memory")


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
