"""What of a suite's network is up for ablation, and the mean activations of it over sequences of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specs.errors import InputError

if TYPE_CHECKING:
    from specs.model import Model
    from specs.spec import Spec
    from verify.bench.network import Network

__all__ = ["means", "scope_of"]

_LISTED = 1 << 14
"""Sequences that means are taken over, all of them; of more, as many are drawn."""


def scope_of(network: Network, model: Model, file: str, where: str) -> dict[str, str]:
    """Site to granularity, as the network says it. Raises: InputError: the model has no such site."""
    from specs.heads import attention

    if network.scope is not None:
        return dict(network.scope)
    granularity = network.granularity
    assert granularity is not None
    if granularity == "edge":
        sites = [read.consumer for read in model.edges()]
        needed = "layers that read one stream"
    elif granularity == "head":
        weighed = {node.name for node, weighs in attention(model.graph) if weighs}
        sites = [site.name for site in model.sites() if site.name in weighed and "head" in site.granularities]
        needed = "attention layers"
    else:
        sites = [site.name for site in model.sites() if site.after_activation and granularity in site.granularities]
        needed = "sites after an activation function that have such components"
    if not sites:
        raise InputError(file, f"{where}.granularity", granularity, needed, "`certify show MODEL` lists them")
    return dict.fromkeys(sites, granularity)


def means(model: Model, scope: dict[str, str], spec: Spec) -> dict[str, Any]:
    """For each site of the scope its mean activation over the sequences of a claim about tokens."""
    import torch

    from bounds.tokens import Tokens
    from specs.encode import encode_scope

    problem = encode_scope(scope, spec, model, file="suite")
    region, sites = problem.claims[0].query.region, frozenset(problem.gates.by_tensor)
    assert isinstance(region, Tokens)
    x = region.listed(0, region.count) if region.count <= _LISTED else region.sample(_LISTED, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = problem.model.graph.evaluate(x.double(), keep=sites)
    return {site: found[site].mean(0).tolist() for site in sites}
