"""Orders in which a search tries to drop components: what seems to matter least comes first.

An order is a guess. It decides how soon a search ends and how small a circuit it ends with, never what is proven of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bounds.gates import Gates
from specs.encode import Claim, Problem
from verify.witness.attack import attack
from verify.witness.evidence import Evidence
from verify.witness.pool import Points, WitnessPool, free_gates, row_limit

__all__ = ["ORDERS", "importance", "order_of", "samples"]

_SAMPLES = 64
_STEPS = 8
"""Points of the path that integrated gradients are averaged over."""


def order_of(problem: Problem, name: str = "removal", seed: int = 0, device: str = "cpu") -> list[int]:
    """All components, the least important of all claims first. Raises: KeyError: no such order."""
    found = torch.stack([importance(problem, claim, name, seed, device) for claim in problem.claims]).amax(0)
    return torch.argsort(found, stable=True).tolist()


def importance(problem: Problem, claim: Claim, name: str, seed: int = 0, device: str = "cpu") -> Tensor:
    """How much each component seems to matter to a claim. Shape: `(components,)`, more is more. Deterministic for a seed."""
    return ORDERS[name](problem, Evidence(problem, claim, device, seed, False), seed).double().cpu()


def samples(evidence: Evidence, count: int, seed: int) -> Points:
    """Random points of a claim, patch values included."""
    query, generator = evidence.attackable, torch.Generator().manual_seed(seed)
    x = evidence.claim.query.region.sample(count, generator)
    patches = {gate.tensor: gate.patch.to(torch.float64, torch.device("cpu")) for gate in free_gates(query.gates)}
    drawn = {name: box.sample(count, generator).to(query.graph.device) for name, box in patches.items()}
    return Points(x.to(query.graph.device, torch.float64), drawn)


def index(problem: Problem, evidence: Evidence, seed: int) -> Tensor:
    """As the model computes them: what comes later goes first."""
    return -torch.arange(len(problem.components))


def removal(problem: Problem, evidence: Evidence, seed: int) -> Tensor:
    """The largest deviation seen when a component is dropped alone, at random points."""
    pool = WitnessPool(_SAMPLES)
    pool.add(samples(evidence, _SAMPLES, seed))
    return -_singles(evidence, lambda masks: pool.evaluate(evidence.attackable, masks).amin(0))


def witness(problem: Problem, evidence: Evidence, seed: int) -> Tensor:
    """The largest deviation that a quick attack finds when a component is dropped alone."""
    return -_singles(evidence, lambda masks: attack(evidence.attackable, masks, seed=seed, restarts=4, steps=8).margin)


def activation_gradient(problem: Problem, evidence: Evidence, seed: int) -> Tensor:
    """Activation times gradient: the first-order effect on the outputs of patching a component, at random points.

    Source: Nanda 2023, "Attribution patching".
    """
    return _attributed(problem, evidence, seed, 1)


def integrated_gradients(problem: Problem, evidence: Evidence, seed: int) -> Tensor:
    """The same with gradients averaged on the way from the patched value to the model's own, a site at a time.

    Source: Hanna, Pezzelle & Belinkov 2024, arXiv:2403.17806 (EAP-IG).
    """
    return _attributed(problem, evidence, seed, _STEPS)


ORDERS: dict[str, Callable[[Problem, Evidence, int], Tensor]] = {
    "removal": removal,
    "witness": witness,
    "activation-gradient": activation_gradient,
    "integrated-gradients": integrated_gradients,
    "index": index,
}


def _singles(evidence: Evidence, margin: Callable[[Tensor], Tensor]) -> Tensor:
    """A margin for each circuit that lacks one component."""
    size = evidence.query.gates.size
    masks = ~torch.eye(size, dtype=torch.bool, device=evidence.query.graph.device)
    return torch.cat([margin(part) for part in masks.split(max(1, row_limit(evidence.query.graph) // _SAMPLES))])


def _attributed(problem: Problem, evidence: Evidence, seed: int, steps: int) -> Tensor:
    """For each component the largest effect on any output, averaged over samples."""
    graph, gates = problem.model.graph, problem.gates
    x, patched = _runs(problem, evidence, seed)
    with torch.no_grad():
        own = graph.evaluate(x, keep=frozenset(gates.by_tensor))
    found: list[Tensor] = []
    for number, gate in enumerate(gates.gates):
        mask = torch.cat([torch.full((g.size,), i != number) for i, g in enumerate(gates.gates)]).expand(len(x), -1)
        total: Tensor | None = None
        for step in range(steps):
            share = (step + 0.5) / steps if steps > 1 else 1.0
            here = (patched[gate.tensor] + share * (own[gate.tensor] - patched[gate.tensor])).detach().requires_grad_()
            outputs = graph.evaluate(x, gates, mask, own | {gate.tensor: here})[graph.output].flatten(1)
            columns = [torch.autograd.grad(outputs[:, k].sum(), here, retain_graph=True)[0] for k in range(outputs.shape[1])]
            slopes = torch.stack(columns)
            total = slopes if total is None else total + slopes
        assert total is not None
        effect = ((patched[gate.tensor] - own[gate.tensor]) * total / steps).flatten(2)
        summed = effect.new_zeros((*effect.shape[:2], gate.size)).index_add_(2, gate.group.flatten(), effect)
        found.append(summed.abs().mean(1).amax(0))
    return torch.cat(found)


def _runs(problem: Problem, evidence: Evidence, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs, and the value that each site would be patched with."""
    claim, gates = evidence.claim, problem.gates
    generator = torch.Generator().manual_seed(seed)
    drawn = claim.query.region.sample(_SAMPLES, generator)
    if claim.query.gates.sources:
        return drawn[:, 0], _activations(problem, drawn[:, 1], gates)
    if claim.second is not None:
        return drawn, _activations(problem, claim.second.sample(_SAMPLES, generator), gates)
    return drawn, {gate.tensor: gate.patch.sample(_SAMPLES, generator) for gate in gates.gates}


@torch.no_grad()
def _activations(problem: Problem, x: Tensor, gates: Gates) -> dict[str, Tensor]:
    graph = problem.model.graph
    found = graph.evaluate(x, keep=frozenset(gates.by_tensor))
    return {gate.tensor: found[gate.tensor] for gate in gates.gates}
