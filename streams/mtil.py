"""MTIL and X-TAIL: data sets of photos one after another, their classes told in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from ..base.errors import StorageError, UsageError, unknown
from .assemble import at_least_one
from .builders import Options, from_tasks
from .core import DIL, TIL, Setting, Stream
from .labelled import Labelled
from .named import stream
from .sources import data_root
from .sources.mtil import DOMAINS, domain_need, few, load_domain, without_class

ORDERS = {
    "I": tuple(DOMAINS),
    "II": ("stanford-cars", "food101", "mnist", "oxford-pets", "flowers102", "sun397", "aircraft", "caltech101", "dtd",
           "eurosat", "cifar100"),
}  # fmt: skip
EASY_FACES = "centered face"  # of Caltech101, which X-TAIL does without: faces are a class already


@stream(
    "mtil",
    embedded=False,
    setting="til",
    needs="aircraft, caltech101, cifar100, dtd, eurosat, flowers102, food101, mnist, oxford-pets, stanford-cars, "
    "sun397",
)
def mtil(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 11,
    order: Literal["I", "II"] = "I",
    domains: list[str] | None = None,
    hub: list[str] | None = None,
    shots: int | None = None,
    **options: Unpack[Options],
) -> Stream:
    """Eleven data sets with class names and prompts, 224x224 colour, 1,201 classes in all; task-incremental.

    Multi-domain task-incremental learning (Zheng et al. 2023): FGVC Aircraft variants, Caltech101, CIFAR-100, DTD,
    EuroSAT, Flowers102, Food101, MNIST, Oxford-IIIT Pets, Stanford Cars, SUN397. A picture competes among the classes
    of its own data set. Official divisions (Aircraft and Flowers102 without their validation parts); of Caltech101,
    EuroSAT and SUN397 a fifth is for the test, drawn by torch with the seed 42, see `sources.mtil_layouts.divided`.
    Inputs are in [0, 1]: the middle square of a picture whose short side is brought to 224, without augmentation.

    With fewer data sets the stream is called mtil-subset, and no board ranks it beside mtil.

    Args:
        n_tasks: the first so many data sets of the order.
        order: "I" is alphabetical as above; "II" is Cars, Food101, MNIST, Pets, Flowers102, SUN397, Aircraft,
            Caltech101, DTD, EuroSAT, CIFAR-100.
        domains: these data sets alone, by their names in `carryover data status mtil`.
        hub: copies at Hugging Face, .parquet files or folders of them, to be read in place of folders:
            ["stanford-cars=tanganke/stanford_cars"]. A copy that is divided in another way is refused.
        shots: of each class so many training pictures alone, drawn by `seed`; all of them by default.
    """
    return _in_a_row("mtil", ORDERS[order], TIL, n_tasks, domains, hub, data, download, shots, options)


@stream(
    "x-tail",
    embedded=False,
    setting="dil",
    needs="aircraft, caltech101, dtd, eurosat, flowers102, food101, mnist, oxford-pets, stanford-cars, sun397",
)
def x_tail(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    domains: list[str] | None = None,
    hub: list[str] | None = None,
    shots: int | None = 16,
    **options: Unpack[Options],
) -> Stream:
    """Ten data sets with class names and prompts, 224x224 colour, all 1,100 classes compete; no task id at test.

    Cross-domain task-agnostic incremental learning (Xu et al. 2024): mtil without CIFAR-100, in its order I, 16
    training pictures of each class. Class names of all data sets are known from the beginning, so that pictures of
    those that are still to come are classified, too. Caltech101 has 100 classes, "Faces_easy" being left out.
    Divisions, prompts and names are those of mtil, and the draw of the pictures is ours; the published code takes
    them from lists of others.

    Args:
        shots: None for all training pictures.
        n_tasks, domains, hub: as for mtil; with fewer data sets the stream is called x-tail-subset.
    """
    names = tuple(name for name in ORDERS["I"] if name != "cifar100")
    return _in_a_row("x-tail", names, DIL, n_tasks, domains, hub, data, download, shots, options, EASY_FACES)


def _in_a_row(
    name: str,
    order: Sequence[str],
    setting: Setting,
    n_tasks: int,
    domains: list[str] | None,
    hub: list[str] | None,
    data: str | Path | None,
    download: bool,
    shots: int | None,
    options: dict[str, Any],
    without: str = "",
) -> Stream:
    """The chosen data sets in order, or one error that tells all that are missing."""
    chosen = _chosen(name, order, n_tasks, domains)
    if shots is not None:
        at_least_one("shots", shots)
    copies = _copies(hub or [], chosen)
    copies |= _present(name, chosen, copies, data_root(data), download)
    found: dict[str, Labelled] = {}
    meta: dict[str, str | int] = {"shots": shots or 0}
    for domain in chosen:
        labelled, about = load_domain(domain, data, copies.get(domain))
        if without in labelled.class_names:
            labelled = without_class(labelled, without)
        found[DOMAINS[domain].title] = few(labelled, shots, options.get("seed", 0), domain) if shots else labelled
        meta |= {f"{domain}_{key}": value for key, value in about.items()}
    made = from_tasks(
        found, name=name if len(chosen) == len(order) else f"{name}-subset", **({"setting": setting} | options)
    )
    return dataclasses.replace(made, meta={**made.meta, **meta})


def _chosen(name: str, order: Sequence[str], n_tasks: int, domains: list[str] | None) -> list[str]:
    """Names of data sets in the stream's order."""
    if not 1 <= n_tasks <= len(order):
        raise UsageError(f"n_tasks of {name} is from 1 to {len(order)} data sets; got {n_tasks}.")
    if domains is None:
        return list(order[:n_tasks])
    for domain in domains:
        if domain not in order:
            raise unknown(f"data set of {name}", domain, order)
    if not domains:
        raise UsageError(f"domains is empty; name some of {', '.join(order)}.")
    return [domain for domain in order if domain in domains][:n_tasks]


def _copies(hub: list[str], chosen: Sequence[str]) -> dict[str, str]:
    """Address of a copy by the name of its data set."""
    pairs = [one.partition("=") for one in hub]
    for name, equals, address in pairs:
        if name not in chosen or not equals or not address:
            given = f"{name}{equals}{address}"
            raise UsageError(f"hub: {given!r} is not NAME=ADDRESS, with a NAME of {', '.join(chosen)}.")
    return {name: address for name, _, address in pairs}


def _present(name: str, chosen: Sequence[str], copies: dict[str, str], root: Path, download: bool) -> dict[str, str]:
    """Fetch what is missing, if asked to; gives the copies that stand in for it, or tells all that cannot be had."""
    missing = [domain for domain in chosen if domain not in copies and not domain_need(domain, root).there]
    instead: dict[str, str] = {}
    for domain in missing if download else ():
        fetched = DOMAINS[domain].download
        if fetched:
            fetched(root)
        else:
            instead[domain] = DOMAINS[domain].hub
    missing = [domain for domain in missing if domain not in instead and not domain_need(domain, root).there]
    if not missing:
        return instead
    rest = [domain for domain in chosen if domain not in missing]
    others = f" What is there makes {name}-subset: domains={json.dumps(rest)}." if rest else ""
    raise StorageError(
        f"{name} lacks {len(missing)} of its {len(chosen)} data sets under {root}: {', '.join(missing)}. "
        f"`carryover data status {name}` says how to get each, --download gets them.{others}"
    )
