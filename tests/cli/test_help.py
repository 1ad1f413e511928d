"""`--help` of every command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app


def commands(found: Any, *parents: Any) -> Iterator[list[Any]]:
    """Yield every command that does something, after the groups that it belongs to."""
    for each in getattr(found, "commands", {}).values():
        yield from commands(each, *parents, each)
    if not hasattr(found, "commands"):
        yield list(parents)


COMMANDS = {" ".join(each.name for each in path): path[-1] for path in commands(typer.main.get_command(app))}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_takes(name: str) -> None:
    (example,) = re.findall(r"Example: (.*)", COMMANDS[name].help)
    result = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80)
    assert (result.exit_code, example in " ".join(result.output.split())) == (0, True)
    called, separator, arguments = example.partition(f"smoothguard {name} ")
    assert (called, bool(separator)) == ("", True)
    COMMANDS[name].make_context(name, shlex.split(arguments))
