"""The suites of ten tasks, after those of LIBERO (Liu et al., 2023, arXiv 2306.03310): what varies, and in which words.

Spatial: two bowls that look the same, told apart by where they are. Object: which of ten things goes into the basket.
Goal: one table, ten things to do there. 10: two steps, on different tables. The scenes are our own.
"""

from __future__ import annotations

from collections.abc import Callable

from ...base.errors import unknown
from ...base.seeds import frozen_random
from .scenes import ninety
from .tasks import Entity, Predicate, TaskSpec
from .things import at, by, on, thing

HORIZON, LONG = 60, 100

# the 21 orders of LIBERO's suites of ten, a digit a task; the first is the natural one
ORDERS = tuple(
    tuple(map(int, order))
    for order in (
        "0123456789", "4687312095", "6350429187", "7430812596", "4563802719", "1230695748", "3781629405",
        "4297685130", "1854096723", "8364951207", "6905712834", "6831025974", "8069417325", "3864250719",
        "7156328940", "2095368714", "3596248710", "7659034281", "2509316487", "3512786049", "3419768205",
    )
)  # fmt: skip


def spatial() -> tuple[TaskSpec, ...]:
    """Put the bowl that stands ... on the plate. The other bowl stands at one of the nine other spots."""
    places = {
        "between the plate and the ramekin": by("plate", -0.23, -0.01, 0.012),
        "next to the ramekin": by("ramekin", 0.01, -0.14, 0.012),
        "in the middle of the table": at(0.47, 0.59, 0.015),
        "on the cookie box": on("cookie_box"),
        "in the drawer": on("drawer"),
        "on the ramekin": on("ramekin"),
        "next to the cookie box": by("cookie_box", -0.14, 0.01, 0.012),
        "on the stove": on("stove", 0.015),
        "next to the plate": by("plate", 0.15, 0.01, 0.012),
        "on the cabinet": on("cabinet", 0.015),
    }
    scene = [
        thing("cabinet", at(0.2, 0.86, 0.01)),
        thing("drawer", by("cabinet", 0, -0.11), opened=True),
        thing("stove", at(0.82, 0.82, 0.01)),
        thing("plate", at(0.68, 0.42, 0.015)),
        thing("ramekin", at(0.22, 0.4, 0.015)),
        thing("cookie box", at(0.84, 0.2, 0.015)),
    ]
    tasks = []
    for words, place in places.items():
        others = [p for p in places.values() if p != place]
        bowls = [thing("bowl", place, symbol="bowl_1"), thing("bowl", *others, symbol="bowl_2")]
        said = f"put the bowl {words} on the plate"
        tasks.append(_task("spatial", said, [*scene, *bowls], [Predicate("On", "bowl_1", "plate")]))
    return tuple(tasks)


def objects() -> tuple[TaskSpec, ...]:
    """Put one of six things into the basket; the other five are drawn for each task."""
    names = ("soup", "cream cheese", "salad dressing", "barbecue sauce", "ketchup", "tomato sauce", "butter", "milk",
             "pudding", "juice")  # fmt: skip
    tasks = []
    for name in names:
        others = frozen_random("tabletop others", name).permutation([n for n in names if n != name])[:5]
        scene = [thing("basket", at(0.5, 0.84, 0.03, 0.02))]
        scene += [thing(str(n), at(0.5, 0.47, 0.4, 0.2)) for n in (name, *others)]
        goal = [Predicate("In", _symbol(name), "basket")]
        tasks.append(_task("object", f"put the {name} in the basket", scene, goal))
    return tuple(tasks)


def goals() -> tuple[TaskSpec, ...]:
    """Ten things to do on one table."""
    scene = [
        thing("cabinet", at(0.22, 0.86, 0.01)),
        thing("left drawer", by("cabinet", -0.07, -0.11)),
        thing("right drawer", by("cabinet", 0.07, -0.11)),
        thing("rack", at(0.52, 0.86, 0.01)),
        thing("stove", at(0.78, 0.82, 0.01)),
        thing("knob", by("stove", 0.14, 0)),
        thing("plate", at(0.6, 0.3, 0.04)),
        thing("bowl", at(0.47, 0.47, 0.04)),
        thing("wine bottle", at(0.28, 0.34, 0.04)),
        thing("cream cheese", at(0.78, 0.42, 0.04)),
    ]
    wanted = {
        "open the left drawer": Predicate("Open", "left_drawer"),
        "put the bowl on the stove": Predicate("On", "bowl", "stove"),
        "put the wine bottle on the cabinet": Predicate("On", "wine_bottle", "cabinet"),
        "open the right drawer and put the bowl in it": Predicate("In", "bowl", "right_drawer"),
        "put the bowl on the cabinet": Predicate("On", "bowl", "cabinet"),
        "move the plate in front of the stove": Predicate("FrontOf", "plate", "stove"),
        "put the cream cheese in the bowl": Predicate("In", "cream_cheese", "bowl"),
        "turn on the stove": Predicate("TurnOn", "knob"),
        "put the bowl on the plate": Predicate("On", "bowl", "plate"),
        "put the wine bottle on the rack": Predicate("On", "wine_bottle", "rack"),
    }
    return tuple(_task("goal", said, scene, [goal], shuffle="goal") for said, goal in wanted.items())


def ten() -> tuple[TaskSpec, ...]:
    """Two steps each, in the order of LIBERO-10."""
    baskets, (turn, drawer, pots, oven), (mugs, caddy, pudding) = _groceries(), _kitchen(), _living()
    return (*baskets[:2], turn, drawer, mugs, caddy, pudding, baskets[2], pots, oven)


def _groceries() -> list[TaskSpec]:
    stock = ("soup", "tomato sauce", "cream cheese", "butter", "milk", "ketchup")
    scene = [thing("basket", at(0.5, 0.84, 0.03, 0.02)), *(thing(n, at(0.5, 0.47, 0.4, 0.2)) for n in stock)]
    tasks = []
    for pair in (("soup", "tomato sauce"), ("cream cheese", "butter"), ("soup", "cream cheese")):
        goal = [Predicate("In", _symbol(name), "basket") for name in pair]
        tasks.append(_task("10", f"put both the {pair[0]} and the {pair[1]} in the basket", scene, goal, LONG))
    return tasks


def _kitchen() -> list[TaskSpec]:
    stove = [thing("stove", at(0.75, 0.82, 0.02)), thing("knob", by("stove", 0.14, 0))]
    cabinet = [thing("cabinet", at(0.25, 0.86, 0.02)), thing("drawer", by("cabinet", 0, -0.11), opened=True)]
    oven = [thing("microwave", at(0.3, 0.74, 0.02), opened=True)]
    front = at(0.5, 0.38, 0.3, 0.1)
    pots = [thing("moka pot", front, symbol=f"moka_pot_{n}") for n in (1, 2)]
    pot, bowl, bottle, plate = (thing(n, front) for n in ("moka pot", "bowl", "wine bottle", "plate"))
    white, yellow = thing("white mug", front), thing("yellow mug", front)
    return [
        _task("10", "turn on the stove and put the moka pot on it", [*stove, *cabinet, pot, bowl, plate],
              [Predicate("TurnOn", "knob"), Predicate("On", "moka_pot", "stove")], LONG),
        _task("10", "put the bowl in the drawer and close it", [*cabinet, bowl, bottle, plate],
              [Predicate("In", "bowl", "drawer"), Predicate("Close", "drawer")], LONG),
        _task("10", "put both moka pots on the stove", [*stove, *pots, plate, white],
              [Predicate("On", f"moka_pot_{n}", "stove") for n in (1, 2)], LONG),
        _task("10", "put the yellow mug in the microwave and close it", [*oven, *stove, yellow, white, bowl],
              [Predicate("In", "yellow_mug", "microwave"), Predicate("Close", "microwave")], LONG),
    ]  # fmt: skip


def _living() -> list[TaskSpec]:
    front = at(0.5, 0.32, 0.35, 0.08)
    plates = [thing("plate", at(x, 0.68, 0.03), symbol=f"{side}_plate") for x, side in ((0.3, "left"), (0.7, "right"))]
    plate = thing("plate", at(0.5, 0.66, 0.05))
    caddy = [thing("back compartment", at(0.6, 0.85, 0.03, 0.01)),
             thing("front compartment", by("back_compartment", 0, -0.16))]  # fmt: skip
    white, yellow, pudding, book, pen = (thing(n, front) for n in ("white mug", "yellow mug", "pudding", "book", "pen"))
    return [
        _task("10", "put the white mug on the left plate and the yellow mug on the right plate",
              [*plates, white, yellow, pudding],
              [Predicate("On", "white_mug", "left_plate"), Predicate("On", "yellow_mug", "right_plate")], LONG),
        _task("10", "put the book in the back compartment and the pen in the front compartment",
              [*caddy, book, pen, yellow],
              [Predicate("In", "book", "back_compartment"), Predicate("In", "pen", "front_compartment")], LONG),
        _task("10", "put the white mug on the plate and the pudding right of the plate",
              [plate, white, pudding, yellow],
              [Predicate("On", "white_mug", "plate"), Predicate("RightOf", "pudding", "plate")], LONG),
    ]  # fmt: skip


SUITES: dict[str, Callable[[], tuple[TaskSpec, ...]]] = {
    "libero-spatial-mini": spatial,
    "libero-object-mini": objects,
    "libero-goal-mini": goals,
    "libero-10-mini": ten,
    "libero-90-mini": ninety,
}


def suite(name: str) -> tuple[TaskSpec, ...]:
    """The tasks of a suite in their natural order."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]()


def _task(
    kind: str, said: str, scene: list[Entity], goal: list[Predicate], horizon: int = HORIZON, shuffle: str = ""
) -> TaskSpec:
    """A task whose entities stand in an order that does not tell which of them it is about."""
    order = frozen_random("tabletop slots", kind, shuffle or said).permutation(len(scene))
    name = f"{kind}/{said.replace(' ', '-')}"
    return TaskSpec(name, said, tuple(scene[i] for i in order), tuple(goal), horizon)


def _symbol(name: str) -> str:
    return name.replace(" ", "_")
