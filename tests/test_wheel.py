"""What is published is what works here: the wheel, installed elsewhere, with its data files, far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import carryover
import pytest
from carryover.benchmarks.protocol import names

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ROOT = Path(carryover.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the checkout, which stays clean."""
    pytest.importorskip("setuptools", minversion="77")
    root = tmp_path_factory.mktemp("wheel")
    command = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("the wheel is built from a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("shared/"):
            (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip("wheel", "--no-build-isolation", "--wheel-dir", root / "dist", root / "source")
    (path,) = (root / "dist").glob("carryover-*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """A folder to work in, beside which the wheel is installed."""
    root = tmp_path_factory.mktemp("elsewhere")
    pip("install", "--target", root / "site", wheel)
    (root / "work").mkdir()
    return root / "work"


def pip(command: str, *words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def there(elsewhere: Path, *words: str) -> str:
    """Standard output of `python -m carryover` of the installed copy, called from another folder."""
    done = python(elsewhere, "-m", "carryover", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def python(elsewhere: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(elsewhere.parent / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=elsewhere, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in files if name.startswith("carryover/")}
    assert all(name in packed or name.startswith("carryover-") for name in files)
    for folder in ("base", "streams", "strategies", "evaluation", "benchmarks", "leaderboard", "cli"):
        sources = {f"carryover/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*.py") if "speed" not in p.parts}
        assert sources <= packed, sorted(sources - packed)
    shipped = "strategies/backbones/*.safetensors"
    for pattern in ("benchmarks/*.toml", "leaderboard/templates/*", "leaderboard/static/*", shipped):
        data = {f"carryover/{path.relative_to(ROOT)}" for path in ROOT.glob(pattern)}
        assert data and data <= packed
    assert not [name for name in packed if name.split("/")[1] in ("tests", "docs", ".ci", "shared")]
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_it_is_the_installed_copy_that_runs(elsewhere):
    where = python(elsewhere, "-c", "import carryover; print(carryover.__file__)").stdout.strip()
    assert Path(where) == elsewhere.parent / "site/carryover/__init__.py"


def test_everything_is_listed(elsewhere):
    assert [row["name"] for row in json.loads(there(elsewhere, "list", "benchmarks", "--json"))] == names()
    for kind in ("streams", "strategies", "metrics"):
        assert len(json.loads(there(elsewhere, "list", kind, "--json"))) > 5
    assert there(elsewhere, "--version").startswith("carryover ")


def test_from_a_run_to_a_site(elsewhere):
    words = ["run", "er", "split-digits", "--set", "stream.n_tasks=2", "--set", "stream.train_per_task=50"]
    result = json.loads(there(elsewhere, *words, "--seeds", "0..1", "--workers", "2", "--out", "out", "--json"))
    assert result["seeds"] == [0, 1]
    provenance = json.loads((elsewhere / "out/record.json").read_text())["provenance"]
    assert provenance.get("commit") is None and provenance["carryover"] != "unknown"  # no checkout around it
    assert (elsewhere / "out/transfer-matrix.png").exists() is False
    there(elsewhere, "plot", "out")
    assert (elsewhere / "out/transfer-matrix.png").is_file()
    there(elsewhere, "submit", "out", "--board", "board")
    there(elsewhere, "site", "--board", "board", "--out", "site")
    assert {"index.html", "static"} <= {path.name for path in (elsewhere / "site").iterdir()}
    assert list((elsewhere / "site/static").iterdir())
    there(elsewhere, "verify", "out", "--rerun", "0")


def test_pre_trained_weights_come_along(elsewhere):
    words = ["run", "simplecil", "imagenet-r-mini", "--seeds", "0", "--out", "frozen", "--json"]
    assert json.loads(there(elsewhere, *words))["metrics"]["acc"]["mean"] > 0.5


def test_every_module_can_be_imported(elsewhere):
    """With the dependencies that it names, and no file of the checkout."""
    code = (
        "import importlib, pkgutil, carryover\n"
        "for m in pkgutil.walk_packages(carryover.__path__, 'carryover.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    done = python(elsewhere, "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
