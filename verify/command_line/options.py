"""Options that several commands take, each said once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import click

from verify.command_line.group import Seconds

__all__ = ["allow_code", "as_json", "backend", "device", "engine", "quiet", "seed", "spec", "timeout", "together"]

Command: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Command], Command]


def spec(says: str) -> Option:
    return click.option("--spec", required=True, metavar="SPEC.yaml", help=says)


def timeout(says: str = "Seconds to spend, instead of the spec's budget.") -> Option:
    return click.option("--timeout", type=Seconds(), metavar="S", help=says)


def allow_code(names: str = "a circuit names as its model") -> Option:
    return click.option("--allow-code", is_flag=True, help=f"Run the Python code that {names}.")


def together(*options: Option) -> Option:
    """Several options, shown in this order."""

    def added(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return added


device = click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute [cpu].")
backend = click.option(
    "--backend", type=click.Choice(["auto", "native", "lirpa", "milp"]), default="auto", help="What computes bounds [auto]."
)
seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
quiet = click.option("--quiet", is_flag=True, help="No progress on standard error.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, on standard output.")
engine = together(device, backend, seed, quiet)
"""How a question is answered, and how loudly."""
