"""The command group `certify`, and what options of its commands take. A command without a name is the main one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import click

__all__ = ["Action", "Seconds", "cli"]

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


class Seconds(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  # generic only in newer releases
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
