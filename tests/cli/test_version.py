from __future__ import annotations

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from smoothguard_guardrail.cli import app

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_version_is_that_of_the_package(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--version"])
    version = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
    assert (result.exit_code, result.output) == (0, f"smoothguard {version}\n")


def test_no_arguments_print_the_help(runner: CliRunner) -> None:
    assert "--version" in runner.invoke(app, []).output
