"""Films: they show what was scored, cost no operations, outlive a stop, and are drawn without the stream."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import cache
from io import BytesIO

import matplotlib
import numpy as np
import pytest
import torch
from carryover.base.errors import InvalidError, MismatchError, StorageError, UsageError
from carryover.benchmarks.launch import run
from carryover.evaluation import run as loop
from carryover.evaluation.checkpoint import save_state
from carryover.evaluation.drawing import PALETTE
from carryover.evaluation.films import Take, due, load_films
from carryover.evaluation.folder import RunFolder
from carryover.evaluation.plots_films import animate_films, chosen, plot_films
from carryover.evaluation.record import unpack_evidence
from carryover.evaluation.run import run_seed
from carryover.strategies import load_strategy
from carryover.strategies.check import blob_stream
from carryover.streams import load_stream
from carryover.streams.core import CIL
from carryover.streams.film import Film
from carryover.streams.tabletop.attempts import inputs
from carryover.streams.tabletop.camera import render
from carryover.streams.tabletop.things import COLOURS
from carryover.streams.tabletop.world import World
from carryover.tests.terminal import call, one_line
from carryover.tests.toys import reaching
from PIL import Image

torch.set_num_threads(1)

SMALL = {"model": "bc-mlp", "model.hidden": [16], "steps": 4, "batch_size": 8}


@cache
def table(setting: str = "dil"):
    """Two tasks with three attempts of ten steps each."""
    stream = load_stream("libero-object-mini", n_tasks=2, attempts=3, demonstrations=4).with_setting(setting)
    tests = [replace(test, tasks=(replace(test.tasks[0], horizon=10),)) for test in stream.tests]
    return replace(stream, tests=tests, points=0)


def wandering(x: torch.Tensor) -> torch.Tensor:
    """Actions [B, 3] of a policy that reaches nothing, each by its own row."""
    return torch.sin(40 * x[:, -1, :3] + torch.arange(3))


def learnt(path=None, stream=None, **options):
    """A seed of fine-tuning, with films if there is a place for them."""
    strategy = load_strategy("finetune")(**SMALL)
    return run_seed(strategy, stream or table(), 0, films=path, **options)


def same(ours: list[Take], theirs: list[Take]) -> bool:
    """Bit for bit."""
    facts = [[(t.row, t.task, t.success, t.film.scene) for t in takes] for takes in (ours, theirs)]
    return facts[0] == facts[1] and all(
        torch.equal(a.film.shots, b.film.shots) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a record of two seeds, and the record."""
    folder = tmp_path_factory.mktemp("films") / "run"
    return folder, run("finetune", table(), seeds=2, out=folder, device="cpu", **SMALL)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_film_is_the_attempt_step_by_step(batch_size):
    test = table().tests[0].joined(table().tests[1:])
    right, films = test.watched(wandering, batch_size, [4, 1])
    assert torch.equal(right, test.score(wandering, batch_size))
    for film, case in zip(films, [4, 1], strict=True):
        world = World(test.tasks, test.rows[case : case + 1], test.states[case : case + 1])
        states = [world.state]
        while not world.over.all():
            world.step(wandering(inputs(world, test.said, test.things)[:, None]))
            states.append(world.state)
        assert torch.equal(film.shots, torch.cat(states))
        assert torch.equal(film.frames(40), torch.cat([render(World(test.tasks, world.task, s), 40) for s in states]))


def test_what_the_goal_is_about_is_where_it_is_seen():
    for test in table().tests:
        (film,) = test.watched(wandering, 64, [0])[1]
        ((x, y),) = film.subjects()[0].tolist()
        (subject,) = [e for e in test.tasks[0].entities if e.name == test.tasks[0].goal[0].subject]
        seen = film.frames(200)[0, :, int(200 * y), int(200 * x)]
        assert seen.tolist() == [round(255 * c) for c in COLOURS[subject.colour]]


def test_the_first_attempts_are_filmed_just_learnt_and_in_the_end():
    assert [due(seen, 3) for seen in range(4)] == [[], [0], [1], [0, 1, 2]]
    assert due(1, 1) == [0]


@pytest.mark.parametrize("setting", ["dil", "til"])
def test_a_run_keeps_films_and_is_the_same_run(setting, tmp_path, monkeypatch):
    """Also where test sets are scored one by one."""
    stream = table(setting)
    plain, evidence = learnt(stream=stream)
    monkeypatch.setattr(loop, "save_films", lambda path, stream, takes: kept.extend(takes))
    kept: list[Take] = []
    filmed, bits = learnt(tmp_path / "a", stream)
    assert filmed.result_digest() == plain.result_digest() and bits == evidence
    assert filmed.cost == plain.cost
    assert [(take.row, take.task) for take in kept] == [(1, 0), (2, 0), (2, 1)]
    rows = unpack_evidence(bits, [3, 3])
    for take in kept:
        assert take.success == bool(rows[take.row][3 * take.task])
        assert torch.equal(take.film.shots[0], stream.tests[take.task].states[0])


def test_stopped_anywhere_a_run_has_the_same_films(made, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    path, record = tmp_path / "c.safetensors", made[1]
    learnt(RunFolder(tmp_path / "whole").films(0))
    save, lives, done = loop.save_state, 0, None

    def save_and_die(*args):
        save(*args)
        raise Killed

    monkeypatch.setattr(loop, "save_state", save_and_die)
    while done is None and lives < 50:
        lives += 1
        with contextlib.suppress(Killed):
            done = learnt(RunFolder(tmp_path / "stopped").films(0), checkpoint=path, every=0.0)
    assert done is not None and lives > 8
    assert same(load_films(tmp_path / "stopped", record)[1], load_films(tmp_path / "whole", record)[1])


@pytest.mark.parametrize("stream", [blob_stream(CIL), reaching()], ids=["samples", "attempts that nobody watches"])
def test_where_nothing_can_be_watched_there_are_no_films(stream, tmp_path):
    settings = SMALL if stream.kind == "policy" else {}
    run("finetune", stream, seeds=1, out=tmp_path, device="cpu", **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence", "record.json"]


def test_films_stand_beside_the_record(made):
    folder, record = made
    assert sorted(path.name for path in folder.iterdir()) == ["evidence", "films", "record.json"]
    assert sorted(path.name for path in (folder / "films").iterdir()) == ["seed-0.safetensors", "seed-1.safetensors"]
    seed, takes = load_films(folder, record)
    assert seed == 0 and len(takes) == 3
    RunFolder(folder).films(0).rename(folder / "elsewhere")
    assert load_films(folder, record)[0] == 1
    (folder / "elsewhere").rename(RunFolder(folder).films(0))


def test_a_film_file_that_is_wrong_answers_in_one_line(made, tmp_path):
    _, record = made
    with pytest.raises(StorageError, match="holds no films"):
        load_films(tmp_path, record)
    path = RunFolder(tmp_path).films(0)
    for state in ({"stream": record.stream.fingerprint}, [1], {"stream": record.stream.fingerprint, "takes": [{}]}):
        save_state(path, state)
        with pytest.raises(InvalidError, match="is not a film file"):
            load_films(tmp_path, record)
    save_state(path, {"stream": "another", "takes": []})
    with pytest.raises(MismatchError, match="another stream than the record"):
        load_films(tmp_path, record)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidError, match="truncated or not a film file"):
        load_films(tmp_path, record)


# -- figures -----------------------------------------------------------------------------------------------------------


def short(made) -> list[Take]:
    """Films of task 0: 5 pictures and a success, then 9 and a failure; and of task 1, 3 pictures."""
    _, takes = load_films(*made)
    outcomes = zip(takes, [5, 9, 3], [True, False, True], strict=True)
    return [replace(t, success=good, film=replace(t.film, shots=t.film.shots[:n])) for t, n, good in outcomes]


def test_columns_of_a_strip_show_the_same_steps():
    assert chosen(22, 22) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert chosen(61, 22) == [0, 3, 6, 9, 12, 15, 18, 60]
    assert chosen(3, 3) == [0, 1, 2] and chosen(1, 1) == [0]


def test_a_strip_says_what_became_of_each_attempt(made):
    takes, record = short(made), made[1]
    figure = plot_films(record, 0, takes)
    texts = {text.get_text(): text for text in figure.texts}
    assert {f"{k}. {name}" for k, name in enumerate(record.stream.tasks, 1)} <= texts.keys()
    assert {"just learnt", "after all 2 tasks"} <= texts.keys()
    assert texts["success, 4 steps"].get_color() == PALETTE[2] != texts["failure, 8 steps"].get_color() == PALETTE[1]
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert labels == [*"01234", *"01238", *"012"]
    framed = [ax.spines["left"].get_visible() for ax in figure.axes]
    assert [label for label, on in zip(labels, framed, strict=True) if on] == ["4", "8", "2"]
    pictures = takes[1].film.frames(140).permute(0, 2, 3, 1).numpy()
    for ax, step in zip(figure.axes[5:10], [0, 1, 2, 3, 8], strict=True):
        assert np.array_equal(ax.images[0].get_array(), pictures[step])
        assert ax.patches[0].center == pytest.approx(takes[1].film.subjects()[step, 0].tolist())
    assert len(plot_films(record, 0, takes, [1]).axes) == 3
    with pytest.raises(UsageError, match="no film of task 3; there are some of 1, 2"):
        plot_films(record, 0, takes, [2])


def test_a_gif_runs_until_the_longest_film_is_over(made, tmp_path):
    path = animate_films(made[1], 0, short(made), [0], tmp_path)
    with Image.open(path) as gif:
        lasting = []
        for k in range(gif.n_frames):
            gif.seek(k)
            lasting.append(gif.info["duration"])
            assert gif.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert sum(lasting) == 8 * 100 + 2500 and lasting[-1] == 2500


def test_films_are_drawn_to_the_same_bytes(made, tmp_path):
    before = dict(matplotlib.rcParams)
    for folder in ("a", "b"):
        plot_films(made[1], 0, short(made), [1], tmp_path / folder)
        animate_films(made[1], 0, short(made), [1], tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["films.gif", "films.png", "films.svg"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert matplotlib.rcParams == before


def test_a_simulators_pictures_are_drawn_as_they_are(made):
    shots = torch.randint(0, 256, (4, 3, 10, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    take = Take(1, 0, True, Film(shots))
    figure = plot_films(made[1], 0, [take])
    assert np.array_equal(figure.axes[2].images[0].get_array(), shots[2].permute(1, 2, 0).numpy())
    assert not any(ax.patches for ax in figure.axes)
    assert not any("ring" in text.get_text() for text in figure.texts)


def test_plot_film_on_the_command_line(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("plot", made[0], "--film", "--tasks", "2", "--out", "figures")
    assert answer.out.splitlines() == [f"figures/films.{kind}" for kind in ("png", "svg", "gif")]
    with Image.open(BytesIO((tmp_path / "figures/films.png").read_bytes())) as strip:
        assert strip.size[0] > 3 * strip.size[1]  # one row of pictures
    one_line(call("plot", made[0], "--film", "--tasks", "3"), 2, "no film of task 3")
    one_line(call("plot", made[0], "--film", "--tasks", "1,x"), 2, "numbers from 1 on")
