"""Runs the work of an evaluation on a Ray cluster, through Ray Data."""

from __future__ import annotations

import logging
import math
import os
import pickle
import shutil
import tempfile
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError

R = TypeVar("R")

_OBJECT_STORE_BYTES = 256 * 2**20  # tasks and answers are small: images travel as paths


class OnRay:
    """Maps on a Ray cluster: each worker is an actor of Ray Data's pool, and loads a model once.

    If no Ray is running, the first call starts one on this machine: without dashboard, in a temporary folder, with
    its own token. It stays until `close` or the end of the process. The tasks' files must be readable under the same
    path on every node. Ray's telemetry is off unless RAY_USAGE_STATS_ENABLED is set.

    Args:
        num_workers: Concurrent tasks, each in its own process.
        address: The cluster of this machine, such as `HOST:6379` or `auto`. None: the one that this process
            is connected to, or RAY_ADDRESS, or a new one.
        num_cpus_per_worker: Cores per worker, and its torch threads unless OMP_NUM_THREADS is set.
        num_gpus_per_worker: Accelerators per worker, may be a fraction; with 0, Ray hides them from the workers.

    Raises:
        MissingDependencyError: Ray Data is not installed.
        ConfigurationError: A number or the address is invalid.
    """

    def __init__(
        self,
        num_workers: int,
        *,
        address: str | None = None,
        num_cpus_per_worker: float = 1,
        num_gpus_per_worker: float = 0,
    ) -> None:
        if num_workers < 1 or num_cpus_per_worker < 0 or num_gpus_per_worker < 0:
            raise ConfigurationError("num_workers must be 1 or more; CPUs and GPUs per worker, 0 or more")
        if address is not None and address.startswith("ray://"):
            raise ConfigurationError("Ray Data does not run through Ray Client: run this on a node of the cluster")
        self._ray = _import_ray()
        self.num_workers = num_workers
        self.address = address
        self.num_cpus_per_worker = num_cpus_per_worker
        self.num_gpus_per_worker = num_gpus_per_worker
        self._stop: Callable[[], object] | None = None

    def __call__(self, function: Callable[[Any], R], tasks: Sequence[Any], /) -> Iterator[tuple[int, R]]:
        """Yield every task's index and result.

        Raises:
            ConfigurationError: The cluster cannot be reached, or Ray cannot be started.
        """
        if not tasks:
            return
        self._connect()
        with _quiet_logs(), closing(self._rows(function, tasks)) as rows:
            for row in rows:
                value = pickle.loads(row["value"])  # noqa: S301 - written by our own worker
                if row["failed"]:
                    raise value
                yield row["index"], value

    def close(self) -> None:
        """Stop Ray if this mapper started it, and remove its folder."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _rows(self, function: Callable[[Any], R], tasks: Sequence[Any]) -> Generator[dict[str, Any]]:
        data, cloudpickle = self._ray.data, self._ray.cloudpickle
        items = [{"index": index, "task": cloudpickle.dumps(task)} for index, task in enumerate(tasks)]
        # One block per task: a block's results leave the worker together.
        answered = data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Worker,
            fn_constructor_args=(cloudpickle.dumps(function),),
            batch_size=1,
            # A task goes to the first free worker and never queues behind a slow one.
            compute=data.ActorPoolStrategy(size=min(self.num_workers, len(items)), max_tasks_in_flight_per_actor=1),
            num_cpus=self.num_cpus_per_worker,
            num_gpus=self.num_gpus_per_worker,
        )
        answered.context.enable_progress_bars = False
        batches = iter(answered.iter_batches(batch_size=1, prefetch_batches=0, batch_format="pyarrow"))
        with closing(batches):  # otherwise a referenced traceback keeps the actors alive
            for batch in batches:
                yield from batch.to_pylist()

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        self.close()
        options = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address or os.environ.get("RAY_ADDRESS"):
                self._ray.init(address=self.address, **options)
                self._stop = weakref.finalize(self, self._ray.shutdown)
            else:
                self._start(options)
        except Exception as error:  # Ray raises a plain Exception if its processes do not start in time
            advice = "If it did not start in time, try again, or run `ray start --head` first and set RAY_ADDRESS=auto"
            raise ConfigurationError(f"Ray cannot be used: {str(error).rstrip('.')}. {advice}") from error

    def _start(self, options: Mapping[str, Any]) -> None:
        # Ray puts sockets in the folder, whose paths are limited to 107 characters: too few for some TMPDIRs.
        parent = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108 - mkdtemp makes an unguessable name
        folder = Path(tempfile.mkdtemp(prefix="smoothguard-ray-", dir=parent))
        self._stop = weakref.finalize(self, _shut_down, self._ray, folder)
        # Ray's C++ side prints harmless warnings as errors.
        with _environment({"RAY_BACKEND_LOG_LEVEL": "fatal", **_authentication(folder)}):
            self._ray.init(
                address="local",
                num_cpus=max(1, math.ceil(self.num_workers * self.num_cpus_per_worker)),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=str(folder),
                **options,
            )


class _Worker:
    """One worker process: applies the function, whose module caches the model."""

    def __init__(self, function: bytes) -> None:
        self._function: Callable[[Any], Any] = pickle.loads(function)  # noqa: S301 - from our own driver

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        value, failed = self._apply(batch["task"][0])
        return {"index": [int(batch["index"][0])], "failed": [failed], "value": [value]}

    def _apply(self, task: bytes) -> tuple[bytes, bool]:
        """Return what the function returned or raised: Ray's own error would hide its type."""
        dumps: Callable[[Any], bytes] = _import_ray().cloudpickle.dumps  # also pickles classes of a script
        try:
            return dumps(self._function(pickle.loads(task))), False  # noqa: S301 - from our own driver
        except Exception as error:
            trace = traceback.format_exc()
            error.add_note(f"raised in a Ray worker:\n{trace}")
            try:
                pickle.loads(data := dumps(error))  # noqa: S301 - some fail only when they are read
            except Exception:
                data = dumps(RuntimeError(f"{type(error).__name__}, which cannot be pickled:\n{trace}"))
            return data, True


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by Ray before reporting, and by its processes
    try:
        import ray
        import ray.cloudpickle
        import ray.data
    except ImportError as error:
        raise MissingDependencyError("ray", "ray") from error
    return ray


def _shut_down(ray: Any, folder: Path) -> None:
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@cache
def _token() -> str:
    """Return one token per process: Ray reads it once and keeps it."""
    import secrets

    return secrets.token_hex(32)


def _authentication(folder: Path) -> dict[str, str]:
    """Return variables that protect our own Ray with a token, unless the user has configured authentication.

    By default, Ray would write the token into the home folder.
    """
    if any(name.startswith("RAY_AUTH_") for name in os.environ if name != "RAY_AUTH_MODE"):
        return {}
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or (Path.home() / ".ray" / "auth_token").exists():
        return {}
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(_token())
    return {"RAY_AUTH_TOKEN_PATH": str(path)}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for processes that start inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Silence Ray Data's notices."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
