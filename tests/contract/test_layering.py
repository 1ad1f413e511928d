"""Imports point one way, as ARCHITECTURE.md draws them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "smoothguard_guardrail"

# What each room of the package may import from the others.
BASE = {"_internal", "errors", "result", "protocols"}
PARTS = BASE | {"config", "media", "perturbations", "voting"}
PRODUCT = PARTS | {"core", "_langchain"}
MAY_IMPORT = {
    "__init__": BASE | {"config", "core", "hosts", "observability"},
    "_internal": BASE,
    "errors": BASE,
    "result": BASE,
    "protocols": BASE | {"voting"},
    "config": BASE,
    "media": BASE | {"config"},
    "perturbations": BASE | {"config"},
    "voting": BASE | {"config"},
    "core": PARTS,
    "_langchain": PARTS | {"core"},
    "hosts": PRODUCT | {"models"},
    "observability": BASE | {"_langchain"},
    "testing": BASE,
    "models": BASE | {"config", "media"},
    "attacks": BASE | {"models"},
    "evaluation": PRODUCT | {"hosts", "models", "attacks"},
    "serving": PRODUCT | {"hosts", "observability"},
    "integrations": BASE,
    "inspector": PRODUCT | {"models", "attacks", "evaluation", "observability"},
    "cli": PRODUCT | {"hosts", "models", "attacks", "evaluation", "inspector", "observability", "serving"},
}


def parts() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).with_suffix("").parts[0], file


def imported_parts(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "smoothguard_guardrail":
                found |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(("part", "file"), list(parts()), ids=lambda value: str(value)[-40:])
def test_part_imports_only_what_it_may(part: str, file: Path) -> None:
    assert part in MAY_IMPORT, f"say in this test what {part} may import"
    assert imported_parts(file) - {part} <= MAY_IMPORT[part] | {"__version__"}


def test_the_package_never_imports_the_chains() -> None:
    for _, file in parts():
        roots = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        assert not roots & {"chains", "examples", "tests", "benchmarks", "training"}
