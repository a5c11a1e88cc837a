"""The peers there are."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Peer
from benchmarks.peers.marabou import Marabou
from benchmarks.peers.neuralsat import NeuralSat
from benchmarks.peers.vibecheck import Vibecheck

__all__ = ["PEERS", "peers_in"]

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Vibecheck, NeuralSat, Marabou)}


def peers_in(folder: Path) -> tuple[list[Peer], list[str]]:
    """The peers installed in a folder, and the names of those that are not."""
    every = [kind(folder / name) for name, kind in PEERS.items()]
    return [peer for peer in every if peer.installed], [peer.name for peer in every if not peer.installed]
