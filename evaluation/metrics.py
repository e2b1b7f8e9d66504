"""Every metric under a name of its own: papers use one name for several things, here one is one definition.

A metric is a pure function of a stack of transfer matrices R [..., T+1, T], on any device, in R's precision.
Below, R[i, j] is the score on task j (1..T) after learning task i; row 0 is *before any training*. NaN means
not measured, and a formula that needs such a cell gives NaN; so does a formula about other tasks when T is 1.

A metric asks for what else it needs by the names of its parameters:

    n                 [T] test sizes
    reference         [T] scores of a reference model: joint training, or each task by itself
    offline           [T] pooled accuracy, over tasks 1..i, of a model trained offline on tasks 1..i
    untrained         [T] scores of a randomly initialised network
    curves            [..., T, E] score on task j at E evenly spaced points of its own training
    reference_curves  [..., T, E] the same of a model that learns each task by itself
    batch_curves      [..., T, b+1] score on task j after 0..b batches of its own training
    anytime, ends     [..., S, T] scores at S evenly spaced points of the whole stream; for each task
                      the index of its last point

Each docstring ends with a worked example, which runs as a test. The examples share

    >>> import torch
    >>> A = torch.tensor([[.1, .2, .1], [.9, .3, .2], [.7, .8, .4], [.6, .5, .9]], dtype=torch.float64)
    >>> B = torch.tensor([[.1, .2, .1], [.8, .1, .1], [.9, .7, .2], [.85, .75, .6]], dtype=torch.float64)
    >>> D = torch.tensor([[.1, .2, .1], [.5, .9, .1], [.5, .6, .1], [.5, .4, .7]], dtype=torch.float64)
    >>> n, reference = [100, 300, 600], [.95, .85, .9]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..base.errors import UsageError, unknown
from ..base.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    Metric = Callable[..., Tensor]

registry = Registry("metric", "carryover.evaluation", Path(__file__).parent, "carryover.metrics")


def metric(
    name: str, *, unit: str, better: Literal["higher", "lower"], label: str = "", difference: bool = False
) -> Callable[[Metric], Metric]:
    """Announce a metric. The arguments are literals, because the registry reads them from the source.

    Args:
        unit: "fraction" (an accuracy or a difference of accuracies, 1 is 100 %) or "ratio" (no upper end).
        label: what stands above a column; the name, where none is given.
        difference: of accuracies, which is shown in percentage points and may be negative.
    """

    def attach(function: Metric) -> Metric:
        function.name, function.unit, function.better = name, unit, better
        function.label, function.difference = label or name, difference
        return function

    return attach


def compute(R: Tensor, names: Iterable[str | Metric] = (), **extras: Any) -> dict[str, Tensor]:
    """Metrics of a stack of matrices by name: those asked for, or else all whose needs are given.

    Args:
        R: [..., T+1, T] float, row 0 before any training.
        names: announced names, `path/to/file.py:function`, or functions; strings are kept as keys.
        extras: what metrics need beyond R, by name, such as `n=[100, 300]`.

    Returns:
        name to [...] tensor: one value for each matrix of the stack.

    >>> {name: round(value.item(), 6) for name, value in compute(A, ["acc", "bwt"]).items()}
    {'acc': 0.666667, 'bwt': -0.3}
    """
    _trained(R)
    given = {"R": R, **extras}
    names = [names] if isinstance(names, str) or callable(names) else list(names)
    chosen = dict(resolve(name) for name in names or registry.entries)
    results, asked = {}, set()
    for name, function in chosen.items():
        needs = signature(function).parameters
        asked |= needs.keys()
        missing = [key for key, p in needs.items() if p.default is Parameter.empty and key not in given]
        if not missing:
            results[name] = function(**{key: given[key] for key in needs if key in given})
        elif names:
            raise UsageError(f"the metric {name!r} needs {' and '.join(missing)}: pass {missing[0]}=... as well.")
    if not names:
        for extra in extras.keys() - asked:  # a misspelt need would silently drop the metrics that have it
            raise unknown("extra of metrics", extra, asked - {"R"})
    return results


def resolve(name: str | Metric) -> tuple[str, Metric]:
    """The name under which a metric is reported, and its function; unknown names raise."""
    if callable(name):
        return getattr(name, "name", name.__name__), name
    return name, registry.load(name)


# -- accuracy ------------------------------------------------------------------------------------------------


@metric("acc", unit="fraction", better="higher", label="ACC")
def acc(R: Tensor) -> Tensor:
    """Average accuracy after the last task: mean_j R[T, j].

    Lopez-Paz & Ranzato 2017, eq. 2. Every task counts the same, however large its test set.

    >>> f"{acc(A):.6f}"
    '0.666667'
    """
    return _trained(R)[..., -1, :].mean(-1)


@metric("acc_pooled", unit="fraction", better="higher", label="ACC, pooled")
def acc_pooled(R: Tensor, n: Tensor) -> Tensor:
    """Accuracy after the last task over all test samples: sum_j n_j R[T, j] / sum_j n_j.

    The "accuracy" of PILOT and of ZSCL's class-incremental tables.

    >>> f"{acc_pooled(A, n):.6f}"
    '0.750000'
    """
    return _pooled(_trained(R)[..., -1, :], n)


@metric("last", unit="fraction", better="higher", label="Last")
def last(R: Tensor) -> Tensor:
    """Last of MTIL: mean_j R[T, j]; the same as `acc`.

    Zheng et al. 2023 (ZSCL). The Last of class-incremental tables is `acc_pooled`.

    >>> f"{last(B):.6f}"
    '0.733333'
    """
    return acc(R)


@metric("worst_task", unit="fraction", better="higher", label="Worst task")
def worst_task(R: Tensor) -> Tensor:
    """Accuracy on the worst task after the last: min_j R[T, j].

    >>> f"{worst_task(A):.6f}"
    '0.500000'
    """
    return _trained(R)[..., -1, :].amin(-1)


@metric("aia", unit="fraction", better="higher", label="AIA")
def aia(R: Tensor) -> Tensor:
    """Average incremental accuracy: mean_i mean_{j<=i} R[i, j].

    Rebuffi et al. 2017 (iCaRL), with tasks weighted equally. The first step counts; some papers drop it.

    >>> f"{aia(A):.6f}"
    '0.772222'
    """
    X = _trained(R)
    seen = _ones(X).tril()
    return (_only(X, seen).sum(-1) / seen.sum(-1)).mean(-1)


@metric("aia_pooled", unit="fraction", better="higher", label="AIA, pooled")
def aia_pooled(R: Tensor, n: Tensor) -> Tensor:
    """Average incremental accuracy over all samples seen: mean_i (sum_{j<=i} n_j R[i, j] / sum_{j<=i} n_j).

    Rebuffi et al. 2017 (iCaRL); "Average Accuracy" of PILOT, "Avg" of ZSCL's class-incremental tables.

    >>> f"{aia_pooled(A, n):.6f}"
    '0.808333'
    """
    return _incremental_pooled(R, n).mean(-1)


@metric("a_diaz_rodriguez", unit="fraction", better="higher")
def a_diaz_rodriguez(R: Tensor) -> Tensor:
    """Accuracy over time: sum_{j<=i} R[i, j] / (T (T+1) / 2).

    Díaz-Rodríguez et al. 2018. Late rows have more cells and weigh more than in `aia`.

    >>> f"{a_diaz_rodriguez(A):.6f}"
    '0.733333'
    """
    X = _trained(R)
    return _cell_mean(X, _ones(X).tril())


@metric("avg_mtil", unit="fraction", better="higher", label="Avg")
def avg_mtil(R: Tensor) -> Tensor:
    """Avg of MTIL: mean of all T x T cells after training began, zero-shot, fresh and forgotten alike.

    Zheng et al. 2023 (ZSCL).

    >>> f"{avg_mtil(A):.6f}"
    '0.588889'
    """
    return _trained(R).mean((-2, -1))


@metric("la", unit="fraction", better="higher", label="Learning accuracy")
def la(R: Tensor) -> Tensor:
    """Learning accuracy: mean_j R[j, j]. ACC = LA + BWT (T-1)/T.

    Riemer et al. 2019 (MER); "learning_acc" in the L2P code.

    >>> f"{la(A):.6f}"
    '0.866667'
    """
    return _own(R).mean(-1)


@metric("la_pooled", unit="fraction", better="higher")
def la_pooled(R: Tensor, n: Tensor) -> Tensor:
    """Learning accuracy over all test samples: sum_j n_j R[j, j] / sum_j n_j.

    The weighted top-1 in the summary of the dm_nevis code.

    >>> f"{la_pooled(A, n):.6f}"
    '0.870000'
    """
    return _pooled(_own(R), n)


@metric("omega_hayes", unit="ratio", better="higher")
def omega_hayes(R: Tensor, n: Tensor, offline: Tensor) -> Tensor:
    """Omega: mean_i (pooled accuracy on tasks 1..i after task i) / offline_i. NaN where an offline_i is 0.

    Hayes et al. 2019 (streaming learning with memory efficient replay).

    >>> f"{omega_hayes(A, n, offline=[.9, .775, 1.0]):.6f}"
    '0.916667'
    """
    offline = _per_task(offline, R, "offline")
    return (_incremental_pooled(R, n) / _nonzero(offline)).mean(-1)


# -- backward transfer and forgetting ------------------------------------------------------------------------


@metric("bwt", unit="fraction", better="higher", label="BWT", difference=True)
def bwt(R: Tensor) -> Tensor:
    """Backward transfer: mean_{j<T} (R[T, j] - R[j, j]).

    Lopez-Paz & Ranzato 2017, eq. 3, as printed.

    >>> f"{bwt(A):.6f}"
    '-0.300000'
    """
    return (_trained(R)[..., -1, :] - _own(R))[..., :-1].mean(-1)


@metric("bwt_gem_code", unit="fraction", better="higher", difference=True)
def bwt_gem_code(R: Tensor) -> Tensor:
    """Backward transfer as the GEM code has it: sum_{j<T} (R[T, j] - R[j, j]) / T.

    Lopez-Paz & Ranzato 2017, published code, which divides by T where the paper divides by T-1.

    >>> f"{bwt_gem_code(A):.6f}"
    '-0.200000'
    """
    return bwt(R) * _others_share(R)


@metric("bwt_diaz_rodriguez", unit="fraction", better="higher", difference=True)
def bwt_diaz_rodriguez(R: Tensor) -> Tensor:
    """Backward transfer at all times: mean over cells j<i of (R[i, j] - R[j, j]).

    Díaz-Rodríguez et al. 2018.

    >>> f"{bwt_diaz_rodriguez(A):.6f}"
    '-0.266667'
    """
    X = _trained(R)
    return _cell_mean(X - _own(R).unsqueeze(-2), _ones(X).tril(-1))


@metric("rem", unit="fraction", better="higher")
def rem(R: Tensor) -> Tensor:
    """Remembering: 1 - |min(BWT, 0)| with the BWT of `bwt_diaz_rodriguez`.

    Díaz-Rodríguez et al. 2018.

    >>> f"{rem(A):.6f}"
    '0.733333'
    """
    return 1 + bwt_diaz_rodriguez(R).clamp(max=0)


@metric("bwt_plus", unit="fraction", better="higher", difference=True)
def bwt_plus(R: Tensor) -> Tensor:
    """Positive backward transfer: max(BWT, 0) with the BWT of `bwt_diaz_rodriguez`.

    Díaz-Rodríguez et al. 2018.

    >>> f"{bwt_plus(B):.6f}"
    '0.066667'
    """
    return bwt_diaz_rodriguez(R).clamp(min=0)


@metric("bwt_clear", unit="fraction", better="higher")
def bwt_clear(R: Tensor) -> Tensor:
    """Backward transfer of CLEAR, an accuracy and not a difference: mean of the cells j<i.

    Lin et al. 2021 (CLEAR).

    >>> f"{bwt_clear(A):.6f}"
    '0.600000'
    """
    X = _trained(R)
    return _cell_mean(X, _ones(X).tril(-1))


@metric("forgetting_chaudhry", unit="fraction", better="lower", label="Forgetting", difference=True)
def forgetting_chaudhry(R: Tensor) -> Tensor:
    """Forgetting: mean_{j<T} (max_{j<=l<T} R[l, j] - R[T, j]); negative where the last row is the best.

    Chaudhry et al. 2018, as computed where cells before a task is learnt are zeros.

    >>> f"{forgetting_chaudhry(A):.6f}", f"{forgetting_chaudhry(D):.6f}"
    ('0.300000', '0.100000')
    """
    return _forgetting(R, learnt=True, final=False)


@metric("forgetting_chaudhry_all", unit="fraction", better="lower", difference=True)
def forgetting_chaudhry_all(R: Tensor) -> Tensor:
    """Forgetting with zero-shot rows: mean_{j<T} (max_{1<=l<T} R[l, j] - R[T, j]).

    Chaudhry et al. 2018, as printed. Row 0 does not take part: it is no model of the sequence.

    >>> f"{forgetting_chaudhry_all(D):.6f}"
    '0.250000'
    """
    return _forgetting(R, learnt=False, final=False)


@metric("forgetting_l2p", unit="fraction", better="lower", difference=True)
def forgetting_l2p(R: Tensor) -> Tensor:
    """Forgetting that is never negative: mean_{j<T} (max_{j<=l<=T} R[l, j] - R[T, j]).

    The code of L2P, DualPrompt and PILOT (Wang et al. 2022): the last row takes part in the maximum.

    >>> f"{forgetting_l2p(B):.6f}", f"{forgetting_l2p(D):.6f}"
    ('0.025000', '0.100000')
    """
    return _forgetting(R, learnt=True, final=True)


@metric("forgetting_avalanche", unit="fraction", better="lower", difference=True)
def forgetting_avalanche(R: Tensor) -> Tensor:
    """Forgetting since a task was learnt: mean_{j<T} (R[j, j] - R[T, j]) = -BWT.

    Stream forgetting of Avalanche (Lomonaco et al. 2021).

    >>> f"{forgetting_avalanche(A):.6f}"
    '0.300000'
    """
    return -bwt(R)


@metric("forgetting_continual_world", unit="fraction", better="lower", difference=True)
def forgetting_continual_world(R: Tensor) -> Tensor:
    """Forgetting averaged over all T tasks, the last with 0: sum_j (R[j, j] - R[T, j]) / T.

    Wołczyk et al. 2021 (Continual World).

    >>> f"{forgetting_continual_world(A):.6f}"
    '0.200000'
    """
    return -bwt_gem_code(R)


@metric("nbt_libero", unit="fraction", better="lower", difference=True)
def nbt_libero(R: Tensor) -> Tensor:
    """Negative backward transfer: sum_{j<T} mean_{t>j} (R[j, j] - R[t, j]) / T; positive is forgetting.

    Liu et al. 2023 (LIBERO). Row j comes from the best checkpoint of task j.

    >>> f"{nbt_libero(A):.6f}"
    '0.183333'
    """
    X = _trained(R)
    later = _ones(X).tril(-1)
    drops = _only(_own(R).unsqueeze(-2) - X, later).sum(-2) / later.sum(-2)
    return drops[..., :-1].mean(-1) * _others_share(R)


# -- forward transfer and zero-shot --------------------------------------------------------------------------


@metric("fwt_lopez_paz", unit="fraction", better="higher", label="FWT", difference=True)
def fwt_lopez_paz(R: Tensor) -> Tensor:
    """Forward transfer: mean_{j>1} (R[j-1, j] - R[0, j]).

    Lopez-Paz & Ranzato 2017, eq. 4. Says little with a head per task: that of a task to come is untrained.

    >>> f"{fwt_lopez_paz(A):.6f}"
    '0.200000'
    """
    return (_before(R) - R[..., 0, 1:]).mean(-1)


@metric("fwt_gem_code", unit="fraction", better="higher", difference=True)
def fwt_gem_code(R: Tensor) -> Tensor:
    """Forward transfer as the GEM code has it: sum_{j>1} (R[j-1, j] - R[0, j]) / T.

    Lopez-Paz & Ranzato 2017, published code.

    >>> f"{fwt_gem_code(A):.6f}"
    '0.133333'
    """
    return fwt_lopez_paz(R) * _others_share(R)


@metric("fwt_mammoth", unit="fraction", better="higher", difference=True)
def fwt_mammoth(R: Tensor, untrained: Tensor) -> Tensor:
    """Forward transfer against another random network: mean_{j>1} (R[j-1, j] - untrained_j).

    The code of Mammoth (Buzzega et al. 2020), whose baseline is not the network that is trained.

    >>> f"{fwt_mammoth(A, untrained=[.5, .1, .2]):.6f}"
    '0.200000'
    """
    return (_before(R) - _per_task(untrained, R, "untrained")[..., 1:]).mean(-1)


@metric("fwt_diaz_rodriguez", unit="fraction", better="higher")
def fwt_diaz_rodriguez(R: Tensor) -> Tensor:
    """Forward transfer without a baseline: mean of the cells 1<=i<j.

    Díaz-Rodríguez et al. 2018.

    >>> f"{fwt_diaz_rodriguez(A):.6f}"
    '0.300000'
    """
    X = _trained(R)
    return _cell_mean(X, _ones(X).triu(1))


@metric("fwt_clear", unit="fraction", better="higher")
def fwt_clear(R: Tensor) -> Tensor:
    """Forward transfer of CLEAR: mean of the cells 1<=i<j; the same as `fwt_diaz_rodriguez`.

    Lin et al. 2021 (CLEAR).

    >>> f"{fwt_clear(B):.6f}"
    '0.133333'
    """
    return fwt_diaz_rodriguez(R)


@metric("transfer_mtil", unit="fraction", better="higher", label="Transfer")
def transfer_mtil(R: Tensor) -> Tensor:
    """Transfer of MTIL: mean_{j>1} mean_{1<=i<j} R[i, j], a mean of column means.

    Zheng et al. 2023 (ZSCL). Comparable within one order of the tasks alone.

    >>> f"{transfer_mtil(B):.6f}"
    '0.125000'
    """
    X = _trained(R)
    ahead = _ones(X).triu(1)
    return (_only(X, ahead).sum(-2) / ahead.sum(-2))[..., 1:].mean(-1)


@metric("in_domain_clear", unit="fraction", better="higher")
def in_domain_clear(R: Tensor) -> Tensor:
    """In-domain accuracy of CLEAR: mean_j R[j, j]; the same as `la`.

    Lin et al. 2021 (CLEAR).

    >>> f"{in_domain_clear(B):.6f}"
    '0.700000'
    """
    return la(R)


@metric("next_domain_clear", unit="fraction", better="higher")
def next_domain_clear(R: Tensor) -> Tensor:
    """Accuracy on the task to come next: mean_{j>1} R[j-1, j].

    Lin et al. 2021 (CLEAR).

    >>> f"{next_domain_clear(A):.6f}"
    '0.350000'
    """
    return _before(R).mean(-1)


@metric("intransigence", unit="fraction", better="lower", difference=True)
def intransigence(R: Tensor, reference: Tensor) -> Tensor:
    """Inability to learn: mean_j (reference_j - R[j, j]); negative where earlier tasks helped.

    Chaudhry et al. 2018; their reference for task j is a model trained jointly on tasks 1..j.

    >>> f"{intransigence(A, reference):.6f}"
    '0.033333'
    """
    return (_per_task(reference, R, "reference") - _own(R)).mean(-1)


@metric("fwt_reference", unit="fraction", better="higher", difference=True)
def fwt_reference(R: Tensor, reference: Tensor) -> Tensor:
    """Forward transfer against a reference: mean_j (R[j, j] - reference_j) = -intransigence.

    Lin et al. 2022 (TRGP, CUBER); their reference is a model that learns task j by itself.

    >>> f"{fwt_reference(A, reference):.6f}"
    '-0.033333'
    """
    return -intransigence(R, reference)


@metric("nevis_error", unit="fraction", better="lower")
def nevis_error(R: Tensor, scored: list[int] | None = None) -> Tensor:
    """Error right after learning: mean_j (1 - R[j, j]), where R is top-1 accuracy or mean average precision.

    Bornschein et al. 2023 (NEVIS'22). `scored` are the tasks that count, from 0; all of them by default. The
    paper counts the last ones, on which nobody tuned.

    >>> f"{nevis_error(A):.6f}", f"{nevis_error(A, scored=[1, 2]):.6f}"
    ('0.133333', '0.150000')
    """
    own = _own(R)
    return 1 - (own if scored is None else own[..., scored]).mean(-1)


# -- learning curves -----------------------------------------------------------------------------------------


@metric("fwt_libero", unit="fraction", better="higher")
def fwt_libero(curves: Tensor) -> Tensor:
    """Forward transfer of LIBERO, a speed of learning: mean_j mean_e of curves frozen at their first maximum.

    Liu et al. 2023 (LIBERO). Never negative, and unrelated to other forward transfers.

    >>> s = torch.tensor([[0, .2, .5, .4, .6, .6, .5, .55, .6, .5, .4]], dtype=torch.float64)
    >>> f"{fwt_libero(s):.6f}"
    '0.481818'
    """
    return _frozen_area(curves).mean(-1)


@metric("auc_libero", unit="fraction", better="higher")
def auc_libero(R: Tensor, curves: Tensor) -> Tensor:
    """Area under the success curve: mean_j (area_j + sum_{t>j} R[t, j]) / (1 + T - j).

    Liu et al. 2023 (LIBERO). area_j is the area under the frozen curve, as in `fwt_libero`.

    >>> f"{auc_libero(A, curves=torch.tensor([[.5], [.6], [.4]])):.6f}"
    '0.516667'
    """
    X = _trained(R)
    later = _ones(X).tril(-1)
    areas = _per_task(_frozen_area(curves), R, "areas under the curves")
    return ((areas + _only(X, later).sum(-2)) / (1 + later.sum(-2))).mean(-1)


@metric("fwt_continual_world", unit="ratio", better="higher")
def fwt_continual_world(curves: Tensor, reference_curves: Tensor) -> Tensor:
    """Forward transfer of Continual World: mean_j (a_j - b_j) / (1 - b_j).

    Wołczyk et al. 2021. a_j and b_j are the areas under a task's curve and its reference curve; NaN where a
    b_j is 1. The paper averages the reference over its seeds *before* the ratio: pass that mean. Over the
    seeds of `curves` a mean before or after is the same, for the ratio is linear in a_j.

    >>> own, alone = torch.tensor([[.6], [.5], [.9]]), torch.tensor([[.4], [.75], [.8]])
    >>> f"{fwt_continual_world(own, alone):.6f}"
    '-0.055556'
    """
    area, base = curves.mean(-1), reference_curves.mean(-1)
    return ((area - base) / _nonzero(1 - base)).mean(-1)


@metric("lca", unit="fraction", better="higher")
def lca(batch_curves: Tensor) -> Tensor:
    """Learning curve area: mean over b of Z_b, the mean over tasks of the accuracy after b batches of a task.

    Chaudhry et al. 2019 (A-GEM), with b from 0 to 10: give the first eleven points.

    >>> f"{lca(torch.tensor([[.1, .5, .7]])):.6f}"
    '0.433333'
    """
    return batch_curves.mean((-2, -1))


# -- dense evaluation ----------------------------------------------------------------------------------------


@metric("aaa", unit="fraction", better="higher")
def aaa(anytime: Tensor, ends: list[int]) -> Tensor:
    """Average anytime accuracy: mean over points of the mean accuracy over tasks whose training has begun.

    Caccia et al. 2022 (ER-ACE).

    >>> f"{aaa(torch.tensor([[.2], [.4], [.6], [.8]]), ends=[3]):.6f}"
    '0.500000'
    """
    begun = _after(anytime, [-1, *_checked(ends, anytime)[:-1]])
    return (_only(anytime, begun).sum(-1) / begun.sum(-1)).mean(-1)


@metric("min_acc", unit="fraction", better="higher")
def min_acc(anytime: Tensor, ends: list[int]) -> Tensor:
    """Minimum accuracy: mean_{j<T} of the lowest accuracy on task j at any point after its training.

    De Lange et al. 2023 (stability gap).

    >>> f"{min_acc(A[1:], ends=[0, 1, 2]):.6f}"
    '0.550000'
    """
    return _lowest(anytime, ends)[..., :-1].mean(-1)


@metric("wc_acc", unit="fraction", better="higher")
def wc_acc(anytime: Tensor, ends: list[int]) -> Tensor:
    """Worst-case accuracy: (accuracy on task T at the end) / T + (1 - 1/T) min_acc.

    De Lange et al. 2023 (stability gap).

    >>> f"{wc_acc(A[1:], ends=[0, 1, 2]):.6f}"
    '0.666667'
    """
    lowest = _lowest(anytime, ends)[..., :-1]
    return (anytime[..., -1, -1] + lowest.sum(-1)) / anytime.shape[-1]


# -- beyond one number per matrix ----------------------------------------------------------------------------


def regret(errors: Tensor, reference: Tensor) -> Tensor:
    """Cumulative regret [..., T]: sum_{k<=i} (errors_k - reference_k); negative is better than the reference.

    >>> regrets = regret(torch.tensor([.1, .4, .3, .6]), torch.tensor([.2, .2, .5, .7]))
    >>> [round(x, 6) for x in regrets.tolist()]
    [-0.1, 0.1, -0.1, -0.2]
    """
    return (errors - reference).cumsum(-1)


def regret_ratio(errors: Tensor, reference: Tensor) -> Tensor:
    """Cumulative error relative to a reference [..., T]: sum_{k<=i} errors_k / sum_{k<=i} reference_k.

    Bornschein et al. 2023 (NEVIS'22), with the independent learner as reference.

    >>> ratios = regret_ratio(torch.tensor([.1, .4, .3, .6]), torch.tensor([.2, .3, .5, .7]))
    >>> [round(x, 6) for x in ratios.tolist()]
    [0.5, 1.0, 0.8, 0.823529]
    """
    return errors.cumsum(-1) / reference.cumsum(-1)


def pareto(points: Tensor) -> Tensor:
    """Which points [N, D] of costs no other point beats: [N] bool. Equal points stand or fall together.

    A point is beaten by one that is nowhere dearer and somewhere cheaper.

    >>> pareto(torch.tensor([[.30, 10], [.25, 20], [.28, 25], [.20, 80], [.30, 12]])).tolist()
    [True, True, False, True, False]
    """
    one, other = points.unsqueeze(-2), points.unsqueeze(-3)  # [N, 1, D], [1, N, D]
    return ~((other <= one).all(-1) & (other < one).any(-1)).any(-1)


# -- what the formulas share ---------------------------------------------------------------------------------


def _trained(R: Tensor) -> Tensor:
    """Rows after each task [..., T, T]; refuses what is no stack of transfer matrices."""
    shape = tuple(R.shape)
    if len(shape) < 2 or shape[-2] != shape[-1] + 1 or not shape[-1]:
        raise UsageError(
            f"a transfer matrix has shape [..., T+1, T], its row 0 taken before any training; got {shape}. "
            "Without such a row, put one of NaN on top."
        )
    if not R.is_floating_point():
        raise UsageError(f"a transfer matrix holds accuracies, not {R.dtype}: divide counts by test sizes.")
    return R[..., 1:, :]


def _own(R: Tensor) -> Tensor:
    """R[j, j]: each task right after it was learnt [..., T]."""
    return _trained(R).diagonal(0, -2, -1)


def _before(R: Tensor) -> Tensor:
    """R[j-1, j]: each task but the first right before it is learnt [..., T-1]."""
    _trained(R)
    return R.diagonal(0, -2, -1)[..., 1:]


def _others_share(R: Tensor) -> float:
    """(T-1)/T, from a mean over the other tasks to a sum over them divided by T."""
    return 1 - 1 / R.shape[-1]


def _ones(X: Tensor) -> Tensor:
    """[T, T] true, to be cut into triangles."""
    return X.new_ones(X.shape[-2:]).bool()


def _only(X: Tensor, cells: Tensor) -> Tensor:
    """0 outside `cells`: a NaN counts where the formula needs the cell, and there alone."""
    return X.masked_fill(~cells, 0)


def _cell_mean(X: Tensor, cells: Tensor) -> Tensor:
    """Mean over chosen cells; NaN where none is chosen."""
    return _only(X, cells).sum((-2, -1)) / cells.sum()


def _forgetting(R: Tensor, learnt: bool, final: bool) -> Tensor:
    """Best row less the last row, over all tasks but the last.

    Args:
        learnt: the best of the rows from when the task was learnt, else of all rows.
        final: the last row takes part.
    """
    X = _trained(R)
    rows = _ones(X).tril() if learnt else _ones(X)
    rows[-1] &= final
    best = X.masked_fill(~rows, -float("inf")).amax(-2)
    return (best - X[..., -1, :])[..., :-1].mean(-1)


def _incremental_pooled(R: Tensor, n: Tensor) -> Tensor:
    """Accuracy over all samples of tasks 1..i after task i [..., T]."""
    X, n = _trained(R), _per_task(n, R, "n")
    return (_only(X, _ones(X).tril()) * n).sum(-1) / n.cumsum(-1)


def _pooled(scores: Tensor, n: Tensor) -> Tensor:
    n = _per_task(n, scores, "n")
    return (scores * n).sum(-1) / n.sum(-1)


def _per_task(values: Any, R: Tensor, what: str) -> Tensor:
    """One number per task, in R's precision and on its device."""
    import torch

    values = torch.as_tensor(values, dtype=R.dtype, device=R.device)
    if values.shape[-1:] != R.shape[-1:]:
        raise UsageError(f"{what} has shape {tuple(values.shape)}, not one number for each of {R.shape[-1]} tasks.")
    return values


def _nonzero(x: Tensor) -> Tensor:
    """NaN in place of 0, so that what divides by it is undefined and not infinite."""
    return x.masked_fill(x == 0, float("nan"))


def _frozen_area(curves: Tensor) -> Tensor:
    """Mean of each curve [..., E] that stays at its first maximum once it is reached."""
    peak = curves.argmax(-1, keepdim=True)  # the first of equal maxima
    reached = curves.new_ones(curves.shape).cumsum(-1) > peak
    return curves.where(~reached, curves.gather(-1, peak)).mean(-1)


def _lowest(anytime: Tensor, ends: list[int]) -> Tensor:
    """Lowest score on each task after its training [..., T]; infinite for the last, which has none."""
    return anytime.masked_fill(~_after(anytime, _checked(ends, anytime)), float("inf")).amin(-2)


def _after(anytime: Tensor, marks: list[int]) -> Tensor:
    """[S, T] bool: the point comes after the task's mark."""
    import torch

    points = torch.arange(anytime.shape[-2], device=anytime.device).unsqueeze(-1)
    return points > torch.tensor(marks, device=anytime.device)


def _checked(ends: Iterable[int], anytime: Tensor) -> list[int]:
    ends, (points, tasks) = [int(end) for end in ends], anytime.shape[-2:]
    if len(ends) != tasks or ends != sorted(set(ends)) or ends[0] < 0 or ends[-1] != points - 1:
        raise UsageError(f"ends must hold {tasks} rising indices, the last {points - 1}; got {ends}.")
    return ends
