"""The stand-in for MTIL: its domains and prompts, and the captioned pictures that the backbone is pre-trained on."""

from __future__ import annotations

import time

import pytest
import torch
from carryover.base.errors import UsageError
from carryover.base.files import sha256
from carryover.base.seeds import frozen_random
from carryover.streams import check_stream, load_stream
from carryover.streams.mtil_mini import NAMES, ORDERS, control
from carryover.streams.sources.captioned import HELD_OUT, VOCABULARY, pairs, reference, with_article
from carryover.streams.sources.drawings import Draw
from carryover.streams.sources.land import LAND, land
from carryover.streams.sources.outlines import CLOTHES, FIGURES, clothes, figures
from carryover.streams.sources.scenes import COLOURS, PATTERNS, dots, paint, pattern

FINGERPRINT = "44dc29387478a9f6e74f8804f9c9b67ddcd4fc5ccfe31edd0fed268e72743a55"
PAIRS = (
    "6ba02bd819982cc42c113bd600ddc5fa2c41b05300fdfb7faadbde0cfd52b3a9"  # what the shipped weights were pre-trained on
)
WORDS = set(VOCABULARY)
CONTEXT = 9  # words that the text encoder has places for


@pytest.fixture(scope="module")
def mini():
    return load_stream("mtil-mini")


@pytest.fixture(scope="module")
def drawn():
    return pairs(2000, 0)


@pytest.fixture(scope="module")
def captions():
    return pairs(8000)[1]


def frozen(*keys):
    return Draw.frozen(frozen_random("test", *keys))


# -- the stream -----------------------------------------------------------------------------------------------------


def test_the_stream_is_what_it_says(mini):
    assert (mini.kind, mini.setting.name, mini.classes, len(mini)) == ("image-text", "til", 128, 11)
    assert [len(task.classes) for task in mini] == [26, 8, 8, 16, 10, 6, 6, 26, 8, 8, 6]
    assert tuple(task.name for task in mini) == NAMES
    assert mini.tasks[0].train.samples.dtype == torch.uint8 and mini.info.shape == (3, 24, 24)
    for task, test in zip(mini, mini.tests, strict=True):
        assert 500 <= len(task.train) <= 1000 and 400 <= len(test) <= 800
        per_class = test.data.targets.bincount(minlength=mini.classes)[list(task.classes)]
        assert per_class.min() == per_class.max()  # so that chance is one in the number of classes


def test_the_same_bytes_everywhere(mini):
    assert check_stream(lambda: load_stream("mtil-mini")) == mini.fingerprint == FINGERPRINT
    assert mini.meta["duplicates"] == 0


def test_another_seed_is_another_stream_but_for_the_digits(mini):
    other = load_stream("mtil-mini", seed=1)
    same = [torch.equal(a.data.samples, b.data.samples) for a, b in zip(mini.tests, other.tests, strict=True)]
    assert [name for name, equal in zip(NAMES, same, strict=True) if equal] == ["digits"]


def test_the_second_order_permutes_the_first(mini):
    second = load_stream("mtil-mini", order="II")
    assert [NAMES.index(task.name) for task in second] == [9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2]
    assert sorted(ORDERS["I"]) == sorted(ORDERS["II"])
    for task in second:
        i = NAMES.index(task.name)
        assert torch.equal(task.train.samples, mini.tasks[i].train.samples)
        assert second.shown(task.index).texts == mini.shown(i).texts
    with pytest.raises(UsageError, match="order"):
        load_stream("mtil-mini", order="III")


def test_a_prefix_is_a_prefix(mini):
    few = load_stream("mtil-mini", n_tasks=2, train_per_task=100, val_fraction=0.2)
    assert [task.name for task in few] == list(NAMES[:2]) and few.classes == 34
    assert [len(task.train) + len(task.val) for task in few] == [100, 100]
    assert torch.equal(few.tests[1].data.samples, mini.tests[1].data.samples)
    with pytest.raises(UsageError, match="n_tasks"):
        load_stream("mtil-mini", n_tasks=12)


def test_three_prompts_in_the_vocabulary(mini):
    assert all(len(prompts) == len(set(prompts)) == 3 for prompts in mini.texts)
    for labelled in (*mini.texts, *control().texts):
        for prompt in labelled:
            assert set(prompt.split()) <= WORDS and len(prompt.split()) <= CONTEXT, prompt
    for i in range(len(mini)):
        query = mini.query(i, 1)
        for prompts in zip(*query.texts, strict=True):
            assert len(set(prompts)) == len(prompts)  # no two classes of a domain are told in the same words


def test_the_control_is_of_pairs_that_pretraining_saw(mini, captions):
    found, again = control(), control()
    assert found.classes == 16 and len(found.test_y) >= 400
    assert torch.equal(found.test_x, again.test_x) and not torch.equal(found.test_x, control(1).test_x)
    asked = {prompts[0] for prompts in found.texts}
    assert asked <= set(captions) and not asked & {prompt for prompts in mini.texts for prompt in prompts}


# -- captioned pictures ---------------------------------------------------------------------------------------------


def test_pairs_are_stable_and_the_reference_is_other_pictures(drawn):
    x, captions = drawn
    assert x.shape == (2000, 3, 24, 24) and x.dtype == torch.uint8 and len(captions) == 2000
    assert sha256(x.numpy().tobytes() + "\n".join(captions).encode()) == PAIRS
    fresh, said = reference(200)
    assert fresh.shape == (200, 3, 24, 24) and len(said) == 200 and said != captions[:200]
    assert not (fresh[:, None] == x[None, :200]).flatten(2).all(2).any()
    assert not torch.equal(pairs(50, 1)[0], x[:50])


def test_captions_keep_to_the_vocabulary_and_use_all_of_it(captions):
    said = set(captions)
    assert len(VOCABULARY) == len(WORDS) and 90 <= len(WORDS) <= 110
    assert {word for caption in said for word in caption.split()} == WORDS
    assert max(len(caption.split()) for caption in said) <= CONTEXT
    assert 1000 < len(said) < 1500
    assert not [caption for caption in said if "a orange" in caption or "{" in caption]


def test_held_out_combinations_are_never_told(mini, captions):
    shapes, colours = list(FIGURES), list(COLOURS)
    told = {
        (shapes.index(shape.pop()), colours.index(colour.pop()))
        for words in (set(caption.split()) for caption in captions)
        if (shape := words & set(shapes)) and (colour := words & set(colours))
    }
    every = {(shape, colour) for shape in range(8) for colour in range(8)}
    assert len(HELD_OUT) == 16 and told == every - HELD_OUT
    domain = {mini.texts[c][0] for c in mini.tasks[NAMES.index("combinations")].classes}
    assert domain == {with_article(f"{colours[colour]} {shapes[shape]}") for shape, colour in HELD_OUT}


def test_pictures_show_what_the_captions_say(drawn):
    x, captions = drawn
    red = torch.stack([x[i].float().mean((1, 2)) for i, said in enumerate(captions) if said == "the colour red"])
    blue = torch.stack([x[i].float().mean((1, 2)) for i, said in enumerate(captions) if said == "the colour blue"])
    assert (red[:, 0] > red[:, 2]).all() and (blue[:, 2] > blue[:, 0]).all()
    brightness = {
        n: torch.stack([x[i].float().amax(0).mean() for i, s in enumerate(captions) if s.endswith(end)]).mean()
        for n, end in ((1, "dot"), (6, "six dots"))
    }
    assert brightness[6] > brightness[1] + 10


def test_brushes():
    counted = dots(torch.arange(7), frozen("dots"), loose=0.0).sum((1, 2, 3))
    assert counted[0] == 0 and torch.allclose(counted.diff(), counted[1].expand(6), rtol=0.08)
    patterns = pattern([-1, *range(len(PATTERNS))], frozen("patterns"))
    assert patterns[0].abs().max() == 0 and (patterns[1:].flatten(1).std(1) > 0.05).all()
    inks = paint(range(len(COLOURS)), frozen("inks"))[:, :, 0, 0]
    assert torch.cdist(inks, inks).add(torch.eye(8)).min() > 0.15
    assert len(figures()) == len(FIGURES) and len(clothes()) == len(CLOTHES) == 8
    for kind in LAND:
        seen = land(kind, 4, frozen(kind))
        assert seen.shape == (4, 3, 24, 24) and torch.equal(seen, land(kind, 4, frozen(kind)))


def test_all_of_it_takes_seconds():
    start = time.process_time()
    load_stream("mtil-mini")
    pairs(4000)
    assert time.process_time() - start < 15  # about 3 on an idle core
