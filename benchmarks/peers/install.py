"""`python -m benchmarks.peers.install --into DIR`: each peer into a virtual environment `DIR/NAME`.

torch comes first and by itself: `TORCH_INDEX=…` names an index to take it from (say one with CPU builds), default pip's own.
What is installed already is left alone; delete its folder to have it anew.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.base import Peer
from benchmarks.peers.registry import PEERS

__all__ = ["install", "main"]

_TORCH = "torch==2.13.0"


def install(peer: Peer, torch_index: str | None = None) -> None:
    """Make a peer's environment. Cost: minutes; 1.5 GB with torch. Raises: OSError; CalledProcessError: pip failed."""
    venv.create(peer.home, with_pip=True, clear=True)
    pip = [str(peer.python), "-m", "pip", "install", "--quiet"]
    if peer.torch:
        index = ["--index-url", torch_index] if torch_index else []
        subprocess.run([*pip, *index, _TORCH], check=True)
    for arguments in peer.requirements:
        subprocess.run([*pip, *arguments], check=True)
    peer.finish()


def main(arguments: list[str] | None = None) -> int:
    """Install and say what was done. Returns the exit code: 1 where a peer could not be installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.install", description="Install other verifiers.")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="one virtual environment each is made in here")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one (may be given again)")
    options = parser.parse_args(arguments)
    failed = False
    for name in options.peer or PEERS:
        peer = PEERS[name](options.into / name)
        if peer.installed:
            print(f"{name}: already in {peer.home}")
            continue
        print(f"{name}: installing into {peer.home}", flush=True)
        try:
            install(peer, os.environ.get("TORCH_INDEX"))
        except (OSError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"{name}: not installed: {error}", file=sys.stderr)
            continue
        print(f"{name}: {'ready' if peer.installed else 'installed, but it is not where it should be'}")
        failed |= not peer.installed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
