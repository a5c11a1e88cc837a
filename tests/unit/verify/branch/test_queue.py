"""Open parts in bounded memory."""

from __future__ import annotations

import tempfile

import pytest
import torch

from bounds.domains.slopes import Tuned
from tests.laws.queue import check_queue
from verify.branch.queue import Part, Queue


@pytest.mark.parametrize("seed", range(5))
def test_parts_come_back_worst_first(seed: int) -> None:
    assert check_queue(seed) > 50


def test_nothing_is_written_while_there_is_room() -> None:
    assert check_queue(0, memory=1 << 30) == 0


def test_a_full_disk_costs_warm_starts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert check_queue(0) == 0


def test_memory_is_given_back() -> None:
    queue = Queue(memory=1 << 20)
    for i in range(500):
        queue.push(Part(0, (), float(-i), warm=Tuned(model={"h": torch.zeros((1, 1000), dtype=torch.float64)})))
    assert queue.waiting > 300
    for _ in range(500):
        queue.pop()
    assert len(queue) == queue.waiting == 0
