"""The ways of cutting a tensor into components: granularities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from specs.heads import heads
from specs.positions import positions

__all__ = ["GRANULARITIES", "LATENTS", "RESULTS", "cut"]

LATENTS = ".hook_sae_acts_post"
"""How the latents of a sparse autoencoder are called, after the site that it stands at (`specs.autoencoder`)."""

RESULTS = ".attn.hook_result"
"""How TransformerLens calls what each head adds to the stream: `(batch, positions, heads, width)`."""

Cut = tuple[Tensor, int]
"""The component of each element, 0..count-1, in the tensor's shape; and the count."""


def cut(graph: Graph, node: Node, granularity: str) -> Cut | None:
    """A tensor's components, or None where it cannot be cut so. Edges are not here: see `specs.edges`."""
    made = GRANULARITIES.get(granularity)
    return None if made is None else made(graph, node)


def _neuron(_: Graph, node: Node) -> Cut:
    count = math.prod(node.shape)
    return torch.arange(count).reshape(node.shape), count


def _channel(_: Graph, node: Node) -> Cut | None:
    axis = node.channel_axis
    return None if axis is None else _along(node, axis)


def _unit(graph: Graph, node: Node) -> Cut | None:
    """An index along the last axis, at all positions together."""
    found = positions(graph).get(node.name)
    if found is None or math.prod(node.shape[:-1]) != found[1] or bool((found[0] != found[0][..., :1]).any()):
        return None
    return _along(node, len(node.shape) - 1)


def _feature(_: Graph, node: Node) -> Cut | None:
    return _along(node, len(node.shape) - 1) if node.name.endswith(LATENTS) else None


def _head(graph: Graph, node: Node) -> Cut | None:
    if node.name.endswith(RESULTS) and len(node.shape) > 2:
        return _along(node, len(node.shape) - 2)
    return heads(graph).get(node.name)


def _position(graph: Graph, node: Node) -> Cut | None:
    return positions(graph).get(node.name)


def _head_position(graph: Graph, node: Node) -> Cut | None:
    head, position = _head(graph, node), _position(graph, node)
    if head is None or position is None:
        return None
    return head[0] * position[1] + position[0], head[1] * position[1]


def _layer(_: Graph, node: Node) -> Cut:
    return torch.zeros(node.shape, dtype=torch.long), 1


def _along(node: Node, axis: int) -> Cut:
    size = node.shape[axis]
    line = torch.arange(size).reshape([size if i == axis else 1 for i in range(len(node.shape))])
    return line.expand(node.shape).contiguous(), size


GRANULARITIES: Mapping[str, Callable[[Graph, Node], Cut | None]] = {
    "neuron": _neuron,
    "channel": _channel,
    "unit": _unit,
    "feature": _feature,
    "head": _head,
    "position": _position,
    "head_position": _head_position,
    "layer": _layer,
}
"""`neuron`: one element (so a neuron at one position). `channel`: an index along the axis that counts convolution channels.
`unit`: one along the last axis, at all positions. `feature`: a latent of an autoencoder,
at all positions. `head`: an attention head. `position`: all there is at one position.
`head_position`: a head at a position, `head * positions + position`. `layer`: the whole tensor."""
