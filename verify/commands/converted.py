"""`certify convert FORMAT FILE --config CONFIG.json --positions N --out MODEL.onnx`: a transformer's checkpoint as a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from specs.errors import InputError
from verify.commands.writing import check_writable, not_written

if TYPE_CHECKING:
    from specs.transformers.write import Input

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    format: str
    file: str
    config: str
    positions: int
    out: str
    takes: str = "one-hot"
    last: bool = False
    reference: str | None = None


def run(options: Options) -> int:
    """Write the model and one line. Returns the exit code. Raises: InputError."""
    from specs.transformers.gpt2 import read_gpt2
    from specs.transformers.hooked import read_hooked
    from specs.transformers.reference import compare_with
    from specs.transformers.write import written
    from specs.write import write_whole

    if not options.out.endswith(".onnx"):
        raise InputError("certify", "--out", options.out, "a name that ends in .onnx")
    check_writable(options.out, "--out", (options.file, options.config), "model")
    checkpoint = {"transformer-lens": read_hooked, "gpt2": read_gpt2}[options.format](options.file, options.config)
    takes = cast("Input", options.takes)
    made = written(checkpoint, options.positions, takes, options.last)
    said = "reference=none"
    if options.reference is not None:
        said = f"reference={compare_with(options.reference, made, checkpoint, takes, options.last):.3g}"
    else:
        print("certify: note: not compared with the original: give its logits by --reference", file=sys.stderr)
    try:
        write_whole(made.SerializeToString(), options.out)
    except OSError as error:
        return not_written(options.out, error)
    config = checkpoint.config
    parameters = sum(value.numel() for value in checkpoint.weights.values())
    print(f"converted {options.out} layers={config.layers} heads={config.heads} parameters={parameters} {said}")
    return 0
