"""`python -m smoothguard_guardrail.cli`."""

from smoothguard_guardrail.cli import main

main()
