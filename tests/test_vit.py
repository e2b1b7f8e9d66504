"""The vision transformer: with nothing plugged in it is timm's; each plug does what it says; weights are read whole."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from carryover.base.errors import CarryoverError, InvalidError, MismatchError, StorageError, UsageError
from carryover.strategies.backbones import build, vits, weights
from carryover.strategies.backbones.vit import Plugs, ViT
from carryover.strategies.context import Meter
from carryover.tests.toys import info
from safetensors.torch import save_file

timm = pytest.importorskip("timm")
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer  # noqa: E402

TINY = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
IMAGES = (3, 12, 12)  # 9 patches
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def tiny(classes: int = 5, seed: int = 0, **options) -> ViT:
    """A small transformer whose norms differ from each other and from the identity."""
    torch.manual_seed(seed)
    net = ViT(VisionTransformer(img_size=12, num_classes=0, **{**TINY, **options}), classes).eval()
    with torch.no_grad():
        for p in net.body.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return net


def images(batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, *IMAGES, generator=torch.Generator().manual_seed(seed))


def affines(net: ViT, *lead: int, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random (weights, biases), each [norms, *lead, D]."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(net.norms()), *lead, net.width)
    return 1 + 0.3 * torch.randn(shape, generator=draw), 0.3 * torch.randn(shape, generator=draw)


# -- as it is -------------------------------------------------------------------------------------------------------

KINDS = {
    "plain": {},
    "pre-norm of the tokens, registers": {"pre_norm": True, "reg_tokens": 2, "no_embed_class": True},
    "norms of queries and keys, layer scale": {"qk_norm": True, "init_values": 0.5},
    "average over patches": {"global_pool": "avg"},
    "average, no class token": {"global_pool": "avg", "class_token": False, "fc_norm": False},
    "positions at any size": {"dynamic_img_size": True},
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_with_nothing_plugged_in_it_is_timms_network_bit_for_bit(kind):
    net, x = tiny(**KINDS[kind]), images()
    tokens = net.body.forward_features(x)
    for plugs in (None, Plugs()):
        assert torch.equal(net.tokens(x, plugs), tokens)
        assert torch.equal(net.features(x, plugs), net.body.forward_head(tokens, pre_logits=True))
        assert torch.equal(net(x, plugs), net.head(net.body(x)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_plugs_that_change_nothing_change_nothing(kind):
    net, x = tiny(**KINDS[kind]), images()
    own = net.norms()
    empty = lambda i, k, v: (torch.cat([k[:, :, :0], k], 2), torch.cat([v[:, :, :0], v], 2))
    for plugs in (
        Plugs(norm=lambda n, y: (own[n].weight, own[n].bias)),
        Plugs(attend=empty),
        Plugs(embed=lambda y: torch.cat([y, y[:, :0]], 1)),
        Plugs(beside=lambda i, y: torch.zeros_like(y)),
    ):
        assert torch.equal(net(x, plugs), net(x))
    each = lambda n, y: (own[n].weight.expand(len(y), -1), own[n].bias.expand(len(y), -1))
    torch.testing.assert_close(net(x, Plugs(norm=each)), net(x), rtol=1e-6, atol=1e-6)


def test_gradients_in_training_are_timms():
    net, x = tiny(drop_path_rate=0.5).train(), images()
    gradients = []
    for forward in (net, lambda x: net.head(net.body(x))):
        torch.manual_seed(3)
        gradients.append(torch.autograd.grad(forward(x).square().sum(), list(net.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_freeze_leaves_the_head():
    net = tiny()
    net.freeze()
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    prompt = torch.zeros(1, 2, net.width, requires_grad=True)
    net(images(), Plugs(embed=lambda y: torch.cat([y, prompt.expand(len(y), -1, -1)], 1))).sum().backward()
    assert prompt.grad.abs().sum() > 0 and net.body.cls_token.grad is None


# -- norms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "average over patches"])
@torch.no_grad()
def test_norms_are_numbered_in_the_order_in_which_they_are_met(kind):
    net, x, met, inputs = tiny(**KINDS[kind]), images(), [], []
    own = net.norms()
    hooks = [norm.register_forward_pre_hook(lambda m, given: inputs.append(given[0])) for norm in own]
    net(x)
    for hook in hooks:
        hook.remove()

    def plug(number, y):
        met.append(number)
        assert y.shape[0] == 3 and y.shape[-1] == net.width and torch.equal(y, inputs[number])
        return own[number].weight, own[number].bias

    net(x, Plugs(norm=plug))
    assert met == list(range(2 * net.depth + 1)) and len(own) == len(met)


@pytest.mark.parametrize("kind", ["plain", "average over patches"])
@torch.no_grad()
def test_other_norms_are_what_the_network_would_be_with_them(kind):
    net, x = tiny(**KINDS[kind]), images()
    weight, bias = affines(net)
    plugged = net(x, Plugs(norm=lambda n, y: (weight[n], bias[n])))
    for n, norm in enumerate(net.norms()):
        norm.weight.copy_(weight[n]), norm.bias.copy_(bias[n])
    assert torch.equal(plugged, net(x))


@torch.no_grad()
def test_norms_of_each_sample_in_a_mixed_batch():
    net, x = tiny(), images(4)
    weight, bias = affines(net, 4)
    mixed = net(x, Plugs(norm=lambda n, y: (weight[n], bias[n])))
    for b in range(4):
        alone = net(x[b : b + 1], Plugs(norm=lambda n, y: (weight[n, b], bias[n, b])))  # noqa: B023
        torch.testing.assert_close(mixed[b : b + 1], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(mixed[0], net(x, Plugs(norm=lambda n, y: (weight[n, 1], bias[n, 1])))[0])


# -- prefixes, prompts, adapters ------------------------------------------------------------------------------------


@torch.no_grad()
def test_prefixes_by_a_softmax_written_out():
    net, x = tiny(depth=1, qk_norm=True), images(2)
    block, attn = net.body.blocks[0], net.body.blocks[0].attn
    prefix = torch.randn(2, 2, 2, 3, 8, generator=torch.Generator().manual_seed(4))  # k or v, B, H, L, d
    plugs = Plugs(attend=lambda i, k, v: (torch.cat([prefix[0], k], 2), torch.cat([prefix[1], v], 2)))

    seen = []
    hook = block.register_forward_pre_hook(lambda m, given: seen.append(given[0]))
    net.body(x)
    hook.remove()
    y = block.norm1(seen[0])
    q, k, v = (part.reshape(2, 10, 2, 8).transpose(1, 2) for part in attn.qkv(y).chunk(3, -1))
    q, k = attn.q_norm(q), attn.k_norm(k)
    rows = torch.empty(2, 2, 10, 8)
    for b in range(2):
        for h in range(2):
            keys, values = torch.cat([prefix[0, b, h], k[b, h]]), torch.cat([prefix[1, b, h], v[b, h]])
            for n in range(10):
                e = (keys @ q[b, h, n] / 8**0.5).exp()
                rows[b, h, n] = (e / e.sum()) @ values
    z = seen[0] + attn.proj(rows.transpose(1, 2).reshape(2, 10, 16))
    z = z + block.mlp(block.norm2(z))
    torch.testing.assert_close(net.tokens(x, plugs), net.body.norm(z), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net.tokens(x, plugs), net.tokens(x), atol=1e-2)


@torch.no_grad()
def test_a_prefix_that_nobody_attends_to_changes_nothing():
    net, x = tiny(), images()
    shape = (3, 2, 4, 8)
    far = lambda i, k, v: (torch.cat([torch.zeros(shape), k], 2), torch.cat([torch.zeros(shape), v], 2))
    for block in net.body.blocks:  # queries of one sign, so that a key can be far from all of them
        block.attn.qkv.weight[:16] = 0
        block.attn.qkv.bias[:16] = 1
    away = lambda i, k, v: (torch.cat([torch.full(shape, -1e4), k], 2), torch.cat([torch.ones(shape), v], 2))
    torch.testing.assert_close(net(x, Plugs(attend=away)), net(x), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(net(x, Plugs(attend=far)), net(x), atol=1e-3)


@torch.no_grad()
def test_prompts_at_the_end_take_part_in_attention_and_not_in_the_average():
    for kind in ("plain", "average over patches"):
        net, x = tiny(**KINDS[kind]), images()
        prompt = torch.randn(3, 4, net.width, generator=torch.Generator().manual_seed(5))
        plugs = Plugs(embed=lambda y: torch.cat([y, prompt], 1))  # noqa: B023
        body, y = net.body, prompt
        z = body.blocks(torch.cat([body._pos_embed(body.patch_embed(x)), y], 1))
        assert torch.equal(net.tokens(x, plugs), body.norm(z)) and z.shape == (3, 14, 16)
        pooled = body.norm(z)[:, 0] if kind == "plain" else body.fc_norm(z[:, 1:10].mean(1))
        torch.testing.assert_close(net.features(x, plugs), pooled)


@torch.no_grad()
def test_an_adapter_beside_the_mlp():
    net, x = tiny(depth=1), images()
    down = torch.randn(16, 16, generator=torch.Generator().manual_seed(6))
    body, block = net.body, net.body.blocks[0]
    z = body._pos_embed(body.patch_embed(x))
    z = z + block.attn(block.norm1(z))
    expected = body.norm(z + block.mlp(block.norm2(z)) + z @ down)
    torch.testing.assert_close(net.tokens(x, Plugs(beside=lambda i, y: y @ down)), expected)


@torch.no_grad()
def test_predictions_do_not_depend_on_the_batch_with_everything_plugged_in():
    net, x = tiny(), images(7)
    which = torch.arange(7) % 3
    weight, bias = affines(net, 3)
    prefix = torch.randn(2, 3, 2, 2, 8, generator=torch.Generator().manual_seed(7))
    prompt = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(8))

    def ask(rows):
        t = which[rows]
        return net(x[rows], Plugs(
            embed=lambda y: torch.cat([y, prompt[t]], 1),
            norm=lambda n, y: (weight[n][t], bias[n][t]),
            attend=lambda i, k, v: (torch.cat([prefix[0][t], k], 2), torch.cat([prefix[1][t], v], 2)),
            beside=lambda i, y: y.tanh(),
        ))  # fmt: skip

    whole, order = ask(torch.arange(7)), torch.tensor([4, 0, 6, 2, 5, 1, 3])
    assert not torch.allclose(whole, net(x), atol=1e-2)
    torch.testing.assert_close(ask(order), whole[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([ask(torch.tensor([b])) for b in range(7)]), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_by_autocast(device):
    """With every plug in single precision, as it is trained."""
    net, x = tiny(qk_norm=True).to(device), images().to(device)
    weight, bias = (part.to(device).requires_grad_() for part in affines(net, 3))
    prefix = torch.randn(3, 2, 4, 8, device=device, requires_grad=True)
    prompt = torch.randn(3, 2, 16, device=device, requires_grad=True)
    plugs = {
        "nothing": Plugs(),
        "embed": Plugs(embed=lambda y: torch.cat([y, prompt], 1)),
        "one norm": Plugs(norm=lambda n, y: (weight[n, 0], bias[n, 0])),
        "a norm each": Plugs(norm=lambda n, y: (weight[n], bias[n])),
        "attend": Plugs(attend=lambda i, k, v: (torch.cat([prefix, k], 2), torch.cat([prefix, v], 2))),
        "beside": Plugs(beside=lambda i, y: F.linear(y, prompt[0, :1].expand(16, -1))),
    }
    net.freeze()
    for name, plug in plugs.items():
        exact = net(x, plug)
        with torch.autocast(device, torch.bfloat16):
            half = net(x, plug)
        half.float().sum().backward()
        assert (half - exact).abs().max() < 0.05 * exact.abs().max() + 0.05, name
        if name == "nothing":
            with torch.autocast(device, torch.bfloat16):
                assert torch.equal(half, net.head(net.body(x)))
    assert all(torch.isfinite(part.grad).all() and part.grad.any() for part in (weight, bias, prefix, prompt))


@torch.no_grad()
def test_operations_are_counted_whichever_way_attention_goes():
    net, x, counts = tiny(), images(), []
    for plugs in (None, Plugs(attend=lambda i, k, v: (k, v)), Plugs(attend=lambda i, k, v: (k[:, :, 1:], v[:, :, 1:]))):
        meter = Meter()
        with meter.work("eval", 0):
            net(x, plugs)
        counts.append(meter.flops["eval"])
    assert counts[0] == counts[1] and counts[0] - counts[2] == 2 * 2 * (3 * 2 * 10 * 8) * net.depth


# -- real sizes -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_vit_b16():
    net = build("vit-b16", info(shape=(3, 224, 224)), weights="random").eval()
    assert sum(p.numel() for p in net.body.parameters()) == 85_798_656
    assert (net.width, net.depth, net.heads, len(net.norms()), net.pretrained) == (768, 12, 12, 25, None)
    assert sum(norm.weight.numel() + norm.bias.numel() for norm in net.norms()) == 38_400
    assert net.mean.flatten().tolist() == net.std.flatten().tolist() == [0.5] * 3
    shapes = []

    def attend(i, k, v):
        assert k.shape == v.shape == (1, 12, 197, 64)
        k, v = (torch.cat([torch.zeros(1, 12, 5 * (i < 2), 64), part], 2) for part in (k, v))
        shapes.append(tuple(k.shape))
        return k, v

    tokens = net.tokens(torch.rand(1, 3, 224, 224), Plugs(attend=attend))
    assert tokens.shape == (1, 197, 768)
    assert shapes == [(1, 12, 202, 64)] * 2 + [(1, 12, 197, 64)] * 10


def test_random_weights_are_a_function_of_the_global_generator():
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(build("vit-micro", info(shape=(3, 24, 24)), weights="random").state_dict())
    first, again, other = ({k: v for k, v in m.items() if k not in ("mean", "std")} for m in made)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["body.pos_embed"], other["body.pos_embed"])


# -- inputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def micro(monkeypatch):
    """vit-micro, smaller still."""
    monkeypatch.setattr(vits, "MICRO", TINY)
    return lambda shape=IMAGES, **options: build("vit-micro", info(shape=shape), **options).eval()


@torch.no_grad()
def test_normalisation_is_part_of_the_network(micro):
    torch.manual_seed(0)
    net = micro(weights="random")
    torch.manual_seed(0)
    bare = micro(weights="random", normalise="none")
    x = images()
    assert torch.equal(net(x), bare((x - 0.5) / 0.5)) and not torch.equal(net(x), bare(x))
    assert bare.mean is None and "mean" not in dict(net.named_parameters())
    assert net.to(torch.float64).mean.dtype == torch.float64


@torch.no_grad()
def test_grey_and_small_inputs_are_widened(micro):
    grey = micro((1, 12, 12), weights="random")
    x = images()[:, :1]
    assert torch.equal(grey(x), grey(x.expand(-1, 3, -1, -1)))
    small = micro((3, 6, 6), weights="random", image_size=12)
    x = images()[:, :, ::2, ::2]
    wide = F.interpolate(2 * x - 1, (12, 12), mode="bilinear")
    torch.testing.assert_close(small(x), small.head(small.body(wide)), rtol=1e-4, atol=1e-5)


# -- weights --------------------------------------------------------------------------------------------------------


def original(depth: int = 2, width: int = 16, heads: int = 2, patch: int = 4, grid: int = 3) -> dict[str, np.ndarray]:
    """Arrays in the layout of the original ViT code."""
    draw = np.random.RandomState(0)
    array = lambda *shape: draw.standard_normal(shape).astype(np.float32) / 4
    held = {
        "embedding/kernel": array(patch, patch, 3, width),
        "embedding/bias": array(width),
        "cls": array(1, 1, width),
        "Transformer/posembed_input/pos_embedding": array(1, 1 + grid * grid, width),
        "Transformer/encoder_norm/scale": 1 + array(width),
        "Transformer/encoder_norm/bias": array(width),
        "pre_logits/kernel": array(width, width),
        "pre_logits/bias": array(width),
        "head/kernel": array(width, 11),
        "head/bias": array(11),
    }
    for i in range(depth):
        block, part = f"Transformer/encoderblock_{i}", f"Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            held |= {f"{block}/{norm}/scale": 1 + array(width), f"{block}/{norm}/bias": array(width)}
        for name in ("query", "key", "value"):
            held[f"{part}/{name}/kernel"] = array(width, heads, width // heads)
            held[f"{part}/{name}/bias"] = array(heads, width // heads)
        held |= {f"{part}/out/kernel": array(heads, width // heads, width), f"{part}/out/bias": array(width)}
        for number, (a, b) in enumerate([(width, 4 * width), (4 * width, width)]):
            held[f"{block}/MlpBlock_3/Dense_{number}/kernel"] = array(a, b)
            held[f"{block}/MlpBlock_3/Dense_{number}/bias"] = array(b)
    return held


def by_hand(held: dict[str, np.ndarray], x: np.ndarray, depth: int = 2) -> np.ndarray:
    """[B, D] the class token after the final norm, of images [B, 3, H, W] that are already normalised."""
    erf = np.vectorize(__import__("math").erf)
    get = lambda name: held[f"Transformer/{name}"].astype(np.float64)

    def norm(y, name):
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
        return y * get(f"{name}/scale") + get(f"{name}/bias")

    kernel = held["embedding/kernel"].astype(np.float64)
    p, B = kernel.shape[0], len(x)
    g = x.shape[2] // p
    patches = x.reshape(B, 3, g, p, g, p).transpose(0, 2, 4, 3, 5, 1)  # B, row, column, y, x, channel
    y = np.einsum("brcyxi,yxid->brcd", patches, kernel).reshape(B, g * g, -1) + held["embedding/bias"]
    y = np.concatenate([np.repeat(held["cls"], B, 0), y], 1) + get("posembed_input/pos_embedding")
    for i in range(depth):
        block, z = f"encoderblock_{i}", norm(y, f"encoderblock_{i}/LayerNorm_0")
        name = f"{block}/MultiHeadDotProductAttention_1"
        q, k, v = (
            np.einsum("bnd,dhe->bhne", z, get(f"{name}/{part}/kernel")) + get(f"{name}/{part}/bias")[:, None]
            for part in ("query", "key", "value")
        )
        a = np.exp(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5)
        z = np.einsum("bhnm,bhme,hed->bnd", a / a.sum(-1, keepdims=True), v, get(f"{name}/out/kernel"))
        y = y + z + get(f"{name}/out/bias")
        z = norm(y, f"{block}/LayerNorm_2") @ get(f"{block}/MlpBlock_3/Dense_0/kernel")
        z = z + get(f"{block}/MlpBlock_3/Dense_0/bias")
        z = z * (1 + erf(z / 2**0.5)) / 2
        y = y + z @ get(f"{block}/MlpBlock_3/Dense_1/kernel") + get(f"{block}/MlpBlock_3/Dense_1/bias")
    return norm(y, "encoder_norm")[:, 0]


@torch.no_grad()
def test_the_original_npz_is_the_network_that_it_says(micro, tmp_path):
    path = tmp_path / "ViT-tiny.npz"
    np.savez(path, **original())
    net, x = micro(weights=str(path)), images()
    expected = by_hand(original(), 2 * x.double().numpy() - 1)
    np.testing.assert_allclose(net.features(x), expected, rtol=1e-4, atol=1e-4)
    assert net.pretrained.name == "ViT-tiny.npz" and net.pretrained.data == net.pretrained.overlap == "unknown"
    assert net.pretrained.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert net.pretrained.normalise == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    assert micro(weights=str(path), normalise="none").pretrained.normalise == "none"


def test_what_the_original_layout_has_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(vits, "MICRO", TINY | {"init_values": 0.1})
    np.savez(tmp_path / "w.npz", **original())
    with pytest.raises(MismatchError, match="hold no values, .*for blocks.0.ls1.gamma"):
        build("vit-micro", info(shape=IMAGES), weights=str(tmp_path / "w.npz"))


@torch.no_grad()
def test_positions_are_resampled_to_another_size(micro, tmp_path):
    np.savez(tmp_path / "w.npz", **original())
    save_file(tiny().body.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        native, larger = (micro(s, weights=str(tmp_path / name)) for s in (IMAGES, (3, 16, 20)))
        assert larger.body.pos_embed.shape == (1, 1 + 4 * 5, 16)
        assert torch.equal(larger.body.pos_embed[:, 0], native.body.pos_embed[:, 0])
        assert larger(torch.rand(2, 3, 16, 20)).shape == (2, 6)


@torch.no_grad()
def test_safetensors_in_half_precision_with_a_recipe(micro, tmp_path, monkeypatch):
    body, path = tiny().body, tmp_path / "vit-micro.safetensors"
    state = {name: value.half() for name, value in body.state_dict().items()}
    recipe = {"data": "generated images", "overlap": "none"}
    save_file(state | {"head.weight": torch.zeros(7, 16)}, path, {"recipe": json.dumps(recipe)})
    monkeypatch.setattr(vits, "MICRO_WEIGHTS", path)
    net = micro()
    assert all(
        p.dtype == torch.float32 and torch.equal(p, state[name].float()) for name, p in net.body.named_parameters()
    )
    assert net.head.out_features == 6
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = net.pretrained
    assert (facts.name, facts.sha256, facts.data, facts.overlap) == ("vit-micro", digest, *recipe.values())
    torch.save(state, tmp_path / "w.pth")
    assert torch.equal(micro(weights=str(tmp_path / "w.pth")).body.pos_embed, net.body.pos_embed)


def _without(held, name):
    return {key: value for key, value in held.items() if key != name}


def _state(**changes) -> dict[str, torch.Tensor]:
    return tiny(**changes).body.state_dict()


class Planted:
    def __reduce__(self):
        return (print, ("code in a file of weights ran",))


WRONG = {
    "absent.npz": (lambda p: None, StorageError, "do not exist"),
    "notes.txt": (lambda p: p.write_text("weights"), UsageError, "is not known as a file of weights"),
    "text.npz": (lambda p: p.write_text("weights"), InvalidError, "are not an .npz file"),
    "text.safetensors": (lambda p: p.write_text("weights"), InvalidError, "cannot be read"),
    "text.pth": (lambda p: p.write_text("weights"), InvalidError, "cannot be read"),
    "code.pth": (lambda p: torch.save({"cls_token": Planted()}, p), InvalidError, "not tensors alone"),
    "list.pth": (lambda p: torch.save([1, 2], p), MismatchError, "do not fit"),
    "numbers.pth": (lambda p: torch.save(_state() | {"norm.bias": 3}, p), MismatchError, "norm.bias has the shape"),
    "other.npz": (lambda p: np.savez(p, kernel=np.zeros(3)), MismatchError, "do not fit"),
    "objects.npz": (
        lambda p: np.savez(p, **original() | {"cls": np.array([Planted()])}), MismatchError, "do not fit",
    ),
    "missing.npz": (
        lambda p: np.savez(p, **_without(original(), "Transformer/encoderblock_1/LayerNorm_2/scale")),
        MismatchError, "encoderblock_1/LayerNorm_2/scale",
    ),
    "narrow.npz": (lambda p: np.savez(p, **original(width=8)), MismatchError, "do not fit"),
    "deep.npz": (lambda p: np.savez(p, **original(depth=3)), MismatchError, "more blocks than the 2"),
    "shallow.npz": (lambda p: np.savez(p, **original(depth=1)), MismatchError, "encoderblock_1"),
    "nan.npz": (
        lambda p: np.savez(p, **original() | {"cls": np.full((1, 1, 16), np.nan, np.float32)}),
        MismatchError, "none that are finite, for cls_token",
    ),
    "missing.safetensors": (
        lambda p: save_file(_without(_state(), "blocks.1.norm2.weight"), p),
        MismatchError, "blocks.1.norm2.weight is missing",
    ),
    "narrow.safetensors": (
        lambda p: save_file(_state(embed_dim=8), p),
        MismatchError, r"has the shape \[1, 1, 8\], not \[1, 1, 16\], and \d+ more",
    ),
    "deep.safetensors": (lambda p: save_file(_state(depth=3), p), MismatchError, "is left over, and 11 more"),
    "scaled.safetensors": (lambda p: save_file(_state(init_values=1.0), p), MismatchError, "ls1.gamma is left over"),
    "recipe.safetensors": (lambda p: save_file(_state(), p, {"recipe": "{"}), InvalidError, "recipe in .* not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_says_so_in_one_line(micro, tmp_path, capfd, name):
    write, kind, message = WRONG[name]
    write(tmp_path / name)
    with pytest.raises(CarryoverError, match=message) as caught:
        micro(weights=str(tmp_path / name))
    assert type(caught.value) is kind and "\n" not in str(caught.value) and name in str(caught.value)
    assert "ran" not in capfd.readouterr().out


# -- timm's names ---------------------------------------------------------------------------------------------------

SMALL = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm", {}, "is not a vision transformer of timm, such as"),
        ("timm", {"tag": "resnet50.a1_in1k"}, "'resnet50.a1_in1k' is not a vision transformer"),
        ("timm", {"tag": "vit_tiny_patch16_22"}, f"Did you mean '{SMALL}'"),
        ("timm", {"tag": f"{SMALL}.nonsense"}, "Invalid pretrained tag"),
        ("timm", {"tag": "deit_tiny_distilled_patch16_224"}, "not a plain vision transformer"),
        ("vit-b16", {"tag": SMALL}, "must begin with 'vit_base_patch16_224'"),
        ("vit-micro", {"image_size": 10}, r"10\] pixels are no multiple of the patch .*set model.image_size=12"),
        ("vit-micro", {"image_size": "big"}, "must be a number of pixels"),
        ("vit-micro", {"normalise": "imagenet"}, 'must be "weights" or "none"'),
        ("vit-micro", {"drop_path": 1.5}, r"must be a share in \[0, 1\)"),
        ("vit-micro", {"weight": "random"}, "Did you mean 'weights'"),
    ],
)
def test_wrong_options_say_so_in_one_line(micro, name, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(name, info(shape=(3, 32, 32)), **{"weights": "random", **options} if "weight" not in options else options)
    assert "\n" not in str(caught.value)


def test_inputs_that_are_no_images_are_refused(micro):
    for shape in ((12,), (4, 12, 12)):
        with pytest.raises(UsageError, match="images of 3 channels, or of 1"):
            micro(shape, weights="random")


def test_blocks_that_go_another_way_are_refused():
    with pytest.raises(ValueError, match="not a plain vision transformer"):
        tiny(block_fn=ParallelScalingBlock)


def test_weights_of_the_hub(monkeypatch, tmp_path):
    torch.manual_seed(0)
    source = timm.create_model(SMALL, num_classes=11)
    path = tmp_path / "model.safetensors"
    save_file(source.state_dict(), path)
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *given, **more: asked.append(given) or str(path))
    net = build("timm", info(shape=(3, 224, 224)), tag=f"{SMALL}.augreg_in21k")
    assert asked == [(f"timm/{SMALL}.augreg_in21k", "model.safetensors")]
    assert torch.equal(net.body.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert net.pretrained.name == f"{SMALL}.augreg_in21k" and "ImageNet-R's 200" in net.pretrained.overlap
    assert net.pretrained.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    small = build("timm", info(shape=(3, 32, 32)), tag=SMALL)
    assert small.pretrained.data.startswith("ImageNet-21k, then ImageNet-1k")  # timm's first weights of that name
    assert small.body.pos_embed.shape == (1, 5, 192)


def test_a_hub_out_of_reach_says_what_to_get_where(monkeypatch):
    def fail(*given, **more):
        raise OSError("no route to host. Try\nagain")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(StorageError) as caught:
        build("timm", info(shape=(3, 224, 224)), tag=SMALL)
    text = str(caught.value)
    assert "no route to host" in text and "\n" not in text and "model.weights=FILE" in text
    assert f"Download model.safetensors from https://huggingface.co/timm/{SMALL}.augreg_in21k_ft_in1k" in text
    with pytest.raises(StorageError, match=r"are not on the hub. Download https://x/w.pth and give it by"):
        weights.download("somebodys", {"url": "https://x/w.pth"})


def test_the_facts_name_tags_that_timm_has():
    tags = {name.partition(".")[2] for name in timm.list_models("vit_base_patch16_224*", pretrained=True)}
    assert set(weights.FACTS) <= tags


def test_everything_but_a_transformer_works_without_timm():
    program = """
import sys
sys.modules["timm"] = None
import torch
from carryover.base.errors import StorageError
from carryover.strategies.backbones import build, registry, vit, vits
from carryover.streams.core import CIL, StreamInfo
assert {"vit-micro", "vit-b16", "timm", "mlp"} <= set(registry.entries)
info = StreamInfo("toy", (3, 24, 24), 4, CIL)
build("mlp", info)
try:
    build("vit-micro", info, weights="random")
except StorageError as error:
    assert "pip install timm" in str(error)
else:
    raise SystemExit("built without timm")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


def test_half_precision_is_near_with_anything_plugged_in():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        full = vits.vit_micro((3, 24, 24), 5, weights="random")
    half = copy.deepcopy(full)
    half.half = True
    x = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    prefix = torch.randn(2, 1, 6, 4, 32, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def attend(block, k, v):
        front = prefix.expand(-1, len(k), -1, -1, -1)
        return torch.cat([front[0], k], 2), torch.cat([front[1], v], 2)

    for plugs in (None, Plugs(attend=attend), Plugs(norm=lambda n, x: (full.norms()[n].weight, full.norms()[n].bias))):
        near, exact = half.features(x, plugs), full.features(x, plugs)
        assert near.dtype == torch.float32 and not torch.equal(near, exact)
        assert torch.nn.functional.cosine_similarity(near, exact).min() > 0.999
    half.features(x, Plugs(attend=attend)).sum().backward()
    assert torch.isfinite(prefix.grad).all() and prefix.grad.abs().sum() > 0
    with pytest.raises(UsageError, match="precision"):
        build("vit-micro", info(shape=(3, 24, 24)), weights="random", precision="float16")
