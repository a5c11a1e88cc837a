"""The model that a question is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs.errors import InputError

if TYPE_CHECKING:
    import torch

    from specs.circuit import Circuit
    from specs.model import Model
    from specs.spec import Spec
    from verify.api import Path_

__all__ = ["model_of"]


def model_of(circuit: Circuit, spec: Spec, model: Path_ | Model | torch.nn.Module | None, allow_code: bool) -> Model:
    """The model that is meant: the one given, or the one that the circuit names. Raises: InputError: it cannot be had."""
    import torch

    from specs.model import Model, load_model, model_from_module

    if isinstance(model, Model):
        return model
    if isinstance(model, torch.nn.Module):
        kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        kind = torch.int64 if spec.input.kind == "tokens" else kind
        return model_from_module(model, torch.zeros(_input_shape(spec), dtype=kind))
    if model is not None:
        return load_model(os.fspath(model), shown="model", where="", base=Path(), allow_code=allow_code)
    named = circuit.model
    # A file's path counts from the working directory by now; code is looked for beside the circuit too.
    base = Path(circuit.file).parent if named.is_code else Path()
    # Code's own input is one of numbers with a point.
    shape = _input_shape(spec) if named.is_code and allow_code and spec.input.kind != "tokens" else None
    return load_model(
        named.path,
        shown=circuit.file,
        where="$.model",
        base=base,
        sha256=named.sha256,
        allow_code=allow_code,
        input_shape=shape,
    )


def _input_shape(spec: Spec) -> tuple[int, ...]:
    """The shape of a model's input, batch axis included, as the spec's own arrays have it: for models that state none. Of
    sequences of tokens it is that of their numbers."""
    from specs.arrays import resolve, resolve_each, resolve_rows

    region: Any = spec.input
    if region.kind == "tokens" and region.sequences is not None:
        return 1, resolve(region.sequences, file=spec.file, where="$.input.sequences").shape[-1]
    if region.kind == "tokens" and region.positions != "all":
        return 1, len(region.positions)
    for key, read in (("center", resolve_each), ("points", resolve_rows), ("lower", resolve)):
        if hasattr(region, key):
            found: Any = read(getattr(region, key), file=spec.file, where=f"$.input.{key}")
            return (1, *(found if key == "lower" else found[0]).shape)
    raise InputError(spec.file, "$.input", f"{region.kind} states no input shape", "the shape of the model's input")
