"""What makes a ZSCL step fast changes none of its numbers: against the plain published step, and piece by piece."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from carryover.benchmarks.speed.zscl_as_published import AsPublished, Told
from carryover.strategies.backbones.clip import LONGEST, WIDTH
from carryover.strategies.parts import image_text
from carryover.tests.test_clip import TINY
from carryover.tests.toys import captioned, learn, started

SETTINGS = {"reference_size": 48, "reference_batch": 8, "batch_size": 8, "steps": 7, "every": 3}
NETWORKS = {
    "clip-micro": ({"model": "clip-micro"}, LONGEST),
    "open-clip": ({"model": "open-clip", "model.model": "tiny-exact", "model.weights": "random"}, 77),
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """A CLIP of two layers, made known to open_clip."""
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny-exact.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)


@pytest.fixture(params=NETWORKS)
def network(request):
    """Its settings, and how many tokens it reads at most."""
    return NETWORKS[request.param]


class Double(Told):
    def furnish(self, network):
        return network.double()


def whole(zscl, context: int) -> torch.Tensor:
    """The captions' tokens at the full length of the context."""
    return F.pad(zscl.tokens, (0, context - zscl.tokens.shape[1]))


def test_every_step_is_the_published_one():
    """Losses of seven steps, and the weights that the ensemble leaves, in float64."""
    stream = captioned()
    zscl = started(Double, stream, **SETTINGS)
    plain = AsPublished(zscl, stream.shown(0), LONGEST)
    learn(zscl, stream, 1)
    for read, loss in zip(zscl.read, zscl.losses, strict=True):
        assert plain.step(*read).item() == pytest.approx(loss.item(), abs=1e-9)
    weights = {name: p.detach() for name, p in zscl.model.named_parameters() if p.requires_grad}
    for (name, p), mean, start in zip(weights.items(), plain.mean, plain.start, strict=True):
        matters = torch.ones(len(p), dtype=torch.bool)
        if name == "text.attend.bias":  # no answer depends on the keys'; Adam makes whole steps of their rounding
            matters[WIDTH : 2 * WIDTH] = False
        torch.testing.assert_close(p[matters], mean[matters], rtol=0, atol=1e-9)
        assert (p - start).abs().max() > 1e-5
    assert plain.merged == 3 and len(zscl.read) == 7


def test_loss_and_gradient_of_a_step_are_the_published_ones(network):
    options, context = network
    stream = captioned()
    zscl = started(Told, stream, **SETTINGS | options)
    plain = AsPublished(zscl, stream.shown(0), context)
    learn(zscl, stream, 1)
    assert plain.step(*zscl.read[0]).item() == pytest.approx(zscl.losses[0].item(), rel=1e-5)
    ours, theirs = (
        torch.cat([g.flatten() for g in part]) for part in (zscl.gradients[0], [p.grad for p in plain.params])
    )
    assert (ours - theirs).norm() < 1e-4 * theirs.norm() and theirs.norm() > 1e-2


def test_the_teacher_would_say_the_same_in_every_step(network):
    """What is remembered, after a task: what the model said at its start, of captions at any length and any images."""
    options, context = network
    stream = captioned()
    zscl = started("zscl", stream, **SETTINGS | options)
    teacher = copy.deepcopy(zscl.model).eval()
    learn(zscl, stream, 1)
    rows = torch.tensor([40, 3, 3, 17, 0])
    with torch.no_grad():
        captions = F.normalize(teacher.encode_text(whole(zscl, context)), dim=1)
        images = F.normalize(teacher(zscl.images.prepare(zscl.images.samples[rows])), dim=1)
        now = F.normalize(zscl.model(zscl.images.prepare(zscl.images.samples[rows])), dim=1)
    torch.testing.assert_close(zscl.taught_texts, captions, rtol=0, atol=1e-5)
    torch.testing.assert_close(zscl.taught_images[rows], images, rtol=0, atol=1e-5)
    assert (now - images).abs().max() > 1e-3  # the student has left


def test_a_class_is_told_alike_at_the_full_length(network):
    """Embeddings of its words, and what training draws from them."""
    options, context = network
    stream = captioned()
    model = started("zscl", stream, **SETTINGS | options).model
    tokens = model.tokenise([texts[0] for texts in stream.texts])
    assert tokens.shape[1] < context
    found = []
    for given in (tokens, F.pad(tokens, (0, context - tokens.shape[1]))):
        model.zero_grad()
        W = F.normalize(model.encode_text(given), dim=1)
        (W @ torch.linspace(-1, 1, W.shape[1])).square().sum().backward()
        found.append([W.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for short, full in zip(*found, strict=True):
        torch.testing.assert_close(short, full, rtol=1e-4, atol=1e-5)
    assert len(found[0]) > 5


def test_one_call_for_both_kinds_of_images_draws_what_two_calls_draw(network):
    model = started("zscl", captioned(), **SETTINGS | network[0]).model.train()
    parts = torch.rand(8, 3, 24, 24), torch.rand(4, 3, 24, 24)
    found = []
    for calls in ([torch.cat(parts)], parts):
        model.zero_grad()
        z = torch.cat([model(x) for x in calls])
        z.square().mean().backward()
        found.append([z.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_an_answer_in_parts_is_the_answer_at_once(network, monkeypatch):
    stream = captioned()
    zscl = started("zscl", stream, **SETTINGS | network[0])
    asked = stream.texts
    with torch.no_grad():
        at_once = zscl.objective.classifier(asked)
        seen, encode = [], zscl.model.encode_text
        monkeypatch.setattr(image_text, "AT_ONCE", 5)
        monkeypatch.setattr(zscl.model, "encode_text", lambda tokens: (seen.append(len(tokens)), encode(tokens))[1])
        in_parts = zscl.objective.classifier(asked)
    assert seen == [5, 5, 2]
    torch.testing.assert_close(in_parts, at_once, rtol=0, atol=1e-6)
    assert zscl.objective.classifier(asked).requires_grad and seen[3:] == [12]


def test_blocks_that_are_computed_again_give_the_same_gradient():
    stream = captioned()
    runs = []
    for recompute in (False, True):
        zscl = learn(started(Told, stream, **SETTINGS | NETWORKS["open-clip"][0], **{"model.recompute": recompute}),
                     stream, 1)  # fmt: skip
        assert zscl.model.body.transformer.grad_checkpointing == recompute
        assert zscl.model.body.visual.transformer.grad_checkpointing == recompute
        runs.append(zscl)
    for plain, again in zip(*(zscl.gradients for zscl in runs), strict=True):
        for one, other in zip(plain, again, strict=True):
            assert torch.equal(one, other)
