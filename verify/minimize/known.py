"""The map: what is known of every circuit asked about, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from verify.minimize.oracle import Answer, Components, Masks, Oracle

__all__ = ["Known"]

Note = Callable[[Components, Answer], None]


class Known(Oracle):
    """An oracle that asks another nothing twice, and nothing that follows from what it knows.

    Of a monotone claim what is certified certifies all that is larger, and what is refuted refutes all that is smaller. What
    stayed open is not asked again either, unless more was learned that decides it. `asked` counts the questions that came,
    `passed` those that were passed on. `note` is called with every decided question that was passed on: a journal.
    """

    def __init__(self, inner: Oracle, note: Note | None = None) -> None:
        self.inner, self.note = inner, note
        self.size, self.monotone, self.costs = inner.size, inner.monotone, inner.costs
        self.asked = self.passed = 0
        self._exact: dict[Components, Answer] = {}
        self._open: set[Components] = set()
        self._glanced: set[Components] = set()
        self._yes: list[Components] = []
        self._no: list[Components] = []

    def learn(self, decided: Iterable[tuple[Components, Answer]]) -> None:
        """Take in decided questions, as a journal holds them."""
        for circuit, answer in decided:
            self._enter(circuit, answer)

    def reopen(self) -> None:
        """Let what stayed open be asked again: there is more to spend on it now."""
        self._open.clear()
        self._glanced.clear()

    def known(self, circuit: Components) -> Answer | None:
        """What is decided of a circuit; None where nothing is."""
        if circuit in self._exact:
            return self._exact[circuit]
        if self.monotone:
            if any(smaller <= circuit for smaller in self._yes):
                return Answer.YES
            if any(circuit <= larger for larger in self._no):
                return Answer.NO
        return None

    @property
    def certified(self) -> list[Components]:
        """The smallest certified circuits met (all of them, where the claim is not monotone)."""
        if self.monotone:
            return list(self._yes)
        return [circuit for circuit, answer in self._exact.items() if answer is Answer.YES]

    @property
    def falsified(self) -> list[Components]:
        """The largest refuted circuits met (all of them, where the claim is not monotone)."""
        if self.monotone:
            return list(self._no)
        return [circuit for circuit, answer in self._exact.items() if answer is Answer.NO]

    def ask(self, candidates: Sequence[Components], thorough: bool = True) -> list[Answer]:
        self.asked += len(candidates)
        skip = self._open if thorough else self._open | self._glanced
        new = [c for c in dict.fromkeys(candidates) if self.known(c) is None and c not in skip]
        if new:
            self.passed += len(new)
            for circuit, answer in zip(new, self.inner.ask(new, thorough), strict=True):
                if answer is Answer.OPEN:
                    (self._open if thorough else self._glanced).add(circuit)
                    continue
                self._enter(circuit, answer)
                if self.note is not None:
                    self.note(circuit, answer)
        return [self.known(circuit) or Answer.OPEN for circuit in candidates]

    def refuted(self, masks: Masks) -> Masks:
        """What the map knows, then what the oracle has at hand."""
        found = np.zeros(len(masks), dtype=bool)
        if self.monotone and self._no:
            for larger in self._no:
                outside = np.ones(self.size, dtype=bool)
                outside[list(larger)] = False
                found |= ~masks[:, outside].any(1)
        rest = np.flatnonzero(~found)
        if len(rest):
            found[rest] = self.inner.refuted(masks[rest])
        return found

    def _enter(self, circuit: Components, answer: Answer) -> None:
        if answer is Answer.OPEN:
            return
        self._exact[circuit] = answer
        self._open.discard(circuit)
        if not self.monotone:
            return
        if answer is Answer.YES and not any(smaller <= circuit for smaller in self._yes):
            self._yes = [*(other for other in self._yes if not circuit <= other), circuit]
        if answer is Answer.NO and not any(circuit <= larger for larger in self._no):
            self._no = [*(other for other in self._no if not other <= circuit), circuit]
