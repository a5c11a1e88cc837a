"""Help texts: every command shows an example of itself, and help comes at once."""

from __future__ import annotations

import subprocess
import sys
import time

import click
import pytest

from verify.cli import cli


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        at = (*path, name)
        found += commands(command, at) if isinstance(command, click.Group) else [(at, command)]
    return found


@pytest.mark.parametrize(
    ("path", "command"), commands(cli), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_shows_an_example(path: tuple[str, ...], command: click.Command) -> None:
    hidden: dict[tuple[str, ...], tuple[str, ...]] = {
        ("circuit",): ("circuit.json",),
        ("bench", "run"): ("bench",),
    }  # commands that are called without their name
    start = " ".join(("certify", *hidden.get(path, path)))
    lines = [line.strip().removeprefix("Example: ") for line in (command.help or "").splitlines()]
    assert any(line.startswith(f"{start} ") for line in lines), f"add `{start} ...` below a \\b to the help of {' '.join(path)}"


def test_help_takes_less_than_a_second() -> None:
    """Measured in processor time, as the machine may be loaded."""
    program = (
        "import time, sys\n"
        "try:\n    from verify.cli import main; main(['--help'])\n"
        "finally:\n    print('used', time.process_time(), file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Commands:" in done.stdout, done.stderr
    assert float(done.stderr.split()[-1]) < 1, f"and {time.monotonic() - began:.1f} s on the clock"
