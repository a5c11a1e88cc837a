"""Names of transformer components in the ways that tools write them."""

from __future__ import annotations

import re

from specs.foreign.circuit import Node

__all__ = ["HEADS", "hook_node", "short_node"]

HEADS = 1 << 20
"""Layers and indices are below this: a longer number is no name."""

_SHORT = re.compile(r"a(?P<layer>\d{1,6})\.h(?P<head>\d{1,6})|m(?P<mlp>\d{1,6})")
_LONG = re.compile(r"A(?P<layer>\d{1,6})\.(?P<head>\d{1,6})|MLP (?P<mlp>\d{1,6})")

_HOOK = re.compile(r"blocks\.(?P<layer>\d{1,6})\.(?P<rest>[\w.]+)")
_HEAD_HOOKS = {
    "attn.hook_result", "attn.hook_z", "attn.hook_q", "attn.hook_k", "attn.hook_v", "hook_q_input", "hook_k_input",
    "hook_v_input", "hook_attn_in",
}  # fmt: skip
_MLP_HOOKS = {"hook_mlp_out", "hook_mlp_in"}


def short_node(name: str) -> Node | None:
    """`a0.h3`, `m2` (EAP, Edge-Pruning), `A0.3`, `MLP 2` (auto-circuit, circuitkit); None for any other name."""
    found = _SHORT.fullmatch(name) or _LONG.fullmatch(name)
    if found is None:
        return None
    if found["mlp"] is not None:
        return Node(name, "mlp", int(found["mlp"]))
    return Node(name, "head", int(found["layer"]), int(found["head"]))


def hook_node(hook: str, head: int | None) -> Node | None:
    """The component that a hook point of TransformerLens belongs to: what a head reads is the head's, what an MLP reads the
    MLP's. Its name is that of the hook point which it writes; None for a point that is neither's."""
    found = _HOOK.fullmatch(hook)
    if found is None:
        return None
    layer, rest = int(found["layer"]), found["rest"]
    if rest in _HEAD_HOOKS and head is not None:
        return Node(f"blocks.{layer}.attn.hook_result[:, :, {head}]", "head", layer, head)
    if rest in _MLP_HOOKS and head is None:
        return Node(f"blocks.{layer}.hook_mlp_out[:]", "mlp", layer)
    return None
