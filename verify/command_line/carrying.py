"""The command that asks one claim of several checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from verify.command_line import options
from verify.command_line.group import Action, cli


@cli.command("carry")
@click.argument("circuits", nargs=-1, required=True, metavar="CIRCUIT.json...")
@options.spec("What is claimed of each circuit on each model.")
@click.option("--model", multiple=True, required=True, metavar="MODEL", help="Another checkpoint; may be given several times.")
@click.option("--out", required=True, metavar="DIR", help="Write carry.md and carry.json here.")
@options.timeout("Seconds for each question, instead of the spec's budget.")
@options.seed
@options.quiet
@options.allow_code()
def carry_command(**given: Any) -> Action:
    """Decide the same claim about several checkpoints of a model: which circuits carry over.

    \b
    certify carry a.json b.json --spec spec.yaml --model seed1.onnx --model seed2.onnx --out carried

    Exit codes: 0 every circuit is certified on every model, 1 one is falsified on some, 2 the request could not be read, 3
    else, 130 interrupted.
    """
    from verify.commands import carried

    return partial(carried.run, carried.Options(**given))
