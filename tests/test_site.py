"""The site: what it shows, what it never lets through, and that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from carryover.base.errors import InvalidError, StorageError, UsageError
from carryover.leaderboard import site
from carryover.leaderboard.chart import Point, front, scatter
from carryover.leaderboard.pages import number, quantity, rank_label, unit
from carryover.leaderboard.site import build_site, check_links
from carryover.leaderboard.store import Board
from carryover.tests.boards import BENCH, SIZES, enter, find, make_value

HERE = Path(site.__file__).parent


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with two tied entries, a worse one, and one in every other section."""
    board = Board(tmp_path / "board")
    enter(board, tmp_path / "1", "ada", "Replay", 1, memory=0.90)
    enter(board, tmp_path / "2", "bob", "Replay again", 2, memory=0.902)
    enter(board, tmp_path / "3", "ada", "Fine-tuning", 3, memory=0.40)
    enter(board, tmp_path / "4", "cem", "Half done", 4, seeds=(0, 1, 2))
    enter(board, tmp_path / "5", "dee", "Own rules", 5, memory=0.85, benchmark={"deviations": ["epochs"]})
    id = enter(board, tmp_path / "6", "eve", "Taken back", 6, memory=0.95)
    board.withdraw(id, "eve", "labels were shuffled", "2026-03-01T00:00:00Z")
    enter(
        board,
        tmp_path / "7",
        "fay",
        "Mine",
        7,
        benchmark={"name": "x", "version": 0},
        stream={"name": "own stream"},
    )
    return board


@pytest.fixture
def pages(board, tmp_path) -> Path:
    """The folder of its site."""
    return build_site(board.root, tmp_path / "site", find).parent


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def plain(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", path.read_text()))


class Elements(HTMLParser):
    """Every tag with its attributes, and whether the tags close as they opened."""

    VOID = ("meta", "link", "br", "hr", "img", "input", "col")
    SHAPES = ("rect", "circle", "line", "path", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.SHAPES
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# -- what it shows ---------------------------------------------------------------------------------------------------


def test_a_board_shows_ranks_numbers_and_every_section(pages):
    text = plain(pages / "benchmarks/toy-digits-v1.html")
    assert text.count("1–2 tied") == 2, "the two that the seeds do not tell apart"
    order = [text.index(name) for name in ("Fine-tuning", "Incomplete", "Half done", "Open division", "Own rules")]
    assert order == sorted(order)
    assert "N201 incomplete: the seeds 3, 4 are missing." in text and "labels were shuffled" in text
    assert re.search(r"Fine-tuning ada · [0-9a-f]{8} \d+\.\d ± \d\.\d", text)
    assert "recomputed" in text and "GFLOP a seed" in text


def test_ranks_ignore_what_is_not_ranked(pages):
    ranking = (pages / "benchmarks/toy-digits-v1.html").read_text().split('id="incomplete"')[0]
    assert "Taken back" not in ranking and "Own rules" not in ranking


def test_the_numbers_are_those_of_the_counts(board, pages):
    entry = next(e for e in board.entries() if e.submission.method.name == "Fine-tuning")
    runs = entry.submission.record.runs
    acc = sum(c / n for run in runs for c, n in zip(run.correct[-1], SIZES, strict=True)) / len(runs) / len(SIZES)
    assert f"{100 * acc:.1f} %" in plain(pages / f"runs/{entry.id}.html")


def test_every_run_has_a_page_and_its_raw_json(board, pages):
    for entry in board.entries():
        raw = (pages / f"runs/{entry.id}.json").read_bytes()
        assert hashlib.sha256(raw).hexdigest() == entry.id
        page = (pages / f"runs/{entry.id}.html").read_text()
        assert entry.id in page and "carryover run replay" in page and "12,800" in page
        assert page.count('class="heat"') >= len(entry.submission.record.runs)


def test_what_the_weights_were_trained_on_is_shown(tmp_path):
    facts = {"name": "vit-x", "sha256": "ab" * 32, "data": "<b>photos</b>", "overlap": "all classes"}
    board = Board(tmp_path / "board")
    runs = make_value(tmp_path / "run")["runs"]
    for run in runs:
        run["usage"] = {"pretrained": facts}
    enter(board, tmp_path / "run", runs=runs)
    build_site(board.root, tmp_path / "site", find)
    text = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
    assert "ab" * 32 in text and "all classes" in text and "&lt;b&gt;photos" in text and "<b>photos" not in text


def test_open_boards_come_after_frozen_ones(pages):
    text = plain(pages / "index.html")
    assert text.index("Toy digits") < text.index("own stream")


def test_missing_cells_and_unfinished_seeds_are_shown_as_such(tmp_path):
    from carryover.evaluation.record import RunRecord
    from carryover.leaderboard.submission import make_submission
    from carryover.tests.boards import make_value

    value = make_value(tmp_path / "run")
    value["runs"][4] |= {"status": "diverged"}
    value["runs"][4]["correct"][4] = [None] * 4
    RunRecord.parse(value, "x").save(tmp_path / "run")
    board = Board(tmp_path / "board")
    id = board.submit(make_submission(tmp_path / "run", "ada"), tmp_path / "run", find).id
    page = (build_site(board.root, tmp_path / "site", find).parent / f"runs/{id}.html").read_text()
    assert page.count("not measured") >= 4 and "seed 4 is diverged" in page


@pytest.mark.parametrize("tasks", [1, 20, 61])
def test_streams_of_any_length(tmp_path, tasks):
    board = Board(tmp_path / "board")
    free = {"benchmark": {"name": "x", "version": 0}, "stream": {"name": "long"}}
    id = enter(board, tmp_path / "run", sizes=[10] * tasks, **free)
    text = plain(build_site(board.root, tmp_path / "site", find).parent / f"runs/{id}.html")
    assert ("not defined here" in text) == (tasks == 1)
    assert ("too wide for a page" in text) == (tasks > 60)


def test_an_empty_board_has_a_site(tmp_path):
    assert "No submissions yet" in build_site(tmp_path / "board", tmp_path / "site", find).read_text()


def test_a_benchmark_that_is_no_longer_installed_keeps_its_page(board, tmp_path):
    folder = build_site(board.root, tmp_path / "site", lambda name, version: None).parent
    assert "Replay again" in plain(folder / "benchmarks/toy-digits-v1.html")


def test_a_benchmark_that_changed_shows_what_no_longer_compares(board, tmp_path):
    from dataclasses import replace

    changed = replace(BENCH, fingerprint="cd" * 32)
    folder = build_site(board.root, tmp_path / "site", lambda name, version: changed).parent
    text = plain(folder / "benchmarks/toy-digits-v1.html")
    assert "Not comparable" in text and "E109 fingerprint" in text and "Nothing is ranked yet" in text


# -- what it never lets through --------------------------------------------------------------------------------------

XSS = [
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "{{ 7*7 }}{% raw %}",
    "</title><svg/onload=alert(1)>", "javascript:alert(1)", "<!--", "]]>", "&lt;b&gt;", "`${alert(1)}`",
    'href="x.html"',
]  # fmt: skip


@pytest.mark.parametrize("bad", XSS)
def test_no_text_of_a_submission_becomes_markup(tmp_path, bad):
    board = Board(tmp_path / "board")
    config = {bad: bad, "list": [bad, 1]}
    id = enter(
        board,
        tmp_path / "run",
        name=bad,
        description=bad,
        links={"code": "https://example.org/a?b=1&c=2"},
        benchmark={"name": bad, "version": 0, "deviations": [bad]},
        stream={"name": bad, "setting": bad, "label_space": bad, "tasks": [bad] * 4},
        strategy={"name": bad, "source": bad, "config": config},
        provenance={key: bad for key in ("carryover", "python", "torch", "platform", "device", "created", "commit")}
        | {"command": [bad, bad]},
    )
    board.withdraw(id, "ada", bad)
    folder = build_site(board.root, tmp_path / "site", find).parent
    for path in folder.rglob("*.html"):
        tags = Elements(path.read_text()).found
        names = {name for name, _ in tags}
        assert names <= set(TAGS.split())
        for name, attributes in tags:
            assert not any(key.startswith("on") or key == "style" for key in attributes), attributes
            if name == "script":
                assert re.fullmatch(r"(\.\./)?static/site\.js", attributes["src"])
            if ":" in attributes.get("href", ""):
                assert attributes["href"] == "https://example.org/a?b=1&c=2" and "nofollow" in attributes["rel"]
    assert unescape(plain(folder / f"runs/{id}.html")).count(re.sub(r"\s+", " ", bad)) >= 5, "shown as it is"


TAGS = """html head meta title link script body a header div svg rect circle path line polyline g text span nav main
    col colgroup section h1 h2 p footer code article table caption thead tbody tfoot tr th td time dl dt dd bdi
    small strong details summary i ul ol li pre"""


def test_pages_are_well_formed_and_carry_the_policy_first(pages):
    for path in pages.rglob("*.html"):
        text = path.read_text()
        tags = Elements(text).found
        metas = [attributes for name, attributes in tags if name == "meta"]
        assert "default-src 'none'" in metas[1]["content"] and "unsafe" not in metas[1]["content"]
        assert text.index("Content-Security-Policy") < text.index("<script")
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|http://", text)


def test_sources_have_none_of_the_ways_around_escaping():
    for path in [*HERE.glob("templates/*"), *HERE.glob("static/*.js"), *HERE.glob("*.py")]:
        banned = re.search(
            r"\|\s*safe\b|Markup\(|innerHTML|insertAdjacentHTML|document\.write|\beval\(|fetch\(|autoescape false",
            path.read_text(),
        )
        assert not banned, (path, banned)


def test_the_reproduce_command_is_quoted(tmp_path):
    board = Board(tmp_path / "board")
    id = enter(board, tmp_path / "run", strategy={"name": "x; rm -rf ~", "config": {}})
    page = plain(build_site(board.root, tmp_path / "site", find).parent / f"runs/{id}.html")
    assert "carryover run &#39;x; rm -rf ~&#39; toy-digits" in page


# -- whole or not there ----------------------------------------------------------------------------------------------


def test_two_builds_are_the_same_bytes(board, tmp_path, pages):
    again = build_site(board.root, tmp_path / "again", find).parent
    assert files(pages) == files(again)
    sealed = dict(reversed(line.split("  ")) for line in (pages / "MANIFEST.sha256").read_text().splitlines())
    built = {name: hashlib.sha256(data).hexdigest() for name, data in files(pages).items()}
    assert sealed == {name: digest for name, digest in built.items() if name != "MANIFEST.sha256"}


def test_a_rebuild_replaces_the_site_whole(board, tmp_path, pages):
    (pages / "stale.html").write_text("old")
    enter(board, tmp_path / "8", "ada", "Newcomer", 8, memory=0.7)
    build_site(board.root, pages, find)
    assert not (pages / "stale.html").exists() and "Newcomer" in plain(pages / "benchmarks/toy-digits-v1.html")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_any_failure_leaves_the_old_site(board, tmp_path, pages, monkeypatch):
    before, real = files(pages), os.rename
    for at in range(2):  # both renames of the swap
        calls = []

        def rename(a, b, at=at, calls=calls):
            calls.append(a)
            if len(calls) == at + 1:
                raise OSError(28, "No space left on device")
            return real(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            with pytest.raises(StorageError, match="No space left"):
                build_site(board.root, pages, find)
        assert files(pages) == before
    with monkeypatch.context() as patch:
        patch.setattr(site, "check_links", lambda folder: (_ for _ in ()).throw(InvalidError("a dead link")))
        with pytest.raises(InvalidError):
            build_site(board.root, pages, find)
    bits = next(board.root.rglob("*.bits"))
    bits.write_bytes(b"\0" + bits.read_bytes()[1:] if bits.read_bytes()[0] else b"\1" + bits.read_bytes()[1:])
    with pytest.raises(InvalidError, match="damaged"):
        build_site(board.root, pages, find)
    assert files(pages) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_swap_that_was_killed_is_mended(board, tmp_path, pages):
    before = files(pages)
    pages.rename(tmp_path / ".site.old")  # the moment between the two renames
    broken = next(board.root.rglob("submission.json"))
    whole = broken.read_bytes()
    broken.write_bytes(b"{}")
    with pytest.raises(InvalidError):
        build_site(board.root, pages, find)
    assert files(pages) == before
    broken.write_bytes(whole)
    build_site(board.root, pages, find)
    assert files(pages) == before


def test_a_folder_that_is_no_site_is_left_alone(board, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="other than a site"):
        build_site(board.root, home, find)
    assert (home / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError):
        build_site(board.root, tmp_path / "file", find)


@pytest.mark.parametrize(
    "link", ["gone.html", "../outside.html", "#gone", "javascript:alert(1)", "http://x.org/", "//x"]
)
def test_dead_and_foreign_links_are_found(tmp_path, link):
    (tmp_path.parent / "outside.html").write_text("x")
    (tmp_path / "index.html").write_text(f'<a href="{link}">x</a>')
    with pytest.raises(InvalidError, match="links to"):
        check_links(tmp_path)


# -- numbers and colours ---------------------------------------------------------------------------------------------


def test_numbers_for_people():
    assert [number(-9.06), number(2.0, signed=True), number(-0.04), number(0.0, signed=True)] == [
        "−9.1",
        "+2.0",
        "0.0",
        "0.0",
    ]
    assert [quantity(v, 1e9) for v in (0, 1, 5e9, 1.234e12, 123e9)] == ["0", "<0.001", "5.00", "1,234", "123"]
    assert unit([3e11, 2e13], ((1e12, "T"), (1e9, "G"))) == (1e12, "T") and unit([], ((1.0, "x"),)) == (
        1.0,
        "x",
    )
    assert [rank_label((2, 2)), rank_label((1, 3))] == ["2", "1–3"]


def test_the_front_is_what_nothing_beats():
    points = [Point(n, "", f, m, m, m) for n, f, m in [("a", 10, 50), ("b", 20, 60), ("c", 20, 55), ("d", 30, 60)]]
    assert [p.name for p in front(points)] == ["a", "b"]
    drawn = scatter([*points, Point("free", "", 0, 20, 10, 30)])
    assert all(drawn.left <= m.x <= drawn.right and drawn.top <= m.bottom <= drawn.bottom for m in drawn.marks)
    assert scatter([]) is None


def test_heat_map_numbers_can_be_read_on_every_colour():
    css = (HERE / "static/site.css").read_text()
    steps = re.findall(r"\.h(\d+) \{ background-color: #(\w{6}); color: #(fff|000); \}", css)
    assert [int(step) for step, _, _ in steps] == list(range(21))

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lights = [light(colour) for _, colour, _ in steps]
    assert lights == sorted(lights), "brighter is more"
    for (_, _, text), ground in zip(steps, lights, strict=True):
        contrast = 1.05 / (ground + 0.05) if text == "fff" else (ground + 0.05) / 0.05
        assert contrast >= 4.5


def test_raw_json_is_what_the_store_keeps(board, pages):
    for folder in board.folders():
        assert (folder / "submission.json").read_bytes() == (pages / f"runs/{folder.name}.json").read_bytes()
        assert "acc" not in json.loads((folder / "submission.json").read_bytes())
