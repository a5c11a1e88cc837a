"""The command `certify`: the only place that reads arguments and exits. Nothing heavy is imported before it is known what to
do."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

BAD_REQUEST = 2
INTERRUPTED = 130
BROKEN = 70
"""Exit code of a fault in this program: none that stands for an answer."""

_ALGORITHMS = ("auto", "deletion", "iterated", "binary", "progression", "quickxplain", "hitting")
_ORDERS = ("removal", "witness", "activation-gradient", "integrated-gradients", "index")
"""As in `verify.minimize`, which is not imported for a help text; a test compares them."""
_FORMATS = ("acdc", "auto-circuit", "circuit-tracer", "circuitkit", "eap", "edge-pruning", "transformer-lens")
"""As in `specs.formats`; a test compares them."""

Action = Callable[[], int]


class _Commands(click.Group):
    """A group whose main command needs no name: what does not begin with a sub-command's name is the main command's."""

    main_name = "circuit"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "--version"}
        if args and args[0] not in own and args[0] not in self.list_commands(ctx):
            word = args[0]
            if word.isidentifier() and not os.path.exists(word):
                raise click.UsageError(f"{word!r} is no file and no command; commands: {', '.join(self.list_commands(ctx))}")
            args = [self.main_name, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name != self.main_name]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("certify", "CIRCUIT.json --spec SPEC.yaml [OPTIONS]")
        formatter.write_usage("certify", "COMMAND [ARGS]...", "   or: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        main = self.commands[self.main_name]
        rows = [row for parameter in main.get_params(ctx) if (row := parameter.get_help_record(ctx))]
        rows = [row for row in rows if not row[0].startswith("--help")]
        rows += [row for parameter in self.get_params(ctx) if (row := parameter.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(ctx, formatter)


class _Seconds(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  # generic only in newer releases
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r}; a finite number of seconds greater than 0 is needed", param, ctx)
        return seconds


def _version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        import importlib.metadata

        try:
            click.echo(f"certify {importlib.metadata.version('circuit-certify')}")
        except importlib.metadata.PackageNotFoundError:
            click.echo("certify, not installed")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["--help"], "max_content_width": 100}, no_args_is_help=False)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def cli() -> None:
    """Prove or refute that a circuit of a neural network agrees with its model over a whole region.

    Exit codes: 0 certified, 1 falsified, 2 the request could not be read, 3 unknown, 130 interrupted.
    """


@cli.command("circuit", hidden=True)
@click.argument("circuit", metavar="CIRCUIT.json")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="What is claimed of the circuit.")
@click.option("--out", metavar="REPORT.json", help="Write the report here.")
@click.option("--timeout", type=_Seconds(), metavar="S", help="Seconds to spend, instead of the spec's budget.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute [cpu].")
@click.option(
    "--backend", type=click.Choice(["auto", "native", "lirpa", "milp"]), default="auto", help="What computes bounds [auto]."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, on standard output.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a circuit names as its model.")
@click.option("--resume", is_flag=True, help="Go on with a check of minimality that was stopped; needs its --out.")
@click.option("--certificate", metavar="DIR", help="Write a proof or witness here, for certify check; none, no verdict.")
@click.option("--float32", is_flag=True, help="Prove it for every float32 evaluation, rounding of model and circuit included.")
def circuit_command(**options: Any) -> Action:
    """Decide whether CIRCUIT.json meets SPEC.yaml.

    \b
    certify circuit.json --spec spec.yaml --out report.json
    """
    from verify.commands import circuit

    return partial(circuit.run, circuit.Options(**options))


@cli.command("discover")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="What the circuit must meet, and how minimal it must be.")
@click.option("--out", required=True, metavar="CIRCUIT.json", help="Write the circuit here.")
@click.option("--report", metavar="REPORT.json", help="Write the report here.")
@click.option("--start", metavar="CIRCUIT.json", help="Search inside this circuit, instead of the spec's scope.")
@click.option("--model", metavar="MODEL", help="The model to search, instead of the one that the spec names.")
@click.option("--algorithm", type=click.Choice(_ALGORITHMS), default="auto", help="How to search [auto].")
@click.option("--order", type=click.Choice(_ORDERS), default="removal", help="What to drop first [removal].")
@click.option("--all", "enumerate_all", is_flag=True, help="Go on to list all minimal circuits.")
@click.option("--plot", metavar="FILE", help="Draw the bracket over time, and the circuits found, as .svg, .pdf or .png.")
@click.option(
    "--question", type=_Seconds(), metavar="S", help="Seconds that one question may take at first [1/40 of the budget]."
)
@click.option("--timeout", type=_Seconds(), metavar="S", help="Seconds to spend, instead of the spec's budget.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute [cpu].")
@click.option(
    "--backend", type=click.Choice(["auto", "native", "lirpa", "milp"]), default="auto", help="What computes bounds [auto]."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, on standard output.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a spec or circuit names as its model.")
@click.option("--resume", is_flag=True, help="Go on with a search that was stopped; what it has answered is not asked again.")
def discover_command(**options: Any) -> Action:
    """Find a circuit that meets SPEC.yaml, and show how minimal it is.

    \b
    certify discover --spec spec.yaml --out circuit.json --report report.json

    Exit codes: 0 certified and minimal as the spec asks, 1 not even the start is faithful, 3 unknown or minimal only relative
    to what stayed open, 130 interrupted (the best circuit so far is written, --resume goes on).
    """
    from verify.commands import discover

    return partial(discover.run, discover.Options(**options))


class _Bench(click.Group):
    """`bench SUITE` and `bench compare A B`: what does not begin with a sub-command's name is a suite."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in ("--help", "compare"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@cli.group("bench", cls=_Bench, no_args_is_help=False, options_metavar="", subcommand_metavar="SUITE [OPTIONS] | compare A B")
def bench_group() -> None:
    """Run a benchmark suite: rows, tables, figures, one page.

    \b
    certify bench smoke --out smoke
    certify bench paper --data bench --jobs 4 --resume
    certify bench compare before after

    SUITE is a YAML file, or the name of one that comes with the program: smoke, default, paper, scale. Options are listed by
    certify bench SUITE --help.
    """


@bench_group.command("run", hidden=True)
@click.argument("suite", metavar="SUITE")
@click.option("--out", metavar="DIR", help="Write rows, tables and figures here [bench-SUITE].")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, metavar="N", help="Runs at a time, a process each [1].")
@click.option("--resume", is_flag=True, help="Keep the rows in --out, and do the runs that are missing.")
@click.option("--data", metavar="DIR", help="Where public networks and data are: models/ and data/ [$CERTIFY_BENCH].")
@click.option("--only", multiple=True, metavar="EXPERIMENT", help="This experiment of the suite only; may be repeated.")
@click.option("--ray", metavar="ADDRESS", help="Run on the Ray cluster at this address (local: one on this machine).")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def bench_command(**options: Any) -> Action:
    """Run SUITE.

    \b
    certify bench smoke --out smoke

    Exit codes: 0 all runs gave an answer, 1 some failed, 2 the request could not be read, 130 interrupted.
    """
    from verify.commands import bench

    return partial(bench.run, bench.Options(**options))


@bench_group.command("compare")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option(
    "--slower",
    type=click.FloatRange(1.0, min_open=True),
    default=1.5,
    metavar="X",
    help="What counts as slower: X times [1.5].",
)
def bench_compare_command(before: str, after: str, slower: float) -> Action:
    """Hold two results against each other.

    \b
    certify bench compare before after

    Exit codes: 0 nothing became worse, 1 something did.
    """
    from verify.commands import bench

    return partial(bench.compare, before, after, slower)


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


@cli.command("frontier")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="What circuits must meet, and how minimal they must be.")
@click.option("--over", required=True, type=click.Choice(["epsilon", "tolerance"]), help="What to vary.")
@click.option("--values", required=True, metavar="V,V,…", help="Its values.")
@click.option("--out", required=True, metavar="DIR", help="Write circuits, reports, frontier.csv and frontier.svg here.")
@click.option("--model", metavar="MODEL", help="The model to search, instead of the one that the spec names.")
@click.option("--timeout", type=_Seconds(), metavar="S", help="Seconds for each value, instead of the spec's budget.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a spec names as its model.")
def frontier_command(**options: Any) -> Action:
    """Find the smallest circuit at each of several radii or tolerances.

    Example: certify frontier --spec spec.yaml --over epsilon --values 0.01,0.02,0.04 --out frontier
    """
    from verify.commands import frontier

    return partial(frontier.run, frontier.Options(**options))


@cli.command("robustness")
@click.argument("circuit", metavar="CIRCUIT.json")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="Region and agreement, and data for patched values.")
@click.option("--out", required=True, metavar="DIR", help="Write reports, robustness.md, .csv and .svg here.")
@click.option(
    "--radii", type=click.IntRange(0, 64), default=8, metavar="N", help="Further radii asked of each kind; 0 for none [8]."
)
@click.option("--timeout", type=_Seconds(), metavar="S", help="Seconds for each question, instead of the spec's budget.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a circuit names as its model.")
def robustness_command(**options: Any) -> Action:
    """Decide CIRCUIT.json's claim under every kind of patching, and how large a region each is certified on.

    \b
    certify robustness circuit.json --spec spec.yaml --out robustness

    Exit codes: 0 certified under every kind, 1 falsified under some, 2 the request could not be read, 3 else, 130 interrupted.
    """
    from verify.commands import robustness

    return partial(robustness.run, robustness.Options(**options))


@cli.command("wang")
@click.argument("circuit", metavar="CIRCUIT.json")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="Inputs and patching to sample from.")
@click.option("--samples", type=click.IntRange(2, 100_000), default=64, metavar="N", help="Inputs to average over [64].")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a circuit names as its model.")
def wang_command(**options: Any) -> Action:
    """Score CIRCUIT.json's completeness and minimality in the sense of Wang et al. 2022: sampled, nothing is proven.

    Example: certify wang circuit.json --spec spec.yaml
    """
    from verify.commands import wang

    return partial(wang.run, wang.Options(**options))


@cli.command("show")
@click.argument("file", metavar="MODEL|REPORT.json|CIRCUIT.json")
@click.option("--html", metavar="FILE", help="Write a page for people instead: pictures, tables, printable, self-contained.")
@click.option("--svg", metavar="FILE", help="Write a drawing of the circuit.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that FILE, or a circuit's model, is.")
def show_command(**options: Any) -> Action:
    """List a model's sites, or sum up a report or a circuit.

    \b
    certify show model.onnx
    certify show report.json --html report.html --svg circuit.svg
    """
    from verify.commands import show

    return partial(show.run, show.Options(**options))


@cli.command("import")
@click.argument("format_name", metavar="FORMAT", type=click.Choice(_FORMATS))
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
def import_command(format_name: str, **options: Any) -> Action:
    """Read a circuit that another tool found. FORMAT is one of eap, acdc, auto-circuit, edge-pruning, circuit-tracer,
    circuitkit, transformer-lens.

    \b
    certify import eap circuit.json --model model.onnx --map map.json --out circuit.certify.json

    The tool's names become sites of MODEL by TransformerLens's hook names, or by a map: {"a0.h3": ["SITE", 3], "m0": null}.
    What was lost is told on standard error and kept in the circuit's provenance. Nothing that FILE holds is run.
    """
    from verify.commands import imported

    return partial(imported.run, imported.Options(format=format_name, **options))


@cli.group("export", no_args_is_help=False)
def export_group() -> None:
    """Write a claim, a circuit or the pruned model as files for other tools."""


@export_group.command("vnnlib")
@click.argument("circuit", metavar="CIRCUIT.json")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="What is claimed of the circuit.")
@click.option("--out", required=True, metavar="DIR", help="Write the files into this directory.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a circuit names as its model.")
def export_vnnlib_command(**options: Any) -> Action:
    """Write the claim that CIRCUIT.json meets SPEC.yaml as ONNX and VNN-LIB 1.0.

    \b
    certify export vnnlib circuit.json --spec spec.yaml --out query

    One pair of files a claim. A verifier's unsat proves it. Its sat is a counterexample, or a point where the deviation is the
    tolerance exactly, which violates nothing: VNN-LIB has no strict comparison. Regions must be boxes.
    """
    from verify.commands import export

    return partial(export.run, export.Options(**options))


@export_group.command("onnx")
@click.argument("circuit", metavar="CIRCUIT.json")
@click.option("--spec", required=True, metavar="SPEC.yaml", help="Whose patching gives what is ablated its values.")
@click.option("--out", required=True, metavar="FILE.onnx", help="Write the model here.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--allow-code", is_flag=True, help="Run the Python code that a circuit names as its model.")
def export_onnx_command(**options: Any) -> Action:
    """Write the pruned model: CIRCUIT.json's, with what it ablates set to the values of SPEC.yaml's patching.

    \b
    certify export onnx circuit.json --spec spec.yaml --out pruned.onnx

    Patching must be zero, mean or constant. The file is run in onnxruntime and compared before it is written.
    """
    from verify.commands import exported

    return partial(exported.run_pruned, exported.PrunedOptions(**options))


def _export_tool(tool: str, summary: str) -> None:
    @export_group.command(tool, help=summary)
    @click.argument("circuit", metavar="CIRCUIT.json")
    @click.option("--out", required=True, metavar="FILE.json", help="Write the circuit here.")
    @click.option("--report", metavar="REPORT.json", help="Take what is proven of each component from this report.")
    @click.option("--map", metavar="MAP.json", help="The tool's names, as for certify import.")
    def command(**options: Any) -> Action:  # pyright: ignore[reportUnusedFunction]
        from verify.commands import exported

        return partial(exported.run_tool, exported.ToolOptions(tool=tool, **options))


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


@cli.command("vnnlib")
@click.argument("files", nargs=-1, metavar="[NET.onnx] SPEC.vnnlib")
@click.option("--network", multiple=True, metavar="NAME=NET.onnx", help="The file of a network that the query names.")
@click.option("--out", metavar="FILE", help="Write the answer, and the counterexample where there is one, here.")
@click.option("--timeout", type=_Seconds(), metavar="S", help="Seconds to spend [300].")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute [cpu].")
@click.option(
    "--backend", type=click.Choice(["auto", "native", "lirpa", "milp"]), default="auto", help="What computes bounds [auto]."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="N", help="Makes a run repeatable [0].")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def vnnlib_command(**options: Any) -> Action:
    """Decide a VNN-LIB query (1.0 or 2.0) about plain networks: the last line is sat, unsat or unknown.

    \b
    certify vnnlib net.onnx prop.vnnlib --timeout 60
    certify vnnlib two.vnnlib --network f=f.onnx --network g=g.onnx

    unsat is proven for the networks' real-number functions; sat is shown by an input that satisfies the query in onnxruntime,
    with no tolerance. Exit codes: 0 unsat, 1 sat, 2 the request could not be read, 3 unknown.
    """
    from verify.commands import vnnlib

    return partial(vnnlib.run, vnnlib.Options(**options))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    sys.exit(_code(list(sys.argv[1:] if arguments is None else arguments)))


def _code(arguments: list[str]) -> int:
    """The exit code. Whatever is wrong with the request is one line on standard error."""
    from specs.errors import InputError

    try:
        if not arguments:
            arguments = ["--help"]
        action = cast("Action | int", cli.main(arguments, prog_name="certify", standalone_mode=False))
        return action if isinstance(action, int) else action()
    except click.ClickException as error:
        _complain(f"certify: {_sentence(error)}; see certify --help")
        return BAD_REQUEST
    except InputError as error:
        _complain(str(error))
        return BAD_REQUEST
    except (KeyboardInterrupt, click.Abort):
        _complain("certify: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; nothing more can be said.
        sys.stdout = None
        return BROKEN
    except Exception:
        # A fault of ours must not end with an exit code that means an answer.
        import traceback

        _complain(f"certify: internal error, no answer; please report this\n{traceback.format_exc()}")
        return BROKEN


def _sentence(error: click.ClickException) -> str:
    return " ".join(error.format_message().split()).rstrip(".")


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
