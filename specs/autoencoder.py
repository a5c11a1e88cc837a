"""Sparse autoencoders spliced into a model: their latents become components, and quantities to bound.

At a site with value `a` the autoencoder reads `r` (the site, or for a transcoder another tensor) and the site's readers see

    decode(z) + e,     z = act(W_enc (r - c) + b_enc),     decode(z) = W_dec z + b_dec,     e = a - decode(z as computed).

Latents `z` and error `e` are sites of their own, `SITE.hook_sae_acts_post` and `SITE.hook_sae_error` (names of SAELens).
Where both are kept whole the readers see `a`: the model is not changed. A local replacement model is a circuit that ablates the
error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Dense, JumpRelu, Relu, Scale, Sum, TopK
from bounds.ops.base import Nonlinear, Shape
from specs.components import LATENTS
from specs.document import jsonpath
from specs.errors import InputError, nearest
from specs.model import Model
from specs.models.runtime import NOTHING, Array, Intervention, Runtime
from specs.splice import Splice
from specs.weights import read_weights

__all__ = ["spliced"]

_RECONS, _ERROR, _OUTPUT = ".hook_sae_recons", ".hook_sae_error", ".hook_sae_output"
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclass(frozen=True, slots=True, eq=False)
class _Autoencoder:
    """Weights in float64. Shapes: `encoder` `(latents, width of what it reads)`, `decoder` `(width, latents)`."""

    site: str
    reads: str
    encoder: Dense
    act: Nonlinear
    decoder: Dense


def spliced(model: Model, splices: Mapping[str, Splice], *, file: str, place: tuple[str, ...] = ("model", "splice")) -> Model:
    """The model with autoencoders at some of its sites. Its readings of them are checked beside the original (`Model.check`).

    Guarantees: as long as latents and errors are kept the outputs are the original's, and are computed by its own runtime.
    Cost: for an intervention a run of the original for each autoencoder, and one more. Raises: InputError: no such site, a file
    that cannot be read, weights of another shape.
    """
    if not splices:
        return model
    graph = model.graph
    known = [node.name for node in graph.nodes if node.site]
    made: list[_Autoencoder] = []
    digest = hashlib.sha256(model.sha256.encode())
    for site in sorted(splices, key=lambda name: known.index(name) if name in known else -1):
        where = jsonpath((*place, site))
        if f"{site}{LATENTS}" in known:
            raise InputError(file, where, f"the model has a tensor {site}{LATENTS} of its own", "a site without", "")
        reads = splices[site].reads or site
        for name, at in ((site, where), (reads, f"{where}.reads")):
            if name not in known or name == graph.output:
                said = f"the model has no site {name!r}"
                raise InputError(file, at, said, nearest(name, known), "`certify show MODEL` lists the sites")
        if known.index(reads) > known.index(site):
            raise InputError(file, f"{where}.reads", f"{reads} is computed after {site}", "a tensor upstream of the site")
        made.append(_read(splices[site], site, reads, graph, file, where))
        digest.update(_stated(splices[site], made[-1]))
    checked = replace(
        model, graph=_inserted(graph, made), runtime=_Spliced(model.runtime, tuple(made)), sha256=digest.hexdigest()
    )
    checked.check()
    return checked


def _read(splice: Splice, site: str, reads: str, graph: Graph, file: str, where: str) -> _Autoencoder:
    found = read_weights(splice.file, file=file, where=f"{where}.file")
    names = (*_NAMES, "threshold") if splice.activation == "jumprelu" else _NAMES
    for name in names:
        if name not in found:
            said = f"{splice.file} has {', '.join(sorted(found)[:8]) or 'no arrays'}"
            raise InputError(file, f"{where}.file", f"no array {name!r}", said)
        if not bool(found[name].double().isfinite().all()):
            raise InputError(file, f"{where}.file", f"{name} holds what is not finite", "finite numbers")
    w_enc, b_enc, w_dec, b_dec = (found[name].double() for name in _NAMES)
    width, latents = graph.shape(reads)[-1], len(b_enc.flatten())
    wanted = {"W_enc": (width, latents), "W_dec": (latents, graph.shape(site)[-1]), "b_dec": (graph.shape(site)[-1],)}
    if splice.activation == "jumprelu":
        wanted["threshold"] = (latents,)
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            said = f"{name} of shape {list(found[name].shape)}"
            raise InputError(file, f"{where}.file", said, f"shape {list(shape)}, at site {site} with {latents} latents")
    if splice.centered:
        if reads != site:
            raise InputError(file, f"{where}.centered", "a transcoder", "an autoencoder that reads its own site")
        b_enc = b_enc - b_dec @ w_enc
    act: Nonlinear = Relu()
    if splice.activation == "jumprelu":
        act = JumpRelu(found["threshold"].double())
    elif splice.k is not None:
        act = TopK(splice.k)
    return _Autoencoder(site, reads, Dense(w_enc.T.contiguous(), b_enc), act, Dense(w_dec.T.contiguous(), b_dec))


def _stated(splice: Splice, sae: _Autoencoder) -> bytes:
    """All that makes an autoencoder what it is."""
    constants = [value for op in (sae.encoder, sae.act, sae.decoder) for value in op.constants()]
    shapes = [list(value.shape) for value in constants]
    said = repr((sae.site, sae.reads, splice.activation, splice.k, shapes))
    return said.encode() + b"".join(value.numpy().tobytes() for value in constants)


def _inserted(graph: Graph, made: list[_Autoencoder]) -> Graph:
    at = {sae.site: sae for sae in made}
    taken: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple(taken.get(name, name) for name in node.inputs)))
        if node.name in at:
            sae = at[node.name]
            # What an autoencoder reads has been through the ones before it, as all readers have.
            nodes += _nodes(sae, taken.get(sae.reads, sae.reads), graph.shape(sae.reads), node.shape)
            taken[node.name] = f"{node.name}{_OUTPUT}"
    return replace(graph, nodes=tuple(nodes))


def _nodes(sae: _Autoencoder, reads: str, before: Shape, shape: Shape) -> list[Node]:
    site, wide = sae.site, (*before[:-1], len(sae.encoder.weight))
    seen, raw = f"{site}{LATENTS}", f"{site}{LATENTS}#raw"
    return [
        Node(f"{site}.hook_sae_acts_pre", sae.encoder, (reads,), wide),
        Node(raw, sae.act, (f"{site}.hook_sae_acts_pre",), wide, site=False),
        Node(seen, Scale(), (raw,), wide),
        Node(f"{site}{_RECONS}", sae.decoder, (seen,), shape),
        Node(f"{site}{_RECONS}#raw", sae.decoder, (raw,), shape, site=False),
        Node(f"{site}{_ERROR}", Sum((1, -1)), (site, f"{site}{_RECONS}#raw"), shape),
        Node(f"{site}{_OUTPUT}", Sum((1, 1)), (f"{site}{_RECONS}", f"{site}{_ERROR}"), shape),
    ]


class _Spliced(Runtime):
    """The original in its own runtime, run up to each site and from there on with what its readers are to see."""

    def __init__(self, inner: Runtime, made: tuple[_Autoencoder, ...]) -> None:
        self._inner, self._made = inner, made
        self._own = {f"{sae.site}{part}" for sae in made for part in (".hook_sae_acts_pre", LATENTS, _RECONS, _ERROR, _OUTPUT)}

    def outputs(self, x: Array) -> Array:
        return self._inner.outputs(x)

    def intervened(self, x: Array, under: Intervention) -> Array:
        return self._inner.intervened(x, self._settled(x, under)[0])

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        asked = {name for name in sites if name in self._own}
        settled, found = self._settled(x, under, asked)
        plain = [site for site in sites if site not in self._own]
        inner = self._inner.activations(x, plain, settled) if plain else {}
        return inner | {name: found[name] for name in asked}

    def _settled(self, x: Array, under: Intervention, asked: Collection[str] = ()) -> tuple[Intervention, dict[str, Array]]:
        """The same intervention with every changed site set to what its readers see; and the autoencoders' own values."""
        masks = {site: mask for site, mask in under.kept.items() if site not in self._own}
        values = {site: under.patch[site] for site in masks}
        settled, found = Intervention(masks, values), dict[str, Array]()
        for sae in self._made:
            names = [f"{sae.site}{part}" for part in (".hook_sae_acts_pre", LATENTS, _RECONS, _ERROR, _OUTPUT)]
            changed = any(name in under.kept and not np.all(under.kept[name]) for name in names)
            if not changed and not any(name in asked for name in names):
                continue
            seen = self._inner.activations(x, {sae.site, sae.reads}, settled)
            read, own = (settled.shown(name, seen[name]) for name in (sae.reads, sae.site))
            run = _Run(under, found)
            pre = run.shown(names[0], sae.encoder.forward(_real(read)))
            raw = sae.act.forward(pre)
            recons = run.shown(names[2], sae.decoder.forward(run.shown(names[1], raw)))
            error = run.shown(names[3], _real(own) - sae.decoder.forward(raw))
            output = run.shown(names[4], recons + error)
            if changed:
                masks[sae.site] = np.zeros(own.shape, dtype=bool)
                values[sae.site] = output[0].numpy()
        return settled, found


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One run of an autoencoder under an intervention; what each tensor is goes to `found`."""

    under: Intervention
    found: dict[str, Array]

    def shown(self, name: str, value: Tensor) -> Tensor:
        """A tensor as computed is noted; what its readers see is returned."""
        self.found[name] = value[0].numpy()
        if name not in self.under.kept:
            return value
        return torch.where(torch.as_tensor(self.under.kept[name]), value, torch.as_tensor(self.under.patch[name]).double())


def _real(value: Array) -> Tensor:
    return torch.from_numpy(np.asarray(value, dtype=np.float64)).unsqueeze(0)
