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

from specs.edges import listed
from specs.errors import InputError
from specs.heads import heads
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
    groups, kind = config.get("n_key_value_heads"), config["normalization_type"]
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (v, d)}

    def norm(kind: str | None, name: str, width: int) -> None:
        ends = {"LN": ("w", "b"), "RMS": ("w",)}.get(str(kind), ())
        shapes.update({f"{name}.{end}": (width,) for end in ends})

    if config.get("positional_embedding_type") != "rotary":
        shapes["pos_embed.W_pos"] = (config["n_ctx"], d)
    if config.get("post_embedding_ln"):
        norm("LN", "embed.ln", d)
    for i in range(config["n_layers"]):
        at, names = f"blocks.{i}.attn", ["ln1"] if config.get("attn_only") else ["ln1", "ln2"]
        for part, count in (("Q", h), ("K", groups or h), ("V", groups or h)):
            own = "_" if groups and part != "Q" else ""
            shapes |= {f"{at}.{own}W_{part}": (count, d, k), f"{at}.{own}b_{part}": (count, k)}
        shapes |= {f"{at}.W_O": (h, k, d), f"{at}.b_O": (d,)}
        for name in names:
            norm(kind, f"blocks.{i}.{name}", d)
            if config.get("use_normalization_before_and_after"):
                norm("RMS", f"blocks.{i}.{name}_post", d)
        if config.get("use_qk_norm"):
            norm("RMS", f"{at}.q_norm", k)
            norm("RMS", f"{at}.k_norm", k)
        if not config.get("attn_only"):
            m = config["d_mlp"]
            shapes |= {f"blocks.{i}.mlp.W_{n}": s for n, s in (("in", (d, m)), ("out", (m, d)), ("gate", (d, m)))}
            shapes |= {f"blocks.{i}.mlp.b_in": (m,), f"blocks.{i}.mlp.b_out": (d,)}
            norm(kind if config.get("act_fn") == "solu_ln" else None, f"blocks.{i}.mlp.ln", m)
    norm(str(kind).replace("LN", "RMS") if config.get("final_rms") else kind, "ln_final", d)
    out = config.get("d_vocab_out", v)
    shapes |= {"unembed.W_U": (d, out), "unembed.b_U": (out,)}
    state = {name: torch.randn(shape, generator=g) / max(1, shape[0]) ** 0.5 for name, shape in shapes.items()}
    for i in range(config["n_layers"]):
        state[f"blocks.{i}.attn.mask"] = torch.ones(6, 6).tril().bool()
        state[f"blocks.{i}.attn.IGNORE"] = torch.tensor(-torch.inf)
        if config.get("positional_embedding_type") == "rotary":
            width = config.get("rotary_dim", k)
            angle = torch.arange(config["n_ctx"]).unsqueeze(1) / 10 ** torch.arange(width // 2)
            angle = angle.repeat_interleave(2, 1) if config.get("rotary_adjacent_pairs") else angle.repeat(1, 2)
            state |= {f"blocks.{i}.attn.rotary_sin": angle.sin(), f"blocks.{i}.attn.rotary_cos": angle.cos()}
    return state


def _turned(config: dict[str, Any], w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    """Rotary positions as rotations of the plane, pair by pair. Shape: `x` `(1, positions, heads, head_width)`."""
    if config.get("positional_embedding_type") != "rotary":
        return x
    width, made = config.get("rotary_dim", config["d_head"]), x.clone()
    for p in range(x.shape[1]):
        for i in range(width // 2):
            a, b = (2 * i, 2 * i + 1) if config.get("rotary_adjacent_pairs") else (i, i + width // 2)
            c, s = w[f"{at}.rotary_cos"][p, a], w[f"{at}.rotary_sin"][p, a]
            made[:, p, :, a] = c * x[:, p, :, a] - s * x[:, p, :, b]
            made[:, p, :, b] = s * x[:, p, :, a] + c * x[:, p, :, b]
    return made


def _hooked(config: dict[str, Any], w: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """Logits and some activations, as HookedTransformer computes them."""
    kind, act, where = config["normalization_type"], config.get("act_fn"), config.get("positional_embedding_type", "standard")
    seen: dict[str, Tensor] = {}

    def norm(x: Tensor, name: str, kind: str | None) -> Tensor:
        if kind is None:
            return x
        x = x - x.mean(-1, keepdim=True) if kind.startswith("LN") else x
        x = x / (x.pow(2).mean(-1, keepdim=True) + config["eps"]).sqrt()
        if kind == "RMS":
            seen[f"{name}.hook_normalized"] = x
        x = x * w[f"{name}.w"] if kind in ("LN", "RMS") else x
        x = x + w[f"{name}.b"] if kind == "LN" else x
        if kind != "RMS":
            seen[f"{name}.hook_normalized"] = x
        return x

    def capped(x: Tensor, key: str) -> Tensor:
        cap = config.get(key, -1.0)
        return cap * torch.tanh(x / cap) if cap > 0 else x

    def left(x: Tensor, name: str) -> Tensor:
        return norm(x, name, "RMS") if config.get("use_normalization_before_and_after") else x

    def mlp(i: int, x: Tensor) -> Tensor:
        stem = f"blocks.{i}.mlp"
        x, inside = norm(x, f"blocks.{i}.ln2", kind), w[f"{stem}.W_in"]
        kinds = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "gelu_new": lambda t: F.gelu(t, approximate="tanh"),
                 "solu": lambda t: t * t.softmax(-1)}  # fmt: skip
        run = kinds[str(act).removesuffix("_ln")]
        if config.get("gated_mlp"):
            seen[f"{stem}.hook_pre"] = pre = x @ w[f"{stem}.W_gate"]
            post = run(pre) * (x @ inside) + w[f"{stem}.b_in"]
        else:
            seen[f"{stem}.hook_pre"] = pre = x @ inside + w[f"{stem}.b_in"]
            post = run(pre)
        post = norm(post, f"{stem}.ln", "LN" if kind == "LN" else "LNPre") if act == "solu_ln" else post
        seen[f"{stem}.hook_post"] = post
        seen[f"blocks.{i}.hook_mlp_out"] = out = left(post @ w[f"{stem}.W_out"] + w[f"{stem}.b_out"], f"blocks.{i}.ln2_post")
        return out

    n, h = tokens.shape[1], config["n_heads"]
    x = w["embed.W_E"][tokens]
    seen["hook_embed"] = x = norm(x, "embed.ln", "LN") if config.get("post_embedding_ln") else x
    x = x + w["pos_embed.W_pos"][:n] if where == "standard" else x
    back = torch.arange(n).unsqueeze(1) - torch.arange(n)
    for i in range(config["n_layers"]):
        seen[f"blocks.{i}.hook_resid_pre"] = x
        at, read = f"blocks.{i}.attn", norm(x, f"blocks.{i}.ln1", kind)
        own = "_" if config.get("n_key_value_heads") else ""
        parts: list[Tensor] = []
        for part in "QKV":
            extra = w["pos_embed.W_pos"][:n] if where == "shortformer" and part != "V" else 0.0
            mark = "" if part == "Q" else own
            made = torch.einsum("bpd,hdk->bphk", read + extra, w[f"{at}.{mark}W_{part}"]) + w[f"{at}.{mark}b_{part}"]
            seen[f"{at}.hook_{part.lower()}"] = made
            if part != "V":
                made = norm(made, f"{at}.{part.lower()}_norm", "RMS") if config.get("use_qk_norm") else made
                made = _turned(config, w, at, made)
                if where == "rotary":
                    seen[f"{at}.hook_rot_{part.lower()}"] = made
            parts.append(made.repeat_interleave(h // made.shape[2], 2))
        q, k, v = parts
        scale = config["d_head"] ** 0.5 * (i + 1 if config.get("scale_attn_by_inverse_layer_idx") else 1)
        scores = capped(torch.einsum("bphk,bqhk->bhpq", q, k) / scale, "attn_scores_soft_cap")
        if where == "alibi":
            scores = scores - torch.tensor([2 ** (-8 * (j + 1) / h) for j in range(h)]).reshape(-1, 1, 1) * back.clamp(min=0)
        if config.get("attention_dir", "causal") == "causal":
            scores = scores.masked_fill(back < 0, -torch.inf)
        if config.get("use_local_attn") and config["attn_types"][i] == "local":
            scores = scores.masked_fill(back >= config["window_size"], -torch.inf)
        seen[f"{at}.hook_pattern"] = scores.softmax(-1)
        seen[f"{at}.hook_z"] = z = torch.einsum("bhpq,bqhk->bphk", scores.softmax(-1), v)
        seen[f"{at}.hook_result"] = result = torch.einsum("bphk,hkd->bphd", z, w[f"{at}.W_O"])
        seen[f"blocks.{i}.hook_attn_out"] = out = left(result.sum(2) + w[f"{at}.b_O"], f"blocks.{i}.ln1_post")
        if config.get("attn_only"):
            x = x + out
        elif config.get("parallel_attn_mlp"):
            x = x + out + mlp(i, x)
        else:
            x = x + out
            x = x + mlp(i, x)
        seen[f"blocks.{i}.hook_resid_post"] = x
    last = str(kind).replace("LN", "RMS") if config.get("final_rms") else kind
    logits = norm(x, "ln_final", last) @ w["unembed.W_U"] + w["unembed.b_U"]
    return seen | {"logits": capped(logits, "output_logits_soft_cap")}


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
    {"positional_embedding_type": "rotary", "rotary_dim": 2, "parallel_attn_mlp": True},
    {"positional_embedding_type": "rotary", "rotary_adjacent_pairs": True, "n_key_value_heads": 1, "use_qk_norm": True},
    {"positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True, "act_fn": "silu",
     "use_normalization_before_and_after": True, "attn_scores_soft_cap": 0.5, "output_logits_soft_cap": 1.5},
    {"positional_embedding_type": "shortformer", "attn_only": True, "normalization_type": None, "d_vocab_out": 5},
    {"positional_embedding_type": "alibi", "post_embedding_ln": True, "scale_attn_by_inverse_layer_idx": True},
    {"use_local_attn": True, "attn_types": ["global", "local"], "window_size": 2, "final_rms": True, "act_fn": "solu_ln"},
    {"n_heads": 4, "n_key_value_heads": 2, "d_head": 2, "act_fn": "solu", "use_attn_result": True},
]  # fmt: skip


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
        assert count == config["n_heads"] and bool((group == torch.arange(count)[:, None]).all())


@pytest.mark.parametrize("adjacent", [False, True])
def test_heads_of_shared_and_turned_keys(tmp_path: Path, adjacent: bool) -> None:
    """Heads are followed through rotary positions; keys and values that heads share are heads of their own."""
    config = CONFIG | {"n_heads": 4, "n_key_value_heads": 2, "positional_embedding_type": "rotary",
                       "rotary_adjacent_pairs": adjacent}  # fmt: skip
    checkpoint = read_hooked(*_files(tmp_path, config, _state(config)))
    (tmp_path / "m.onnx").write_bytes(written(checkpoint, 5, "one-hot").SerializeToString())
    model = load_model("m.onnx", shown="c", where="", base=tmp_path)
    for name, count in (("q", 4), ("k", 2), ("v", 2), ("z", 4), ("rot_q", 4), ("rot_k", 2)):
        group, found = model.group(f"blocks.0.attn.hook_{name}", "head")
        assert found == count and bool((group == torch.arange(count)[:, None]).all()), name
    projections = [f"blocks.{i}.attn.{part}.flat.product" for i in range(2) for part in "QKV"]
    consumers = [f"blocks.{i}.mlp.hook_pre.product" for i in range(2)] + ["logits.product"]
    assert {read.consumer for read in listed(model.graph)} == {*projections, *consumers}


def test_a_softmax_over_units_has_no_heads(tmp_path: Path) -> None:
    """SoLU multiplies by a softmax, and is no attention."""
    config = CONFIG | {"act_fn": "solu"}
    checkpoint = read_hooked(*_files(tmp_path, config, _state(config)))
    (tmp_path / "m.onnx").write_bytes(written(checkpoint, 5, "one-hot").SerializeToString())
    model = load_model("m.onnx", shown="c", where="", base=tmp_path)
    assert not any("mlp" in name for name in heads(model.graph))


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
        ({"positional_embedding_type": "relative_positional_bias"},
         '$.positional_embedding_type: positional_embedding_type "relative_positional_bias"'),
        ({"positional_embedding_type": "rotary"}, "no weight 'blocks.0.attn.rotary_sin'"),
        ({"positional_embedding_type": "rotary", "rotary_dim": 3}, "$.rotary_dim"),
        ({"act_fn": "xielu"}, "$.act_fn"),
        ({"act_fn": "solu_ln", "gated_mlp": True}, "$.gated_mlp"),
        ({"num_experts": 4}, "$.num_experts"),
        ({"n_key_value_heads": 2}, "$.n_key_value_heads"),
        ({"use_normalization_before_and_after": True}, "$.use_normalization_before_and_after"),
        ({"use_local_attn": True, "window_size": 2}, "$.attn_types"),
        ({"d_mlp": 21}, "weight 'blocks.0.mlp.W_in' of shape [12, 20]"),
        ({"n_layers": 3}, "no weight 'blocks.2.attn.W_Q'"),
        ({"n_layers": 0}, "$.n_layers"),
    ],
)  # fmt: skip
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
