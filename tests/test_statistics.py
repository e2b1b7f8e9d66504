"""Intervals against scipy and against simulation, ranks by hand, and what a record says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation.record import (
    BenchmarkRef,
    Cost,
    Measured,
    RunRecord,
    SeedRun,
    StrategyRef,
    StreamRef,
)
from carryover.evaluation.statistics import describe, holm, paired, rank_intervals, summarise, t_interval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

torch.set_num_threads(1)
NAN = float("nan")
scores = st.lists(st.floats(-1, 1), min_size=3, max_size=12)

# -- intervals -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(scores, st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_is_that_of_scipy(values, level):
    low, high = t_interval(values, level)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    if error > 1e-9:
        expected = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
        assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_interval_by_hand():
    low, high = t_interval([0.5, 0.6, 0.7])  # t(2 degrees of freedom) = 4.302653, standard error 0.1 / sqrt(3)
    assert (low, high) == pytest.approx((0.6 - 0.2484138, 0.6 + 0.2484138), abs=1e-6)
    assert t_interval([0.25] * 5) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, 0.6, NAN], [0.5, None, 0.6, 0.7]])
def test_no_interval_for_fewer_than_three_seeds_or_undefined_values(values):
    assert t_interval(values) is None


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_interval_covers_what_it_says(seeds):
    draws = np.random.RandomState(seeds).normal(0.7, 0.05, (2000, seeds)).tolist()
    covered = np.mean([low <= 0.7 <= high for low, high in map(t_interval, draws)])
    assert 0.93 < covered < 0.97  # four standard errors of the simulation around 0.95


# -- paired differences --------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10))
def test_paired_difference_is_the_paired_t_test(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    gaps = np.subtract(a, b)
    if np.std(gaps) > 1e-6:
        found, expected = paired(a, b), stats.ttest_rel(a, b)
        assert (found.mean, found.seeds) == (pytest.approx(gaps.mean(), abs=1e-12), len(pairs))
        assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
        assert found.ci95 == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


def test_pairs_are_matched_by_seed():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 9: 0.0}, {3: 0.5, 2: 0.6, 1: 0.7, 0: 0.8, 7: 1.0}
    found = paired(a, b)
    assert found.seeds == 4 and found.mean == pytest.approx(0.1)
    assert found.ci95 == pytest.approx((0.1, 0.1)) and found.p == 0


def test_pairing_narrows_the_interval_when_seeds_have_something_in_common():
    common = np.random.RandomState(0).normal(0, 0.1, 6)
    a, b = 0.7 + common, 0.69 + common + np.random.RandomState(1).normal(0, 0.001, 6)
    low, high = paired(a.tolist(), b.tolist()).ci95
    assert 0 < low < high < 0.02


def test_differences_that_cannot_be_told():
    assert paired([0.5, 0.6], [0.4, 0.3]).ci95 is None and paired([0.5, 0.6], [0.4, 0.3]).p is None
    assert paired([0.5, 0.6], [0.4, 0.3]).mean == pytest.approx(0.2)
    assert paired({0: 0.5}, {1: 0.5}).mean is None and paired({0: 0.5}, {1: 0.5}).seeds == 0
    assert paired([0.5, NAN, 0.5], [0.1, 0.2, 0.3]).mean is None
    assert paired([0.5, None, 0.5], [0.1, 0.2, 0.3]).ci95 is None
    assert paired([0.3] * 3, [0.1 + 0.2] * 3).p == 1  # equal but for the last bit
    with pytest.raises(UsageError, match="differ in number: 3 and 4"):
        paired([0.1] * 3, [0.1] * 4)


# -- ranks ---------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def apart(mean, p, seeds=5):
    """Per-seed differences with this mean whose paired t-test has this p-value."""
    shape = np.linspace(-1, 1, seeds)
    error = np.std(shape, ddof=1) / math.sqrt(seeds)
    return mean + shape * mean / (stats.t.isf(p / 2, seeds - 1) * error)


NOISE = np.array([0.0, 0.004, -0.006, 0.003, -0.001])
BASE = np.array([0.70, 0.71, 0.69, 0.72, 0.68])


def test_clear_differences_give_single_ranks():
    entries = [(BASE + 0.1 * k + NOISE * k).tolist() for k in (1, 0, 2)]
    assert rank_intervals(entries) == [(2, 2), (3, 3), (1, 1)]
    assert rank_intervals(entries, better="lower") == [(2, 2), (1, 1), (3, 3)]


def test_a_tie_shares_its_ranks():
    entries = [(BASE + NOISE).tolist(), BASE.tolist(), (BASE - 0.2 - 2 * NOISE).tolist()]
    assert rank_intervals(entries) == [(1, 2), (1, 2), (3, 3)]
    assert rank_intervals([BASE.tolist()] * 3) == [(1, 3)] * 3
    assert rank_intervals([BASE.tolist()]) == [(1, 1)]
    assert rank_intervals([]) == []


def test_ranks_are_corrected_for_the_number_of_comparisons():
    rival, other = BASE - apart(0.02, 0.03), BASE - apart(0.02, 0.03)[::-1]
    assert paired(BASE, rival).p == pytest.approx(0.03)
    assert rank_intervals([BASE, rival]) == [(1, 1), (2, 2)]
    assert rank_intervals([BASE, rival, other])[0] == (1, 3)  # 2 x 0.03 is above 0.05
    assert rank_intervals([BASE, rival, other], alpha=0.07)[0] == (1, 1)


def test_two_seeds_tell_nothing_apart():
    assert rank_intervals([[0.9, 0.9], [0.1, 0.1]]) == [(1, 2), (1, 2)]
    common = [{0: 0.9, 1: 0.91, 2: 0.92}, {0: 0.1, 1: 0.11, 5: 0.12}]
    assert rank_intervals(common) == [(1, 2), (1, 2)]
    with pytest.raises(UsageError, match="'higher' or 'lower'"):
        rank_intervals([BASE], better="up")


def test_equal_entries_are_rarely_told_apart():
    draw = np.random.RandomState(0)
    found = [rank_intervals(draw.normal(0.7, 0.02, (4, 5)).tolist())[0] != (1, 4) for _ in range(300)]
    assert np.mean(found) < 0.1  # the level is 0.05


# -- a record ------------------------------------------------------------------------------------------------


def make_record(runs, tasks=2, **reference):
    """A record of runs given as (seed, status, counts), with 10 test cases a task."""
    stream = StreamRef(
        name="toy", version=1, seed=0, setting="cil", task_id_at_test=False, label_space="seen",
        fingerprint="0" * 64, tasks=[f"t{j}" for j in range(tasks)], classes=[[j] for j in range(tasks)],
        test_sizes=[10] * tasks,
    )  # fmt: skip
    cost = Cost(train_flops=1_500_000, samples_seen=1200, params_total=5000, params_trained=40, replay_bytes=2000)
    made = [SeedRun(seed=seed, status=status, correct=counts, cost=cost, measured=Measured(train_ms=2500))
            for seed, status, counts in runs]  # fmt: skip
    benchmark = BenchmarkRef(**{"name": "toy", "version": 0} | reference)
    return RunRecord(benchmark=benchmark, stream=stream, strategy=StrategyRef(name="naive"), runs=made)


RUNS = [
    (0, "complete", [[1, 0], [9, 1], [5, 8]]),
    (1, "complete", [[0, 2], [8, 2], [6, 9]]),
    (2, "partial", [[1, 1], [None, None], [None, None]]),
    (3, "complete", [[1, 1], [10, 0], [7, 10]]),
]


def test_summary_over_complete_seeds():
    summary = make_record(RUNS).metrics("acc", "bwt", "acc_pooled")
    assert list(summary) == ["acc", "bwt", "acc_pooled"]
    assert summary["acc"]["per_seed"] == pytest.approx([0.65, 0.75, 0.85])
    assert summary["acc"]["mean"] == pytest.approx(0.75)
    assert summary["acc"]["ci95"] == pytest.approx(list(t_interval([0.65, 0.75, 0.85])))
    assert (summary["acc"]["unit"], summary["acc"]["better"]) == ("fraction", "higher")
    assert summary["bwt"]["per_seed"] == pytest.approx([-0.4, -0.2, -0.3])
    assert {type(value) for value in summary["acc"]["per_seed"]} == {float}


def test_summary_of_all_metrics_and_of_ones_own():
    record = make_record(RUNS)
    everything = summarise(record)
    assert {"acc", "aia_pooled", "forgetting_l2p", "transfer_mtil"} <= everything.keys()
    assert "omega_hayes" not in everything  # needs an offline model

    def worst(R):
        return R[..., -1, :].amin(-1)

    own = summarise(record, [worst])["worst"]
    assert own["per_seed"] == pytest.approx([0.5, 0.6, 0.7]) and own["unit"] is None
    assert summarise(record, "acc").keys() == {"acc"}
    asked = summarise(record, ["fwt_libero"])["fwt_libero"]  # of curves, and there are none
    assert asked["mean"] is None or math.isnan(asked["mean"])
    assert "fwt_libero" not in everything
    with pytest.raises(UsageError, match="unknown metric 'ac'"):
        record.metrics("ac")


def test_summary_without_enough_seeds_or_without_meaning():
    two = make_record(RUNS[:2]).metrics("acc")["acc"]
    assert two["mean"] == pytest.approx(0.7) and two["ci95"] is None
    none = make_record([RUNS[2]]).metrics("acc")["acc"]
    assert (none["mean"], none["ci95"], none["per_seed"]) == (None, None, [])
    single = make_record([(seed, "complete", [[1], [9]]) for seed in range(3)], tasks=1).metrics("acc", "bwt")
    assert single["bwt"]["per_seed"] == [None] * 3 and single["bwt"]["mean"] is None and single["bwt"]["ci95"] is None
    assert single["acc"]["mean"] == pytest.approx(0.9)


def test_description_of_a_record():
    text = repr(make_record(RUNS))
    assert text == describe(make_record(RUNS))
    lines = text.splitlines()
    assert lines[0] == "naive on toy v1 (cil, 2 tasks)"
    assert lines[1] == "seeds: 3 complete (0, 1, 3); 1 partial (2)"
    low, high = t_interval([65, 75, 85])
    assert f"accuracy (ACC)                  75.00 %    [{low:.2f}, {high:.2f}]" in lines
    assert "  1  90.0  10.0" in lines and "  2  60.0  90.0" in lines
    assert lines[-1] == (
        "cost per seed: 1.5 MFLOP in training, 1,200 samples, 2.5 s; 40 of 5,000 parameters trained, 2 kB kept besides"
    )


def test_description_names_benchmark_and_deviations():
    text = describe(make_record(RUNS, name="toy-til", version=3, deviations=["epochs", "buffer"]))
    assert text.splitlines()[0].endswith("benchmark toy-til v3, deviating in epochs, buffer")


@pytest.mark.parametrize("runs", [[], [RUNS[2]]])
def test_description_without_a_complete_run(runs):
    lines = describe(make_record(runs)).splitlines()
    assert len(lines) == 2 and lines[1].startswith("seeds: 0 complete")


@pytest.mark.parametrize("tasks, shown", [(1, True), (12, True), (13, False)])
def test_description_is_short(tasks, shown):
    runs = [(seed, "complete", [[seed % 10] * tasks] * (tasks + 1)) for seed in range(40)]
    text = describe(make_record(runs, tasks))
    assert len(text.splitlines()) <= 25 and max(map(len, text.splitlines())) <= 120
    assert ("mean accuracy in %" in text) == shown
    assert ("not defined" in text) == (tasks == 1)
