"""The exact rung's work on one circuit: the goals that bounds left open, worst first, each decided by a program's tree."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bounds.backends.encode import Encoding, TooLarge, count_open, encode
from bounds.backends.milp import Candidate, Search, goals_of, refusal
from bounds.domains.trace import Trace
from bounds.query import Query
from verify.branch.goals import proven

__all__ = ["MOST_KINKS", "SMALL_KINKS", "Exact"]

MOST_KINKS = 1024
"""With more open signs the exact rung is not tried. Measured: none of the circuits of cifar10_resnet2b that bounds leave open
(1957 to 1961 open signs at radius 2/255) was decided by it; those of mnist_vnncomp_256x2 and 256x4 that it decided within 20 s
have some 300."""

SMALL_KINKS = 64
"""With at most this many open signs the exact rung is tried before branch and bound, not beside it. Measured: circuits of
mnist_verix_10x2, taxinet_kj_tiny_cnn and the bundled digits_mlp (9 to 50 open signs), with tolerances 2 % above and 1 % below
the exact deviation, take 1 to 120 steps and 0.002 s to 0.17 s; from some 300 open signs on (mnist_vnncomp_256x2 at radius
0.02, gtsrb_cnn_8_16_fc64 at 0.01), seconds to minutes."""

_ENTRIES = 1 << 20
"""Programs with more coefficients are not made: one relaxation alone would take minutes."""


class Exact:
    """One circuit's open goals. `run` may be called from another thread than the one that made it, and again where it was
    stopped: it goes on with the goals not done.

    Guarantees: the claim's margin is at least `bound` on the whole region, in real arithmetic, whatever the solver did; a goal
    that cheaper bounds proved keeps that bound. `candidates` violate a goal in float64; they must be replayed. Ends at the
    first goal that is violated there; `ended` says that more time would bring no more. Deterministic, but for what time cuts
    off.
    """

    def __init__(self, query: Query, mask: Tensor, trace: Trace, forms: Tensor) -> None:
        """Shapes: `mask` `(1, gates.size)`; `forms` `(forms,)`, proven lower bounds. `trace` is the circuit's, in float64, and
        at most read by others while `run` runs. Cost: none to speak of; the program is made by the first `run`.

        Raises: ValueError: the query has no exact program.
        """
        cpu = torch.device("cpu")
        if (why := refusal(query)) is not None:
            raise ValueError(why)
        self.query, self.mask, self.forms, self.trace = query.to(torch.float64, cpu), mask.to(cpu), forms, trace
        self.kinks = count_open(trace)
        self.candidates: list[Candidate] = []
        self.steps = 0
        self.ended = False
        self._encoding: Encoding | None = None
        goals = goals_of(self.query)
        self._known = [proven(self.query.margins, goal, forms) for goal in goals]
        order = sorted(range(len(goals)), key=lambda k: self._known[k])
        self._open = [(k, goals[k]) for k in order if self._known[k] < 0]

    @property
    def bound(self) -> float:
        """The margin proven so far."""
        return min(self._known)

    def run(self, expired: Callable[[], bool]) -> None:
        """Decide goal after goal, until one is violated, all are done, or `expired`. A program that would be too large to be of
        use ends it at once, with nothing found."""
        if self._encoding is None:
            try:
                self._encoding = encode(self.trace, self.query.margins, _ENTRIES, expired)
            except TimeoutError:
                return
            except TooLarge:
                self.ended = True
                return
        for k, goal in [(k, goal) for k, goal in self._open if self._known[k] < 0]:
            search = Search(self.query, self.mask, self._encoding, goal, self.forms, sign=True)
            try:
                search.run(expired)
            finally:
                self._known[k] = max(self._known[k], search.bound)
                self.steps += search.steps
            if search.best is not None and search.best.value < 0:
                self.candidates.append(search.best)
                break
            if expired():
                return
        self.ended = True
