"""The process of one contender: reads `{"count": n}` a line on standard input, bounds the first n circuits, answers a line.

Its settings are one JSON argument. It is not meant to be started by hand.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.throughput.cases import CASES
from benchmarks.throughput.contenders import Bounding, Contender

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["main", "peak_mib"]


def peak_mib() -> float:
    """Largest resident set of this process so far, in MiB.

    Linux's own count for this program image; elsewhere `ru_maxrss`, which a child started from a large parent inherits.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Serve one contender until standard input ends. Answers: seconds, margins, peak MiB; or an error's one line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    contender = Contender(**settings["contender"])
    if contender.checkout is not None:
        sys.path.insert(0, contender.checkout)
    try:
        import torch

        torch.set_num_threads(settings["threads"])
        case = CASES[settings["case"]]
        query = case.query(Path(settings["folder"]))
        masks = case.masks(query, settings["circuits"])
        start = time.perf_counter()
        bound = contender.prepare(query)
        ready = {"setup_s": time.perf_counter() - start, "version": _version(contender)}
        bound(masks[:1])
        print(json.dumps(ready | {"peak_mib": peak_mib()}), file=answers)
        for line in sys.stdin:
            asked = masks[: json.loads(line)["count"]]
            print(json.dumps(_timed(bound, asked) | {"peak_mib": peak_mib()}), file=answers)
    except Exception as error:
        print(json.dumps({"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}), file=answers)


def _timed(bound: Bounding, masks: Tensor) -> dict[str, Any]:
    """Bound the masks until a quarter of a second has passed: median wall and processor time of one pass, and the margins."""
    wall: list[float] = []
    processor: list[float] = []
    while True:
        start = time.perf_counter(), time.process_time()
        margins = bound(masks)
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
        if sum(wall) >= 0.25:
            break
    return {"seconds": median(wall), "cpu_seconds": median(processor), "margins": margins.tolist()}


def _version(contender: Contender) -> str:
    if contender.library != "auto_LiRPA":
        return ""
    from bounds.backends.lirpa_compat import library

    return library().version


if __name__ == "__main__":
    main()
