"""A chat model that answers a request with what is said in its audio."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.field.whisper import SAMPLING_RATE, Whisper
from smoothguard_guardrail.attacks.waveform import wav_bytes
from smoothguard_guardrail.media.audio import decode_audio

MAX_SECONDS = 30.0


class TranscribingChatModel(BaseChatModel):
    """Whisper as a chat model: it answers with the transcript of the last audio block, and hears no question.

    Args:
        whisper: The model.
        sampling_rate: In Hz, which the guard asks for.
    """

    whisper: Any
    sampling_rate: int = SAMPLING_RATE

    @property
    def _llm_type(self) -> str:
        return "whisper-transcriber"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whisper: Whisper = self.whisper
        (text,) = whisper.transcribe(_waveform(messages))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def question(waveform: torch.Tensor) -> HumanMessage:
    """Return a request to transcribe audio.

    Args:
        waveform: Float32 (samples,) in [-1, 1] at 16 kHz, multiples of 1/32768.
    """
    data = base64.b64encode(wav_bytes(waveform, SAMPLING_RATE)).decode("ascii")
    audio = {"type": "audio", "base64": data, "mime_type": "audio/wav"}
    return HumanMessage([{"type": "text", "text": "What is said?"}, audio])


def _waveform(messages: Sequence[BaseMessage]) -> torch.Tensor:
    """Return the last audio of a request: float32 (1, samples) at 16 kHz."""
    blocks = [block for message in messages for block in message.content_blocks if block["type"] == "audio"]
    if not blocks:
        raise ValueError("expected an audio block with base64 data, got a request without one")
    data = base64.b64decode(blocks[-1].get("base64", ""))
    return decode_audio(
        data, mime_type="audio/wav", max_seconds=MAX_SECONDS, path="audio", wanted=lambda _: SAMPLING_RATE
    ).waveform
