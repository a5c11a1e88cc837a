"""`python -m benchmarks.transformers`: see the package."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.transformers import (
    dyck,
    edges,
    greater_than,
    induction,
    ioi,
    max_of_four,
    modadd,
    modadd_transformer,
    scale,
    tracr,
    vision,
)

_SECTIONS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "tracr": ("Compiled programs (Tracr)", tracr.section),
    "dyck": ("Brackets", dyck.section),
    "modadd": ("Modular addition", modadd.section),
    "modadd_transformer": ("Modular addition in a transformer", modadd_transformer.section),
    "max_of_four": ("Max-of-4", max_of_four.section),
    "induction": ("Induction", induction.section),
    "greater_than": ("Greater-than", greater_than.section),
    "ioi": ("Indirect objects", ioi.section),
    "edges": ("Edges", edges.section),
    "vision": ("Heads of image classifiers", vision.section),
    "scale": ("Scale", scale.section),
}
_BY_NAME = {"scale"}
"""Sections that take hours, and are made where they are named only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *_SECTIONS], metavar="NAME", help=", ".join(_SECTIONS))
    parser.add_argument("--data", type=Path, default=Path("bench"), help="folder with the public models (models/*.onnx)")
    parser.add_argument("--out", type=Path, help="Markdown file whose sections are replaced (default: print them)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names or [name for name in _SECTIONS if name not in _BY_NAME]:
        title, make = _SECTIONS[name]
        began = time.monotonic()
        text = (
            f"## {title}\n\n{make(given.data)}\n`python -m benchmarks.transformers {name}`: {time.monotonic() - began:.0f} s.\n"
        )
        if given.out is None:
            print(text, flush=True)
        else:
            written = given.out.read_text(encoding="utf-8") if given.out.exists() else "# Transformers\n"
            given.out.write_text(replaced(written, title, text), encoding="utf-8")


def replaced(written: str, title: str, text: str) -> str:
    """A Markdown text with one section replaced, or added at its end."""
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(written):
        return pattern.sub(lambda _: text + "\n", written).rstrip() + "\n"
    return written.rstrip() + "\n\n" + text


if __name__ == "__main__":
    main()
