"""`certify wang CIRCUIT.json --spec SPEC.yaml`: completeness and minimality in the sense of Wang et al. 2022."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    circuit: str
    spec: str
    samples: int = 64
    seed: int = 0
    as_json: bool = False
    allow_code: bool = False


def run(options: Options) -> int:
    """Print the scores of each claim, as a table or as JSON. Returns the exit code. Raises: InputError."""
    from specs.encode import encode
    from specs.load import read_circuit, read_spec
    from verify.model import model_of
    from verify.render.table import show_wang
    from verify.search.findings import named
    from verify.wang import wang_scores

    circuit, spec = read_circuit(options.circuit), read_spec(options.spec)
    problem = encode(circuit, spec, model_of(circuit, spec, None, options.allow_code))
    kept = frozenset(problem.mask[0].nonzero().flatten().tolist())
    said: list[dict[str, object]] = []
    for claim in problem.claims:
        scores = wang_scores(problem, claim, kept, count=options.samples, seed=options.seed)
        minimality = {named(problem, [v])[0]: score for v, score in scores.minimality.items()}
        entry = {"claim": claim.label, "samples": scores.samples, "wang_incompleteness": scores.incompleteness}
        said.append({**entry, "worst_set": named(problem, scores.worst), "wang_minimality": minimality})
    if options.as_json:
        print(json.dumps({"sampled": True, "claims": said}))
    else:
        show_wang(said)
    return 0
