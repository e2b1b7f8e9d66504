"""Every metric against its worked examples, against an oracle of plain loops, and against identities."""

from __future__ import annotations

import doctest
import math
import random
import subprocess
import sys
from fractions import Fraction

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.evaluation import metrics
from carryover.evaluation.metrics import compute
from hypothesis import given, settings
from hypothesis import strategies as st

torch.set_num_threads(1)
NAN = float("nan")


def matrix(rows, before=(0.1, 0.2, 0.1)):
    """Square matrix of rows after each task, with a row before training on top."""
    rows = [[NAN if cell is None else cell for cell in row] for row in rows]
    first = list(before) if len(before) == len(rows) else [NAN] * len(rows)
    return torch.tensor([first, *rows], dtype=torch.float64)


def close(value, expected):
    return value.item() == pytest.approx(expected, abs=1e-6, nan_ok=True)


# -- worked examples -----------------------------------------------------------------------------------------

A = matrix([[0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.6, 0.5, 0.9]])
B = matrix([[0.8, 0.1, 0.1], [0.9, 0.7, 0.2], [0.85, 0.75, 0.6]])
C = matrix([[0.6, 0.5, 0.5], [0.6, 0.9, 0.5], [0.2, 0.9, 1.0]])
D = matrix([[0.5, 0.9, 0.1], [0.5, 0.6, 0.1], [0.5, 0.4, 0.7]])
FOUR = matrix([[0.9, 0.6, 0.4, 0.2], [0.8, 0.9, 0.5, 0.3], [0.7, 0.8, 0.9, 0.1], [0.6, 0.7, 0.8, 0.9]])
N, REFERENCE = [100, 300, 600], [0.95, 0.85, 0.9]

TABLE = {  # name: values on A, B, C
    "acc": (0.666667, 0.733333, 0.7),
    "last": (0.666667, 0.733333, 0.7),
    "acc_pooled": (0.75, 0.67, 0.89),
    "aia": (0.772222, 0.777778, 0.683333),
    "aia_pooled": (0.808333, 0.74, 0.771667),
    "a_diaz_rodriguez": (0.733333, 0.766667, 0.7),
    "bwt": (-0.3, 0.05, -0.2),
    "forgetting_avalanche": (0.3, -0.05, 0.2),
    "bwt_gem_code": (-0.2, 0.033333, -0.133333),
    "forgetting_continual_world": (0.2, -0.033333, 0.133333),
    "bwt_diaz_rodriguez": (-0.266667, 0.066667, -0.133333),
    "rem": (0.733333, 1.0, 0.866667),
    "bwt_plus": (0.0, 0.066667, 0.0),
    "fwt_lopez_paz": (0.2, 0.0, 0.35),
    "fwt_gem_code": (0.133333, 0.0, 0.233333),
    "fwt_diaz_rodriguez": (0.3, 0.133333, 0.5),
    "fwt_clear": (0.3, 0.133333, 0.5),
    "forgetting_chaudhry": (0.3, 0.0, 0.2),
    "forgetting_l2p": (0.3, 0.025, 0.2),
    "la": (0.866667, 0.7, 0.833333),
    "in_domain_clear": (0.866667, 0.7, 0.833333),
    "intransigence": (0.033333, 0.2, 0.066667),
    "fwt_reference": (-0.033333, -0.2, -0.066667),
    "transfer_mtil": (0.3, 0.125, 0.5),
    "avg_mtil": (0.588889, 0.555556, 0.633333),
    "worst_task": (0.5, 0.6, 0.2),
    "nevis_error": (0.133333, 0.3, 0.166667),
}


@pytest.mark.parametrize("name", TABLE)
def test_worked_table(name):
    values = compute(torch.stack([A, B, C]), [name], n=N, reference=REFERENCE)[name]
    assert values.tolist() == pytest.approx(TABLE[name], abs=1e-6)


def test_matrix_that_separates_the_forgettings():
    assert close(metrics.forgetting_chaudhry(D), 0.1)
    assert close(metrics.forgetting_chaudhry_all(D), 0.25)
    assert close(metrics.forgetting_l2p(D), 0.1)
    assert close(metrics.bwt(D), -0.1)
    assert close(metrics.transfer_mtil(D), 0.5)


def test_row_before_training_is_no_zero_shot_row():
    high = matrix([[0.5, 0.9, 0.1], [0.5, 0.6, 0.1], [0.5, 0.4, 0.7]], before=[1.0, 1.0, 1.0])
    for name in ("forgetting_chaudhry_all", "forgetting_l2p", "transfer_mtil", "avg_mtil", "fwt_clear"):
        assert torch.equal(compute(high, [name])[name], compute(D, [name])[name])


def test_transfer_is_a_mean_of_columns_and_not_of_cells():
    assert close(metrics.transfer_mtil(FOUR), 0.416667)
    assert close(metrics.fwt_clear(FOUR), 0.35)
    assert close(metrics.avg_mtil(FOUR), 0.63125)
    assert close(metrics.last(FOUR), 0.75)


def test_clear():
    assert close(metrics.in_domain_clear(A), 0.866667)
    assert close(metrics.next_domain_clear(A), 0.35)
    assert close(metrics.bwt_clear(A), 0.6)
    assert close(metrics.fwt_clear(A), 0.3)


@pytest.mark.parametrize(
    "curve, area",
    [
        ([0, 0.2, 0.5, 0.4, 0.6, 0.6, 0.5, 0.55, 0.6, 0.5, 0.4], 0.481818),
        ([0, 0.4, 0.8, 0.6, 0.7, 0.8, 0.2, 0, 0.1, 0.5, 0.3], 0.690909),
    ],
)
def test_libero_curve_is_frozen_at_its_first_maximum(curve, area):
    assert close(metrics.fwt_libero(torch.tensor([curve], dtype=torch.float64)), area)


@pytest.mark.parametrize(
    "rows, areas, fwt, nbt, auc",
    [
        ([[0.8, None, None], [0.5, 0.9, None], [0.2, 0.6, 0.7]], [0.5, 0.6, 0.4], 0.5, 0.25, 0.466667),
        ([[0.6, None, None], [0.7, 0.8, None], [0.9, 0.8, 0.5]], [0.3, 0.7, 0.2], 0.4, -0.066667, 0.527778),
    ],
)
def test_libero(rows, areas, fwt, nbt, auc):
    R = matrix(rows, before=[])
    curves = torch.tensor(areas, dtype=torch.float64).unsqueeze(-1)
    assert close(metrics.fwt_libero(curves), fwt)
    assert close(metrics.nbt_libero(R), nbt)
    assert close(metrics.auc_libero(R, curves), auc)


def test_continual_world():
    own, base = torch.tensor([0.6, 0.5, 0.9]).double(), torch.tensor([0.4, 0.75, 0.8]).double()
    curves, reference = torch.stack([own - 0.1, own + 0.1], -1), torch.stack([base, base], -1)
    assert close(metrics.fwt_continual_world(curves, reference), -0.055556)
    single = [metrics.fwt_continual_world(c[None], r[None]).item() for c, r in zip(curves, reference, strict=True)]
    assert single == pytest.approx([0.333333, -1, 0.5], abs=1e-6)
    assert metrics.fwt_continual_world(curves[:1], torch.ones(1, 2)).isnan()


def test_continual_world_mean_over_seeds_before_or_after_the_ratio():
    curves, reference = torch.rand(7, 3, 5).double(), torch.rand(3, 5).double()
    after = metrics.fwt_continual_world(curves, reference).mean()
    assert close(after, metrics.fwt_continual_world(curves.mean(0), reference).item())


def test_nevis():
    own = torch.diag(torch.tensor([0.9, 0.6, 0.7, 0.4], dtype=torch.float64))
    R = torch.cat([torch.full((1, 4), NAN), own])
    top1 = torch.cat([torch.full((1, 3), NAN), own[:3, :3]])
    assert close(metrics.la(top1), 0.733333)
    assert close(metrics.la_pooled(top1, [100, 1000, 100]), 0.633333)
    assert close(metrics.nevis_error(R), 0.35)
    assert close(metrics.nevis_error(R, scored=[2, 3]), 0.45)


def test_regret():
    errors, reference = (
        torch.tensor([0.1, 0.4, 0.3, 0.6]).double(),
        torch.tensor([0.2, 0.3, 0.5, 0.7]).double(),
    )
    assert metrics.regret(errors, reference).tolist() == pytest.approx([-0.1, 0, -0.2, -0.3], abs=1e-6)
    assert metrics.regret_ratio(errors, reference).tolist() == pytest.approx([0.5, 1, 0.8, 0.823529], abs=1e-6)


def test_pareto():
    points = torch.tensor([[0.30, 10], [0.25, 20], [0.28, 25], [0.20, 80], [0.30, 12]])
    assert metrics.pareto(points).nonzero().flatten().tolist() == [0, 1, 3]
    assert metrics.pareto(torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])).tolist() == [True, True, False]


def test_lca():
    assert close(metrics.lca(torch.tensor([[0.1, 0.4, 0.6], [0.1, 0.6, 0.8]]).double()), 0.433333)


def test_anytime():
    assert close(metrics.aaa(torch.tensor([[0.2], [0.4], [0.6], [0.8]]).double(), [3]), 0.5)
    # two points of task 1, two of task 2; task 2 counts from its own first point on
    dense = torch.tensor([[0.2, 0.0], [0.6, 0.0], [0.2, 0.4], [0.4, 0.8]]).double()
    assert close(metrics.aaa(dense, [1, 3]), (0.2 + 0.6 + 0.3 + 0.6) / 4)
    assert close(metrics.min_acc(dense, [1, 3]), 0.2)
    assert close(metrics.wc_acc(dense, [1, 3]), 0.8 / 2 + 0.2 / 2)


def test_dense_metrics_at_task_ends_are_those_of_the_matrix():
    assert close(metrics.aaa(A[1:], [0, 1, 2]), metrics.aia(A).item())
    with pytest.raises(UsageError, match="3 rising indices"):
        metrics.aaa(A[1:], [0, 2, 1])
    with pytest.raises(UsageError, match="the last 2"):
        metrics.min_acc(A[1:], [0, 1, 3])


def test_omega_is_undefined_where_the_offline_model_knows_nothing():
    assert close(metrics.omega_hayes(A, N, [0.9, 0.775, 0.75]), 1.0)
    assert metrics.omega_hayes(A, N, [0.9, 0.0, 0.75]).isnan()


# -- the docstrings ------------------------------------------------------------------------------------------


def docstring_examples():
    parser = doctest.DocTestParser()
    shared = parser.get_doctest(metrics.__doc__, vars(metrics), "module", metrics.__file__, 0)
    doctest.DocTestRunner().run(shared, clear_globs=False)
    return [t for t in doctest.DocTestFinder().find(metrics, globs=shared.globs) if t.name != metrics.__name__]


@pytest.mark.parametrize("example", docstring_examples(), ids=lambda example: example.name)
def test_docstring(example):
    runner = doctest.DocTestRunner()
    assert runner.run(example).failed == 0


def test_every_metric_is_announced_described_and_exemplified():
    assert metrics.registry.entries.keys() >= TABLE.keys()
    for name, entry in metrics.registry.entries.items():
        function = metrics.registry.load(name)
        assert (function.name, function.unit, function.better) == (
            name,
            entry.options["unit"],
            entry.options["better"],
        )
        assert function.unit in ("fraction", "ratio") and function.better in ("higher", "lower")
        assert ">>>" in function.__doc__ and entry.summary.endswith(".")


def test_listing_metrics_imports_no_torch():
    code = "import sys, carryover.evaluation.metrics as m; m.registry.entries; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr


# -- the oracle: formulas as loops over exact fractions ------------------------------------------------------


class Unmeasured(Exception):
    """The formula looked at a cell that was not measured."""


def mean(values):
    values = list(values)
    return sum(values) / Fraction(len(values))  # of nothing: ZeroDivisionError, which is "not defined"


class Oracle:
    """Metrics of one matrix by tasks 1..T and times 0..T, as the papers write them. None is not measured."""

    def __init__(self, cells, n, reference, untrained, offline, curves):
        self.cells, self.T, self.n = cells, len(cells[0]), n
        self.reference, self.untrained, self.offline, self.curves = reference, untrained, offline, curves

    def r(self, i, j):
        if self.cells[i][j - 1] is None:
            raise Unmeasured
        return self.cells[i][j - 1]

    def value(self, name):
        try:
            return float(getattr(self, name)())
        except (Unmeasured, ZeroDivisionError):
            return NAN

    @property
    def tasks(self):
        return range(1, self.T + 1)

    def pooled(self, i, upto):
        tasks = range(1, upto + 1)
        return sum(self.n[j - 1] * self.r(i, j) for j in tasks) / sum(self.n[j - 1] for j in tasks)

    def share(self, value):
        return value * Fraction(self.T - 1, self.T)

    def acc(self):
        return mean(self.r(self.T, j) for j in self.tasks)

    last = acc

    def acc_pooled(self):
        return self.pooled(self.T, self.T)

    def worst_task(self):
        return min(self.r(self.T, j) for j in self.tasks)

    def aia(self):
        return mean(mean(self.r(i, j) for j in range(1, i + 1)) for i in self.tasks)

    def aia_pooled(self):
        return mean(self.pooled(i, i) for i in self.tasks)

    def a_diaz_rodriguez(self):
        total = sum(self.r(i, j) for i in self.tasks for j in range(1, i + 1))
        return total / Fraction(self.T * (self.T + 1), 2)

    def avg_mtil(self):
        return mean(self.r(i, j) for i in self.tasks for j in self.tasks)

    def la(self):
        return mean(self.r(j, j) for j in self.tasks)

    in_domain_clear = la

    def la_pooled(self):
        return sum(self.n[j - 1] * self.r(j, j) for j in self.tasks) / Fraction(sum(self.n))

    def omega_hayes(self):
        return mean(self.pooled(i, i) / self.offline[i - 1] for i in self.tasks)

    def bwt(self):
        return mean(self.r(self.T, j) - self.r(j, j) for j in range(1, self.T))

    def bwt_gem_code(self):
        return self.share(self.bwt())

    def bwt_diaz_rodriguez(self):
        return mean(self.r(i, j) - self.r(j, j) for i in self.tasks for j in range(1, i))

    def rem(self):
        return 1 - abs(min(self.bwt_diaz_rodriguez(), 0))

    def bwt_plus(self):
        return max(self.bwt_diaz_rodriguez(), 0)

    def bwt_clear(self):
        return mean(self.r(i, j) for i in self.tasks for j in range(1, i))

    def forgetting_chaudhry(self):
        T = self.T
        return mean(max(self.r(l, j) for l in range(j, T)) - self.r(T, j) for j in range(1, T))

    def forgetting_chaudhry_all(self):
        T = self.T
        return mean(max(self.r(l, j) for l in range(1, T)) - self.r(T, j) for j in range(1, T))

    def forgetting_l2p(self):
        T = self.T
        return mean(max(self.r(l, j) for l in range(j, T + 1)) - self.r(T, j) for j in range(1, T))

    def forgetting_avalanche(self):
        return mean(self.r(j, j) - self.r(self.T, j) for j in range(1, self.T))

    def forgetting_continual_world(self):
        return self.share(self.forgetting_avalanche())

    def nbt_libero(self):
        T = self.T
        return self.share(mean(mean(self.r(j, j) - self.r(t, j) for t in range(j + 1, T + 1)) for j in range(1, T)))

    def fwt_lopez_paz(self):
        return mean(self.r(j - 1, j) - self.r(0, j) for j in range(2, self.T + 1))

    def fwt_gem_code(self):
        return self.share(self.fwt_lopez_paz())

    def fwt_mammoth(self):
        return mean(self.r(j - 1, j) - self.untrained[j - 1] for j in range(2, self.T + 1))

    def fwt_diaz_rodriguez(self):
        return mean(self.r(i, j) for i in self.tasks for j in range(i + 1, self.T + 1))

    fwt_clear = fwt_diaz_rodriguez

    def transfer_mtil(self):
        return mean(mean(self.r(i, j) for i in range(1, j)) for j in range(2, self.T + 1))

    def next_domain_clear(self):
        return mean(self.r(i, i + 1) for i in range(1, self.T))

    def intransigence(self):
        return mean(self.reference[j - 1] - self.r(j, j) for j in self.tasks)

    def fwt_reference(self):
        return -self.intransigence()

    def nevis_error(self):
        return mean(1 - self.r(j, j) for j in self.tasks)

    def area(self, j):
        curve, frozen, peak = self.curves[j - 1], [], None
        for value in curve:
            if peak is None and value == max(curve):
                peak = value
            frozen.append(value if peak is None else peak)
        return mean(frozen)

    def fwt_libero(self):
        return mean(self.area(j) for j in self.tasks)

    def auc_libero(self):
        T = self.T
        return mean(
            (self.area(j) + sum(self.r(t, j) for t in range(j + 1, T + 1))) / Fraction(1 + T - j) for j in self.tasks
        )


ORACLE = [name for name in metrics.registry.entries if hasattr(Oracle, name)]
ELSEWHERE = {"fwt_continual_world", "lca", "aaa", "min_acc", "wc_acc"}  # of other inputs; tested above


def random_case(T, batch, holes, seed):
    """A stack of matrices [*batch, T+1, T] with holes, everything a metric may ask for, and its oracles."""
    draw = random.Random(seed)
    n = [draw.randint(1, 50) for _ in range(T)]
    some = lambda: Fraction(draw.randint(1, 20), 20)
    reference, untrained, offline = ([some() for _ in range(T)] for _ in range(3))
    oracles = []
    for _ in range(math.prod(batch)):
        cells = [[Fraction(draw.randint(0, m), m) if draw.random() >= holes else None for m in n] for _ in range(T + 1)]
        curves = [[Fraction(draw.randint(0, 4), 4) for _ in range(6)] for _ in range(T)]  # coarse, for equal maxima
        oracles.append(Oracle(cells, n, reference, untrained, offline, curves))
    tensor = lambda rows: torch.tensor(rows, dtype=torch.float64)
    number = lambda cell: NAN if cell is None else float(cell)
    R = tensor([[[number(cell) for cell in row] for row in oracle.cells] for oracle in oracles])
    curves = tensor([[[float(value) for value in curve] for curve in oracle.curves] for oracle in oracles])
    extras = {"n": n, "curves": curves.reshape(*batch, T, 6)}
    extras |= {"reference": list(map(float, reference)), "untrained": list(map(float, untrained))}
    extras |= {"offline": list(map(float, offline))}
    return R.reshape(*batch, T + 1, T), extras, oracles


def test_oracle_knows_every_metric():
    assert set(ORACLE) | ELSEWHERE == metrics.registry.entries.keys()


@pytest.mark.parametrize("holes", [0.0, 0.04, 0.3])
@pytest.mark.parametrize("T, batch", [(1, (4,)), (2, (3, 5)), (3, ()), (5, (2, 3, 4)), (8, (10,))])
def test_batched_against_the_oracle(T, batch, holes):
    R, extras, oracles = random_case(T, batch, holes, seed=100 * T + int(100 * holes))
    results = compute(R, **extras)
    assert set(results) == set(ORACLE)
    for name, values in results.items():
        assert values.shape == torch.Size(batch) and values.dtype == torch.float64
        expected = [oracle.value(name) for oracle in oracles]
        assert values.flatten().tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_batched_equals_one_by_one():
    R, extras, _ = random_case(6, (7,), 0.02, seed=0)
    together = compute(R, **extras)
    for index, alone in enumerate(R):
        for name, value in compute(alone, **extras | {"curves": extras["curves"][index]}).items():
            torch.testing.assert_close(together[name][index], value, rtol=0, atol=1e-14, equal_nan=True)


# -- edge cases ----------------------------------------------------------------------------------------------


def test_one_task_has_no_transfer_and_no_forgetting():
    R, extras, _ = random_case(1, (), 0.0, seed=3)
    undefined = {name for name, value in compute(R, **extras).items() if value.isnan()}
    assert undefined == {
        "bwt", "bwt_gem_code", "bwt_diaz_rodriguez", "rem", "bwt_plus", "bwt_clear", "nbt_libero",
        "forgetting_chaudhry", "forgetting_chaudhry_all", "forgetting_l2p", "forgetting_avalanche",
        "forgetting_continual_world", "fwt_lopez_paz", "fwt_gem_code", "fwt_mammoth", "fwt_diaz_rodriguez",
        "fwt_clear", "transfer_mtil", "next_domain_clear",
    }  # fmt: skip


def test_unmeasured_cells_matter_where_they_are_needed_and_there_alone():
    lower = A.clone()
    lower[:] = NAN
    lower[1:] = A[1:].where(torch.ones(3, 3).tril().bool(), torch.tensor(NAN))
    for name in ("acc", "aia", "bwt", "forgetting_chaudhry", "forgetting_l2p", "la", "nbt_libero"):
        assert torch.equal(compute(lower, [name])[name], compute(A, [name])[name]), name
    for name in ("avg_mtil", "transfer_mtil", "fwt_lopez_paz", "fwt_clear", "forgetting_chaudhry_all"):
        assert compute(lower, [name])[name].isnan(), name
    lower[2, 0] = NAN  # a maximum over an unmeasured cell is not measured
    assert metrics.forgetting_chaudhry(lower).isnan() and metrics.forgetting_l2p(lower).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept(dtype):
    R, extras, _ = random_case(4, (2,), 0.0, seed=1)
    extras["curves"] = extras["curves"].to(dtype)
    assert {value.dtype for value in compute(R.to(dtype), **extras).values()} == {dtype}


def test_result_stays_on_the_device():
    R, extras, _ = random_case(4, (2,), 0.0, seed=1)
    extras["curves"] = extras["curves"].to("meta")
    assert {value.device.type for value in compute(R.to("meta"), **extras).values()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu():
    R, extras, _ = random_case(6, (50,), 0.05, seed=2)
    there = compute(R.cuda(), **extras | {"curves": extras["curves"].cuda()})
    for name, value in compute(R, **extras).items():
        torch.testing.assert_close(there[name].cpu(), value, rtol=0, atol=1e-12, equal_nan=True)


# -- compute -------------------------------------------------------------------------------------------------


def test_a_metric_whose_needs_are_missing_does_not_apply():
    assert "acc_pooled" not in compute(A) and "acc_pooled" in compute(A, n=N)
    assert "auc_libero" not in compute(A) and "lca" in compute(A, batch_curves=torch.rand(3, 11))
    with pytest.raises(UsageError, match="'omega_hayes' needs offline: pass offline"):
        compute(A, ["acc", "omega_hayes"], n=N)


def test_names_choose_and_keep_their_order():
    assert list(compute(A, ["bwt", "acc"])) == ["bwt", "acc"]
    assert compute(A, "acc").keys() == {"acc"}


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'forgetting_chaudhry'"):
        compute(A, ["forgeting_chaudhry"])
    with pytest.raises(UsageError, match="Did you mean 'reference'"):
        compute(A, refrence=REFERENCE)


def test_metrics_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text("def spread(R):\n    return R[..., -1, :].amax(-1) - R[..., -1, :].amin(-1)\n")
    address = f"{tmp_path / 'mine.py'}:spread"
    assert close(compute(A, [address])[address], 0.4)

    def gap(R, floor):
        return metrics.acc(R) - floor

    assert close(compute(A, [gap], floor=0.5)["gap"], 0.166667)
    assert close(compute(A, metrics.acc)["acc"], 0.666667)


@pytest.mark.parametrize("shape", [(3, 3), (3,), (3, 4), (1, 0)])
def test_a_stack_without_its_row_before_training_is_refused(shape):
    with pytest.raises(UsageError, match="row 0 taken before any training"):
        compute(torch.zeros(shape))
    with pytest.raises(UsageError, match="row 0 taken before any training"):
        metrics.acc(torch.zeros(shape))


def test_counts_and_wrong_sizes_are_refused():
    with pytest.raises(UsageError, match="divide counts"):
        compute(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(UsageError, match="one number for each of 3 tasks"):
        compute(A, n=[100])


# -- identities ----------------------------------------------------------------------------------------------

stacks = st.integers(2, 7).flatmap(
    lambda T: st.lists(st.lists(st.integers(0, 100), min_size=T, max_size=T), min_size=T + 1, max_size=T + 1).map(
        lambda rows: torch.tensor(rows, dtype=torch.float64) / 100
    )
)
DIFFERENCES = [name for name in ORACLE if name.startswith(("bwt", "forgetting", "fwt_lopez", "fwt_gem", "nbt"))]
DIFFERENCES.remove("bwt_clear")
ACCURACIES = ["acc", "acc_pooled", "last", "worst_task", "aia", "aia_pooled", "a_diaz_rodriguez", "avg_mtil",
              "la", "la_pooled", "bwt_clear", "fwt_clear", "transfer_mtil", "next_domain_clear"]  # fmt: skip


def values(R, names):
    return torch.stack(list(compute(R, names, n=list(range(1, R.shape[-1] + 1))).values()))


@settings(max_examples=60, deadline=None)
@given(stacks)
def test_acc_is_learning_accuracy_plus_backward_transfer(R):
    T = R.shape[-1]
    assert close(metrics.acc(R), (metrics.la(R) + metrics.bwt(R) * (T - 1) / T).item())
    assert close(metrics.acc(R), (metrics.la(R) + metrics.bwt_gem_code(R)).item())


@settings(max_examples=60, deadline=None)
@given(stacks, st.floats(0.01, 1))
def test_scores_scale(R, factor):
    names = ACCURACIES + DIFFERENCES
    torch.testing.assert_close(values(factor * R, names), factor * values(R, names), rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(stacks, st.floats(-1, 1))
def test_a_shift_moves_accuracies_and_leaves_differences(R, shift):
    torch.testing.assert_close(values(R + shift, ACCURACIES), values(R, ACCURACIES) + shift, rtol=0, atol=1e-12)
    torch.testing.assert_close(values(R + shift, DIFFERENCES), values(R, DIFFERENCES), rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(stacks, st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter_where_the_formula_has_none(R, draw):
    T = R.shape[-1]
    columns = draw.sample(range(T), T)
    for name in ("acc", "avg_mtil", "worst_task"):  # of columns alone
        assert close(compute(R[:, columns], [name])[name], compute(R, [name])[name].item())
    early = [*draw.sample(range(T - 1), T - 1), T - 1]  # rows and columns together, the last task last
    moved = R[[0, *(i + 1 for i in early)]][:, early]
    for name in (
        "la",
        "nevis_error",
        "bwt",
        "forgetting_avalanche",
        "forgetting_chaudhry_all",
        "in_domain_clear",
    ):
        assert close(compute(moved, [name])[name], compute(R, [name])[name].item())


@settings(max_examples=60, deadline=None)
@given(stacks)
def test_forgettings_are_ordered(R):
    least, most = metrics.forgetting_avalanche(R), metrics.forgetting_chaudhry_all(R)
    assert least <= metrics.forgetting_chaudhry(R) + 1e-12 and metrics.forgetting_chaudhry(R) <= most + 1e-12
    assert metrics.forgetting_l2p(R) >= 0 and metrics.forgetting_l2p(R) >= metrics.forgetting_chaudhry(R) - 1e-12
