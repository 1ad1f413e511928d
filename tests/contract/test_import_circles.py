"""No module of the package imports itself by way of others, not even inside a function."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "smoothguard_guardrail"
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / PACKAGE).rglob("*.py"))
}


"""Circles still to be broken; no other may be added."""


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


def imported_modules(node: ast.AST) -> set[str]:
    """Return the package's modules that code imports when it runs; `from package import module` counts as both."""
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            names |= set().union(*map(imported_modules, child.orelse))  # type: ignore[attr-defined]
        elif isinstance(child, ast.Import):
            names |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            submodules = {f"{child.module}.{alias.name}" for alias in child.names} & FILES.keys()
            names |= submodules or {child.module or ""}
        else:
            names |= imported_modules(child)
    return names & FILES.keys()


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach one another (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in order:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            start = stack.index(name)
            if len(stack) - start > 1 or name in imports[name]:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for name in sorted(imports):
        if name not in order:
            visit(name)
    return sorted(found)


def test_a_circle_is_found_and_a_chain_is_not() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_inside_functions_count_and_those_for_type_checkers_do_not() -> None:
    code = f"""
if TYPE_CHECKING:
    from {PACKAGE}.config import SmoothGuardConfig
def late():
    from {PACKAGE} import errors
"""
    assert imported_modules(ast.parse(code)) == {f"{PACKAGE}.errors"}


def test_the_package_has_no_other_import_circles() -> None:
    imports = {name: imported_modules(ast.parse(file.read_text())) for name, file in FILES.items()}
    assert circles(imports) == []
