"""Figures: what they say is what the record holds, they are the same bytes twice, and they leave nothing behind."""

from __future__ import annotations

import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from carryover.base.errors import MismatchError, UsageError
from carryover.evaluation import drawing, plots
from carryover.evaluation.plots_tradeoff import plot_tradeoff
from carryover.evaluation.record import RunRecord
from carryover.evaluation.statistics import summarise, t_interval
from scipy.stats import ttest_rel

N = 700  # test cases per task: over five seeds no mean is a rounding tie
STEMS = {
    plots.plot_record: "transfer-matrix",
    plots.plot_curves: "curves",
    plots.plot_comparison: "comparison",
    plots.plot_scores: "scores",
}


def make(
    count=3,
    seeds=range(5),
    name="er",
    decay=0.2,
    flops=10**12,
    status="complete",
    fingerprint="a",
    **stream,
):
    """A record of forgetting at rate `decay`; a run that is not complete stops after half of the tasks."""
    runs = []
    for seed in seeds:
        since = np.subtract.outer(np.arange(count + 1), np.arange(count)) - 1
        p = np.where(since < 0, 0.1, 0.1 + 0.8 * np.exp(-decay * since))
        p += 0.04 * np.random.RandomState([seed, len(name)]).rand(*p.shape)
        correct = (N * p).astype(int).tolist()
        if status != "complete":
            correct[count // 2 + 1 :] = [[None] * count] * (count - count // 2)
        runs.append({"seed": seed, "status": status, "correct": correct, "cost": {"train_flops": flops}})
    return RunRecord.parse(
        {
            "benchmark": {"name": "", "version": 0},
            "stream": {
                "name": "digits", "version": 1, "seed": 0, "setting": "cil", "task_id_at_test": False,
                "label_space": "seen", "fingerprint": fingerprint * 64, "classes": [[0]] * count,
                "tasks": [f"rotation {k}" for k in range(count)], "test_sizes": [N] * count,
            } | stream,
            "strategy": {"name": name},
            "runs": runs,
        },
        "here",
    )  # fmt: skip


def draw(plot, folder=None, **options):
    """A plot of one record, or of two that differ in their strategy."""
    if plot in (plots.plot_record, plots.plot_curves):
        return plot(make(**options), folder)
    return plot([make(**options), make(**options, name="finetune", decay=1.0)], folder)


def numbers(ax):
    """Cell (row, task) to the text written in it."""
    places = {text.get_position(): text.get_text() for text in ax.texts}
    return {(i, j): text for (j, i), text in places.items() if isinstance(i, int)}


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def outlined(ax):
    """Cells (row, task) with a black frame: the last collection of squares."""
    frames = [c for c in ax.collections if isinstance(c, matplotlib.collections.PolyCollection)][-1]
    return {(round(p.vertices[:4, 1].mean()), round(p.vertices[:4, 0].mean())) for p in frames.get_paths()}


@pytest.mark.parametrize("plot", STEMS, ids=STEMS.get)
def test_writes_the_same_bytes_twice_and_nothing_else(plot, tmp_path):
    draw(plot, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "mine", "axes.grid": True}):  # a user's own style
        draw(plot, tmp_path / "b")
    names = [f"{STEMS[plot]}.png", f"{STEMS[plot]}.svg"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    png, svg = ((tmp_path / "a" / name).read_bytes() for name in names)
    assert png.startswith(b"\x89PNG") and b"matplotlib" not in png.lower()
    assert b"dc:date" not in svg and b"Matplotlib" not in svg


@pytest.mark.parametrize("plot", STEMS, ids=STEMS.get)
def test_touches_nothing_global(plot):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    draw(plot)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("plot", STEMS, ids=STEMS.get)
@pytest.mark.parametrize("tasks", [1, 50])
def test_draws_any_number_of_tasks_without_a_warning(plot, tasks, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(plot, tmp_path, count=tasks)


@pytest.mark.parametrize("plot", STEMS, ids=STEMS.get)
@pytest.mark.parametrize("status, seeds", [("complete", ()), ("diverged", (0, 1)), ("complete", (0,))])
def test_draws_any_number_of_seeds_without_a_warning(plot, status, seeds, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(plot, tmp_path, seeds=seeds, status=status)
    assert ("no complete seed" in words(figure)) == (not seeds or status != "complete")


def test_cells_show_the_mean_over_complete_seeds(tmp_path):
    record = make().merged(make(seeds=(7,), decay=3.0, status="partial").runs)
    mean = 100 * record.matrix[:5].mean(0)
    expected = {(i, j): f"{mean[i, j]:.1f}" for i in range(4) for j in range(3)}
    assert numbers(plots.plot_record(record, tmp_path).axes[0]) == expected
    svg = ElementTree.parse(tmp_path / "transfer-matrix.svg")
    texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert set(expected.values()) <= set(texts)


def test_decimals_then_numbers_go_as_cells_shrink():
    assert numbers(plots.plot_record(make(12)).axes[0])[12, 11][-2] == "."
    assert len(numbers(plots.plot_record(make(20)).axes[0])[20, 19]) == 2
    assert numbers(plots.plot_record(make(50)).axes[0]) == {}


def test_title_tells_what_ran_and_the_scores():
    record = make()
    said = words(plots.plot_record(record))
    assert "er on digits · cil · 5 seeds" in said
    for name, label, unit in (("acc", "ACC ", " %"), ("bwt", "BWT −", " pp")):
        score = summarise(record, [name])[name]
        low, high = (f"{100 * end:.1f}".replace("-", "−") for end in score["ci95"])
        assert f"{label}{abs(100 * score['mean']):.1f}{unit} [{low}, {high}]" in said


def test_axes_name_times_and_tasks():
    ax, _, strip = plots.plot_record(make()).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()][:2] == [
        "before training",
        "after task 1 (rotation 0)",
    ]
    assert [tick.get_text() for tick in strip.get_xticklabels()] == ["rotation 0", "rotation 1", "rotation 2"]


def test_strip_shows_final_accuracy_with_its_interval():
    record = make()
    final = 100 * record.matrix[:, -1].numpy()
    points, _, bars = plots.plot_record(record).axes[2].containers[0].lines
    np.testing.assert_allclose(points.get_ydata(), final.mean(0))
    ends = [segment[:, 1] for segment in bars[0].get_segments()]
    np.testing.assert_allclose(ends, [t_interval(column) for column in final.T])


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_colours_stand_for_0_to_100_percent_in_every_record(decay):
    record = make(decay=decay)
    mean = record.matrix.mean(0).numpy()
    ax, bar, _ = plots.plot_record(record).axes
    expected = matplotlib.colormaps["cividis"](mean.flatten())
    np.testing.assert_allclose(ax.collections[0].get_facecolors(), expected, atol=0.01)
    assert bar.get_ylim() == (0, 100)
    assert outlined(ax) == {(1, 0), (2, 1), (3, 2)}


def test_unmeasured_cells_are_dots_without_a_number():
    ax = plots.plot_record(make(4, status="diverged")).axes[0]
    missing = {(i, j) for i in (3, 4) for j in range(4)}
    assert set(numbers(ax)) == {(i, j) for i in range(5) for j in range(4)} - missing
    assert {(i, j) for j, i in ax.collections[-1].get_offsets().tolist()} == missing


def test_hatching_marks_what_is_not_learnt_yet():
    hatch = next(c for c in plots.plot_record(make()).axes[0].collections if c.get_alpha())
    middles = np.array([path.vertices.mean(0) for path in hatch.get_paths()])
    cells = {(round(i), round(j)) for j, i in middles.tolist()}
    assert cells == {(i, j) for i in range(4) for j in range(3) if j >= i}


@pytest.mark.parametrize("cmap", ["cividis", drawing.diverging()], ids=["cividis", "diverging"])
def test_numbers_contrast_with_their_cells(cmap):
    """At least 4.5 to 1, what WCAG asks of text."""

    def luminance(rgb):
        rgb = np.asarray(rgb)
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    for colour in matplotlib.colormaps.get_cmap(cmap)(np.linspace(0, 1, 256)):
        pair = sorted([luminance(colour[:3]), luminance(matplotlib.colors.to_rgb(drawing._ink(colour)))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    names = ["$5 to $6", "a\x00b\n<c> & d", "long " * 30 + "one", "long " * 30 + "two"]
    plots.plot_record(make(4, name="$x_1$", tasks=names), tmp_path)
    svg = "".join(ElementTree.parse(tmp_path / "transfer-matrix.svg").getroot().itertext())
    assert "$5 to $6" in svg and "$x_1$" in svg and "a b <c> & d" in svg
    assert "ong one" in svg and "ong two" in svg and "long long long long long" not in svg


def test_curves_show_every_task_and_the_mean_over_seen_ones():
    record = make()
    mean = 100 * record.matrix.mean(0).numpy()
    main, *panels = plots.plot_curves(record).axes
    thick = max(main.lines, key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(thick.get_ydata(), [mean[i, :i].mean() for i in (1, 2, 3)])
    for j, panel in enumerate(panels):
        before, after = panel.lines
        np.testing.assert_allclose(before.get_ydata(), mean[: j + 2, j])
        np.testing.assert_allclose(after.get_ydata(), mean[j + 1 :, j])


def test_difference_is_paired_over_common_seeds():
    first, second = make(seeds=range(7)), make(seeds=range(2, 9), name="finetune", decay=1.0)
    a, b = 100 * first.matrix[2:].numpy(), 100 * second.matrix[:5].numpy()
    figure = plots.plot_comparison([first, second])
    ax = figure.axes[3]
    expected = {(i, j): f"{(a - b).mean(0)[i, j]:+.1f}".replace("-", "−") for i in range(4) for j in range(3)}
    assert numbers(ax) == expected
    sure = set(map(tuple, np.argwhere(ttest_rel(a, b).pvalue < 0.05).tolist()))
    assert outlined(ax) == sure and 0 < len(sure) < 12
    low, high = figure.axes[4].get_ylim()
    assert low == -high and high >= np.abs((a - b).mean(0)).max()


def test_difference_without_common_seeds_says_so():
    figure = plots.plot_comparison([make(seeds=(0, 1, 2)), make(seeds=(3, 4, 5), name="gem")])
    assert "unpaired" in words(figure) and outlined(figure.axes[3]) == set()


def test_more_than_two_records_have_no_difference():
    records = [make(name=name) for name in ("er", "gem", "ewc", "lwf")]
    figure = plots.plot_comparison(records)
    assert len(figure.axes) == 5 and "difference" not in words(figure)


def test_records_of_one_name_are_told_apart_by_what_differs():
    first, second = make(), make(setting="til")
    said = words(plots.plot_comparison([first, second]))
    assert "er (setting=cil)" in said and "er (setting=til)" in said


@pytest.mark.parametrize("plot", [plots.plot_comparison, plots.plot_scores])
def test_different_streams_are_refused_in_one_line(plot, tmp_path):
    with pytest.raises(MismatchError, match=r"^digits \(aaaaaaaa\) and digits \(bbbbbbbb\) [^\n]+$"):
        plot([make(), make(fingerprint="b")], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_too_few_records_are_refused():
    with pytest.raises(UsageError, match="at least 2 records; 1 given"):
        plots.plot_comparison([make()])
    with pytest.raises(UsageError, match="at least 1 record; 0 given"):
        plots.plot_scores([])


def test_scores_are_the_summaries_best_first():
    worse, better = make(name="finetune", decay=1.0), make(flops=10**13)
    figure = plots.plot_scores([worse, better])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["er", "finetune"]
    for ax, score in zip(figure.axes[:2], ("acc", "bwt"), strict=True):
        for row, record in enumerate((better, worse)):
            summary = summarise(record, [score])[score]
            point, _, (bar,) = ax.containers[row].lines
            assert point.get_xdata()[0] == pytest.approx(100 * summary["mean"])
            assert bar.get_segments()[0][:, 0] == pytest.approx(100 * np.array(summary["ci95"]))
    assert figure.axes[2].get_xscale() == "log"
    assert [c.lines[0].get_xdata()[0] for c in figure.axes[2].containers] == [10**13, 10**12]


def test_costs_are_left_out_unless_all_counted_them():
    assert len(plots.plot_scores([make(), make(name="gem", flops=0)]).axes) == 2


# -- one metric against another -----------------------------------------------------------------------------------


def test_one_metric_against_another(tmp_path):
    records = [make(), make(name="finetune", decay=1.0), make(name="joint", decay=0.0, seeds=range(2))]
    figure = plot_tradeoff(records, "transfer_mtil", "last", tmp_path)
    scores = [summarise(record, ["transfer_mtil", "last"]) for record in records]
    points = sorted(tuple(100 * s[name]["mean"] for name in s) for s in scores)
    ax, key = figure.axes
    lines = [line for line in ax.lines if line.get_marker() in drawing.MARKERS]
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in lines) == [pytest.approx(p) for p in points]
    best = sorted(range(3), key=lambda i: -scores[i]["last"]["mean"])
    assert [text.get_text() for text in key.texts] == [records[i].strategy.name for i in best]
    assert ax.get_xlabel() == "Transfer (%)" and ax.get_ylabel() == "Last (%)"
    whiskers = [part for drawn in ax.collections for part in drawn.get_segments()]
    low, high = scores[0]["last"]["ci95"]
    assert any(np.allclose(sorted(part[:, 1]), [100 * low, 100 * high]) for part in whiskers)
    first = (tmp_path / "tradeoff.svg").read_bytes()
    plot_tradeoff(records, "transfer_mtil", "last", tmp_path)
    assert (tmp_path / "tradeoff.svg").read_bytes() == first


def test_a_metric_that_is_not_defined_has_no_place():
    with pytest.raises(UsageError, match="in none of the 1 run are both"):
        plot_tradeoff([make(count=1)], "transfer_mtil", "last")
    with pytest.raises(MismatchError):
        plot_tradeoff([make(), make(fingerprint="b")], "transfer_mtil", "last")
