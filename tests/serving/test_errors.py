"""What clients learn of a failure: no memory addresses, no exceptions of libraries."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from smoothguard_guardrail.errors import InputError, MediaError
from smoothguard_guardrail.serving.errors import ApiError, to_api_error
from tests.serving.conftest import Serve
from tests.serving.servers import post

ADDRESS = "<_io.BytesIO object at 0x7f1ed42c6250>"


@pytest.mark.parametrize("kind", [MediaError, InputError])
def test_exceptions_of_libraries_stay_inside(kind: Any) -> None:
    place = {"path": "messages[0]"} if kind is MediaError else {}
    try:
        try:
            raise OSError(f"/usr/lib/codec.so cannot read {ADDRESS}")
        except OSError as cause:
            raise kind(f"the medium cannot be decoded: {cause}", **place) from cause
    except kind as error:
        told = str(to_api_error(error))
    assert told.endswith("the medium cannot be decoded")


def test_no_error_holds_a_memory_address() -> None:
    for error in (MediaError(f"cannot read {ADDRESS}", path="x"), ApiError(400, "x", f"0x7f1ed42c6250, {ADDRESS}")):
        assert "0x" not in str(to_api_error(error).body())
    assert to_api_error(RuntimeError(ADDRESS)).body()["error"]["message"] == "internal error"


@pytest.mark.server
def test_broken_media_are_a_400_without_internals(serve: Serve, picture: str) -> None:
    png = base64.b64decode(picture)
    broken = base64.b64encode(png[:30] + b"0000" + png[34:]).decode()
    wav = base64.b64encode(b"RIFF\0\0\0\0WAVEjunk").decode()
    url = serve()
    for part in (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{broken}"}},
        {"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}},
    ):
        body = {"model": "scripted", "messages": [{"role": "user", "content": [part]}]}
        answer = post(f"{url}/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "media_error")
        assert "messages[0].content[0]" in answer.text
        for word in ("0x", "BytesIO", "_io", "Traceback"):
            assert word not in answer.text
