"""The record of a sparse autoencoder, or transcoder, that stands in a model at a site."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from specs.record import FilePath, Record, Site, problem

__all__ = ["Splice"]


class Splice(Record):
    """An autoencoder in a file: `.npz` or `.safetensors` with `W_enc` `(width, latents)`, `b_enc`, `W_dec` `(latents, width)`,
    `b_dec` and, for JumpReLU, `threshold`.

    It reads the site itself or, a transcoder, the tensor that `reads` names; with `centered`, less `b_dec`. Readers of the site
    see its output plus its error, which is what is missing to the site's own value.
    """

    file: FilePath
    activation: Literal["relu", "jumprelu", "topk"] = "relu"
    k: Annotated[int, Strict(), Field(ge=1)] | None = None
    reads: Site | None = None
    centered: bool = False

    @model_validator(mode="after")
    def _number(self) -> Self:
        if (self.activation == "topk") != (self.k is not None):
            said = "no `k`" if self.k is None else f"k {self.k} for {self.activation}"
            raise problem(said, "`k` for topk, and for topk alone")
        return self
