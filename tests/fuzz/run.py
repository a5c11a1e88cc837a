"""`python -m tests.fuzz.run TARGET COUNT [SEED]`: break a reader's files, in a process of its own, and stop at the first fault.

A case may end in a value or in InputError. Anything else is a fault: another exception, more than 5 s of processor time, or
more than 1 GiB of memory above what the process had. The number of the case repeats it: `... TARGET 1 SEED --at NUMBER`.
The last line says how many cases there were, how many were read and refused, the slowest and the most memory that one took.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from types import FrameType

from specs.errors import InputError
from tests.fuzz.mutate import joined
from tests.fuzz.targets import TARGETS

SECONDS, BYTES = 5.0, 2**30


class Hang(BaseException):
    """The processor time of a case is used up."""


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang


def main(name: str, count: int, seed: str, first: int = 0) -> int:
    """Returns 0, or 1 at the first fault, told on standard output."""
    target = TARGETS[name]
    signal.signal(signal.SIGPROF, _hang)
    read = refused = most = 0
    slowest, slowest_at = 0.0, first
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        corpus = target.corpus(folder)
        path = folder / target.name
        for content in corpus:  # what is loaded once is not a case's
            path.write_bytes(content)
            target.read(path)
        for number in range(first, first + count):
            path.write_bytes(joined(corpus, target.mutator, Random(f"{name} {seed} {number}")))
            before, began = _held(reset=True), time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                target.read(path)
                read += 1
            except InputError as error:
                refused += 1
                fault = "an error of several lines" if "\n" in str(error) else ""
            except Hang:
                fault = f"more than {SECONDS:g} s of processor time\n{traceback.format_exc()}"
            except BaseException:
                fault = traceback.format_exc()
            else:
                fault = ""
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            took, grown = time.process_time() - began, _held() - before
            most = max(most, grown)
            if took > slowest:
                slowest, slowest_at = took, number
            if not fault and grown > BYTES:
                fault = f"{grown / 2**30:.1f} GiB of memory"
            if fault:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{name}-{seed}-{number}{path.suffix}"
                kept.write_bytes(path.read_bytes())
                print(f"{name}: case {number} of seed {seed}, kept as {kept}: {fault}")
                return 1
    slow = f"slowest {slowest:.2f} s (case {slowest_at})"
    print(f"{name}: {count} cases, {read} read, {refused} refused, {slow}, most memory {most / 2**20:.0f} MiB")
    return 0


def _held(reset: bool = False) -> int:
    """The most memory held since the last reset, where the system says (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--at"]
    given = [int(word) for word in words[3:]]
    sys.exit(main(words[0], int(words[1]), words[2] if len(words) > 2 else "0", *given))
