"""The same evaluation on a local Ray of two workers as in this process. Ray talks over loopback and Unix sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from smoothguard_guardrail import GuardComponents
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError, MediaLimitError, MissingDependencyError
from smoothguard_guardrail.evaluation.arms import Arm, run_arms
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.mappers import InThreads, Mapper
from smoothguard_guardrail.evaluation.ray import OnRay, _Worker
from smoothguard_guardrail.models.reference import demo
from smoothguard_guardrail.testing import WordEmbeddings
from tests.evaluation.ray_tasks import PATIENCE, act, with_loads

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mapper() -> Iterator[OnRay]:
    assert not ray.is_initialized()
    others = children(os.getpid())  # such as multiprocessing's resource tracker, which stays
    mapper = OnRay(2)
    yield mapper
    folder = Path(ray._private.worker.global_worker.node.get_session_dir_path()).parent
    started = [process for process in children(os.getpid()) if process not in others]
    assert folder.name.startswith("smoothguard-ray-")
    assert any(process.name() == "raylet" for process in started)
    mapper.close()
    assert not ray.is_initialized()
    assert not folder.exists()
    assert not psutil.wait_procs(started, timeout=PATIENCE)[1]


def children(pid: int) -> list[Any]:
    found: list[Any] = psutil.Process(pid).children(recursive=True)
    return found


class Counted:
    """A mapper that also asks each worker who it is and how often it has loaded the model."""

    def __init__(self, inner: Mapper) -> None:
        self.inner = inner
        self.loads: dict[int, int] = {}

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any], /) -> Iterator[tuple[int, Any]]:
        for index, (result, pid, loads) in self.inner(partial(with_loads, function), tasks):
            self.loads[pid] = max(loads, self.loads.get(pid, 0))
            yield index, result


def arms() -> list[Arm]:
    folder = Path(demo.__file__).parent
    pictures = json.loads((folder / "demo.json").read_text())["pictures"]
    items = [
        Item(id=picture["name"], question=picture["question"], media=(folder / picture["file"],))
        for picture in pictures[::3]
    ]
    config = SmoothGuardConfig.reference().override(num_samples=3)
    return [
        Arm(name="bare", items=items),
        Arm(
            name="guarded",
            items=items,
            config=config,
            components=GuardComponents(embedder=WordEmbeddings()),
            components_name="words",
        ),
    ]


def without_timings(answers: dict[str, Answer]) -> dict[str, Any]:
    return {
        key: answer.model_dump(exclude={"record"}) | {"record": dict(answer.record or {}) | {"timings": None}}
        for key, answer in answers.items()
    }


def test_answers_are_those_of_the_plain_run(mapper: OnRay, tmp_path: Path) -> None:
    counted = Counted(mapper)
    found = run_arms("reference", arms(), folder=tmp_path / "ray", mapper=counted, seed=7)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain = run_arms("reference", arms(), folder=tmp_path / "plain", mapper=InThreads(1), seed=7)
    finally:
        torch.set_num_threads(threads)
    assert {name: without_timings(answers) for name, answers in found.items()} == {
        name: without_timings(answers) for name, answers in plain.items()
    }
    assert all(answer.text and answer.error is None for answers in found.values() for answer in answers.values())
    assert os.getpid() not in counted.loads
    assert 1 <= len(counted.loads) <= 2
    assert set(counted.loads.values()) == {1}


def test_results_arrive_as_they_are_done_and_errors_keep_their_type(mapper: OnRay, tmp_path: Path) -> None:
    tasks = ["first", "second", "third", "fourth"]
    seen: dict[int, str] = {}

    def collect() -> None:
        for index, result in mapper(partial(act, tmp_path), tasks):
            seen[index] = result
            if len(seen) == 2:
                (tmp_path / "two results are here").touch()
            elif len(seen) == 3:
                (tmp_path / "three results are here").touch()

    with pytest.raises(MediaLimitError, match="too many pixels") as caught:
        collect()
    assert seen == dict(enumerate(tasks[:3]))
    assert type(caught.value) is MediaLimitError
    assert caught.value.path == "messages[0].content[1]"
    assert "raised in a Ray worker" in caught.value.__notes__[0]


DRIVER = """
import os, sys, time
from smoothguard_guardrail.evaluation.ray import OnRay

for index, result in OnRay(1)(os.path.basename, ["a/b"]):
    print(index, result, flush=True)
    time.sleep(600)
"""


def test_a_driver_that_is_killed_leaves_no_worker_behind_and_writes_nothing_at_home(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "0 b\n"
    started = children(driver.pid)
    assert {"gcs_server", "raylet"} <= {process.name() for process in started}
    raylet = next(process for process in started if process.name() == "raylet").cmdline()
    folder = Path(next(part for part in raylet if part.startswith("--temp_dir=")).partition("=")[2])
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    agents = [process for process in started if process.is_running() and process.name().endswith("Agent")]
    try:
        assert not psutil.wait_procs(set(started) - set(agents), timeout=PATIENCE)[1]
    finally:
        for process in agents:  # they end by themselves, after more than a minute of looking for the others
            process.kill()
        shutil.rmtree(folder)
    assert folder.name.startswith("smoothguard-ray-")
    assert list(tmp_path.iterdir()) == []


def test_no_tasks_need_no_ray() -> None:
    assert list(OnRay(1, address="192.0.2.1:1")(len, [])) == []


@pytest.mark.parametrize("settings", [{"num_workers": 0}, {"num_workers": 1, "num_gpus_per_worker": -1}])
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="num_workers must be 1 or more"):
        OnRay(**settings)


def test_a_client_of_a_far_cluster_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on a node of the cluster"):
        OnRay(1, address="ray://192.0.2.1:10001")


def test_a_ray_that_does_not_start_in_time_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    mapper = OnRay(1)
    monkeypatch.setattr(mapper._ray, "is_initialized", lambda: False)
    monkeypatch.setattr(mapper._ray, "init", time_out)
    monkeypatch.setattr(mapper._ray, "shutdown", lambda: None)
    with pytest.raises(ConfigurationError, match=r"timed out during startup\. .*RAY_ADDRESS=auto"):
        list(mapper(len, ["a task"]))
    mapper.close()


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"smoothguard-guardrail\[ray\]"):
        OnRay(1)


class UnpicklableError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def fail(task: str) -> None:
    raise UnpicklableError(task, "two")


def test_an_error_that_cannot_be_pickled_is_told_in_words() -> None:
    dumps = ray.cloudpickle.dumps
    row = _Worker(dumps(fail))({"index": [3], "task": [dumps("broken")]})
    assert (row["index"], row["failed"]) == ([3], [True])
    error = ray.cloudpickle.loads(row["value"][0])
    assert type(error) is RuntimeError
    assert "UnpicklableError, which cannot be pickled" in str(error)
    assert "broken" in str(error)
