"""The documentation is right: its code runs, its commands exist, no setting is missing, and it builds offline.

A page's Python blocks run in order in one namespace, in an empty folder that holds `photo.png`. A `text` block right
after one is what it prints; `...` in it matches anything.
"""

from __future__ import annotations

import doctest
import importlib.util
import io
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import pytest_socket
import typer.main
import yaml
from pydantic import BaseModel

import smoothguard_guardrail
from smoothguard_guardrail import (
    AudioConfig,
    ImageConfig,
    MediaConfig,
    MediaLimits,
    PdfConfig,
    RemotePolicy,
    SmoothGuardConfig,
    VideoConfig,
    VoteConfig,
)
from smoothguard_guardrail.cli import app
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.observability.safety_log import FailureLine, VerdictLine

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md*")), *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)
_CHECKER = doctest.OutputChecker()
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    page: Path
    line: int
    """Line of the opening fence, from 1."""
    language: str
    code: str
    output: str | None
    """What the page says that a Python block prints."""


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    for fence, following in zip_longest(fences, fences[1:]):
        output = None
        if following and following["info"] == "text" and not text[fence.end() : following.start()].strip():
            output = textwrap.dedent(following["body"])
        language = fence["info"].split()[0] if fence["info"].split() else ""
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(page, line, language, textwrap.dedent(fence["body"]), output)


def found(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def where(value: Any) -> str:
    return f"{name_of(value.page)}:{value.line}"


PYTHON_PAGES = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which a page's code runs, with a photo in it."""
    clean = next(image for image in load_demo().pictures if not image.is_attack)
    shutil.copy(DEMO_DIR / clean.file, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the shipped model, on the CPU, where a page names one on the hub; its arguments must still be valid."""
    load = ChatTransformersMultimodal.from_pretrained

    def from_pretrained(path_or_id: str, **options: Any) -> ChatTransformersMultimodal:
        if not Path(path_or_id).is_dir():
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", path_or_id)
            path_or_id = str(reference_path())
            replaced = {"device": "cpu", "dtype": "auto", "device_map": None, "attn_implementation": None}
            options |= {name: value for name, value in replaced.items() if name in options}
            options = {name: value for name, value in options.items() if value is not None}
        return load(path_or_id, **options)

    monkeypatch.setattr(ChatTransformersMultimodal, "from_pretrained", from_pretrained)


@pytest.mark.slow
@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name_of)
def test_python_runs_and_prints_what_the_page_says(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    module = types.ModuleType(f"docs_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    request.addfinalizer(partial(close_handlers, before=set(logging._handlerList)))  # type: ignore[attr-defined]
    request.addfinalizer(pytest_socket.enable_socket)
    pytest_socket.disable_socket(allow_unix_socket=True)
    for block in blocks(page):
        if block.language != "python":
            continue
        code = compile("\n" * block.line + block.code, name_of(page), "exec", dont_inherit=True)
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, module.__dict__)
        if block.output is not None:
            assert _CHECKER.check_output(block.output, printed.getvalue(), _OPTIONS), (
                f"{where(block)} prints\n{printed.getvalue()}"
            )


def close_handlers(*, before: set[Any]) -> None:
    """Close the log files that a page opened, as the end of a process would."""
    for reference in set(logging._handlerList) - before:  # type: ignore[attr-defined]
        if handler := reference():
            handler.close()


def test_every_code_block_names_a_known_language() -> None:
    known = {"python", "text", "bash", "json", "yaml", "dockerfile", "ini", "bibtex", "", "toml", "promql"}
    unknown = [
        f"{where(block)} {block.language}" for page in PAGES for block in blocks(page) if block.language not in known
    ]
    assert not unknown


def test_json_yaml_and_toml_blocks_parse() -> None:
    parsers: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
    for block in found(*parsers):
        parsers[block.language](block.code)


# `smoothguard` commands are parsed by the command itself, make targets and modules are looked up; other programs must
# be listed here.
_OTHERS = {
    "cd",
    "curl",
    "docker",
    "export",
    "kill",
    "echo",
    "cat",
    "jq",
    "tail",
    "vllm",
    "transformers",
    "uvicorn",
    "langgraph",
}


@pytest.mark.parametrize("block", found("bash"), ids=where)
def test_commands_and_options_exist(block: Block) -> None:
    for command in commands(block.code):
        check_command(command)


def test_options_in_prose_exist() -> None:
    known = {option for each in all_commands() for parameter in each.params for option in parameter.opts}
    known.add("--help")  # Typer adds it
    other_programs = {"--max-num-seqs"}
    named = {
        f"{name_of(page)}: {option}"
        for page in DOCS.rglob("*.md")
        for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
        if option not in known | other_programs
    }
    assert not named


def all_commands() -> Iterator[Any]:
    """Yield every command, those inside groups included."""
    waiting: list[Any] = [typer.main.get_command(app)]
    for command in waiting:
        waiting.extend(getattr(command, "commands", {}).values())
        yield command


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words of every simple command, without assignments before it and redirections after it."""
    code = re.sub(r"<<'?(\w+)'?.*?^\1$", "", code.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    code = re.sub(r"(?:^|\s)#.*$", "", code, flags=re.MULTILINE)
    lexer = shlex.shlex(code, posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;\n"):
            while words and re.match(r"^\w+=", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        elif words and words[-1] in {">", ">>", "<"}:
            words.pop()
        else:
            words.append(token)


def check_command(words: list[str]) -> None:
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program == "smoothguard":
        parse_smoothguard(arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif program == "pip":
        check_pip(arguments)
    elif program == "python" and arguments[:1] == ["-m"]:
        assert importlib.util.find_spec(arguments[1]), f"there is no module {arguments[1]}"
    elif program in {"python", "pytest", "ruff"}:
        assert all((ROOT / argument).exists() for argument in arguments if argument.endswith(".py"))
    elif program == "mkdocs":
        import mkdocs.__main__

        mkdocs.__main__.cli.make_context("mkdocs", list(arguments), resilient_parsing=False)
    else:
        assert program in _OTHERS, f"add {program!r} to the programs in {Path(__file__).name}, or correct the page"


def parse_smoothguard(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = click.Context(command, info_name="smoothguard")
    while arguments and not arguments[0].startswith("-") and hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, f"smoothguard has no command {name}"
    if "--help" not in arguments:
        command.make_context("smoothguard", list(arguments), parent=context)


def check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = set(project["project"]["optional-dependencies"])
    for extra in re.findall(r"smoothguard-guardrail\[([\w,-]+)\]", " ".join(arguments)):
        assert set(extra.split(",")) <= extras


GROUPS: list[type[BaseModel]] = [
    SmoothGuardConfig,
    ImageConfig,
    AudioConfig,
    VoteConfig,
    MediaConfig,
    MediaLimits,
    PdfConfig,
    VideoConfig,
    RemotePolicy,
]


def documented_settings(group: type[BaseModel]) -> dict[str, str]:
    """Return setting and default of each row in the section whose heading names the group."""
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    sections = re.split(r"^(?=#+ )", page, flags=re.MULTILINE)
    (section,) = [each for each in sections if f"`{group.__name__}`" in each.partition("\n")[0]]
    return dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))


def shown(value: Any) -> str:
    """Return a default as the page writes it."""
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}()"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def test_every_group_of_settings_is_documented() -> None:
    found, waiting = set(), [SmoothGuardConfig()]
    while waiting:
        group: BaseModel = waiting.pop()
        found.add(type(group))
        waiting.extend(value for _, value in group if isinstance(value, BaseModel))  # type: ignore[misc]
    assert found == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_documented_with_its_default_and_no_other_is(group: type[BaseModel]) -> None:
    defaults = {name: field.get_default(call_default_factory=True) for name, field in group.model_fields.items()}
    assert documented_settings(group) == {name: shown(value) for name, value in defaults.items()}


def test_every_table_of_settings_belongs_to_a_group() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+` \|", page, re.MULTILINE)
    assert len(rows) == sum(len(group.model_fields) for group in GROUPS)


def test_every_field_of_the_safety_log_is_documented() -> None:
    page = (DOCS / "safety-log.md").read_text(encoding="utf-8")
    assert [name for name in {**VerdictLine.model_fields, **FailureLine.model_fields} if f"`{name}`" not in page] == []


def test_every_public_name_is_in_the_reference() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    listed = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE)}
    assert set(smoothguard_guardrail.__all__) - {"__version__"} <= listed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//[^\s>]+|<link[^>]+href=\"?(?:https?:)?//[^\s>]+"
    )
    for page in site.rglob("*.html"):
        assert not [tag for tag in loading.findall(page.read_text(encoding="utf-8")) if "canonical" not in tag]
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"url\(\"?'?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_page_is_in_the_menu(site: Path) -> None:
    menu = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).with_suffix("").as_posix().removesuffix("index") for path in DOCS.rglob("*.md")]
    assert [page for page in pages if page and f'href="{page.rstrip("/")}/"' not in menu] == []
