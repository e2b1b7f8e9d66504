"""What papers report: read with care, true to the papers' own matrices, and shown beside a ranking, never in it."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from carryover.base.errors import CarryoverError, InvalidError, UsageError
from carryover.benchmarks.launch import RunSpec
from carryover.benchmarks.protocol import SCORES, Published, load_benchmark, names, read_benchmark
from carryover.evaluation.metrics import compute
from carryover.leaderboard.chart import Point, front, scatter
from carryover.leaderboard.pages import collect
from carryover.leaderboard.rules import find_manifest
from carryover.leaderboard.scores import Measure, quoted
from carryover.leaderboard.site import build_site
from carryover.leaderboard.store import Board
from carryover.leaderboard.submission import make_submission
from carryover.streams.mtil import ORDERS
from carryover.streams.sources.mtil import DOMAINS
from carryover.tests.boards import BENCH, enter, make_run
from carryover.tests.terminal import call, one_line

REAL = ("mtil", "mtil-order-ii", "x-tail", "zscl-cifar100", "zscl-tinyimagenet")
PERMUTED = [9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2]  # order II by places in order I
HALF_A_DIGIT = 0.05 + 1e-9
# Of the results that come with ZSCL's code: CLIP before training, and its last row in order I.
ZERO_SHOT = [24.3, 88.4, 68.2, 44.6, 54.9, 71.0, 88.5, 59.4, 89.0, 64.7, 65.2]
LAST_ROW = [40.6, 92.2, 81.3, 70.5, 94.8, 90.5, 91.9, 98.7, 93.9, 85.3, 80.2]
# ZSCL in order II, after each task on each.
MATRIX = [
    [85.660987, 88.332673, 60.05, 86.672118, 70.580582, 64.663694, 23.042304, 88.421659, 45.106383, 56.462963, 67.64],
    [85.835095, 92.388119, 55.00, 85.745435, 68.645308, 65.624569, 21.692169, 88.709677, 45.478723, 55.629630, 67.68],
    [84.243253, 91.829703, 98.96, 81.575361, 65.148805, 64.263712, 20.432043, 88.133641, 44.946809, 53.796296, 67.05],
    [83.745803, 91.928713, 98.84, 95.175797, 68.059847, 64.539561, 20.312031, 88.536866, 44.202128, 56.518519, 68.62],
    [82.539485, 91.821782, 98.75, 94.576179, 96.031875, 65.040688, 20.072007, 88.479263, 44.734043, 55.240741, 68.34],
    [82.626539, 91.762376, 98.65, 94.221859, 94.080338, 80.290561, 21.002100, 89.055300, 46.489362, 57.685185, 69.04],
    [78.870787, 91.259406, 98.55, 92.995367, 91.039193, 79.053837, 55.445545, 86.347926, 45.691489, 53.555556, 66.76],
    [78.883223, 91.354455, 98.47, 92.995367, 90.551309, 78.828560, 47.974797, 92.338710, 45.904255, 54.166667, 68.84],
    [79.318493, 91.097030, 98.43, 92.095939, 90.974142, 78.525125, 47.944794, 92.165899, 76.914894, 53.425926, 68.89],
    [78.485263, 90.914851, 98.36, 92.341237, 89.786957, 78.230886, 46.594659, 92.108295, 74.680851, 97.814815, 69.45],
    [78.224101, 91.140594, 97.56, 92.532025, 87.428850, 78.249276, 45.034503, 92.338710, 72.659574, 96.185185, 86.30],
]  # fmt: skip


def row_of(benchmark: str, method: str) -> dict[str, float]:
    return next(row.scores for row in load_benchmark(benchmark).published if row.method == method)


def reached(rows: list[list[float]]) -> dict[str, float]:
    """Metrics of MTIL in percent, of rows after each task."""
    R = torch.tensor([[float("nan")] * len(rows), *rows], dtype=torch.float64)
    return {name: value.item() for name, value in compute(R, load_benchmark("mtil").scores).items()}


# -- the figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "transfer"), [("mtil", 69.39), ("mtil-order-ii", 65.35)])
def test_a_frozen_model_scores_what_is_published_of_zero_shot(name, transfer):
    row = ZERO_SHOT if name == "mtil" else [ZERO_SHOT[i] for i in PERMUTED]
    ours = reached([row] * 11)
    assert ours == pytest.approx({"transfer_mtil": transfer, "avg_mtil": 718.2 / 11, "last": 718.2 / 11}, abs=1e-9)
    assert row_of(name, "Zero-shot CLIP") == pytest.approx(ours, abs=HALF_A_DIGIT)  # 65.35 is printed as 65.4


def test_the_matrix_behind_a_published_row_scores_it():
    ours = reached(MATRIX)
    assert ours == pytest.approx(row_of("mtil-order-ii", "ZSCL"), abs=HALF_A_DIGIT)
    assert round(ours["avg_mtil"], 1) == 74.5 != round(sum(map(sum, zip(*MATRIX[:10], strict=True))) / 110, 1)


def test_the_last_row_in_order_one_averages_to_what_is_published():
    assert round(sum(LAST_ROW) / 11, 1) == 83.6 == row_of("mtil", "ZSCL")["last"]


def test_order_two_is_the_published_permutation():
    assert ORDERS["II"] == tuple(ORDERS["I"][i] for i in PERMUTED)


# -- the benchmarks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_the_recipe_is_the_published_one(name):
    benchmark = load_benchmark(name)
    zscl = RunSpec("zscl", name).make().config
    assert (zscl.model, zscl.model_options["tag"], zscl.batch_size) == ("clip-b16", "openai", 64)
    assert (zscl.optimizer, zscl.weight_decay, zscl.schedule, zscl.label_smoothing) == ("adamw", 0, "cosine", 0.2)
    if benchmark.options["setting"] == "cil":
        assert (zscl.epochs, zscl.steps, zscl.every, zscl.consolidation, zscl.compete) == (1, 0, 10, 0, "task")
        assert zscl.image_distillation == zscl.text_distillation == 5
        steps = 79 if name == "zscl-cifar100" else 157  # 5,000 and 10,000 images in batches of 64
        assert round(zscl.warmup * steps) == 30
    else:
        assert (zscl.steps, round(zscl.warmup * zscl.steps), zscl.lr, zscl.every) == (1001, 100, 1e-5, 100)
        assert (zscl.consolidation, zscl.image_distillation, zscl.text_distillation) == (1, 1, 1)
    assert zscl.temperature == 2 and zscl.reference != "generated", "made for the small stand-in"


@pytest.mark.parametrize(("name", "order"), [("mtil", "I"), ("mtil-order-ii", "II")])
def test_test_sizes_are_those_of_the_data_sets(name, order):
    benchmark = load_benchmark(name)
    assert benchmark.options["order"] == order and len(benchmark.published) == 8
    assert benchmark.manifest.test_sizes == [DOMAINS[domain].test for domain in ORDERS[order]]


def test_what_is_published_is_listed_without_a_board():
    listed = {row["name"]: row for row in json.loads(call("list", "benchmarks", "--json").out)}
    assert listed["mtil"]["scores"] == ["avg_mtil", "transfer_mtil", "last"]
    assert listed["mtil"]["published"][-1]["scores"] == {"transfer_mtil": 68.1, "avg_mtil": 75.4, "last": 83.6}
    assert listed["split-digits"]["published"] == [] and listed["split-digits"]["scores"] == list(SCORES)


# -- the files -------------------------------------------------------------------------------------------------------

ROW = """
[[published]]
method = "ZSCL"
source = "A paper, table 1"
url = "https://example.org/1"
scores = { avg_mtil = 75.4, bwt = -3.5 }
"""
HEAD = 'stream = "split-digits"\nscores = ["avg_mtil", "bwt"]\n'


def read(folder: Path, text: str):
    (folder / "mine.toml").write_text(text)
    return read_benchmark(folder / "mine.toml")


def test_a_file_with_a_published_row_is_read(tmp_path):
    mine = read(tmp_path, HEAD + ROW)
    assert mine.published == [
        Published("ZSCL", "A paper, table 1", "https://example.org/1", {"avg_mtil": 75.4, "bwt": -3.5})
    ]
    assert mine.scores == ["avg_mtil", "bwt"] and read(tmp_path, 'stream = "x"').scores == list(SCORES)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("bwt = -3.5", "acg_mtil = 3.5", "Did you mean 'avg_mtil'"),
        ("bwt = -3.5", "last = 3.5", "add it to `scores`"),
        ("bwt = -3.5", "bwt = -100.5", "between -100 and 100"),
        ("75.4", "100.1", "between 0 and 100"),
        ("75.4", "-0.1", "between 0 and 100"),
        ("75.4", "nan", "finite"),
        ("75.4", "inf", "finite"),
        ("75.4", '"75.4"', "valid number"),
        ("75.4", "true", "valid number"),
        ("{ avg_mtil = 75.4, bwt = -3.5 }", "{}", "at least 1"),
        ("https://example.org", "http://example.org", "plain https"),
        ("https://example.org", "javascript:alert", "plain https"),
        ('method = "ZSCL"', 'method = ""', "at least 1 character"),
        ('source = "A paper, table 1"', "", "source"),
        ('method = "ZSCL"', 'method = "ZSCL"\nrank = 1', "rank"),
        ('"avg_mtil", "bwt"', '"avg_mtli", "bwt"', "Did you mean 'avg_mtil'"),
        ('"avg_mtil", "bwt"', '"bwt", "avg_mtil"', "Name an accuracy first"),
        ('"avg_mtil", "bwt"', '"avg_mtil", "bwt", "bwt"', "named twice"),
        ('"avg_mtil", "bwt"', '"avg_mtil", "bwt", "omega_hayes"', "needs offline"),
        ('"avg_mtil", "bwt"', "", "at least 1"),
    ],
)
def test_what_is_wrong_in_a_file_answers_in_one_line(tmp_path, old, new, says):
    assert old in HEAD + ROW
    with pytest.raises((InvalidError, UsageError)) as caught:
        read(tmp_path, (HEAD + ROW).replace(old, new, 1))
    text = str(caught.value)
    assert isinstance(caught.value, CarryoverError) and "mine.toml" in text and says in text and "\n" not in text


def test_the_command_line_says_it_in_one_line(tmp_path):
    (tmp_path / "mine.toml").write_text(HEAD + ROW.replace("bwt =", "bwd ="))
    answer = call("run", "finetune", tmp_path / "mine.toml", "--out", tmp_path / "out")
    one_line(answer, 2, "mine.toml: published: ZSCL:", "Did you mean 'bwt'")


@pytest.mark.parametrize("name", [name for name in names() if load_benchmark(name).published])
def test_shipped_rows_are_told_apart_and_have_the_main_score(name):
    benchmark = load_benchmark(name)
    methods = [row.method for row in benchmark.published]
    assert len(set(methods)) == len(methods)
    assert all(benchmark.scores[0] in row.scores for row in benchmark.published)


# -- the page --------------------------------------------------------------------------------------------------------

QUOTED = [
    Published("Weak <b>", "A paper", "https://example.org/a?x=1&y=2", {"avg_mtil": 12.0, "bwt": 1.5}),
    Published("No main score", "A paper", "https://example.org/a", {"bwt": -0.25}, "half a row"),
    Published("Strong", "Another", "https://example.org/b", {"avg_mtil": 99.5}),
]
MTIL = replace(BENCH, scores=["avg_mtil", "bwt"], published=QUOTED)


def fill(folder: Path, **changes) -> Board:
    """A board on which order by the last row and by the mean of all rows differ."""
    board = Board(folder / "board")
    enter(board, folder / "1", "ada", "Keeps", 1, skill=0.62, memory=1.0, **changes)
    enter(board, folder / "2", "bob", "Loses", 2, skill=0.98, memory=0.62, **changes)
    return board


class Tables(HTMLParser):
    """Text of the cells of every table, row by row, under the id of the section that it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.section, self.rows, self.cell, self.links = "", {}, None, {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if tag == "section":
            self.section = told.get("aria-labelledby", "")
        elif tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "a":
            self.links.setdefault(self.section, []).append(told.get("href"))

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[self.section][-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += f" {data}"


def page_of(folder: Path, manifest=MTIL, **changes) -> tuple[Tables, str, Path]:
    site = build_site(fill(folder, **changes).root, folder / "site", lambda name, version: manifest).parent
    text = (site / "benchmarks/toy-digits-v1.html").read_text()
    return Tables(text), text, site


def test_published_rows_stand_under_the_ranking_by_the_main_score(tmp_path):
    page, text, _ = page_of(tmp_path)
    head, *rows = page.rows["published"]
    assert head == ["Method", "Avg %, higher is better", "BWT pp, higher", "Source"]
    assert [row[:3] for row in rows] == [
        ["Strong", "99.50", "–"], ["Weak <b>", "12.00", "+1.50"], ["No main score half a row", "–", "−0.25"],
    ]  # fmt: skip
    assert page.links["published"] == [
        "https://example.org/b",
        "https://example.org/a?x=1&y=2",
        "https://example.org/a",
    ]
    assert text.index('id="ranking"') < text.index('id="published"') < text.index('id="compute"')
    assert "Published, not run here" in text and "Weak <b>" not in text


def test_published_rows_are_never_ranked(tmp_path):
    page, text, site = page_of(tmp_path)
    assert [row[1].split()[0] for row in page.rows["ranking"][1:]] == ["Loses", "Keeps"]
    part = text[text.index('id="published"') : text.index('id="compute"')]
    assert "badge" not in part and "±" not in part and 'rank"' not in part and "whisker" not in part
    assert "Strong" not in (site / "index.html").read_text()
    chart = text[text.index('id="compute"') : text.index('id="matrices"')]
    assert "Strong" not in chart and chart.count("<circle") == 2


def test_published_rows_show_while_nothing_is_ranked(tmp_path):
    page, text, _ = page_of(tmp_path, benchmark={"deviations": ["epochs"]})
    assert "Nothing is ranked yet" in text and page.rows["published"][1][0] == "Strong"
    assert page.rows["open"][0][1] == "Avg %"


def test_without_scores_and_rows_a_page_is_as_ever(tmp_path):
    page, text, site = page_of(tmp_path, BENCH)
    assert [row[1].split()[0] for row in page.rows["ranking"][1:]] == ["Keeps", "Loses"]
    assert page.rows["ranking"][0][2:6] == [
        "ACC %, higher is better", "BWT pp, higher", "FWT pp, higher", "Forgetting pp, lower",
    ]  # fmt: skip
    assert "Published" not in text and "Accuracy against training compute" in text and "ACC, %" in text
    assert "quotes papers" not in (site / "methods.html").read_text()


def test_all_places_follow_the_main_score(tmp_path):
    _, text, site = page_of(tmp_path)
    texts = {path.name: path.read_text() for path in site.rglob("*.html")}
    assert "ACC" not in text and "FWT" not in text and "Accuracy against" not in text
    assert "Avg against training compute" in text and ">Avg, %</text>" in text and "<code>avg_mtil</code>" in text
    assert "ACC" not in texts["index.html"] and "Avg, %, with 95 % interval" in texts["index.html"]
    assert "Avg is <code>avg_mtil</code>" in texts["methods.html"] and "quotes papers" in texts["methods.html"]
    for name, run in texts.items():
        if (site / "runs" / name).exists():
            tiles = run[run.index('class="tiles"') : run.index('id="matrix"')]
            assert tiles.count('class="tile"') == 2 and ">Avg<" in tiles and ">ACC<" not in tiles
            heats = run[run.index('id="matrix"') : run.index('id="metrics"')]
            assert heats.count("<span>Avg ") == 6 and "ACC" not in heats, "the mean and five seeds"


def ranking(board: Board, scores: list[str]) -> list[str]:
    (page,) = collect(board, lambda name, version: replace(BENCH, scores=scores))
    assert [page.ranks[row.id] for row in page.ranked] == [(1, 1), (2, 2)]
    return [row.name for row in page.ranked]


def test_the_first_score_ranks_in_its_direction(tmp_path):
    board = fill(tmp_path)
    assert ranking(board, ["acc", "la"]) == ["Keeps", "Loses"]
    assert ranking(board, ["la", "acc"]) == ["Loses", "Keeps"]
    assert ranking(board, ["nevis_error"]) == ["Loses", "Keeps"], "the lower, the better: 1 - la"


def test_curves_may_be_shown_and_never_rank(tmp_path):
    """No evidence shows them again; a record without any has a dash."""
    assert read(tmp_path, 'stream = "x"\nscores = ["acc", "auc_libero"]').scores == ["acc", "auc_libero"]
    with pytest.raises(UsageError, match="fwt_libero needs curves, and a page ranks by what evidence shows again"):
        read(tmp_path, 'stream = "x"\nscores = ["fwt_libero", "acc"]')
    with pytest.raises(UsageError, match="lca needs batch_curves, and counts are all"):
        read(tmp_path, 'stream = "x"\nscores = ["acc", "lca"]')
    assert ranking(fill(tmp_path), ["acc", "fwt_libero"]) == ["Keeps", "Loses"]


def test_the_front_follows_the_direction():
    points = [Point(n, "", f, m, m, m) for n, f, m in [("a", 10, 50), ("b", 20, 60), ("c", 20, 45), ("d", 30, 45)]]
    assert [p.name for p in front(points, "lower")] == ["a", "c"]
    assert [m.point.name for m in scatter(points, "lower").marks if m.front] == ["a", "c"]


def test_lower_is_first_where_lower_is_better():
    rows = [Published(n, "s", "https://example.org", {"nevis_error": v}) for n, v in [("a", 30.0), ("b", 20.0)]]
    assert [row.method for row, _ in quoted(rows, [Measure.of("nevis_error")])] == ["b", "a"]


def test_the_real_benchmark_has_a_page_with_all_its_rows(tmp_path):
    sizes = [20] * 11  # as the real one, with smaller tests
    manifest = replace(find_manifest("mtil", 1), test_sizes=sizes)
    value = {"benchmark": {"name": "mtil"}, "stream": {"name": "mtil", "setting": "til"}, "seeds": (0, 1, 2)}
    submission = make_submission(make_run(tmp_path / "1", sizes=sizes, **value), "ada", "Replay")
    board = Board(tmp_path / "board")
    board.submit(submission, tmp_path / "1", lambda name, version: manifest)
    site = build_site(board.root, tmp_path / "site", lambda name, version: manifest).parent
    page = Tables((site / "benchmarks/mtil-v1.html").read_text())
    assert [row[0].split()[0] for row in page.rows["published"][1:]] == [
        "ZSCL", "ZSCL*", "iCaRL", "Zero-shot", "LwF-VR", "LwF", "WiSE-FT", "Continual",
    ]  # fmt: skip
    assert page.rows["published"][1][1:4] == ["75.4", "68.1", "83.6"]
