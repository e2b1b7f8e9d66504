"""Figures of subspaces and regimes: what they say is what was reported, and odd reports do no harm."""

from __future__ import annotations

import warnings

import matplotlib
import numpy as np
import pytest
from carryover.evaluation.plots_subspaces import FINEST, REGIMES, plot_regimes, plot_subspaces
from carryover.evaluation.record import RunRecord
from carryover.evaluation.statistics import t_interval
from carryover.evaluation.views import Reports
from carryover.tests.boards import make_value
from carryover.tests.terminal import call

TASKS = 4


def make(tmp_path, *reports, tasks=TASKS, **changes):
    """A record with a seed for each dict of reports."""
    value = make_value(tmp_path, seeds=tuple(range(len(reports))), sizes=[40] * tasks, **changes)
    for run, report in zip(value["runs"], reports, strict=True):
        run["diagnostics"] = report
    return RunRecord.parse(value, "here")


def cuber(*layers, two=1.0, at=(None, 0.0, 0.001, 0.5)):
    """Each new task finds an earlier one in regime 2 and, from the third on, one in regime 3, demoted in the end."""
    reports = {}
    for layer in layers:
        reports |= {
            f"used/{layer}": [0.25, 0.5, 0.75, 1.0],
            f"regime2/{layer}": [None, 0.0, two, two],
            f"regime3/{layer}": [None, 1.0, 1.0, 1.0],
            f"demoted/{layer}": [None, 1.0, 1.0, 0.0],
            f"demoted_at/{layer}/1": list(at),
        }
    return reports


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def heights(ax):
    """{regime: {task: height}} of the bars, by their colours."""
    names = {matplotlib.colors.to_rgba(colour): name for name, (colour, _) in REGIMES.items()}
    found = {name: {} for name in REGIMES}
    for bars in ax.collections:
        for path in bars.get_paths():
            (x, low), (_, high) = path.vertices[:4].min(0), path.vertices[:4].max(0)
            found[names[tuple(bars.get_facecolor()[0])]][round(x + 0.4)] = pytest.approx(high - low)
    return found


def dots(ax):
    return sorted((round(x), y) for line in ax.lines for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y))


def test_subspaces_are_means_with_their_intervals(tmp_path):
    used = np.array([[0.2, 0.4, 0.6, 0.9], [0.3, 0.4, 0.7, 0.8], [0.1, 0.5, 0.8, 0.9]])
    figure = plot_subspaces(make(tmp_path, *({"used/1": row.tolist(), "used/3": [1.0] * 4} for row in used)))
    main, first, second = figure.axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), 100 * used.mean(0))
    np.testing.assert_allclose(main.lines[1].get_ydata(), second.lines[0].get_ydata())
    band = first.collections[0].get_paths()[0].get_extents()
    intervals = np.array([t_interval(column) for column in 100 * used.T])
    assert (band.y0, band.y1) == pytest.approx((intervals[:, 0].clip(0).min(), intervals[:, 1].clip(None, 100).max()))
    assert {"layer 1: 87 %", "layer 3: 100 %"} <= set(words(figure))
    assert all(ax.lines[-1].get_ydata() == [100, 100] for ax in figure.axes)


def test_regimes_are_counts_of_earlier_tasks(tmp_path):
    """The fourth task of the second seed has two earlier tasks in regime 2."""
    figure = plot_regimes(make(tmp_path, cuber("1"), cuber("1") | {"regime2/1": [None, 0.0, 1.0, 2.0]}))
    upper, lower = figure.axes
    assert heights(upper) == {
        "regime 3, kept": {4: 1},
        "regime 3, demoted to 2": {2: 1, 3: 1},
        "regime 2": {3: 1, 4: 1.5},
        "regime 1": {4: 0.5},
    }
    assert dots(lower) == [(2, 0.0)] * 2 + [(3, 0.001)] * 2 + [(4, 0.5)] * 2
    low, high = lower.get_ylim()
    assert low < 0 < FINEST < high == 1
    assert "replay on toy-digits · cil · 2 seeds" in words(figure)


def test_bars_are_cut_where_nothing_but_regime_1_is_left(tmp_path):
    ten = {"regime2/1": [None] + [1.0] * 9}
    figure = plot_regimes(make(tmp_path, ten, tasks=10))
    (ax,) = figure.axes  # nobody was demoted
    assert ax.get_ylim() == (0, 4) and "cut at 4" in " ".join(words(figure))
    assert heights(ax)["regime 2"] == dict.fromkeys(range(2, 11), 1)
    assert heights(ax)["regime 1"][10] == 3
    assert not any("regime 3" in text for text in words(figure))


def test_unfinished_seeds_stand_back(tmp_path):
    record = make(tmp_path, {"used/1": [0.5] * 4}, {"used/1": [0.9] * 4})
    first, second = record.runs
    record = record.model_copy(update={"runs": [first, second.model_copy(update={"status": "partial"})]})
    assert plot_subspaces(record).axes[0].lines[0].get_ydata() == pytest.approx([50] * 4)


def test_layers_stand_by_depth(tmp_path):
    names = ["head", "stages.10.a", "stages.2.a", "stem.0", "1", "9"]
    reports = Reports(make(tmp_path, {f"used/{name}": [0.5] for name in names}))
    assert reports.layers("used") == ["stem.0", "1", "9", "stages.2.a", "stages.10.a", "head"]


@pytest.mark.parametrize("plot", [plot_subspaces, plot_regimes])
def test_records_without_such_reports_have_no_such_figure(plot, tmp_path):
    for report in ({}, {"oracle_accuracy": [1.0]}, {"used": [1.0], "regime2": [1.0], "used/": [0.5]}):
        assert plot(make(tmp_path, report), tmp_path / "none") is None
    assert plot(make(tmp_path, {"used/1": [None] * 4, "regime3/1": [], "demoted/1": [1.0]}), tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


LONG = "layer " * 40_000
ODD = [
    {"used/1": [0.5], "regime2/1": [None, 1.0] * 500},
    {"used/1": [-1.0, 1e308, 37.0, -1e308], "regime3/1": [5.0, 5.0, -5.0, 0.5], "demoted/1": [9.0, 9.0, 9.0, 9.0]},
    {f"used/{LONG}": [0.5], f"regime2/{LONG}": [0.0, 1.0], "used/$x_1$\n\x00": [1.0], "regime3//": [None, 1.0]},
    {
        "regime3/1": [0.0, 1.0, 2.0, 3.0],
        "demoted_at/1/1": [0.0, 7.0, 0.5],
        "demoted_at/1/2": [0.5] * 4,
        "demoted_at/1/9": [1.0],
    },
    {"regime2/1": [0.0, 1.0, 2.0, 3.0], "regime3/1": [0.0, 1.0, 2.0, 3.0]},
    {"used/²": [0.5], "used/٣": [0.5], "regime2/²": [None, 1.0]},
]


@pytest.mark.parametrize("report", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("others", [0, 2])
def test_odd_reports_do_no_harm(report, others, tmp_path):
    """Beside seeds that report nothing or something else, too; and no bar is higher than there are earlier tasks."""
    record = make(tmp_path, report, *[{}, cuber("1", "5")][:others])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")
        figures = plot_subspaces(record, tmp_path), plot_regimes(record, tmp_path)
    assert all(max(map(len, words(figure))) < 150 for figure in figures if figure)
    for ax in figures[1].axes if figures[1] else ():
        total = {}
        for regime in heights(ax).values():
            for task, height in regime.items():
                total[task] = total.get(task, 0) + height.expected
        assert all(height < task - 1 + 1e-6 for task, height in total.items())
        assert all(task > 1 for task, _ in dots(ax))


def test_many_layers_are_too_many(tmp_path):
    record = make(tmp_path, {f"{kind}/{'9' * 5000}{k}": [0.5] * 4 for k in range(300) for kind in ("used", "regime2")})
    assert len(plot_subspaces(record).axes) == 1 + Reports.MOST
    assert len(plot_regimes(record).axes) == Reports.MOST


def test_the_plot_command_draws_what_is_reported(tmp_path):
    make(tmp_path / "run", cuber("1", "3")).save(tmp_path / "run")
    stems = ("transfer-matrix", "curves", "subspaces", "regimes")
    expected = [str(tmp_path / "run" / f"{stem}.{kind}") for stem in stems for kind in ("png", "svg")]
    answer = call("plot", str(tmp_path / "run"))
    assert (answer.code, answer.out.split()) == (0, expected)
    before = [(tmp_path / "run" / f"{stem}.svg").read_bytes() for stem in stems]
    call("plot", str(tmp_path / "run"))
    assert before == [(tmp_path / "run" / f"{stem}.svg").read_bytes() for stem in stems]
