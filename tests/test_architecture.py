"""The shape of the house: which way imports go, what happens at import, and that new things need no second file."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from carryover.base.errors import UsageError
from carryover.base.registry import Registry

ROOT = Path(__file__).parents[1]
LAYERS = ("base", "streams", "strategies", "evaluation", "benchmarks", "leaderboard", "cli")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
SOURCES += [ROOT / "__init__.py", ROOT / "__main__.py"]
BY_PATH = {str(path.relative_to(ROOT)): path for path in SOURCES}


def imported(path: Path) -> set[tuple[int, str]]:
    """(line, layer) of every import of our own in a file, wherever in it, type checkers' included."""
    place = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["carryover", *place[: len(place) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "carryover":
                found.add((node.lineno, parts[1] if len(parts) > 1 else ""))
    return found


@pytest.mark.parametrize("name", [name for name in BY_PATH if "/" in name])
def test_imports_go_one_way(name):
    own = LAYERS.index(name.split("/")[0])
    wrong = [(line, layer) for line, layer in imported(BY_PATH[name]) if layer in LAYERS and LAYERS.index(layer) > own]
    assert not wrong, f"{name} imports from layers above it: {wrong}"
    strangers = [(line, layer) for line, layer in imported(BY_PATH[name]) if layer not in LAYERS]
    assert not strangers, f"{name} imports from outside the layers: {strangers}"


def test_the_import_test_sees_what_it_should():
    assert {layer for _, layer in imported(ROOT / "strategies/parts/objective.py")} == {"streams"}
    assert "evaluation" in {layer for _, layer in imported(ROOT / "benchmarks/launch.py")}  # inside functions
    assert {"base", "strategies"} <= {layer for _, layer in imported(ROOT / "evaluation/run.py")}


def test_every_folder_with_code_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    shipped = [path for path in SOURCES if "speed" not in path.parts]  # measurements stay in the repository
    found = {".".join(["carryover", *path.relative_to(ROOT).parts[:-1]]) for path in shipped}
    assert listed == found
    for package in listed:
        assert (ROOT.joinpath(*package.split(".")[1:]) / "__init__.py").is_file(), package


def test_data_files_are_packaged():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [(ROOT.joinpath(*package.split(".")[1:]), glob) for package, globs in data.items() for glob in globs]
    packaged = {path for folder, glob in patterns for path in folder.glob(glob)}
    kinds = (".toml", ".html", ".css", ".js", ".svg", ".xml", ".j2")
    ours = {p for layer in LAYERS for p in (ROOT / layer).rglob("*") if p.suffix in kinds and "speed" not in p.parts}
    assert ours and ours <= packaged, sorted(str(path.relative_to(ROOT)) for path in ours - packaged)


UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("name", BY_PATH)
def test_nothing_that_is_read_can_run_code(name):
    for node in ast.walk(ast.parse(BY_PATH[name].read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, node.lineno
        if not isinstance(node, ast.Call):
            continue
        call, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert call not in ("eval", "exec", "yaml.load"), node.lineno
        if call == "torch.load":
            assert given.get("weights_only") == "True", node.lineno
        if call in ("np.load", "numpy.load"):
            assert given.get("allow_pickle", "False") == "False", node.lineno


# -- at import ------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "datasets", "torchvision", "pydantic", "jinja2")


def loaded(program: str) -> set[str]:
    """Heavy packages in a fresh process after a program."""
    program += f"\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_carryover_imports_nothing_heavy():
    assert loaded("import carryover; dir(carryover)") == set()
    assert (
        loaded("import carryover.streams, carryover.strategies, carryover.evaluation, carryover.leaderboard") == set()
    )


@pytest.mark.parametrize("arguments", ["--help", "run --help", "list strategies", "list streams"])
def test_help_and_lists_import_nothing_heavy(arguments):
    program = f"""
import sys, contextlib, io
sys.argv = ["carryover", *{arguments.split()!r}]
from carryover.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
    assert not loaded(program) & {"torch", "numpy", "pandas", "matplotlib", "datasets", "sklearn", "torchvision"}


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "carryover", "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begun)
    assert "submit" in done.stdout
    assert min(times) < 0.5, times


# -- names ----------------------------------------------------------------------------------------------------------


def test_a_name_announced_twice_is_an_error(tmp_path):
    for stem in ("one", "two"):
        (tmp_path / f"{stem}.py").write_text('@strategy("same")\nclass A:\n    """First line."""\n')
    with pytest.raises(UsageError, match=r"'same' is announced twice: in .*one and in .*two"):
        Registry("strategy", "somewhere", tmp_path, "carryover.none").entries  # noqa: B018


def test_the_registry_reads_without_importing(tmp_path):
    (tmp_path / "mine.py").write_text(
        'raise SystemExit("imported")\n'
        '@strategy("mine", needs=("boundaries",))\n'
        'class Mine:\n    """What it does.\n\n    More."""\n'
    )
    entry = Registry("strategy", "somewhere", tmp_path, "carryover.none").entry("mine")
    assert (entry.summary, entry.attribute, entry.options) == ("What it does.", "Mine", {"needs": ("boundaries",)})
    with pytest.raises(UsageError, match="unknown strategy 'mime'. Did you mean 'mine'"):
        Registry("strategy", "somewhere", tmp_path, "carryover.none").load("mime")


STRATEGY = '''
from carryover.strategies import GradientStrategy, strategy


@strategy("halved")
class Halved(GradientStrategy):
    """Fine-tuning with half the loss."""

    def loss(self, batch):
        return super().loss(batch) / 2
'''

STREAM = '''
import torch
from carryover.streams import from_arrays, split, stream


@stream("stripes", embedded=True, setting="cil")
def stripes(*, n_tasks: int = 2):
    """Four kinds of noise."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 4
    x = torch.randn(80, 6, generator=draw) + 3 * torch.eye(6)[y]
    return split(from_arrays(x, y), n_tasks, name="stripes")
'''

METRIC = '''
from carryover.evaluation.metrics import metric


@metric("first_task", unit="fraction", better="higher")
def first_task(R):
    """Accuracy on the first task after the last: R[T, 1]."""
    return R[..., -1, 0]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A strategy, a stream and a metric of somebody's own, a file each."""
    for name, text in {"my_strategy": STRATEGY, "my_stream": STREAM, "my_metric": METRIC}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def carryover(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Standard output of the command in a folder, with another one on the import path."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-m", "carryover", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAM = """
import carryover
from carryover import RunRecord, check_strategy, check_stream, load_stream

record = RunRecord.load("out")
assert record.strategy.name == "halved" and record.strategy.source.startswith("user sha256:"), record.strategy
assert record.stream.name == "stripes" and record.seeds == [0, 1]
named = record.metrics("my_metric.py:first_task", "acc")
assert named["my_metric.py:first_task"]["unit"] == "fraction"
assert named["my_metric.py:first_task"]["per_seed"] == record.matrix[:, -1, 0].tolist()
assert check_strategy("my_strategy.py:Halved") == ["til", "cil", "dil", "online", "task-free"]
check_stream(lambda: load_stream("my_stream.py:stripes"))
direct = carryover.run("my_strategy.py:Halved", "my_stream.py:stripes", 2, **{"stream.n_tasks": 4}, lr=0.2)
assert direct.result_digest() == record.result_digest()
"""


def test_one_new_file_each_and_no_other_touched(folder):
    options = ["--seeds", "0..1", "--set", "stream.n_tasks=4", "--set", "lr=0.2", "--out", "out"]
    printed = carryover("run", "my_strategy.py:Halved", "my_stream.py:stripes", *options, cwd=folder)
    assert "halved" in printed and "record: " in printed
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, check=True, timeout=120)


def test_installed_packages_announce_theirs(folder):
    """A distribution is a folder of metadata beside its modules; here one that nobody had to build."""
    info = folder / "somebodys_own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[carryover.strategies]\nhalved = my_strategy:Halved\n\n"
        "[carryover.streams]\nstripes = my_stream:stripes\n\n"
        "[carryover.metrics]\nfirst_task = my_metric:first_task\n"
    )
    elsewhere = folder / "work"
    elsewhere.mkdir()
    for kind, name in (("strategies", "halved"), ("streams", "stripes"), ("metrics", "first_task")):
        rows = {row["name"]: row for row in json.loads(carryover("list", kind, "--json", cwd=elsewhere, path=folder))}
        assert rows[name]["source"] == "somebodys-own"
        assert name not in carryover("list", kind, cwd=elsewhere).split()
    printed = carryover("run", "halved", "stripes", "--seeds", "0", "--json", cwd=elsewhere, path=folder)
    assert {"first_task", "acc"} <= json.loads(printed)["metrics"].keys()
    record = json.loads((elsewhere / json.loads(printed)["record"]).read_text())
    assert record["strategy"]["source"] == "somebodys-own"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("missing.py:Name", "does not exist"),
        ("my_strategy.py", "names a file but no strategy"),
        ("my_strategy.py:Nothing", "defines no 'Nothing'"),
        ("my_stream.py:stripes", "is not a strategy"),
        ("broken.py:Name", "line 2: ZeroDivisionError"),
    ],
)
def test_an_address_that_leads_nowhere_says_why(folder, monkeypatch, address, message):
    from carryover.strategies.core import load_strategy

    (folder / "broken.py").write_text("x = 1\ny = x / 0\n")
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=message) as caught:
        load_strategy(address)
    assert "\n" not in str(caught.value)
