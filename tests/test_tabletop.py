"""The table-top: the same bits in any batch, tasks that can be solved and not by chance, and what a policy is shown."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from carryover.base.errors import InvalidError, UsageError
from carryover.streams import load_stream
from carryover.streams.tabletop.camera import OUTLINES, render
from carryover.streams.tabletop.demonstrations import FLIP, TREMBLE, demonstrate
from carryover.streams.tabletop.expert import expert
from carryover.streams.tabletop.observe import FLAT, ROBOT, TOKEN, flat, looks, observe
from carryover.streams.tabletop.rollouts import roll_out
from carryover.streams.tabletop.scenes import generate
from carryover.streams.tabletop.starts import starts
from carryover.streams.tabletop.suites import ORDERS, SUITES, suite
from carryover.streams.tabletop.tasks import Predicate, parse, write
from carryover.streams.tabletop.things import SHAPES, VOCABULARY, tokens
from carryover.streams.tabletop.world import STEP, World

TENS = [name for name in SUITES if name != "libero-90-mini"]


@cache
def table(name: str, count: int = 50) -> World:
    """All tasks of a suite from all evaluation states, as one batch. Not to be stepped: select from it."""
    tasks = suite(name)
    states = torch.cat([starts(task, count=count) for task in tasks])
    return World(tasks, torch.arange(len(tasks)).repeat_interleave(count), states)


def fresh(name: str, count: int = 50) -> World:
    return table(name, count).select(torch.arange(len(table(name, count))))


def actions(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def trembling(a: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    flip = 1 - 2 * (torch.rand(len(a), 1, generator=g) < FLIP).float()
    return torch.cat([a[:, :2] + TREMBLE * torch.randn(len(a), 2, generator=g), a[:, 2:] * flip], 1)


def one(task, **changes) -> World:
    return World([dataclasses.replace(task, **changes)], torch.zeros(1, dtype=torch.int64), starts(task, count=1))


def move(world: World, point, grip: float, limit: int = 40) -> None:
    """Step until the gripper is at a point."""
    for _ in range(limit):
        off = torch.as_tensor(point) - world.grip
        if off.abs().max() < 1e-4:
            return
        world.step(torch.cat([(off / STEP).clamp(-1, 1), torch.full((len(world), 1), grip)], 1))
    raise AssertionError("the gripper did not get there")


# -- the world ------------------------------------------------------------------------------------------------------


def test_an_environment_does_not_depend_on_its_batch():
    """Bit for bit, alone or among 500 of other tasks, in another order, and continued from a state in the middle."""
    tried = actions(40, 500)
    tried[..., 2] = torch.where(tried[..., 2] > -0.6, 1.0, -1.0)  # mostly closed, so that things are taken and dropped
    world = fresh("libero-10-mini")
    rows = torch.tensor([437, 3, 251])
    few, alone = world.select(rows), world.select(rows[:1])
    for t in range(40):
        if t == 20:
            alone.load(few.state[:1])
        world.step(tried[t])
        few.step(tried[t, rows])
        alone.step(tried[t, rows[:1]])
    for other, mine in ((few, rows), (alone, rows[:1])):
        assert torch.equal(other.state, world.state[mine])
        assert all(torch.equal(a, b[mine]) for a, b in zip(observe(other), observe(world), strict=True))
        assert torch.equal(expert(other), expert(world)[mine])
        assert torch.equal(render(other), render(world.select(mine)))
    assert (world.state != table("libero-10-mini").state).any(1).all() and (world.held >= 0).any()


def test_things_are_taken_carried_and_put_down():
    task = next(t for t in suite("libero-goal-mini") if t.instruction == "put the bowl on the plate")
    world, bowl, plate = one(task), task.slot("bowl"), task.slot("plate")
    move(world, world.at[:, bowl], -1.0)
    world.step(torch.tensor([[0.0, 0.0, 1.0]]))
    assert world.held.item() == bowl
    move(world, world.at[:, plate], 1.0)
    assert torch.equal(world.at[:, bowl], world.grip) and not world.success.item()  # it is not there until let go
    world.step(torch.tensor([[0.0, 0.0, -1.0]]))
    assert world.success.item() and world.parent[0, bowl].item() == plate
    assert not world.graspable()[0, plate].item()  # what bears something stays where it is


def test_a_drawer_holds_what_lies_in_it_and_shut_keeps_it():
    task = next(t for t in suite("libero-10-mini") if t.instruction == "put the bowl in the drawer and close it")
    world, bowl, drawer = one(task), task.slot("bowl"), task.slot("drawer")
    seen = []
    while not world.success.item():
        world.step(expert(world))
        seen.append((world.joint[0, drawer].item(), (world.at[0, bowl] - world.at[0, drawer]).tolist()))
    inside = [off for joint, off in seen if world.parent[0, bowl].item() == drawer and joint < 0.5]
    assert len(inside) > 1 and torch.tensor(inside).std(0).max() < 1e-6  # it went along
    assert world.away[0, bowl].item() and not world.graspable()[0, bowl].item()
    world.step(torch.tensor([[0.0, 0.0, -1.0]]))
    assert not world.satisfied()[0].logical_not().any()


def test_a_knob_wants_to_be_held_and_springs_back():
    task = next(t for t in suite("libero-goal-mini") if t.instruction == "turn on the stove")
    world, knob = one(task), task.slot("knob")
    move(world, world.at[:, knob], -1.0)
    take, hold, let_go = torch.tensor([[[0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]], [[0.0, 0.0, -1.0]]])
    for action in (take, hold, hold):
        world.step(action)
    assert world.joint[0, knob].item() == 0.5 and torch.equal(world.grip, world.at[:, knob])
    world.step(let_go)
    assert world.joint[0, knob].item() == 0
    for action in (take, hold, hold, hold, hold):
        world.step(action)
    assert world.success.item()
    world.step(let_go)
    assert world.joint[0, knob].item() == 1  # on, it stays


@pytest.mark.parametrize("side, dx, dy", [("LeftOf", -1, 0), ("RightOf", 1, 0), ("FrontOf", 0, -1), ("Behind", 0, 1)])
def test_sides_are_seen_from_the_robot(side, dx, dy):
    task = suite("libero-goal-mini")[0]
    world = one(task, goal=(Predicate(side, "cream_cheese", "plate"),))
    cheese, plate, before = task.slot("cream_cheese"), task.slot("plate"), world.state  # nothing in the hand
    for sign, holds in ((1, True), (-1, False)):
        state = before.clone()
        state[0, 3 + 2 * cheese : 5 + 2 * cheese] = world.rest[0, plate] + 0.13 * sign * torch.tensor([dx, dy])
        world.load(state)
        assert world.satisfied().all().item() == holds
        world.held = torch.tensor([cheese])
        assert not world.satisfied().all().item()  # not while it is in the hand
    for off, holds in ((0.02, True), (0.03, False)):  # narrower than where things are put in
        for way in ((off, 0), (0, -off)):
            state = before.clone()
            state[0, 3 + 2 * cheese : 5 + 2 * cheese] = world.rest[0, plate] + world.shift[0, 0] + torch.tensor(way)
            world.load(state)
            assert world.satisfied().all().item() == holds


# -- tasks ----------------------------------------------------------------------------------------------------------


def test_suites_have_their_sizes_and_lose_nothing_in_text():
    every = [task for name in SUITES for task in suite(name)]
    assert [len(suite(name)) for name in SUITES] == [10, 10, 10, 10, 90]
    assert len({task.name for task in every}) == 130
    assert all(parse(write(task)) == task for task in [*every, *(generate(i, 2) for i in range(20))])
    assert all(len(set(order)) == 10 for order in ORDERS) and len(set(ORDERS)) == 21 and ORDERS[0] == tuple(range(10))


def test_a_text_that_is_not_a_task_is_one_line():
    text = write(suite("libero-goal-mini")[4])
    for broken in (
        text[:-4],
        text.replace("(On bowl", "(Under bowl"),
        text.replace(":horizon", ":limit"),
        "",
        text + ")",
    ):
        with pytest.raises((InvalidError, UsageError)) as caught:
            parse(broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not about"):
        parse(text.replace("(On bowl cabinet)", "(On bowl knob)"))
    with pytest.raises(UsageError, match="libero-goal-mini"):
        suite("libero-goals-mini")


def test_initial_states_are_functions_of_task_seed_and_purpose():
    task = suite("libero-spatial-mini")[2]
    mine = starts(task)
    torch.manual_seed(1)
    assert torch.equal(mine, starts(task))
    assert torch.equal(mine[:7], starts(task, count=7)) and torch.equal(mine, starts(task, count=60)[:50])
    others = [starts(task, "demonstrations"), starts(task, seed=1), starts(suite("libero-spatial-mini")[3])]
    rows = torch.cat([mine, *others])
    assert len(rows.unique(dim=0)) == 200 == len(rows)


@pytest.mark.parametrize("name", SUITES)
def test_the_expert_succeeds_in_time_and_chance_does_not(name):
    world = fresh(name, 50 if name in TENS else 20)
    partly = world.satisfied() & (world.test > 0)
    assert not partly.any()  # no part of the goal is given
    success, steps = roll_out(world, expert)
    assert success.all()
    assert (steps.float() / world.horizon).max() < 0.8
    g = torch.Generator().manual_seed(0)
    assert roll_out(world, lambda left: trembling(expert(left), g))[0].all()
    at_random = roll_out(world, lambda left: torch.rand(len(left), 3, generator=g) * 2 - 1)[0]
    assert at_random.sum() <= (1 if name in TENS else 2)  # of 500, of 1,800


def test_generated_tasks_can_be_solved():
    tasks = [generate(seed, 1 + seed % 2) for seed in range(50)]
    assert generate(7) == generate(7) and len({task.instruction for task in tasks}) > 45
    world = World(tasks, torch.arange(50).repeat_interleave(4), torch.cat([starts(task, count=4) for task in tasks]))
    assert roll_out(world, expert)[0].all()
    assert tokens(task.instruction for task in tasks).max() < len(VOCABULARY)


def test_the_bowls_of_spatial_look_the_same_and_the_words_decide():
    """The same 50 scenes, the words of one task or of another: what is right for the one is wrong for the other."""
    by_words = {task.instruction: task for task in suite("libero-spatial-mini")}
    task, states = (
        by_words["put the bowl on the stove on the plate"],
        starts(by_words["put the bowl on the stove on the plate"]),
    )
    bowls = [task.slot(f"bowl_{n}") for n in (1, 2)]
    token = observe(World([task], torch.zeros(50, dtype=torch.int64), states))[1][:, bowls, 9:]
    assert torch.equal(token[:, 0], token[:, 1]) and token[:, 0].any()

    where = states[:, -12 + torch.tensor(bowls)].int()
    assert len(where[:, 1].unique()) == 5  # on the table or in one of four: the scene does not tell the task
    both = states[where[:, 1] == task.slot("cabinet")]
    rows = torch.zeros(len(both), dtype=torch.int64)
    other = dataclasses.replace(task, goal=(Predicate("On", "bowl_2", "plate"),))  # "the bowl on the cabinet"
    for mine, theirs in ((task, other), (other, task)):
        world, judge = World([mine], rows, both), World([theirs], rows, both)
        while not world.success.all():
            a = expert(world)
            world.step(a)
            judge.step(a)
        assert len(both) > 2 and not judge.success.any()


# -- demonstrations and observations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, number", [("libero-goal-mini", 3), ("libero-10-mini", 3), ("libero-spatial-mini", 5)])
def test_demonstrations_replay_bit_for_bit(name, number):
    demos = demonstrate(suite(name)[number])
    assert len(demos) == 50 and demos.lengths.sum() == len(demos.actions) == len(demos.entities)
    episodes = list(demos.episodes())
    initial = demos.states[[rows.start for rows in episodes]]
    assert torch.equal(initial, starts(demos.task, "demonstrations"))
    for d in (0, 17, 49):
        rows = episodes[d]
        world = World([demos.task], torch.zeros(1, dtype=torch.int64), initial[d : d + 1])
        for t in range(rows.start, rows.stop):
            robot, entities = observe(world)
            assert torch.equal(robot[0], demos.robot[t]) and torch.equal(entities[0], demos.entities[t])
            assert torch.equal(expert(world)[0], demos.actions[t])  # the label, not what was done
            assert not world.success.item()
            world.step(demos.executed[t : t + 1])
        assert world.success.item()
    off = (demos.executed - demos.actions)[:, :2]
    assert 0.1 < off.std() < 0.3  # clipped at full actions
    assert 0.005 < (demos.executed[:, 2] != demos.actions[:, 2]).float().mean() < 0.04


def test_noise_free_demonstrations_do_as_they_say():
    demos = demonstrate(suite("libero-object-mini")[0], count=5, noise=0)
    assert torch.equal(demos.states, demonstrate(demos.task, count=9, noise=0).states[: len(demos.states)])
    assert torch.equal(demos.actions, demos.executed) and demos.lengths.max() < 30
    with pytest.raises(InvalidError, match="longer horizon"):
        demonstrate(dataclasses.replace(demos.task, horizon=5), count=2)


def test_tokens_are_laid_out_as_documented():
    world = table("libero-goal-mini")
    robot, entities = observe(world)
    assert (
        robot.shape == (500, ROBOT)
        and entities.shape == (500, 12, TOKEN)
        and flat(robot, entities).shape == (500, FLAT)
    )
    off = world.at - world.grip[:, None]
    there = world.kind < 5
    assert torch.equal(entities[there][:, :2], 2 * off[there])
    assert torch.equal(entities[there][:, 2:4], (10 * off[there]).clamp(-1, 1))
    assert not entities[~there].any() and (~there).any()
    assert torch.equal(entities[..., 9:14].argmax(2)[there], world.kind[there])
    assert len(looks().flatten(0, 1).unique(dim=0)) == looks().shape[0] * looks().shape[1]
    ids = tokens(["open the left drawer", "turn on the stove"])
    assert [VOCABULARY[i] for i in ids[0, :5]] == ["open", "the", "left", "drawer", ""]
    with pytest.raises(UsageError, match="drawer"):
        tokens(["open the drawr"])


def test_pictures_show_what_matters():
    assert list(OUTLINES)[: len(SHAPES)] == list(SHAPES)
    world = fresh("libero-goal-mini").select(torch.arange(0, 500, 50))
    x = render(world)
    assert x.shape == (10, 3, 64, 64) and x.dtype == torch.uint8 and render(world, 32).shape == (10, 3, 32, 32)
    assert len(x.flatten(1).unique(dim=0)) == 10
    task = suite("libero-goal-mini")[0]
    knob, drawer = 3 + 24 + task.slot("knob"), 3 + 24 + task.slot("left_drawer")
    for change in ({knob: 1.0}, {drawer: 1.0}, {2: float(task.slot("bowl"))}):  # on, open, in the hand
        state = world.state.clone()
        for column, value in change.items():
            state[:, column] = value
        world_, before = world.select(torch.arange(10)), x
        world_.load(state)
        assert (render(world_) != before).flatten(1).any(1).all()


@pytest.mark.parametrize("history", [1, 3])
def test_frames_are_what_was_seen_up_to_each_action(history):
    """At first the first one several times; of twice the weight where the grip changes; held out are the last."""
    stream = load_stream("libero-goal-mini", n_tasks=2, demonstrations=4, val_fraction=0.25, history=history)
    for spec, task, test in zip(suite("libero-goal-mini"), stream.tasks, stream.tests, strict=False):
        shown, x, y = demonstrate(spec, 4), [], []
        seen = flat(shown.robot, shown.entities[:, : test.things])
        seen = torch.cat([seen, test.said.expand(len(seen), -1)], 1)
        for rows in shown.episodes():
            closed = False
            for t in range(rows.start, rows.stop):
                x.append(torch.stack([seen[max(t - back, rows.start)] for back in reversed(range(history))]))
                changes = closed != bool(shown.actions[t, 2] > 0)
                closed ^= changes
                y.append([*shown.actions[t].tolist(), 1.0 + changes])
        held = len(x) - int(shown.lengths[-1])
        for part, own in ((task.train, slice(held)), (task.val, slice(held, None))):
            assert torch.equal(part.samples, torch.stack(x[own]))
            assert torch.equal(part.targets, torch.tensor(y[own]))
        assert {2.0, 1.0} == {row[3] for row in y}


@pytest.mark.parametrize("more", [{}, {"observe": "camera", "camera_size": 16}])
def test_who_acts_as_in_a_demonstration_is_shown_what_it_shows(more):
    """Step by step, with what was before: windows of the loop are those that are learnt from."""
    options = {"n_tasks": 1, "demonstrations": 2, "val_fraction": 0.5, "history": 3}
    stream = load_stream("libero-goal-mini", **options, **more)
    shown, asked, held = demonstrate(suite("libero-goal-mini")[0], 2), [], stream.tasks[0].val
    done = iter(shown.executed[int(shown.lengths[0]) :])
    assert stream.held_tests[0].score(lambda x: (asked.append(x), next(done)[None])[1]).all()
    assert torch.equal(torch.cat(asked), held.prepare(held.samples)) and next(done, None) is None


def test_a_digest_covers_all_that_attempts_depend_on():
    test = load_stream("libero-goal-mini", n_tasks=1, attempts=2).tests[0]
    other = {
        "tasks": (dataclasses.replace(test.tasks[0], horizon=9),), "rows": test.rows + 1, "states": test.states + 1,
        "said": test.said + 1, "things": 1, "history": 2, "camera": 16,
    }  # fmt: skip
    assert set(other) == {field.name for field in dataclasses.fields(test)}
    digests = {dataclasses.replace(test, **{name: value}).digest() for name, value in other.items()}
    assert len(digests | {test.digest()}) == len(other) + 1


def test_settings_are_chosen_by_attempts_from_where_held_out_demonstrations_began():
    plain = load_stream("libero-goal-mini", n_tasks=2, demonstrations=10, val_fraction=0.3)
    judged = load_stream("libero-goal-mini", n_tasks=2, demonstrations=10, val_fraction=0.3, scored_on="validation")
    assert judged.test_sizes == [3, 3] and judged.fingerprint != plain.fingerprint
    assert judged.meta["scored_on"] == "validation" and "scored_on" not in plain.meta
    assert [task.train.digest() for task in judged.tasks] == [task.train.digest() for task in plain.tasks]
    for spec, test, seen in zip(suite("libero-goal-mini"), judged.tests, plain.tests, strict=False):
        assert test.states.equal(starts(spec, "demonstrations", 10)[7:])
        assert not (test.states[:, None] == seen.states).all(2).any()
    with pytest.raises(UsageError, match="holds none out"):
        load_stream("libero-goal-mini", n_tasks=1, val_fraction=0, scored_on="validation")
