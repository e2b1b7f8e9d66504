"""Networks of images and texts: the small pair and how it is made, and CLIP by name. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import CarryoverError, InvalidError, MismatchError, StorageError, UsageError
from carryover.strategies.backbones import build, clip, contrastive, open_clips
from carryover.strategies.backbones.clip import LONGEST, TwoTowers, clip_micro, vocabulary_digest
from carryover.strategies.backbones.contrastive import PairsRecipe
from carryover.strategies.backbones.pretrain import pretrain, recipe_of
from carryover.strategies.config import configure
from carryover.streams.core import SETTINGS, StreamInfo
from carryover.streams.sources import captioned
from carryover.streams.sources.captioned import VOCABULARY
from carryover.tests.terminal import call
from safetensors import safe_open
from safetensors.torch import load_file, save_file

INFO = StreamInfo("a stream", (3, 24, 24), 4, SETTINGS["til"], "image-text")
TEXTS = ("transformer", "bag")
SENTENCES = ["a ring", "a picture of a red ring", "the letter A", "a flower with five petals from above in red"]


def micro(seed: int = 0, **options) -> TwoTowers:
    """With random weights that are no special case anywhere."""
    torch.manual_seed(seed)
    net = clip_micro((3, 24, 24), 4, **{"weights": "random"} | options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return net.eval()


def pictures(count: int = 5, size: int = 24, channels: int = 3) -> torch.Tensor:
    return torch.rand((count, channels, size, size), generator=torch.Generator().manual_seed(1))


# -- the small pair ---------------------------------------------------------------------------------------------------


def test_parameters():
    counts = {text: sum(p.numel() for p in micro(text=text).parameters()) for text in TEXTS}
    images, words = 231_088, len(VOCABULARY) + 1
    assert counts["transformer"] == images + 64 * words + 64 * LONGEST + 16_640 + 33_088 + 3 * 128 + 4_160 + 1
    assert counts["bag"] == images + 64 * words + 8_320 + 8_256 + 1
    assert 285_000 < counts["transformer"] < 300_000
    frozen = [name for name, p in micro().named_parameters() if not p.requires_grad]
    assert frozen == ["logit_scale"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_sentence_is_embedded_alike_whatever_is_beside_it_and_however_far_it_is_padded(text):
    net = micro(text=text)
    together = net.encode_text(net.tokenise(SENTENCES))
    for sentence, row in zip(SENTENCES, together, strict=True):
        tokens = net.tokenise([sentence])
        assert tokens.shape == (1, len(sentence.split()))
        for padding in (0, 1, LONGEST - tokens.shape[1]):
            alone = net.encode_text(F.pad(tokens, (0, padding)))[0]
            torch.testing.assert_close(alone, row, rtol=0, atol=1e-6)


def test_the_padding_test_can_fail():
    net = micro()
    tokens = F.pad(net.tokenise(["a ring"]), (0, 2), value=1)  # a word in place of padding
    assert (net.encode_text(tokens) - net.encode_text(tokens[:, :2])).abs().max() > 1e-3


@pytest.mark.parametrize("text", TEXTS)
def test_the_gradient_does_not_see_padding_either(text):
    net = micro(text=text).double()
    found = []
    for padding in (0, 5):
        net.zero_grad()
        net.encode_text(F.pad(net.tokenise(SENTENCES), (0, padding))).square().sum().backward()
        found.append({name: p.grad for name, p in net.text.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
    assert not found[0]["embed.weight"][0].any()


def test_the_order_of_words_matters_to_attention_and_not_to_a_bag():
    one, other = "a red ring in green", "a green ring in red"
    for text in TEXTS:
        net = micro(text=text)
        a, b = net.encode_text(net.tokenise([one, other]))
        assert torch.allclose(a, b, atol=1e-5) == (text == "bag")


def test_words_that_are_not_known():
    net = micro()
    for sentence, said in {
        "a rinng": "the word 'rinng' in 'a rinng'; did you mean 'ring'",
        "a zebu\u0308": "VOCABULARY",
        "": "1 to 16 words, not ''",
        "a " * 17: "1 to 16 words",
    }.items():
        with pytest.raises(UsageError, match=said) as caught:
            net.tokenise(["a ring", sentence])
        assert "\n" not in str(caught.value)
    assert net.tokenise([]).shape == (0, 1)


def test_every_caption_is_read():
    net = micro()
    _, captions = captioned.pairs(400, 3)
    tokens = net.tokenise(captions)
    assert tokens.dtype == torch.int64 and tokens.max() <= len(VOCABULARY)
    assert [" ".join(net.words[t - 1] for t in row if t) for row in tokens.tolist()] == captions


def test_images_of_other_sizes_and_of_one_channel():
    net = micro()
    assert net.encode_image(pictures()).shape == (5, 64)
    grey = pictures(channels=1)
    assert torch.equal(net.encode_image(grey), net.encode_image(grey.expand(-1, 3, -1, -1)))
    assert net.encode_image(pictures(size=32)).shape == (5, 64)
    assert torch.equal(net(pictures()), net.encode_image(pictures()))
    x = pictures()
    torch.testing.assert_close(net.image(2 * x - 1), net.encode_image(x))


def test_options_of_the_small_pair():
    for options, said in (
        ({"text": "rnn"}, 'must be "transformer" or "bag"'),
        ({"text": "bag"}, "is not shipped. Make it by carryover pretrain clip-micro --set text=bag"),
        ({"width": 3}, "unknown option"),
        ({"weights": "absent.safetensors"}, "do not exist"),
    ):
        with pytest.raises(CarryoverError, match=said):
            build("clip-micro", INFO, **options)


# -- pre-training -----------------------------------------------------------------------------------------------------


def test_a_caption_that_occurs_twice_is_one_caption_with_two_images():
    torch.manual_seed(0)
    images, texts = torch.randn(3, 4), torch.randn(2, 4)
    owner, scale = torch.tensor([0, 1, 0]), 2.0
    cosine = [[F.cosine_similarity(i, t, dim=0).item() for t in texts] for i in images]
    by_image = [
        math.log(sum(math.exp(scale * c) for c in row)) - scale * row[o] for row, o in zip(cosine, owner, strict=True)
    ]
    among = [math.log(sum(math.exp(scale * row[t]) for row in cosine)) for t in (0, 1)]
    by_text = [among[0] - scale * (cosine[0][0] + cosine[2][0]) / 2, among[1] - scale * cosine[1][1]]
    expected = sum(by_image) / 3 / 2 + sum(by_text) / 2 / 2
    assert contrastive.loss(images, texts, owner, scale).item() == pytest.approx(expected, rel=1e-5)


def test_without_duplicates_it_is_the_usual_loss():
    torch.manual_seed(0)
    images, texts = F.normalize(torch.randn(6, 4), dim=1), F.normalize(torch.randn(6, 4), dim=1)
    logits, own = 5.0 * images @ texts.T, torch.arange(6)
    usual = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(contrastive.loss(images, texts, own, 5.0), usual)


def test_changes_of_brightness_tint_and_noise_stay_in_range():
    x, draws = pictures(200), torch.Generator().manual_seed(0)
    still = PairsRecipe(noise=0.0, brightness=0.0, tint=0.0)
    assert torch.equal(contrastive.augmented(x, draws, still), x)
    brighter = contrastive.augmented(x / 2, draws, PairsRecipe(noise=0.0, brightness=0.2, tint=0.0)) / (x / 2)
    factors = brighter.mean((1, 2, 3), keepdim=True)  # one for all of a picture
    torch.testing.assert_close(brighter, factors.expand_as(x), rtol=1e-4, atol=1e-4)
    assert 0.8 <= factors.min() + 1e-4 < 0.85 and 1.15 < factors.max() <= 1.2 + 1e-4
    middle = 0.4 + 0.2 * x
    tinted = contrastive.augmented(middle, draws, PairsRecipe(noise=0.0, brightness=0.0, tint=0.1)) - middle
    moved = tinted.mean((2, 3), keepdim=True)  # one for each channel
    torch.testing.assert_close(tinted, moved.expand_as(x), rtol=1e-4, atol=1e-4)
    assert moved.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.2) and moved.std(1).mean() > 0.02
    noisy = contrastive.augmented(middle, draws, PairsRecipe(noise=0.1, brightness=0.0, tint=0.0)) - middle
    spread = noisy.std((1, 2, 3))  # up to 0.1, drawn for each picture
    assert spread.min() < 0.01 and 0.09 < spread.max() < 0.11
    wild = contrastive.augmented(x, draws, PairsRecipe(noise=3.0))
    assert wild.min() == 0 and wild.max() == 1


def test_pre_training_gives_the_same_file_for_the_same_seed(tmp_path):
    heard, recipe = [], PairsRecipe(steps=3, pairs=64, batch_size=16)
    first = pretrain(tmp_path / "a.safetensors", recipe, told=heard.append)
    again = pretrain(tmp_path / "b.safetensors", recipe)
    other = pretrain(tmp_path / "c.safetensors", PairsRecipe(steps=3, pairs=64, batch_size=16, seed=1))
    assert first["sha256"] == again["sha256"] != other["sha256"] and heard == [1, 2, 3]
    assert first["bytes"] == (tmp_path / "a.safetensors").stat().st_size < 700_000
    net = build("clip-micro", INFO, weights=str(tmp_path / "a.safetensors"))
    facts = net.pretrained
    assert facts.sha256 == first["sha256"] == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    assert (facts.name, facts.normalise) == ("a.safetensors", "mean 0.5 0.5 0.5, std 0.5 0.5 0.5")
    assert "contrastive" in facts.data and "mtil-mini" in facts.overlap
    held = load_file(tmp_path / "a.safetensors")
    for name, value in net.state_dict().items():
        assert torch.equal(value, held[name].float())
    assert not net.logit_scale.requires_grad


def test_training_lowers_the_loss():
    net, facts = contrastive.train(PairsRecipe(steps=60, pairs=512, batch_size=32, warmup=5), torch.device("cpu"), None)
    images, captions = captioned.pairs(256, 0)
    distinct = sorted(set(captions))
    owner = torch.tensor([distinct.index(words) for words in captions])

    def judged(net: TwoTowers) -> float:
        with torch.no_grad():
            z, t = net.encode_image(images / 255), net.encode_text(net.tokenise(distinct))
            return contrastive.loss(z, t, owner, 14.0).item()

    assert judged(net) < judged(micro()) - 0.5
    assert facts["accuracy"] > 3 / len(set(captioned.pairs(1000, 5)[1]))


def test_the_command(tmp_path):
    out = tmp_path / "bag.safetensors"
    words = ["--set", "text=bag", "--set", "pairs=64", "--set", "batch_size=8", "--steps", "3", "--seed", "2"]
    answer = call("pretrain", "clip-micro", "--out", out, *words, "--device", "cpu", "--json")
    assert answer.code == 0
    header = json.loads(answer.out)
    assert (header["text"], header["steps"], header["seed"], header["pairs"]) == ("bag", 3, 2, 64)
    assert header["vocabulary"] == vocabulary_digest(VOCABULARY)
    net = build("clip-micro", INFO, weights=str(out), text="bag")
    assert net.pretrained.sha256 == header["sha256"]
    with pytest.raises(MismatchError, match="do not fit this network"):
        build("clip-micro", INFO, weights=str(out))


@pytest.mark.parametrize(
    "words, said",
    [
        (["vit-huge"], "unknown backbone to pre-train 'vit-huge'"),
        (["clip-micro", "--set", "stesp=3"], "Did you mean 'steps'"),
        (["clip-micro", "--set", "lr=-1"], "lr=-1"),
        (["clip-micro", "--set", "model=vit-micro"], "model='vit-micro'"),
        (["vit-micro", "--steps", "0"], "steps=0"),
        (["vit-micro", "--set", "model=clip-micro"], "model='clip-micro'"),
    ],
)
def test_a_recipe_that_cannot_be(words, said, tmp_path):
    answer = call("pretrain", *words, "--out", tmp_path / "x.safetensors")
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_weights_that_do_not_belong(tmp_path, monkeypatch):
    path = tmp_path / "made.safetensors"
    pretrain(path, PairsRecipe(steps=1, pairs=16, batch_size=4))
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()

    def refused(error: type, said: str, changed: dict, told: dict | None = metadata) -> None:
        save_file(changed, tmp_path / "changed.safetensors", told)
        with pytest.raises(error, match=said):
            build("clip-micro", INFO, weights=str(tmp_path / "changed.safetensors"))

    refused(MismatchError, "not trained on the words", tensors, None)
    refused(MismatchError, "text.places is missing", {k: v for k, v in tensors.items() if k != "text.places"})
    refused(MismatchError, "more is left over", tensors | {"more": torch.zeros(2)})
    refused(MismatchError, r"logit_scale has the shape \[2\]", tensors | {"logit_scale": torch.zeros(2)})
    refused(MismatchError, "finite, for text.places", tensors | {"text.places": tensors["text.places"] * torch.nan})
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidError, match="not the format that its name says"):
        build("clip-micro", INFO, weights=str(tmp_path / "cut.safetensors"))
    monkeypatch.setattr(captioned, "VOCABULARY", (*VOCABULARY[1:], VOCABULARY[0]))  # the same words, otherwise numbered
    with pytest.raises(MismatchError, match="not trained on the words"):
        build("clip-micro", INFO, weights=str(path))


def test_the_shipped_weights_are_those_of_the_recipe():
    net = build("clip-micro", INFO)
    with safe_open(clip.WEIGHTS, "pt") as file:
        told = json.loads(file.metadata()["recipe"])
    recipe = asdict(PairsRecipe())
    assert {name: told[name] for name in recipe} == recipe
    assert net.pretrained.name == "clip-micro" and net.pretrained.sha256 == WEIGHTS
    assert told["accuracy"] > 0.25 and 10 < net.logit_scale.exp() < 100


WEIGHTS = "16e99eb516f8afb21b66a864a2126622c0089c85851b7a7d0cf683a5a2d6c2e5"


def test_both_recipes_are_known():
    assert recipe_of("clip-micro") is PairsRecipe and recipe_of("vit-micro")().model == "vit-micro"
    assert configure(PairsRecipe, {"steps": 5}, "clip-micro") == PairsRecipe(steps=5)


# -- CLIP by name -----------------------------------------------------------------------------------------------------

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
PROMPTS = ["a photo of a cat.", "a centered satellite photo of permanent crop land.", "Q"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A CLIP of two layers, and others that cannot be used, made known to open_clip."""
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("models")
    for name, config in {
        "tiny": TINY,
        "tiny-both-ways": TINY | {"text_cfg": TINY["text_cfg"] | {"no_causal_mask": True}},
        "tiny-words": TINY | {"text_cfg": TINY["text_cfg"] | {"hf_tokenizer_name": "some/tokenizer"}},
        "tiny-custom": TINY | {"custom_text": True},
        "tiny-quickgelu": TINY | {"quick_gelu": True},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return "tiny"


def made(model: str = "tiny", **options):
    torch.manual_seed(0)
    shape = StreamInfo("a stream", (3, 32, 32), 4, SETTINGS["til"], "image-text")
    return build("open-clip", shape, **{"model": model, "weights": "random"} | options).eval()


def test_a_random_clip_encodes(tiny):
    net = made()
    assert net.encode_image(pictures(size=32)).shape == net(pictures(size=48)).shape == (5, 16)
    assert net.encode_text(net.tokenise(PROMPTS)).shape == (3, 16)
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["body.logit_scale"]
    assert net.pretrained is None and net.logit_scale.shape == ()


@pytest.mark.parametrize("training", [False, True])
def test_cutting_behind_the_longest_sentence_changes_nothing(tiny, training):
    net = made().train(training)
    tokens = net.tokenise(PROMPTS)
    full = net.tokeniser(PROMPTS)
    assert tokens.shape[1] < 14 and full.shape[1] == 77
    assert torch.equal(tokens, full[:, : tokens.shape[1]])
    whole = net.body.encode_text(full)  # open_clip's own way
    torch.testing.assert_close(net.encode_text(tokens), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.encode_text(full), whole, rtol=0, atol=1e-5)
    for row, prompt in zip(whole, PROMPTS, strict=True):
        torch.testing.assert_close(net.encode_text(net.tokenise([prompt]))[0], row, rtol=0, atol=1e-5)
    assert (whole[0] - whole[1]).abs().max() > 1e-3


def test_what_follows_the_end_mark_is_not_read_and_what_precedes_it_is(tiny):
    net = made()
    tokens = net.tokenise(PROMPTS)
    end = int(tokens[0].argmax())
    after, before = tokens.clone(), tokens.clone()
    after[0, end + 1] = 5
    before[0, end - 1] = 5
    own = net.encode_text(tokens)[0]
    torch.testing.assert_close(net.encode_text(after)[0], own, rtol=0, atol=1e-6)
    assert (net.encode_text(before)[0] - own).abs().max() > 1e-4


def test_a_sentence_beyond_the_context_loses_its_end(tiny):
    net = made()
    tokens = net.tokenise(["cat " * 200])
    assert tokens.shape == (1, 77) and tokens[0, -1] == tokens.max()
    assert net.tokenise([]).shape[0] == 0


def test_images_are_normalised_as_in_training_unless_told(tiny):
    x, net = pictures(size=32), made()
    mean, std = net.pixels.mean, net.pixels.std
    assert mean.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    torch.testing.assert_close(net.body.visual((x - mean) / std), net.encode_image(x))
    torch.testing.assert_close(made(normalise="none").encode_image((x - mean) / std), net.encode_image(x))


def test_half_precision_is_an_option(tiny):
    x = pictures(size=32)
    net, half = made(), made(precision="bfloat16")
    tokens = net.tokenise(PROMPTS)
    for one, other in ((net(x), half(x)), (net.encode_text(tokens), half.encode_text(tokens))):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert F.cosine_similarity(one, other).min() > 0.99


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint"])
def test_weights_from_a_file(tiny, kind, tmp_path):
    source = made()
    state = {name: value + 0.01 for name, value in source.body.state_dict().items()}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pt":
        torch.save(state | {"vocab_size": torch.tensor(49408)}, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v.half() for k, v in state.items()}}, path)
    net = made(weights=str(path))
    assert net.pretrained.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (net.pretrained.name, net.pretrained.data) == (path.name, "unknown")
    for name, value in net.body.state_dict().items():
        torch.testing.assert_close(value, state[name].half().float() if kind == "checkpoint" else state[name])
        assert value.dtype == torch.float32
    small = made(weights=str(path), image_size=48)
    assert small.body.visual.positional_embedding.shape == (10, 32) and small.pixels.size == (48, 48)
    assert small(pictures(size=32)).shape == (5, 16)


def test_weights_that_are_no_weights(tiny, tmp_path):
    for name, content, error, said in (
        ("other.pt", {"a": torch.zeros(2)}, MismatchError, "do not fit this network"),
        ("list.pt", [1, 2], MismatchError, "do not fit"),
        ("code.pt", {"a": print}, InvalidError, "they are not tensors alone"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(error, match=said):
            made(weights=str(tmp_path / name))
    with pytest.raises(StorageError, match="do not exist"):
        made(weights=str(tmp_path / "absent.pt"))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"model": "ViT-B-17"}, "Did you mean 'ViT-B-16'"),
        ({"model": "ViT-B-16", "weights": "hub"}, "unknown tag of open_clip's ViT-B-16 ''.*openai"),
        ({"model": "ViT-B-16", "tag": "openia"}, "Did you mean 'openai'"),
        ({"model": "tiny-both-ways"}, "does not read sentences from left to right"),
        ({"model": "tiny-words"}, "in a way of its own"),
        ({"model": "tiny-custom"}, "in a way of its own"),
        ({"model": "ViT-B-16-SigLIP"}, "in a way of its own"),
        ({"model": "coca_base"}, "in a way of its own"),
        ({"normalise": "yes"}, "normalise='yes'"),
        ({"precision": "half"}, "precision='half'"),
    ],
)
def test_a_clip_that_cannot_be(tiny, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        made(**options)
    assert "\n" not in str(caught.value)


def test_the_activation_goes_by_the_tag(tiny):
    from open_clip.transformer import QuickGELU

    def quick(model: str, tag: str) -> bool:
        known = open_clips._known(model, tag, "random")
        with torch.device("meta"):
            body = open_clips._body(model, bool(known.get("quick_gelu")), None)
        return any(isinstance(module, QuickGELU) for module in body.modules())

    assert quick("ViT-B-16", "openai") and not quick("ViT-B-16", "laion2b_s34b_b88k") and not quick("tiny", "")
    assert quick("tiny-quickgelu", "")


def test_clip_b16_has_openai_s_weights_by_default(monkeypatch, tiny, tmp_path):
    asked = []

    def download(name, config, file):
        asked.append((name, config["hf_hub_id"], file))
        raise StorageError("no network here.")

    monkeypatch.setattr(open_clips, "download", download)
    monkeypatch.setattr(open_clips, "_body", counted := Counted(open_clips._body))
    with pytest.raises(StorageError, match="no network here"):
        build("clip-b16", INFO)
    assert asked == [("ViT-B-16.openai", "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")]
    assert counted.parameters == 149_620_737


class Counted:
    """Builds without memory, and counts."""

    def __init__(self, build) -> None:
        self.build = build

    def __call__(self, *words):
        with torch.device("meta"):
            body = self.build(*words)
        self.parameters = sum(p.numel() for p in body.parameters())
        return body


def test_what_a_download_gives(monkeypatch, tiny, tmp_path):
    path = tmp_path / "open_clip_model.safetensors"
    save_file(made().body.state_dict(), path)
    known = {"hf_hub": "some/where/", "url": "", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    monkeypatch.setattr(open_clips, "_known", lambda *words: known)
    monkeypatch.setattr(open_clips, "download", lambda name, config, file: path)
    facts = made(weights="hub", tag="laion2b_of_mine").pretrained
    assert (facts.name, facts.normalise) == ("tiny.laion2b_of_mine", "mean 0.5 0.5 0.5, std 0.25 0.25 0.25")
    assert facts.data.startswith("LAION-2B") and "any benchmark" in facts.overlap


def test_without_open_clip_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(StorageError, match="pip install open_clip_torch"):
        build("clip-b16", INFO, weights="random")
