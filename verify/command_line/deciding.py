"""Commands that decide one question."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from verify.command_line import options
from verify.command_line.group import Action, cli


@cli.command("circuit", hidden=True)
@click.argument("circuit", metavar="CIRCUIT.json")
@options.spec("What is claimed of the circuit.")
@click.option("--out", metavar="REPORT.json", help="Write the report here.")
@options.timeout()
@options.engine
@options.as_json
@options.allow_code()
@click.option("--resume", is_flag=True, help="Go on with a check of minimality that was stopped; needs its --out.")
@click.option("--certificate", metavar="DIR", help="Write a proof or witness here, for certify check; none, no verdict.")
@click.option("--float32", is_flag=True, help="Prove it for every float32 evaluation, rounding of model and circuit included.")
def circuit_command(**given: Any) -> Action:
    """Decide whether CIRCUIT.json meets SPEC.yaml.

    \b
    certify circuit.json --spec spec.yaml --out report.json
    """
    from verify.commands import circuit

    return partial(circuit.run, circuit.Options(**given))


@cli.command("check")
@click.argument("certificate", metavar="CERTIFICATE")
def check_command(certificate: str) -> Action:
    """Confirm a certificate with the small independent checker.

    \b
    certify check certificate

    Exit codes: 0 confirmed, 1 rejected, 2 it could not be read.
    """
    from verify.commands import check

    return partial(check.run, certificate)


@cli.command("robustness")
@click.argument("circuit", metavar="CIRCUIT.json")
@options.spec("Region and agreement, and data for patched values.")
@click.option("--out", required=True, metavar="DIR", help="Write reports, robustness.md, .csv and .svg here.")
@click.option(
    "--radii", type=click.IntRange(0, 64), default=8, metavar="N", help="Further radii asked of each kind; 0 for none [8]."
)
@options.timeout("Seconds for each question, instead of the spec's budget.")
@options.seed
@options.quiet
@options.allow_code()
def robustness_command(**given: Any) -> Action:
    """Decide CIRCUIT.json's claim under every kind of patching, and how large a region each is certified on.

    \b
    certify robustness circuit.json --spec spec.yaml --out robustness

    Exit codes: 0 certified under every kind, 1 falsified under some, 2 the request could not be read, 3 else, 130 interrupted.
    """
    from verify.commands import robustness

    return partial(robustness.run, robustness.Options(**given))


@cli.command("vnnlib")
@click.argument("files", nargs=-1, metavar="[NET.onnx] SPEC.vnnlib")
@click.option("--network", multiple=True, metavar="NAME=NET.onnx", help="The file of a network that the query names.")
@click.option("--out", metavar="FILE", help="Write the answer, and the counterexample where there is one, here.")
@options.timeout("Seconds to spend [300].")
@options.engine
def vnnlib_command(**given: Any) -> Action:
    """Decide a VNN-LIB query (1.0 or 2.0) about plain networks: the last line is sat, unsat or unknown.

    \b
    certify vnnlib net.onnx prop.vnnlib --timeout 60
    certify vnnlib two.vnnlib --network f=f.onnx --network g=g.onnx

    unsat is proven for the networks' real-number functions; sat is shown by an input that satisfies the query in onnxruntime,
    with no tolerance. Exit codes: 0 unsat, 1 sat, 2 the request could not be read, 3 unknown.
    """
    from verify.commands import vnnlib

    return partial(vnnlib.run, vnnlib.Options(**given))
