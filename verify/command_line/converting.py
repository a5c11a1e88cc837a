"""The command that makes models of checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from verify.command_line.group import Action, cli


@cli.command("convert")
@click.argument("format_name", metavar="FORMAT", type=click.Choice(["transformer-lens", "gpt2"]))
@click.argument("file", metavar="FILE")
@click.option("--config", required=True, metavar="CONFIG.json", help="The model's configuration.")
@click.option("--positions", required=True, type=click.IntRange(1), metavar="N", help="How many tokens the model is to take.")
@click.option("--out", required=True, metavar="MODEL.onnx", help="Write the model here.")
@click.option(
    "--input", "takes", type=click.Choice(["one-hot", "embedding"]), default="one-hot",
    help="Take one-hot tokens, or their embeddings [one-hot].",
)  # fmt: skip
@click.option("--last", is_flag=True, help="Give the last position's logits only.")
@click.option("--reference", metavar="FILE.npz", help="Compare with the original: arrays tokens and logits.")
def convert_command(format_name: str, **given: Any) -> Action:
    """Write a transformer's checkpoint as an ONNX model whose tensors have TransformerLens's names.

    \b
    certify convert transformer-lens weights.pt --config cfg.json --positions 8 --out model.onnx
    certify convert gpt2 model.safetensors --config config.json --positions 4 --input embedding --last --out gpt2.onnx

    FORMAT is transformer-lens (a HookedTransformer's state_dict, and cfg.to_dict() as JSON) or gpt2 (HuggingFace). FILE is a
    .pt, .safetensors or .npz; nothing that it holds is run.
    """
    from verify.commands import converted

    return partial(converted.run, converted.Options(format=format_name, **given))
