"""ZSCL's step against the plain published one, which is first shown to be the same step; and where the time goes.

On a GPU the network is CLIP ViT-B/16 with random weights at 224 pixels; elsewhere the small one.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import product

import pytest
import torch
from carryover.benchmarks.speed.turns import NOISY, Turns
from carryover.benchmarks.speed.zscl_as_published import HABITS, AsPublished, Told
from carryover.strategies.backbones.clip import LONGEST, WIDTH
from carryover.strategies.context import Context
from carryover.strategies.zscl import ZSCL
from carryover.streams import load_stream
from carryover.streams.core import Stream
from carryover.streams.sources.captioned import reference
from carryover.streams.sources.outlines import FIGURES
from carryover.streams.sources.scenes import COLOURS, PATTERNS

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CLIP, CONTEXT = ({"model": "clip-b16", "model.weights": "random"}, 77) if CUDA else ({}, LONGEST)
CAPTIONS, IMAGES, BLOCK, ROUNDS, BOUND = 2000, 256, 8, 5, 3.5
FORMS = ("a {} {} {}", "a picture of a {} {} {}", "the drawing of a {} {} {}", "a sketch of the {} {} {} from above",
         "something with a {} {} {} in the picture")  # fmt: skip


@pytest.fixture(scope="module")
def stream() -> Stream:
    return load_stream("mtil-mini", n_tasks=1)


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> str:
    """A folder of reference images and 2,000 different captions of 4 to 9 words."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("reference")
    said = [form.format(*words) for form in FORMS for words in product([*PATTERNS, "plain"], COLOURS, FIGURES)]
    (folder / "captions.txt").write_text("\n".join(said[:CAPTIONS]))
    for number, image in enumerate(reference(IMAGES)[0]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:03}.png")
    return str(folder)


def begun(kind: type[ZSCL], stream: Stream, beside: str, device: torch.device = DEVICE, **settings):
    """Set up, and about to learn the first task."""
    made = kind(reference=beside, **settings)
    made.setup(stream.info, Context(0, device))
    made.context.begin(0)
    return made


class Double(Told):
    """In float64, where two orders of the same sums agree to many digits."""

    def furnish(self, network):
        return network.double()


def same_step(stream: Stream, beside: str, without: tuple[str, ...] = ()) -> None:
    """Seven steps, the ensemble at the end: losses and weights, in float64."""
    task, settings = stream.shown(0), {"steps": 7, "every": 3, "batch_size": 16, "reference_batch": 16}
    ours = begun(Double, stream, beside, torch.device("cpu"), captions=200, **settings)
    plain = AsPublished(ours, task, LONGEST, without)
    ours.learn(task)
    losses = torch.stack([plain.step(*read) for read in ours.read])
    torch.testing.assert_close(losses, torch.stack(ours.losses), rtol=0, atol=1e-9)
    names = [name for name, p in ours.model.named_parameters() if p.requires_grad]
    for name, start, mean in zip(names, plain.start, plain.mean, strict=True):
        p = ours.model.get_parameter(name).detach()
        matters = torch.ones(len(p), dtype=torch.bool)
        if name == "text.attend.bias":
            matters[WIDTH : 2 * WIDTH] = False  # the keys': no answer and no loss depends on it, so that its gradient
            # is rounding alone, of which Adam makes whole steps
        torch.testing.assert_close(p[matters], mean[matters], rtol=0, atol=1e-9)
        assert (p - start).abs().max() > 1e-5  # or nothing was compared


def same_step_in_the_large_model(stream: Stream, beside: str) -> None:
    """Loss and gradient of the first step, in float32."""
    ours = begun(Told, stream, beside, steps=2, **CLIP)
    task = stream.shown(0)
    task = dataclasses.replace(task, train=task.train.to(DEVICE))
    plain = AsPublished(ours, task, CONTEXT)
    ours.learn(task)
    assert plain.step(*ours.read[0]).item() == pytest.approx(ours.losses[0].item(), rel=1e-4)
    found, expected = (torch.cat([g.flatten() for g in part]) for part in ([p.grad for p in plain.params],
                                                                           ours.gradients[0]))  # fmt: skip
    assert (found - expected).norm() < 1e-2 * expected.norm()


@pytest.mark.parametrize("without", [(), *((habit,) for habit in HABITS), tuple(HABITS)], ids="+".join)
def test_every_rival_takes_our_step(stream, beside, without):
    same_step(stream, beside, without)


def test_zscl_step(benchmark, report, stream, beside):
    """Blocks of eight steps, all told: ours with drawing and metering; the plain one is handed its batches."""
    same_step(stream, beside)
    if CUDA:
        same_step_in_the_large_model(stream, beside)
    task, turns = stream.shown(0), Turns("wall" if CUDA else "cpu")
    task = dataclasses.replace(task, train=task.train.to(DEVICE))
    told = begun(Told, stream, beside, steps=BLOCK, **CLIP)
    kept = {"published": tuple(HABITS), "none": (), **{habit: (habit,) for habit in HABITS}}
    kept["captions, padded"] = ("captions", "padding")
    plain = {name: AsPublished(told, task, CONTEXT, HABITS.keys() - habits) for name, habits in kept.items()}
    assert len(told.tokens) == CAPTIONS
    told.learn(task)
    ours = {"carryover": {}, "carryover again": {}} | ({"in bfloat16": {"model.precision": "bfloat16"}} if CUDA else {})
    ours = {name: begun(ZSCL, stream, beside, steps=BLOCK, **CLIP | more) for name, more in ours.items()}

    def learn(strategy: ZSCL) -> None:
        strategy.context.begin(0)
        strategy.learn(task)
        _settled()

    def follow(rival: AsPublished) -> None:
        rival.number = 0
        for read in told.read:
            rival.step(*read)
        _settled()

    rivals = {name: partial(learn, one) for name, one in ours.items()}
    rivals |= {name: partial(follow, one) for name, one in plain.items()}
    benchmark.pedantic(lambda: turns.play(ROUNDS, **rivals), rounds=1)
    if turns.noise("carryover", "carryover again") > NOISY:
        pytest.skip(f"two identical steps differ by {turns.noise('carryover', 'carryover again'):.0%}: too noisy")
    ratio = turns.ratio("published", "carryover")
    judged = turns.ratio("published", "in bfloat16") if CUDA else ratio
    price = {name: round(turns.ratio(name, "none"), 2) for name in plain}
    report(
        f"time of a ZSCL step in the plain published way over ours, {CLIP.get('model', 'clip-micro')}, 64 images and "
        f"64 of the reference, {CAPTIONS:,} captions, on {DEVICE.type}, float32",
        ratio,
        f">= {BOUND:g}" + (" in bfloat16" if CUDA else ""),
        noise=round(turns.noise("carryover", "carryover again"), 4),
        times_a_step_without_habits=price,
        habits=HABITS,
        **({"in_bfloat16": round(judged, 2)} if CUDA else {}),
        milliseconds=turns.summary(),
    )
    print("times a step without habits:", ", ".join(f"{name} {times}" for name, times in price.items()))
    assert judged >= BOUND


def _settled() -> None:
    if CUDA:
        torch.cuda.synchronize()
