"""A guarded `ChatOpenAI` talks over HTTP to the shipped model behind `transformers serve`.

A proxy in between records what goes over the wire.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_openai import ChatOpenAI

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.errors import QuorumError
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, DemoPicture, load_demo
from tests.helpers import pixels
from tests.integration.payloads import media_in
from tests.integration.recording import Recorder, forward_to, recording_server

pytestmark = pytest.mark.server
SECONDS_TO_START = 180
# A torchvision that does not fit torch breaks the server; without torchvision the server decodes with Pillow.
LAUNCHER = """
import sys
try:
    import torchvision
except (ImportError, RuntimeError):
    sys.modules["torchvision"] = None
from transformers.cli.transformers import main
main()
"""
PICTURES = load_demo().pictures
ATTACK = next(picture for picture in PICTURES if picture.is_attack and picture.secret)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = [sys.executable, "-c", LAUNCHER, "serve", str(reference_path())]
    command += ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def proxy(upstream: str) -> Iterator[Recorder]:
    with recording_server(forward_to(upstream)) as recorder:
        yield recorder


@pytest.fixture
def wire(proxy: Recorder) -> Recorder:
    proxy.clear()
    return proxy


def endpoint(base_url: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=str(reference_path()), base_url=f"{base_url}/v1", api_key="none", max_retries=0, timeout=60, **options
    )


def guard(base_url: str, *, responses_api: bool = False, **settings: Any) -> SmoothGuardRunnable:
    config = SmoothGuardConfig.reference(**{"seed": 1} | settings)
    return SmoothGuardRunnable(endpoint(base_url, use_responses_api=responses_api), config=config)


def messages(picture: DemoPicture) -> list[BaseMessage]:
    return [SystemMessage("Be brief."), picture.message()]


def check_images_are_noisy(wire: Recorder, picture: DemoPicture, noise_sd: float) -> None:
    """Check that every request has the image once, with the noise that the record states, and that all differ."""
    original = (DEMO_DIR / picture.file).read_bytes()
    arrived = [medium for body in wire.bodies for medium in media_in(body)]
    assert len(arrived) == len(wire.bodies) == len(set(arrived))
    assert original not in arrived
    changes = np.array([pixels(medium) - pixels(original) for medium in arrived])
    assert np.sqrt(np.mean(changes**2)) == pytest.approx(noise_sd, rel=0.1)
    assert changes.std(axis=(1, 2, 3)).min() > 0.5 * noise_sd


@pytest.mark.parametrize("responses_api", [False, True], ids=["chat", "responses"])
def test_noisy_images_arrive_and_usage_adds_up(wire: Recorder, responses_api: bool) -> None:
    result = guard(wire.base_url, responses_api=responses_api, early_stop=None).guard(messages(ATTACK))
    assert result.num_calls == len(wire.bodies) == SmoothGuardConfig.reference().num_samples
    (medium,) = result.media
    assert medium.action == "perturbed"
    assert medium.noise_sd is not None
    check_images_are_noisy(wire, ATTACK, medium.noise_sd)
    assert all(ATTACK.question in str(body) for body in wire.bodies)
    assert result.usage is not None
    assert result.usage["total_tokens"] == sum(reply["usage"]["total_tokens"] for reply in wire.replies)
    prompt, completion = ("input_tokens", "output_tokens") if responses_api else ("prompt_tokens", "completion_tokens")
    assert result.usage["input_tokens"] == sum(reply["usage"][prompt] for reply in wire.replies)
    assert result.usage["output_tokens"] == sum(reply["usage"][completion] for reply in wire.replies)
    assert result.usage["input_tokens"] == sum(
        sample.usage["input_tokens"] for sample in result.samples if sample.usage
    )


def test_answers_and_verdicts_are_right_on_clean_and_adversarial_images(wire: Recorder) -> None:
    unguarded = endpoint(wire.base_url)
    fooled = saved = known = kept = 0
    for picture in PICTURES:
        unguarded_text = unguarded.invoke(messages(picture)).text
        wire.clear()
        result = guard(wire.base_url, include_clean=True).guard(messages(picture))
        text = result.answer.text
        assert (result.verdict, result.num_calls) == ("passed", len(wire.bodies))
        if picture.is_hit(unguarded_text):
            fooled += 1
            saved += picture.is_right(text)
            if picture.kind != "colour":  # "It is red." and "It is green." share a cluster
                assert result.clean_overruled == (not picture.is_hit(text))
        elif picture.is_right(unguarded_text):
            known += 1
            kept += picture.is_right(text)
    assert fooled >= 4
    assert saved >= fooled - 1
    assert known >= 2
    assert kept == known


def test_a_model_with_streaming_on_gives_the_same_answer_and_usage(upstream: str) -> None:
    config = SmoothGuardConfig.reference(seed=1)
    model = endpoint(upstream, streaming=True)
    result = SmoothGuardRunnable(model, config=config).guard(messages(ATTACK))
    assert result.answer.text == guard(upstream).invoke(messages(ATTACK)).text
    totals = [sample.usage["total_tokens"] for sample in result.samples if sample.usage]
    assert len(totals) == result.num_calls
    assert result.usage is not None
    assert result.usage["total_tokens"] == sum(totals)


async def test_async_calls_give_the_same_answer(wire: Recorder) -> None:
    result = await guard(wire.base_url).aguard(messages(ATTACK))
    assert result.num_calls == len(wire.bodies)
    check_images_are_noisy(wire, ATTACK, result.media[0].noise_sd or 0.0)
    assert result.answer.text == guard(wire.base_url).invoke(messages(ATTACK)).text


def test_the_same_seed_sends_the_same_images(wire: Recorder) -> None:
    sent = []
    for _ in range(2):
        wire.clear()
        guard(wire.base_url, num_samples=3, early_stop=None).invoke(messages(ATTACK))
        sent.append({medium for body in wire.bodies for medium in media_in(body)})
    assert sent[0] == sent[1]


def test_the_answer_in_a_chain_carries_record_and_usage(wire: Recorder) -> None:
    answer = guard(wire.base_url).invoke(messages(ATTACK), {"max_concurrency": 2})
    record = answer.response_metadata["smoothguard"]
    assert record["verdict"] == "passed"
    assert record["num_calls"] == len(wire.bodies)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == sum(reply["usage"]["total_tokens"] for reply in wire.replies)


def test_without_an_image_the_model_is_called_once(wire: Recorder) -> None:
    result = guard(wire.base_url).guard("What is the vault code?")
    assert (result.verdict, result.num_calls, len(wire.bodies)) == ("skipped", 1, 1)


def test_a_server_that_is_down_is_an_error_of_the_guard() -> None:
    with pytest.raises(QuorumError) as caught:
        guard(f"http://127.0.0.1:{free_port()}").guard(messages(ATTACK))
    assert len(caught.value.failures) >= 2
