"""What a search starts from: the scope that a spec names, or one that a model suggests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from specs.circuit import CIRCUIT_FORMAT, Circuit, ModelFile
from specs.errors import InputError
from specs.record import Origin

if TYPE_CHECKING:
    from specs.model import Model
    from specs.spec import Spec

__all__ = ["based", "default_scope", "everything"]


def default_scope(model: Model) -> dict[str, str]:
    """Sites that follow an activation function (where there are none: all), by channels where they have any."""
    sites = [site for site in model.sites() if site.after_activation] or list(model.sites())
    return {site.name: "channel" if "channel" in site.granularities else "neuron" for site in sites}


def based(spec: Spec, start: Circuit | None, model: object) -> Circuit:
    """The circuit to start from; where none is given, one of everything in the spec's scope (which may be empty as yet)."""
    if start is not None:
        return start
    if spec.model is None and model is None:
        needed = "the model to search, as model: {path: …}"
        raise InputError(spec.file, "$.model", "no model", needed, "add it, or give a circuit to start from")
    named = spec.model or ModelFile(path=os.fspath(model) if isinstance(model, str | os.PathLike) else "model")
    scope = spec.scope or {}
    return everything(named, scope, spec.file)


def everything(model: ModelFile, scope: Mapping[str, str], file: str) -> Circuit:
    """The circuit that keeps everything in a scope."""
    said = {"format": CIRCUIT_FORMAT, "model": model, "scope": scope, "kept": dict.fromkeys(scope, "all")}
    return Circuit.model_validate(said, context=Origin(file, Path()))
