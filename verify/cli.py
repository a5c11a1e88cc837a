"""The command `certify`: the only place that reads arguments and exits. Nothing heavy is imported before it is known what to
do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from verify.command_line import carrying, converting, deciding, files, searching
from verify.command_line.group import cli
from verify.commands.codes import BAD_REQUEST, BROKEN, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.command_line.group import Action

__all__ = ["cli", "main"]

assert carrying and converting and deciding and files and searching  # imported for the commands that they define


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
