"""Which backends climb the ladder, and on which device."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from specs.errors import InputError, nearest

if TYPE_CHECKING:
    from bounds.backends.base import Backend

__all__ = ["BACKENDS", "DEVICES", "check_device", "chosen", "splits"]

BACKENDS = ("auto", "native", "lirpa", "milp")
DEVICES = ("cpu", "cuda")


def check_device(device: str) -> None:
    """Raises: InputError: no such device, or none of it here."""
    if device not in DEVICES:
        raise InputError("device", "", repr(device), "cpu or cuda", nearest(device, DEVICES))
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                "device", "", "cuda, and torch finds no GPU here", "a CUDA GPU and a torch built for it", "use cpu"
            )


def chosen(backend: str, device: str) -> tuple[tuple[str, Backend], ...]:
    """The bound rungs of a choice, cheapest first. Raises: InputError: there is no such backend."""
    if backend not in BACKENDS:
        raise InputError("backend", "", repr(backend), "auto, native, lirpa or milp", nearest(backend, BACKENDS))
    if backend == "lirpa":
        if importlib.util.find_spec("bounds.backends.lirpa") is None:
            raise InputError("backend", "", "lirpa is not part of this build", "auto or native", "use auto")
        from bounds.backends.lirpa import Lirpa

        return tuple((f"lirpa {method}", Lirpa(method=method)) for method in ("ibp", "crown"))
    if backend == "milp":
        from bounds.backends.milp import Milp

        return (("milp", Milp()),)
    from bounds.backends.native import Native

    return tuple((method, Native(method, device=device)) for method in ("interval", "linear", "difference"))


def splits(backend: str) -> bool:
    """Whether branch and bound follows the bounds of a choice: it is our own, and goes with the native backend."""
    return backend in ("auto", "native")
