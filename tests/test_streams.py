"""Named streams, their loading by name, and the rules that `check_stream` enforces."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from carryover.base.errors import CarryoverError, StorageError, UsageError
from carryover.streams import (
    CIL,
    DIL,
    Data,
    LabelledTest,
    Stream,
    Task,
    check_stream,
    from_arrays,
    load_stream,
    permuted,
    registry,
    split,
)
from carryover.streams.named import stream_options

GOLDEN = {
    "split-digits": "bf2cbc137aed78bee66cf98cc54665d7807dec4980246f15fa0b69d5c204c8b3",
    "permuted-digits": "4197f0be5bddaca3206c8f4cf4270d2faa834242aa0c5400ac23b424e1e8290e",
    "rotated-digits": "b368fc121f49588aeb4d30e4aa77fc2fca5087e2b35d7bebff9cbc5b3e6bc3fc",
}
MNIST = Path(os.environ.get("CARRYOVER_TEST_DATA") or Path(__file__).parents[2] / "shared/data/mnist-small")
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST at hand; point CARRYOVER_TEST_DATA to a folder")


# -- named streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_embedded_streams_are_the_same_everywhere(name):
    """The samples, labels, order and splits behind published numbers. A new value here is a new stream version."""
    assert load_stream(name).fingerprint == GOLDEN[name]


def test_a_fresh_process_with_another_global_seed_agrees():
    program = (
        "import random, numpy, torch; random.seed(7); numpy.random.seed(7); torch.manual_seed(7);"
        "torch.set_num_threads(2); torch.set_default_dtype(torch.float64);"
        "from carryover.streams import load_stream;"
        "print(load_stream('rotated-digits', n_tasks=3, train_per_task=100, val_fraction=0.1).fingerprint)"
    )
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    ours = load_stream("rotated-digits", n_tasks=3, train_per_task=100, val_fraction=0.1).fingerprint
    assert ours == theirs


@pytest.mark.parametrize("name", GOLDEN)
def test_embedded_streams_keep_the_rules(name):
    assert check_stream(lambda: load_stream(name, val_fraction=0.1)) != GOLDEN[name]


def test_every_announced_stream_says_what_it_is():
    for entry in registry.entries.values():
        assert entry.summary.endswith(".") and len(entry.summary) < 110
        assert set(entry.options) == {"embedded", "setting", "needs"}
        assert entry.options["embedded"] == (not entry.options["needs"])
        options = stream_options(registry.load(entry.name))
        assert {"n_tasks", "seed"} <= set(options) and {"train_per_task", "demonstrations"} & set(options)
        if entry.options["embedded"]:
            made = load_stream(entry.name, **({"demonstrations": 2} if "demonstrations" in options else {}))
            assert (made.name, made.setting.name) == (entry.name, entry.options["setting"])


def test_the_registry_lists_without_importing():
    program = "import sys; from carryover.streams import registry; registry.entries; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_options_reach_the_stream():
    stream = load_stream("split-digits", n_tasks=2, class_order=[9, 8, 7, 6, 5, 4, 3, 2, 1, 0], setting="til")
    assert [task.classes for task in stream] == [(9, 8, 7, 6, 5), (4, 3, 2, 1, 0)]
    assert stream.setting.task_id_at_test and stream.query(1, 2).classes == (0, 1, 2, 3, 4)
    assert load_stream("rotated-digits", n_tasks=1, max_angle=10).tasks[0].train.shape == (1, 16, 16)
    # what only streams of files take is not passed to one that has none
    assert load_stream("split-digits", data="nowhere", download=True).fingerprint == GOLDEN["split-digits"]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"n_task": 2}, "unknown option of split-digits 'n_task'. Did you mean 'n_tasks'"),
        ({"n_tasks": "two"}, "option 'n_tasks' of split-digits must be an integer; got 'two'"),
        ({"n_tasks": True}, "must be an integer; got True"),
        ({"n_tasks": 2.0}, "must be an integer; got 2.0"),
        ({"n_tasks": 3}, "10 classes do not divide into n_tasks=3"),
        ({"train_per_task": 0}, "train_per_task must be an integer of at least 1; got 0"),
        ({"train_per_task": "all"}, "must be an integer or nothing; got 'all'"),
        ({"val_fraction": 2}, "val_fraction must be at least 0 and less than 1; got 2"),
        ({"class_order": "random"}, "'natural' or 'seeded' or a list of an integer; got 'random'"),
        ({"class_order": [1, "a"]}, "got [1, 'a']"),
        ({"setting": "tli"}, "Did you mean 'til'"),
    ],
)
def test_wrong_options_answer_in_one_line(options, says):
    with pytest.raises(UsageError) as error:
        load_stream("split-digits", **options)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_your_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from carryover.streams import from_arrays, permuted\n"
        "def make(data=None, size: int = 2, **more):\n"
        "    x = np.random.RandomState(0).rand(40, 5)\n"
        "    return permuted(from_arrays(x, np.arange(40) % 4), size, name=str(data), **more)\n"
        "Ready = make('ready')\n"
        "def wrong(): return 3\n"
        "def needy(path): return 3\n"
    )
    made = load_stream(f"{file}:make", data="here", size=3, seed=1)
    assert (made.name, len(made), made.seed) == ("here", 3, 1)
    assert load_stream(f"{file}:Ready", setting="til").setting.name == "til"
    with pytest.raises(UsageError, match="takes no option 'size'"):
        load_stream(f"{file}:Ready", size=3)
    with pytest.raises(UsageError, match="gave int, not a Stream"):
        load_stream(f"{file}:wrong")
    with pytest.raises(UsageError, match="missing a required argument: 'path'"):
        load_stream(f"{file}:needy")


def test_missing_data_says_what_to_put_where(tmp_path, monkeypatch):
    with pytest.raises(
        StorageError, match=r"put its four IDX files into .*FashionMNIST.raw, or run again with --download"
    ):
        load_stream("split-fashion-mnist", data=tmp_path)
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path))
    with pytest.raises(StorageError, match=f"CIFAR100 is not under {tmp_path}: unpack cifar-100-binary.tar.gz there"):
        load_stream("split-cifar100")


@needs_mnist
def test_the_mnist_streams_on_real_digits():
    gem = load_stream("rotated-mnist", data=MNIST, n_tasks=20, train_per_task=1000)
    assert len(gem) == 20 and {len(task.train) for task in gem} == {1000} and gem.info.shape == (1, 28, 28)
    assert all(9 * t <= angle < 9 * (t + 1) for t, angle in enumerate(gem.meta["angles"]))
    assert len(load_stream("permuted-mnist", data=MNIST, n_tasks=2, train_per_task=10)) == 2
    fives = load_stream("split-mnist", data=MNIST)
    assert [task.name for task in fives] == ["0, 1", "2, 3", "4, 5", "6, 7", "8, 9"]
    check_stream(fives)


# -- check_stream ---------------------------------------------------------------------------------------------------


def good() -> Stream:
    """A stream by a third party, from scratch."""
    tasks, tests = [], []
    for t in range(3):
        draw = np.random.RandomState(t)
        x, y = torch.from_numpy(draw.rand(60, 4).astype(np.float32)), torch.arange(60) % 2 + 2 * t
        tasks.append(
            Task(t, f"t{t}", (2 * t, 2 * t + 1), Data(x[:30].clone(), y[:30]), Data(x[30:40].clone(), y[30:40]))
        )
        tests.append(LabelledTest(Data(x[40:].clone(), y[40:])))
    return Stream("third", 1, CIL, tasks, tests, 6)


def changed(part: str, **fields) -> Stream:
    """The good stream with one part of its second task changed."""
    stream = good()
    if part == "stream":
        return dataclasses.replace(stream, **fields)
    tasks, tests, task = list(stream.tasks), list(stream.tests), stream.tasks[1]
    if part == "task":
        tasks[1] = dataclasses.replace(task, **fields)
    elif part == "test":
        tests[1] = LabelledTest(dataclasses.replace(tests[1].data, **fields))
    else:
        tasks[1] = dataclasses.replace(task, **{part: dataclasses.replace(getattr(task, part), **fields)})
    return dataclasses.replace(stream, tasks=tasks, tests=tests)


class Telling(Stream):
    def query(self, index, seen):
        return dataclasses.replace(super().query(index, seen), _index=index)


class Narrowing(Stream):
    def query(self, index, seen):
        return dataclasses.replace(super().query(index, seen), classes=tuple(self.tasks[index].classes))


class Showing(Stream):
    def shown(self, index):
        return self.tasks[index]


@dataclasses.dataclass(frozen=True)
class Leaky(Task):
    test: LabelledTest | None = None


def as_class(kind: type[Stream], **fields) -> Stream:
    stream = changed("stream", **fields)
    return kind(**{f.name: getattr(stream, f.name) for f in dataclasses.fields(stream)})


def leaky() -> Stream:
    stream = good()
    tasks = [Leaky(**vars(task), test=test) for task, test in zip(stream.tasks, stream.tests, strict=True)]
    return dataclasses.replace(stream, tasks=tasks)


def view() -> Stream:
    whole = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    stream = changed("train", samples=whole[:30])
    tests = [*stream.tests[:1], LabelledTest(Data(whole[40:], stream.tests[1].data.targets)), *stream.tests[2:]]
    return dataclasses.replace(stream, tests=tests)


def moody(source) -> Stream:
    return changed("train", samples=torch.as_tensor(source()).float().reshape(30, 4))


X, Y = good().tasks[1].train.samples, good().tasks[1].train.targets
SABOTEURS = {
    "no stream": (lambda: [1, 2], "got list, which is not a Stream"),
    "torch's global seed": (lambda: moody(lambda: torch.rand(120)), "built twice"),
    "numpy's global seed": (lambda: moody(lambda: np.random.rand(120)), "built twice"),
    "python's global seed": (lambda: moody(lambda: [random.random() for _ in range(120)]), "built twice"),
    "an index twice": (lambda: changed("task", index=0), r"task indices \[0, 0, 2\]"),
    "names for other classes": (lambda: changed("stream", class_names=("a", "b")), "2 class names for 6 classes"),
    "no training data": (lambda: changed("train", samples=X[:0], targets=Y[:0]), "task 1 has an empty training set"),
    "no test data": (lambda: changed("test", samples=X[:0], targets=Y[:0]), "task 1 has an empty test set"),
    "a task with its test": (leaky, "task 0 carries 'test'"),
    "data in meta": (lambda: changed("task", meta={"hint": X}), "task 1 has meta that is not plain"),
    "a view into the test data": (view, "training data of task 1 is a view into the memory of its test data"),
    "another shape": (lambda: changed("train", samples=X[:, :3]), r"training samples of task 1 have shape \(3,\)"),
    "integers": (lambda: changed("val", samples=torch.ones(10, 4).long()), "validation inputs of task 1 are int64"),
    "NaN": (lambda: changed("test", samples=X[:20] * float("nan")), "test inputs of task 1 hold NaN"),
    "a random transform": (
        lambda: changed("test", transform=lambda x: x + torch.rand_like(x)),
        "transform of the test",
    ),
    "NumPy class ids": (lambda: changed("task", classes=(np.int64(2), np.int64(3))), "not Python integers"),
    "a class too many": (lambda: changed("task", classes=(2, 3, 6)), r"task 1 has classes \(2, 3, 6\)"),
    "int32 targets": (lambda: changed("train", targets=Y.int()), "training targets of task 1 are torch.int32"),
    "a foreign label": (lambda: changed("test", targets=torch.full((20,), 5)), "test data of task 1 has the label 5"),
    "training data in test": (
        lambda: changed("test", samples=X[:20], targets=Y[:20]),
        "20 of 20 test samples of task 1",
    ),
    "training data in validation": (
        lambda: changed("val", samples=X[:10], targets=Y[:10]),
        "10 of 10 validation samples",
    ),
    "task id at test": (lambda: as_class(Telling), r"query\(0, 1\) tells the task id, which the setting cil withholds"),
    "classes at test": (lambda: as_class(Narrowing), r"does not tell what the setting cil says"),
    "task id in training": (
        lambda: as_class(Showing, setting=dataclasses.replace(DIL, task_id_at_training=False)),
        "task 0 shows its index",
    ),
}


def test_a_good_stream_passes():
    assert check_stream(good) == check_stream(good()) == good().fingerprint
    for setting in ("til", "dil", "online", "task-free"):
        check_stream(good().with_setting(setting))
    x = np.random.RandomState(0).randint(0, 256, (90, 1, 5, 5)).astype(np.uint8)
    check_stream(lambda: permuted(from_arrays(x, np.arange(90) % 3), 2, name="p", val_fraction=0.1))


@pytest.mark.parametrize("saboteur", SABOTEURS)
def test_the_first_broken_rule_is_named(saboteur):
    make, says = SABOTEURS[saboteur]
    with pytest.raises(CarryoverError, match=says) as error:
        check_stream(make)
    assert "\n" not in str(error.value)


def test_checking_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    check_stream(good)
    assert torch.equal(torch.rand(1), want)


def test_a_simulator_as_a_test_is_not_looked_into():
    class Simulator:
        def __len__(self):
            return 5

        def score(self, predict, batch_size):
            return torch.ones(5, dtype=torch.bool)

        def digest(self):
            return "0" * 64

    stream = good()
    check_stream(dataclasses.replace(stream, tests=[Simulator()] * 3))


# -- settings -------------------------------------------------------------------------------------------------------


def test_a_query_counts_reads_of_the_task_id():
    stream = split(from_arrays(np.random.RandomState(0).rand(40, 3), np.arange(40) % 4), 2, name="s", setting="til")
    query = stream.query(1, 2)
    assert query.classes == (2, 3) and not query.open and query.task == 1 and query.reads["task_id"] == 1
    with pytest.raises(CarryoverError, match="withholds the task id"):
        _ = stream.with_setting("cil").query(1, 2).task
    assert stream.with_setting("cil").query(0, 1).classes == (0, 1)
    assert stream.with_setting("dil").query(0, 1).open


def test_settings_are_chosen_on_what_the_tasks_hold_out():
    options = {"n_tasks": 2, "val_fraction": 0.25}
    plain = load_stream("split-digits", **options)
    judged = load_stream("split-digits", **options, scored_on="validation")
    for task, other, test in zip(plain, judged, judged.tests, strict=True):
        assert torch.equal(test.data.samples, task.val.samples) and torch.equal(test.data.targets, task.val.targets)
        assert torch.equal(other.train.samples, task.train.samples)
    assert judged.fingerprint != plain.fingerprint and judged.meta["scored_on"] == "validation"
    assert not load_stream("mtil-mini", n_tasks=1, val_fraction=0.2, scored_on="validation").controls
    with pytest.raises(UsageError, match="holds no validation data"):
        load_stream("split-digits", scored_on="validation")
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        load_stream("split-digits", scored_on="validaton")
