"""Checkpoints of transformers as models: beside plain torch modules written from the published forward passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specs.errors import InputError
from specs.model import load_model, model_from_module
from specs.transformers.gpt2 import read_gpt2
from specs.transformers.hooked import read_hooked
from specs.transformers.reference import compare_with
from specs.transformers.write import written
from verify.cli import main

CONFIG = {"n_layers": 2, "d_model": 12, "n_heads": 3, "d_head": 4, "d_mlp": 20, "d_vocab": 7, "n_ctx": 6, "act_fn": "gelu_new",
          "normalization_type": "LN", "eps": 1e-5}  # fmt: skip


def _state(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """A HookedTransformer's state dict with random weights, its buffers among them."""
    g = torch.Generator().manual_seed(seed)
    d, h, k, v = config["d_model"], config["n_heads"], config["d_head"], config["d_vocab"]
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (v, d), "pos_embed.W_pos": (config["n_ctx"], d)}
    norms = ["ln_final"]
    for i in range(config["n_layers"]):
        at = f"blocks.{i}.attn"
        shapes |= {f"{at}.W_{p}": (h, d, k) for p in "QKV"} | {f"{at}.b_{p}": (h, k) for p in "QKV"}
        shapes |= {f"{at}.W_O": (h, k, d), f"{at}.b_O": (d,)}
        norms.append(f"blocks.{i}.ln1")
        if not config.get("attn_only"):
            m = config["d_mlp"]
            shapes |= {
                f"blocks.{i}.mlp.{n}": s for n, s in (("W_in", (d, m)), ("b_in", (m,)), ("W_out", (m, d)), ("b_out", (d,)))
            }
            norms.append(f"blocks.{i}.ln2")
    kind = config["normalization_type"]
    shapes |= {f"{n}.w": (d,) for n in norms if kind in ("LN", "RMS")} | {f"{n}.b": (d,) for n in norms if kind == "LN"}
    shapes |= {"unembed.W_U": (d, v), "unembed.b_U": (v,)}
    state = {name: torch.randn(shape, generator=g) / max(1, shape[0]) ** 0.5 for name, shape in shapes.items()}
    return state | {"blocks.0.attn.mask": torch.ones(6, 6).tril().bool(), "blocks.0.attn.IGNORE": torch.tensor(-torch.inf)}


def _hooked(config: dict[str, Any], w: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """Logits and some activations, as HookedTransformer computes them."""
    kind, act = config["normalization_type"], config.get("act_fn")

    def norm(x: Tensor, name: str) -> Tensor:
        if kind is None:
            return x
        x = x - x.mean(-1, keepdim=True) if kind.startswith("LN") else x
        x = x / (x.pow(2).mean(-1, keepdim=True) + config["eps"]).sqrt()
        x = x * w[f"{name}.w"] if kind in ("LN", "RMS") else x
        return x + w[f"{name}.b"] if kind == "LN" else x

    n = tokens.shape[1]
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][:n]
    seen: dict[str, Tensor] = {}
    for i in range(config["n_layers"]):
        at, h = f"blocks.{i}.attn", norm(x, f"blocks.{i}.ln1")
        q, k, v = (torch.einsum("bpd,hdk->bphk", h, w[f"{at}.W_{p}"]) + w[f"{at}.b_{p}"] for p in "QKV")
        scores = torch.einsum("bphk,bqhk->bhpq", q, k) / config["d_head"] ** 0.5
        if config.get("attention_dir", "causal") == "causal":
            scores = scores.masked_fill(~torch.ones(n, n).tril().bool(), -torch.inf)
        seen[f"{at}.hook_pattern"] = scores.softmax(-1)
        seen[f"{at}.hook_z"] = z = torch.einsum("bhpq,bqhk->bphk", scores.softmax(-1), v)
        seen[f"{at}.hook_result"] = result = torch.einsum("bphk,hkd->bphd", z, w[f"{at}.W_O"])
        x = x + result.sum(2) + w[f"{at}.b_O"]
        if not config.get("attn_only"):
            pre = norm(x, f"blocks.{i}.ln2") @ w[f"blocks.{i}.mlp.W_in"] + w[f"blocks.{i}.mlp.b_in"]
            kinds = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "gelu_new": lambda t: F.gelu(t, approximate="tanh")}
            seen[f"blocks.{i}.mlp.hook_post"] = post = kinds[str(act)](pre)
            x = x + post @ w[f"blocks.{i}.mlp.W_out"] + w[f"blocks.{i}.mlp.b_out"]
        seen[f"blocks.{i}.hook_resid_post"] = x
    return seen | {"logits": norm(x, "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]}


def _files(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> tuple[str, str]:
    torch.save(state, folder / "weights.pt")
    (folder / "cfg.json").write_text(json.dumps(config))
    return str(folder / "weights.pt"), str(folder / "cfg.json")


VARIANTS = [
    {},
    {"act_fn": "relu", "normalization_type": None},
    {"act_fn": "gelu", "normalization_type": "LNPre"},
    {"act_fn": "silu", "normalization_type": "RMS", "attention_dir": "bidirectional"},
    {"normalization_type": "RMSPre", "use_attn_result": True},
    {"attn_only": True, "act_fn": None, "use_attn_result": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_logits_and_activations(tmp_path: Path, variant: dict[str, Any]) -> None:
    """Under the same names the same numbers, in onnxruntime and on our graph; and `load_model` checks the two."""
    config = CONFIG | variant
    state = _state(config)
    checkpoint = read_hooked(*_files(tmp_path, config, state))
    tokens = torch.tensor([[0, 3, 6, 1, 1]])
    (tmp_path / "m.onnx").write_bytes(written(checkpoint, 5, "one-hot").SerializeToString())
    model = load_model("m.onnx", shown="c", where="", base=tmp_path)
    x = F.one_hot(tokens, 7).float()
    expected = _hooked(config, state, tokens)
    if not config.get("use_attn_result"):
        expected = {name: value for name, value in expected.items() if "result" not in name}
    found = model.runtime.activations(x.numpy(), list(expected))
    for name, value in expected.items():
        assert np.allclose(found[name], value.numpy(), atol=2e-5), name
    assert torch.allclose(model.graph(x.double().unsqueeze(0))[0].float(), expected["logits"], atol=2e-5)
    if config.get("use_attn_result"):
        group, count = model.group("blocks.1.attn.hook_result", "head")
        assert count == 3 and bool((group == torch.arange(3)[:, None]).all())


def test_input_and_output_forms(tmp_path: Path) -> None:
    state = _state(CONFIG)
    checkpoint = read_hooked(*_files(tmp_path, CONFIG, state))
    tokens = torch.tensor([[2, 2, 5, 0], [6, 1, 3, 4]])
    np.savez(tmp_path / "ref.npz", tokens=tokens.numpy(), logits=_hooked(CONFIG, state, tokens)["logits"].numpy())
    for takes in ("one-hot", "embedding"):
        for last in (False, True):
            made = written(checkpoint, 4, takes, last)
            assert compare_with(str(tmp_path / "ref.npz"), made, checkpoint, takes, last) < 1e-4


def test_another_checkpoints_logits_are_refused(tmp_path: Path) -> None:
    checkpoint = read_hooked(*_files(tmp_path, CONFIG, _state(CONFIG)))
    tokens = torch.tensor([[2, 2, 5, 0]])
    np.savez(tmp_path / "ref.npz", tokens=tokens.numpy(), logits=_hooked(CONFIG, _state(CONFIG, 1), tokens)["logits"].numpy())
    with pytest.raises(InputError, match="differ from the original's"):
        compare_with(str(tmp_path / "ref.npz"), written(checkpoint, 4, "one-hot"), checkpoint, "one-hot", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positional_embedding_type": "rotary"}, '$.positional_embedding_type: positional_embedding_type "rotary"'),
        ({"gated_mlp": True}, "$.gated_mlp"),
        ({"act_fn": "solu_ln"}, "$.act_fn"),
        ({"n_key_value_heads": 1}, "$.n_key_value_heads"),
        ({"d_mlp": 21}, "weight 'blocks.0.mlp.W_in' of shape [12, 20]"),
        ({"n_layers": 3}, "no weight 'blocks.2.attn.W_Q'"),
        ({"n_layers": 0}, "$.n_layers"),
    ],
)
def test_refuses_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    paths = _files(tmp_path, CONFIG | change, _state(CONFIG))
    with pytest.raises(InputError) as error:
        read_hooked(*paths)
    assert message in str(error.value)


def test_pickled_modules_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "weights.pt")
    (tmp_path / "cfg.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match="holds more than tensors"):
        read_hooked(str(tmp_path / "weights.pt"), str(tmp_path / "cfg.json"))


class _Conv1D(nn.Module):
    """GPT-2's dense layer, its weight `(in, out)`."""

    def __init__(self, outside: int, inside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inside, outside) / inside**0.5)
        self.bias = nn.Parameter(torch.randn(outside) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Block(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.ln_1, self.ln_2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.ModuleDict({"c_attn": _Conv1D(3 * d, d), "c_proj": _Conv1D(d, d)})
        self.mlp = nn.ModuleDict({"c_fc": _Conv1D(4 * d, d), "c_proj": _Conv1D(d, 4 * d)})

    def forward(self, x: Tensor) -> Tensor:
        n, d = x.shape[1:]
        q, k, v = (
            part.reshape(1, n, self.heads, d // self.heads).transpose(1, 2)
            for part in self.attn["c_attn"](self.ln_1(x)).split(d, dim=2)
        )
        scores = (q @ k.transpose(-1, -2)) / (d // self.heads) ** 0.5
        scores = scores + torch.full((n, n), -torch.inf).triu(1)
        x = x + self.attn["c_proj"]((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, n, d))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """A GPT-2-shaped module with HuggingFace's names, on embeddings of tokens."""

    def __init__(self, vocabulary: int = 9, d: int = 8, heads: int = 2, layers: int = 2, context: int = 6) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, d), nn.Embedding(context, d)
        self.h = nn.ModuleList(_Block(d, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.wpe.weight[: x.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def test_gpt2(tmp_path: Path) -> None:
    """The checkpoint under HuggingFace's names, and the module itself through torch.export, give the same network."""
    torch.manual_seed(0)
    module = GPT2().eval()
    torch.save({f"transformer.{name}": value for name, value in module.state_dict().items()}, tmp_path / "w.bin")
    config = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 9, "n_positions": 6,
              "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = read_gpt2(str(tmp_path / "w.bin"), str(tmp_path / "config.json"))
    (tmp_path / "m.onnx").write_bytes(written(checkpoint, 5, "embedding").SerializeToString())
    model = load_model("m.onnx", shown="c", where="", base=tmp_path)
    tokens = torch.tensor([[0, 8, 3, 3, 1]])
    x = module.wte(tokens).detach()
    expected = module(x).detach().numpy()
    assert np.allclose(model.runtime.outputs(x.numpy()), expected, atol=1e-5)
    exported = model_from_module(module, torch.zeros(1, 5, 8))
    assert np.allclose(exported.runtime.outputs(x.numpy()), expected, atol=1e-5)
    assert torch.allclose(exported.graph(x.double().unsqueeze(0)), model.graph(x.double().unsqueeze(0)), atol=1e-6)
    assert model.group("blocks.1.attn.hook_z", "head")[1] == 2


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, config = _files(tmp_path, CONFIG, _state(CONFIG))
    out = str(tmp_path / "m.onnx")
    for code in (0, 2):  # a model that is there is not replaced
        with pytest.raises(SystemExit) as done:
            main(["convert", "transformer-lens", weights, "--config", config, "--positions", "4", "--out", out])
        assert done.value.code == code
    said = capsys.readouterr()
    assert "layers=2 heads=3" in said.out and "not compared with the original" in said.err and "exists" in said.err
