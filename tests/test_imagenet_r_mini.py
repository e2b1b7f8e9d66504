"""The stand-in for Split ImageNet-R, the images it is made of, and the backbone that is to see them."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from carryover.base.errors import UsageError
from carryover.base.files import sha256
from carryover.base.seeds import frozen_random, torch_generator
from carryover.benchmarks.launch import run
from carryover.evaluation.run import run_seed
from carryover.strategies.backbones.pretrain import Recipe, pretrain
from carryover.strategies.backbones.vits import MICRO_WEIGHTS, vit_micro
from carryover.strategies.core import load_strategy
from carryover.streams import check_stream, load_stream
from carryover.streams.sources.drawings import PATCH, STYLES, Draw, photographs, renditions, weave
from carryover.streams.sources.glyphs import CHARACTERS, FACES, fill, glyph_masks
from safetensors import safe_open

FINGERPRINT = "cb103ab60235b274f2f547dd0299a1c47d7c4c89cf6f6bb3e670d3a51ec599b4"
WEIGHTS = "9feb460cdf71bdba7768de8134023cecb0bd5d76c13e1ae0c52f5e2f89b60356"


@pytest.fixture(scope="module")
def mini():
    return load_stream("imagenet-r-mini")


# -- glyphs ---------------------------------------------------------------------------------------------------------


def test_an_outline_is_filled_by_its_area():
    square = [np.array([[0, 0], [0, 10], [10, 10], [10, 0]], float)]
    mask = fill(square, size=48, box=24)
    assert mask.sum() == 255 * 24 * 24 and (mask[12:36, 12:36] == 255).all()
    ring = [*square, np.array([[4, 4], [6, 4], [6, 6], [4, 6]], float)]  # the other way round: a hole
    holed = fill(ring, size=50, box=50)
    assert holed[25, 25] == 0 and holed[5, 5] == 255
    assert holed.sum() / 255 == pytest.approx(2500 * 0.96, abs=30)
    twice = fill([*square, *square], size=48, box=24)
    assert np.array_equal(twice, mask)  # non-zero winding, not even-odd


def test_characters_look_like_themselves():
    (letter,) = glyph_masks("O")
    assert letter.shape == (len(FACES), 48, 48)
    assert (letter[:, 24, 24] == 0).all() and (letter.max((1, 2)) == 255).all()
    (ell,) = glyph_masks("L")
    assert (ell[0, 30:43].sum() > 2 * ell[0, 5:18].sum()) and ell[0, :, :24].sum() > ell[0, :, 24:].sum()
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 300


# -- drawings -------------------------------------------------------------------------------------------------------


def test_the_canvas_repeats_with_the_patch():
    canvas = weave(torch.zeros(1, dtype=torch.float64))[0, 0]
    step = 2 * PATCH
    assert torch.equal(canvas[step:], canvas[:-step]) and torch.equal(canvas[:, step:], canvas[:, :-step])
    assert canvas.mean().abs() < 1e-12 and canvas[::2, ::2].std() == pytest.approx(1)


@pytest.mark.parametrize("style", STYLES)
def test_a_rendition_is_an_image_of_its_own_kind(style):
    mask = torch.from_numpy(glyph_masks("B")[0][:4]).double() / 255
    one, same = (renditions(mask, style, Draw.frozen(frozen_random("a", 1)), 0.1) for _ in range(2))
    other = renditions(mask, style, Draw.frozen(frozen_random("a", 2)), 0.1)
    assert one.shape == (4, 3, 24, 24) and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, same) and not torch.equal(one, other)
    photo = photographs(mask.float(), Draw.fast(torch_generator("b")), rare=0.0)
    ink = [(image.mean(1)[:, 6:18, 6:18].mean() - image.mean()).item() for image in (photo, one)]
    assert ink[0] < 0  # dark on bright
    assert (ink[1] > 0) == (style == "negative")


# -- the stream -----------------------------------------------------------------------------------------------------


def test_the_stream_is_what_its_page_says(mini):
    assert (len(mini), mini.classes, mini.info.shape, mini.setting.name) == (10, 100, (3, 24, 24), "cil")
    train = torch.cat([task.train.targets for task in mini]).bincount()
    test = torch.cat([test.data.targets for test in mini.tests]).bincount()
    assert (train.min(), train.max()) == (45, 180)
    assert ((test - train / 4).abs() <= 0.5).all()
    assert len(set(mini.class_names)) == 100 and "digit two" in mini.class_names
    assert mini.fingerprint == FINGERPRINT


def test_the_stream_keeps_the_rules():
    assert check_stream(lambda: load_stream("imagenet-r-mini")) == FINGERPRINT


def test_seed_and_canvas_are_options(mini):
    plain = load_stream("imagenet-r-mini", canvas=0.0)
    assert plain.fingerprint != mini.fingerprint
    assert load_stream("imagenet-r-mini", seed=7).fingerprint != mini.fingerprint
    for bad in (-0.1, 1.5):
        with pytest.raises(UsageError, match="canvas must be between 0 and 1"):
            load_stream("imagenet-r-mini", canvas=bad)


# -- the backbone ---------------------------------------------------------------------------------------------------


def test_pre_training_gives_the_same_file_for_the_same_seed(tmp_path):
    heard = []
    recipe = Recipe(steps=3, batch_size=8)
    first = pretrain(tmp_path / "a.safetensors", recipe, told=heard.append)
    again = pretrain(tmp_path / "b.safetensors", recipe)
    other = pretrain(tmp_path / "c.safetensors", Recipe(steps=3, batch_size=8, seed=1))
    assert first["sha256"] == again["sha256"] != other["sha256"]
    assert heard == [1, 2, 3]
    net = vit_micro((3, 24, 24), 10, weights=str(tmp_path / "a.safetensors"))
    assert net.pretrained.sha256 == first["sha256"] and "300 characters" in net.pretrained.data
    with pytest.raises(UsageError, match="vit-b16"):
        pretrain(tmp_path / "d.safetensors", Recipe(model="vit-b16"))


def test_the_shipped_weights_are_the_recorded_ones():
    assert sha256(MICRO_WEIGHTS.read_bytes()) == WEIGHTS
    with safe_open(MICRO_WEIGHTS, "pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert recipe["accuracy"] > 0.9
    assert {name: recipe[name] for name in asdict(Recipe())} == asdict(Recipe())


@pytest.mark.slow
def test_frozen_prototypes_get_it_partly_right(mini):
    taken, _ = run_seed(load_strategy("simplecil")(), mini, 0)
    share = sum(taken.correct[-1]) / sum(mini.test_sizes)
    assert 0.35 < share < 0.7
    assert taken.usage.pretrained.sha256 == WEIGHTS and "imagenet-r-mini" in taken.usage.pretrained.overlap


# -- does it bite? --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_stand_in_still_bites():
    """One seed, wide margins around the table of docs/imagenet-r-mini.md, whose rules are the assertions."""
    acc, forgotten = {}, {}
    for name, strategy, settings in (
        ("simplecil", "simplecil", {}),
        ("control", "dualprompt", {"g_length": 0, "e_length": 0}),
        ("dualprompt", "dualprompt", {}),
        ("layernorm", "layernorm", {}),
        # less data and fewer passes than in the table are enough to tell
        ("finetune", "finetune", {"epochs": 2, "stream.train_per_task": 400}),
        ("joint", "joint", {"epochs": 2, "stream.n_tasks": 1, "stream.train_per_task": 6000}),
    ):
        metrics = run(strategy, "imagenet-r-mini", [0], **settings).metrics()
        acc[name], forgotten[name] = (metrics[key]["mean"] for key in ("acc", "forgetting_chaudhry"))
    assert forgotten["finetune"] > 0.25
    assert acc["joint"] > acc["simplecil"] + 0.12
    for name in ("dualprompt", "layernorm"):
        assert acc[name] > max(acc["simplecil"], acc["control"]) + 0.01, acc
