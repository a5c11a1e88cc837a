"""Pages of the docs that are run: their blocks, their commands, and what these are to print."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

__all__ = ["blocks", "follow"]


def blocks(page: Path, kind: str) -> list[str]:
    """The page's blocks of one language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def follow(page: Path, folder: Path, certify: list[str], environment: dict[str, str]) -> None:
    """Run the page's commands in a folder, in order: they print what the page shows, numbers aside, and exit as that says."""
    for command, printed in _commands(page):
        first, *rest = shlex.split(command)
        assert first == "certify"
        done = subprocess.run(
            [*certify, *rest], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == (1 if "falsified" in printed else 0), f"{command}\n{done.stdout}{done.stderr}"
        assert _plain(done.stdout) == _plain(printed), command


def _commands(page: Path) -> list[tuple[str, str]]:
    """Each command with what it prints."""
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def _plain(text: str) -> list[str]:
    """Lines without their numbers: these may differ between machines. What is kept is a matter of numbers too."""
    return [" ".join(re.sub(r"\d[\d.,\s-]*", "N ", line).split()) for line in text.strip().splitlines()]
