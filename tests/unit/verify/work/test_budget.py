"""Budgets: what counts, and what stops whom."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from verify.work.budget import Budget, TimeUp, timer_is_free


def test_shared_time_is_the_wholes() -> None:
    whole = Budget(100.0)
    part = Budget(0.05, whole=whole)
    with part.shared():
        time.sleep(0.1)
    assert not part.expired and whole.elapsed >= 0.1
    time.sleep(0.06)
    assert part.expired


def test_without_a_whole_nothing_is_shared() -> None:
    part = Budget(0.05)
    with part.shared():
        time.sleep(0.06)
    assert part.expired


def test_a_question_is_not_stopped_in_what_is_shared_but_after_it() -> None:
    part = Budget(0.05, hard=True, whole=Budget(100.0, hard=True))
    done = False
    with pytest.raises(TimeUp), part.enforced():
        with part.shared():
            _busy(0.1)
        done = True
        _busy(10.0)
    assert done


def test_what_is_shared_ends_with_a_quarter_of_the_whole() -> None:
    part = Budget(1000.0, hard=True, whole=Budget(0.4, hard=True))
    with pytest.raises(TimeUp), part.enforced(), part.shared():
        _busy(10.0)
    assert part.remaining() > 999


def test_a_step_is_finished_on_the_questions_own_time() -> None:
    part = Budget(0.05, hard=True, whole=Budget(100.0, hard=True))
    done = False
    with pytest.raises(TimeUp), part.enforced():
        with part.finishing():
            _busy(0.1)
            done = True
        _busy(10.0)
    assert done and part.expired


def test_time_inside_counts_for_the_timer_outside() -> None:
    outer = Budget(0.1, hard=True)
    began = time.monotonic()
    with pytest.raises(TimeUp), outer.enforced():
        for _ in range(100):
            with Budget(10.0, hard=True).enforced():
                _busy(0.02)
    assert time.monotonic() - began < 1.5


def _busy(time_s: float) -> None:
    until = time.monotonic() + time_s
    while time.monotonic() < until:
        time.sleep(0.001)


def test_the_timer_is_free_in_the_main_thread_where_nobody_has_set_it() -> None:
    assert timer_is_free()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(timer_is_free()))
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        found.append(timer_is_free())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert found == [False, False] and timer_is_free()
