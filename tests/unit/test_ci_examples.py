"""The examples for CI and the docs say what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
from ruamel.yaml import YAML

import specs.strategies
from specs.formats import formats
from verify.cli import cli

ROOT = Path(__file__).resolve().parents[2]


def test_the_hook_runs_our_command() -> None:
    (hook,) = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text())
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert hook["entry"] in scripts and hook["language"] == "python" and hook["pass_filenames"] is False
    assert re.search(hook["files"], "circuits/ioi.json")


def test_the_workflow_uses_options_that_there_are() -> None:
    text = (ROOT / "docs" / "examples" / "certify.yml").read_text()
    steps = YAML(typ="safe").load(text)["jobs"]["circuits"]["steps"]
    commands = [step["run"].split() for step in steps if "run" in step]
    (ours,) = [words for words in commands if words[0] == "certify"]
    known = {option for parameter in cli.commands["circuit"].params for option in parameter.opts}
    assert {word for word in ours if word.startswith("--")} <= known
    plugin = (ROOT / "verify" / "pytest_plugin.py").read_text()
    assert "--certify-timeout" in plugin and "--certify-backend" in plugin


def test_the_docs_name_formats_options_and_strategies_that_there_are() -> None:
    folder = ROOT / "docs" / "import"
    assert {path.stem for path in folder.glob("*.md")} == {*formats(), "index"}
    lines = [(path.stem, line) for path in folder.glob("*.md") for line in path.read_text().splitlines()]
    for name, line in lines:
        if not line.startswith("certify import"):
            continue
        words = line.split()[1:]
        assert words[1] == name
        command = cli.commands["import"]
        command.parse_args(click.Context(command), words[1:])  # raises where an option is not known
    named = re.findall(r"`(\w+)\(\)`", (ROOT / "docs" / "ci.md").read_text())
    assert named and set(named) <= set(specs.strategies.__all__)
