"""Every exception that the package raises on purpose.

    SmoothGuardError
    ├── ConfigurationError      (ValueError)   a setting, or a combination of settings, is invalid
    ├── MissingDependencyError  (ImportError)  an optional package is missing; names the pip command
    ├── InputError              (TypeError)    the input is not one that a chat model takes
    ├── MediaError              (ValueError)   a medium in the request cannot be guarded; names its path
    │   ├── UnsupportedMediaError                a kind that the guard cannot perturb
    │   ├── MediaLimitError                      over a limit on bytes, pixels, seconds or count
    │   └── MediaFetchError                      a reference that may not, or could not, be fetched
    ├── AdapterError            (TypeError)    one of the user's components broke its protocol
    ├── QuorumError             (RuntimeError) fewer samples answered than `min_successes`
    └── AbstainedError          (RuntimeError) the answers disagreed and `on_abstain="raise"`

An exception means that the guard could not do its work. When the guard fires, that is a verdict, not an exception,
except for `AbstainedError`, which only `on_abstain="raise"` raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.result import GuardResult


class SmoothGuardError(Exception):
    """Base class of all errors of this package. They survive pickling, so worker processes can raise them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[SmoothGuardError], args: tuple[Any, ...], state: dict[str, Any]) -> SmoothGuardError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(SmoothGuardError, ValueError):
    """A setting, or a combination of settings, is invalid."""


class MissingDependencyError(SmoothGuardError, ImportError):
    """An optional package is needed.

    Args:
        package: The package that could not be imported.
        extra: The extra of `smoothguard-guardrail` that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is missing: pip install 'smoothguard-guardrail[{extra}]'")


class InputError(SmoothGuardError, TypeError):
    """The input is not one that a chat model takes."""


class MediaError(SmoothGuardError, ValueError):
    """A medium in the request cannot be guarded.

    Args:
        reason: What is wrong, and what to do.
        path: Where the block is, such as `messages[0].content[1]`.
    """

    def __init__(self, reason: str, *, path: str) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}")


class UnsupportedMediaError(MediaError):
    """A kind of medium, or a block, that the guard cannot perturb."""


class MediaLimitError(MediaError):
    """A medium is over a limit on bytes, pixels, seconds or count."""


class MediaFetchError(MediaError):
    """A reference to a medium may not, or could not, be fetched."""


class AdapterError(SmoothGuardError, TypeError):
    """One of the user's components returned something that its protocol does not allow."""


class QuorumError(SmoothGuardError, RuntimeError):
    """Fewer samples answered than `min_successes`.

    Args:
        failures: The exception of every sample that failed, in the order of the samples.
        successes: How many samples answered.
        required: How many were required.
    """

    def __init__(self, failures: Sequence[BaseException], *, successes: int, required: int) -> None:
        self.failures: tuple[BaseException, ...] = tuple(failures)
        self.successes = successes
        self.required = required
        kinds = ", ".join(sorted({f"{type(failure).__name__}: {failure}" for failure in failures}))
        super().__init__(f"{successes} samples answered, {required} were required; failures: {kinds or 'none'}")


class AbstainedError(SmoothGuardError, RuntimeError):
    """The answers disagreed more than `min_agreement` allows.

    Args:
        result: The record of the guarded call, including its answer.
    """

    def __init__(self, result: GuardResult) -> None:
        self.result = result
        super().__init__(f"the answers disagree: agreement {result.agreement:.2f}")
