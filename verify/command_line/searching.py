"""Commands that search, and that run suites."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from verify.command_line import options
from verify.command_line.group import Action, Seconds, cli

_ALGORITHMS = ("auto", "deletion", "iterated", "binary", "progression", "quickxplain", "hitting")
_ORDERS = ("removal", "witness", "activation-gradient", "integrated-gradients", "index")
"""As in `verify.minimize`, which is not imported for a help text; a test compares them."""


@cli.command("discover")
@options.spec("What the circuit must meet, and how minimal it must be.")
@click.option("--out", required=True, metavar="CIRCUIT.json", help="Write the circuit here.")
@click.option("--report", metavar="REPORT.json", help="Write the report here.")
@click.option("--start", metavar="CIRCUIT.json", help="Search inside this circuit, instead of the spec's scope.")
@click.option("--model", metavar="MODEL", help="The model to search, instead of the one that the spec names.")
@click.option("--algorithm", type=click.Choice(_ALGORITHMS), default="auto", help="How to search [auto].")
@click.option("--order", type=click.Choice(_ORDERS), default="removal", help="What to drop first [removal].")
@click.option("--all", "enumerate_all", is_flag=True, help="Go on to list all minimal circuits.")
@click.option("--plot", metavar="FILE", help="Draw the bracket over time, and the circuits found, as .svg, .pdf or .png.")
@click.option(
    "--question", type=Seconds(), metavar="S", help="Seconds that one question may take at first [1/40 of the budget]."
)
@options.timeout()
@options.engine
@options.as_json
@options.allow_code("a spec or circuit names as its model")
@click.option("--resume", is_flag=True, help="Go on with a search that was stopped; what it has answered is not asked again.")
@click.option("--certificate", metavar="DIR", help="Write proofs and witnesses here, for certify check; none, no verdict.")
def discover_command(**given: Any) -> Action:
    """Find a circuit that meets SPEC.yaml, and show how minimal it is.

    \b
    certify discover --spec spec.yaml --out circuit.json --report report.json

    Exit codes: 0 certified and minimal as the spec asks, 1 not even the start is faithful, 3 unknown or minimal only relative
    to what stayed open, 130 interrupted (the best circuit so far is written, --resume goes on).
    """
    from verify.commands import discover

    return partial(discover.run, discover.Options(**given))


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
@options.quiet
def bench_command(**given: Any) -> Action:
    """Run SUITE.

    \b
    certify bench smoke --out smoke

    Exit codes: 0 all runs gave an answer, 1 some failed, 2 the request could not be read, 130 interrupted.
    """
    from verify.commands import bench

    return partial(bench.run, bench.Options(**given))


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


@cli.command("frontier")
@options.spec("What circuits must meet, and how minimal they must be.")
@click.option("--over", required=True, type=click.Choice(["epsilon", "tolerance"]), help="What to vary.")
@click.option("--values", required=True, metavar="V,V,…", help="Its values.")
@click.option("--out", required=True, metavar="DIR", help="Write circuits, reports, frontier.csv and frontier.svg here.")
@click.option("--model", metavar="MODEL", help="The model to search, instead of the one that the spec names.")
@options.timeout("Seconds for each value, instead of the spec's budget.")
@options.seed
@options.quiet
@options.allow_code("a spec names as its model")
def frontier_command(**given: Any) -> Action:
    """Find the smallest circuit at each of several radii or tolerances.

    Example: certify frontier --spec spec.yaml --over epsilon --values 0.01,0.02,0.04 --out frontier
    """
    from verify.commands import frontier

    return partial(frontier.run, frontier.Options(**given))


@cli.command("wang")
@click.argument("circuit", metavar="CIRCUIT.json")
@options.spec("Inputs and patching to sample from.")
@click.option("--samples", type=click.IntRange(2, 100_000), default=64, metavar="N", help="Inputs to average over [64].")
@options.seed
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.allow_code()
def wang_command(**given: Any) -> Action:
    """Score CIRCUIT.json's completeness and minimality in the sense of Wang et al. 2022: sampled, nothing is proven.

    Example: certify wang circuit.json --spec spec.yaml
    """
    from verify.commands import wang

    return partial(wang.run, wang.Options(**given))
