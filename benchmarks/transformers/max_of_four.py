"""Max-of-4: how many of the 16.8 million sequences are provably answered right, from the cheapest bound to the exact count.

The model is one head of attention. At the last position, with `q` its token, logit `m` is ahead of logit `j` exactly where

    sum_p  exp(S[p, q, x_p]) * (direct[q, m] - direct[q, j] + W[p, x_p, m] - W[p, x_p, j])  >  0,

as attention weights are positive and add up to 1. Each term depends on the token of one position: over a product set of tokens
the least sum is the sum of least terms, exact for one `q`, a bound for several. So a *cell* is a set of alternatives at each
position, cut out of the sequences whose maximum is `m`, first seen at one position; a cell that is not proven is halved.

Source: the question and its measure of cost are those of Gross et al. 2024, arXiv:2406.11779; the bound is ours.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from benchmarks.models.train_max_of_four import LENGTH, VOCABULARY, WIDTH
from benchmarks.transformers.ask import model_at, table
from bounds.rounding import down, gamma, up

__all__ = ["Anytime", "Tables", "section"]

_MODEL = Path(__file__).parent.parent / "models" / "max_of_four.onnx"
_TOGETHER = 16
"""Cells bounded in one batch."""

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What each token at each position adds, enclosed: scores `(length, query, token)`, values `(length, token, logit)`, and
    the direct path `(query, logit)`; each a lower and an upper end."""

    score: tuple[Tensor, Tensor]
    value: tuple[Tensor, Tensor]
    direct: tuple[Tensor, Tensor]
    cost: int = 0
    """Multiply-adds that they took."""

    @staticmethod
    def of(path: Path) -> Tables:
        """From the weights of the model's file."""
        w = {t.name: torch.tensor(numpy_helper.to_array(t)).double() for t in onnx.load(path).graph.initializer}
        # A sum of two float32 numbers is exact in float64, but for exponents far apart: `_chained` pays for those.
        tokens = w["embed.W_E"].unsqueeze(0) + w["pos_embed.W_pos"].unsqueeze(1)
        at = "blocks.0.attn"
        key = (w[f"{at}.W_K"] * w["scale"]).T
        score = _chained(tokens[-1].unsqueeze(0), w[f"{at}.W_Q"], key, tokens.transpose(1, 2))
        value = _chained(tokens, w[f"{at}.W_V"], w[f"{at}.W_O"], w["unembed.W_U"])
        direct, (length, vocabulary, width) = _chained(tokens[-1], w["unembed.W_U"]), tokens.shape
        cost = vocabulary * width * (2 * width + length * vocabulary + length * (2 * width + vocabulary) + vocabulary)
        return Tables(score, value, direct, cost)


def _chained(*factors: Tensor) -> tuple[Tensor, Tensor]:
    """A product of matrices, enclosed. Source: Higham 2002, section 3.5: the errors of a chain are bounded by that of the
    absolute values with the inner sizes added up."""
    product, size = factors[0], factors[0].abs()
    for factor in factors[1:]:
        product, size = product @ factor, size @ factor.abs()
    error = gamma(sum(f.shape[-2] for f in factors[1:]) + 2 * len(factors), torch.float64) * size
    return down(product - error), up(product + error)


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """Sequences whose maximum `top` stands first at `first`, with these alternatives (`(length, vocabulary)` bool)."""

    top: int
    first: int
    allowed: Tensor

    @property
    def size(self) -> int:
        return math.prod(self.allowed.sum(1).tolist())


class Anytime:
    """A lower bound of the number of sequences answered right, which `step` raises until it is exact.

    `right` is proven; `wrong` are single sequences that are not; `terms` are the multiply-adds (a comparison counts as one),
    those for the tables included.
    Guarantees: in real arithmetic for the weights in the file; every table and sum rounded outward.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables, self.right, self.wrong, self.terms, self.cells = tables, 0, 0, tables.cost, 0
        self._open: list[tuple[int, int, _Cell]] = []
        length, vocabulary = tables.score[0].shape[0], tables.score[0].shape[2]
        token = torch.arange(vocabulary)
        for top, first in itertools.product(range(vocabulary), range(length)):
            rows = [token < top if p < first else token == top if p == first else token <= top for p in range(length)]
            self._push(_Cell(top, first, torch.stack(rows)))

    def _push(self, cell: _Cell) -> None:
        if cell.size:
            self.cells += 1
            heapq.heappush(self._open, (-cell.size, self.cells, cell))

    @property
    def open(self) -> int:
        """Cells not decided yet."""
        return len(self._open)

    def step(self) -> None:
        """Bound the largest open cells, and halve those that are not proven."""
        taken = [heapq.heappop(self._open)[2] for _ in range(min(_TOGETHER, len(self._open)))]
        least = self._terms(taken)
        for i, cell in enumerate(taken):
            tokens, asking, logits = int(cell.allowed.sum()), int(cell.allowed[-1].sum()), cell.allowed.shape[1] - 1
            self.terms += tokens * (asking + logits) + asking * logits
            total = _summed(least[i].amin(1))
            total[cell.top] = math.inf
            if bool((total > 0).all()):
                self.right += cell.size
            elif cell.size == 1:
                self.wrong += 1
            else:
                for half in _halves(cell, least[i, :, :, int(total.argmin())]):
                    self._push(half)

    def _terms(self, cells: list[_Cell]) -> Tensor:
        """Least values of each token's term, infinite where it is not allowed. Shape: `(cells, length, token, logit)`."""
        allowed = torch.stack([cell.allowed for cell in cells])
        tops, firsts = torch.tensor([cell.top for cell in cells]), torch.tensor([cell.first for cell in cells])
        query = allowed[:, -1]  # which tokens ask
        low, high = (self._ranged(tops, firsts, query, sign) for sign in (-1, 1))
        value = self.tables.value
        ahead = down(value[0][:, :, tops].permute(2, 0, 1).unsqueeze(3) - value[1].unsqueeze(0))
        direct = down(self.tables.direct[0][:, tops].T.unsqueeze(2) - self.tables.direct[1].unsqueeze(0))
        direct = torch.where(query.unsqueeze(2), direct, torch.inf).amin(1)
        worth = down(ahead + direct[:, None, None])
        weight = torch.where(worth >= 0, low.unsqueeze(3), high.unsqueeze(3))
        return torch.where(allowed.unsqueeze(3), down(weight * worth), torch.inf)

    def _ranged(self, tops: Tensor, firsts: Tensor, query: Tensor, sign: int) -> Tensor:
        """Ends of `exp` of a score less that of the maximum, over the queries that a cell allows; at the last position of the
        token's own query. Shape: `(cells, length, token)`."""
        low, high = self.tables.score
        mine, theirs = (low, high) if sign < 0 else (high, low)
        own = theirs[firsts, :, tops]  # (cells, query)
        apart = mine.unsqueeze(0) - own[:, None, :, None]
        end = -sign * torch.inf
        over = torch.where(query[:, None, :, None], apart, end)
        over = over.amin(2) if sign < 0 else over.amax(2)
        asked = mine[-1].diagonal().unsqueeze(0) - own
        over[:, -1] = torch.where(query, asked, 0.0)
        # The subtraction's rounding and that of exp, which libraries keep within a few units in the last place.
        slack = 4 * torch.finfo(over.dtype).eps * (1 + over.abs()) + 16 * torch.finfo(over.dtype).eps
        weight = (over + sign * slack).exp()
        return down(down(weight)).clamp_min(0) if sign < 0 else up(up(weight))


def _summed(terms: Tensor) -> Tensor:
    """Sums over positions, rounded down. Shapes: `(length, logits)` to `(logits,)`."""
    total = terms[0]
    for term in terms[1:]:
        total = down(total + term)
    return total


def _halves(cell: _Cell, terms: Tensor) -> list[_Cell]:
    """A cell cut in two: the query's alternatives by size, else the alternatives of the position whose terms differ most."""
    counts = cell.allowed.sum(1)
    if int(counts[-1]) > 1:
        position, order = len(counts) - 1, cell.allowed[-1].nonzero().squeeze(1)
    else:
        spread = torch.where(cell.allowed, terms, -torch.inf).amax(1) - torch.where(cell.allowed, terms, torch.inf).amin(1)
        position = int(torch.where(counts > 1, spread, -1.0).argmax())
        tokens = cell.allowed[position].nonzero().squeeze(1)
        order = tokens[terms[position, tokens].argsort(stable=True)]
    found: list[_Cell] = []
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        allowed = cell.allowed.clone()
        allowed[position] = False
        allowed[position, half] = True
        found.append(_Cell(cell.top, cell.first, allowed))
    return found


def section(_data: Path) -> str:
    """The section on Max-of-4."""
    total, began = VOCABULARY**LENGTH, time.monotonic()
    anytime, rows, shares = Anytime(Tables.of(_MODEL)), list[list[str]](), list(_SHARES)
    while anytime.open:
        anytime.step()
        if anytime.right >= shares[0] * total or not anytime.open:
            rows.append(_row(f"{anytime.right / total:.6f}", anytime.cells, anytime.terms, time.monotonic() - began))
            shares = [share for share in shares if anytime.right < share * total] or [1.0]
    each, took_s = _brute()
    count = 1 << 18
    rows.append(
        [
            f"{anytime.right / total:.6f}, exact",
            "brute force",
            f"2^{math.log2(total * each):.1f}",
            f"{took_s * total / count:.0f}",
        ]
    )
    said = table(["accuracy at least", "cells", "multiply-adds", "s"], rows)
    return f"{_TEXT.format(wrong=anytime.wrong)}\n\n{said}\n"


def _row(share: str, cells: int, terms: int, took_s: float) -> list[str]:
    return [share, f"{cells:,}", f"2^{math.log2(terms):.1f}", f"{took_s:.1f}"]


def _brute() -> tuple[int, float]:
    """Multiply-adds of one evaluation, as the model is written, and the seconds that 2^18 take here in batches of float32."""
    graph = model_at(_MODEL).graph.to(torch.float32)
    ids = torch.randint(0, VOCABULARY, (1 << 18, LENGTH), generator=torch.Generator().manual_seed(0))
    began = time.monotonic()
    for part in ids.split(1 << 12):
        graph(torch.nn.functional.one_hot(part, VOCABULARY).float().unsqueeze(1))
    each = LENGTH * (VOCABULARY * WIDTH + 4 * WIDTH * WIDTH) + 2 * LENGTH * LENGTH * WIDTH + WIDTH * VOCABULARY
    return each, time.monotonic() - began


_TEXT = """One head, a vocabulary of 64, trained by `benchmarks/models/train_max_of_four.py`; the share of the 64^4 = 16,777,216
sequences whose largest token provably has the largest logit. The bound is refined where most sequences are open, and ends
exact: on the other {wrong} sequences it is not so. Brute force is one evaluation a sequence, its time extrapolated."""
