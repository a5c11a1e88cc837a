"""Decides, searches, proves, reports: `verify.certify("circuit.json", spec="spec.yaml")`. Importing this is cheap."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verify.ablations import Ablation, robustness
    from verify.api import Interrupted, certify
    from verify.discover import discover
    from verify.found import Found
    from verify.frontier import frontier
    from verify.ladder.decide import SoundnessAlarm
    from verify.report import Report, read_report
    from verify.verdict import Certified, Falsified, Unknown

__all__ = [
    "Ablation",
    "Certified",
    "Falsified",
    "Found",
    "Interrupted",
    "Report",
    "SoundnessAlarm",
    "Unknown",
    "certify",
    "discover",
    "frontier",
    "read_report",
    "robustness",
]

_HOME = {
    "Ablation": "ablations",
    "Certified": "verdict",
    "Falsified": "verdict",
    "Found": "found",
    "Interrupted": "api",
    "Report": "report",
    "SoundnessAlarm": "ladder.decide",
    "Unknown": "verdict",
    "certify": "api",
    "discover": "discover",
    "frontier": "frontier",
    "read_report": "report",
    "robustness": "ablations",
}


class _Package(ModuleType):
    """`verify.discover` stays the function: importing the module of that name would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"verify.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
