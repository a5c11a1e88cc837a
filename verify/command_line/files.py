"""Commands that show, read and write files."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from verify.command_line import options
from verify.command_line.group import Action, cli

FORMATS = ("acdc", "auto-circuit", "circuit-tracer", "circuitkit", "eap", "edge-pruning", "transformer-lens")
"""As in `specs.formats`; a test compares them."""


@cli.command("show")
@click.argument("file", metavar="MODEL|REPORT.json|CIRCUIT.json")
@click.option("--html", metavar="FILE", help="Write a page for people instead: pictures, tables, printable, self-contained.")
@click.option("--svg", metavar="FILE", help="Write a drawing of the circuit.")
@options.allow_code("FILE, or a circuit's model, is")
def show_command(**given: Any) -> Action:
    """List a model's sites, or sum up a report or a circuit.

    \b
    certify show model.onnx
    certify show report.json --html report.html --svg circuit.svg
    """
    from verify.commands import show

    return partial(show.run, show.Options(**given))


@cli.command("import")
@click.argument("format_name", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("file", metavar="FILE")
@click.option("--model", required=True, metavar="MODEL", help="The model that the circuit is to be one of.")
@click.option("--out", required=True, metavar="CIRCUIT.json", help="Write the circuit here.")
@click.option("--map", metavar="MAP.json", help="The site and index of each of the tool's names.")
@click.option("--threshold", type=float, metavar="T", help="Keep what has a score of at least T.")
@click.option("--top", type=click.IntRange(1), metavar="K", help="Keep the K of greatest score.")
@click.option("--signed", is_flag=True, help="Compare scores as they are, not their magnitudes.")
@click.option("--nodes", is_flag=True, help="Of a circuit of edges, keep the nodes that kept edges touch.")
@click.option("--listed", type=click.Choice(["kept", "removed", "both"]), help="What a file lists that does not say so.")
@click.option("--entry", metavar="KEY", help="Which of the circuits in FILE.")
@click.option("--quiet", is_flag=True, help="Do not tell what the import loses.")
def import_command(format_name: str, **given: Any) -> Action:
    """Read a circuit that another tool found. FORMAT is one of eap, acdc, auto-circuit, edge-pruning, circuit-tracer,
    circuitkit, transformer-lens.

    \b
    certify import eap circuit.json --model model.onnx --map map.json --out circuit.certify.json

    The tool's names become sites of MODEL by TransformerLens's hook names, or by a map: {"a0.h3": ["SITE", 3], "m0": null}.
    What was lost is told on standard error and kept in the circuit's provenance. Nothing that FILE holds is run.
    """
    from verify.commands import imported

    return partial(imported.run, imported.Options(format=format_name, **given))


@cli.group("export", no_args_is_help=False)
def export_group() -> None:
    """Write a claim, a circuit or the pruned model as files for other tools."""


@export_group.command("vnnlib")
@click.argument("circuit", metavar="CIRCUIT.json")
@options.spec("What is claimed of the circuit.")
@click.option("--out", required=True, metavar="DIR", help="Write the files into this directory.")
@click.option("--version", type=click.Choice(["1", "2"]), default="1", help="Of VNN-LIB [1].")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@options.allow_code()
def export_vnnlib_command(**given: Any) -> Action:
    """Write the claim that CIRCUIT.json meets SPEC.yaml as ONNX and VNN-LIB.

    \b
    certify export vnnlib circuit.json --spec spec.yaml --out query
    certify export vnnlib circuit.json --spec spec.yaml --out query --version 2

    Version 1.0: one network of both halves and one query a claim. A verifier's unsat proves it. Its sat is a counterexample, or
    a point where the deviation is the tolerance exactly, which violates nothing: 1.0 has no strict comparison. Version 2.0: the
    networks model and circuit, and one query a claim over both; patched values must be fixed. Regions must be boxes.
    """
    from verify.commands import export

    return partial(export.run, export.Options(**given))


@export_group.command("onnx")
@click.argument("circuit", metavar="CIRCUIT.json")
@options.spec("Whose patching gives what is ablated its values.")
@click.option("--out", required=True, metavar="FILE.onnx", help="Write the model here.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@options.allow_code()
def export_onnx_command(**given: Any) -> Action:
    """Write the pruned model: CIRCUIT.json's, with what it ablates set to the values of SPEC.yaml's patching.

    \b
    certify export onnx circuit.json --spec spec.yaml --out pruned.onnx

    Patching must be zero, mean or constant. The file is run in onnxruntime and compared before it is written.
    """
    from verify.commands import exported

    return partial(exported.run_pruned, exported.PrunedOptions(**given))


def _export_tool(tool: str, summary: str) -> None:
    @export_group.command(tool, help=summary)
    @click.argument("circuit", metavar="CIRCUIT.json")
    @click.option("--out", required=True, metavar="FILE.json", help="Write the circuit here.")
    @click.option("--report", metavar="REPORT.json", help="Take what is proven of each component from this report.")
    @click.option("--map", metavar="MAP.json", help="The tool's names, as for certify import.")
    def command(**given: Any) -> Action:  # pyright: ignore[reportUnusedFunction]
        from verify.commands import exported

        return partial(exported.run_tool, exported.ToolOptions(tool=tool, **given))


_export_tool(
    "eap",
    """Write a circuit as EAP-IG's JSON, with a proof status for each node.

    \b
    certify export eap circuit.json --report report.json --map map.json --out circuit.eap.json

    Without a map site i of the scope is layer i, and its component j head j.
    """,
)
_export_tool(
    "circuitkit",
    """Write a circuit as circuitkit's CircuitArtifact, with a proof status for each node.

    \b
    certify export circuitkit circuit.json --report report.json --map map.json --out circuit.ck.json

    Without a map site i of the scope is layer i, and its component j head j.
    """,
)
