"""What the package promises to whoever imports it."""

import subprocess
import sys

import smoothguard_guardrail


def test_every_public_name_loads_and_none_is_missing() -> None:
    assert set(smoothguard_guardrail.__all__) == set(dir(smoothguard_guardrail)) | {"__version__"}
    for name in smoothguard_guardrail.__all__:
        assert getattr(smoothguard_guardrail, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(smoothguard_guardrail, "no_such_name")


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "sentence_transformers", "sklearn", "langchain_core", "numpy"]
    code = f"import smoothguard_guardrail, sys; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_every_error_of_the_package_has_one_root() -> None:
    errors = [getattr(smoothguard_guardrail, name) for name in smoothguard_guardrail.__all__ if name.endswith("Error")]
    assert len(errors) >= 10
    assert all(issubclass(error, smoothguard_guardrail.SmoothGuardError) for error in errors)
