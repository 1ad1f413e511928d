"""A guarded call whose requests' media are kept as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail._langchain.sample_calls import SampleCaller
from smoothguard_guardrail._langchain.sample_runs import SampleRuns
from smoothguard_guardrail.core.effects import CallModel, Outcome, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.media import DecodedMedium, prepare
from smoothguard_guardrail.media.audio import encode_audio
from smoothguard_guardrail.media.image import encode_png

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import HumanMessage

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.result import GuardResult


def guard_and_save(model: BaseChatModel, message: HumanMessage, config: SmoothGuardConfig, folder: Path) -> GuardResult:
    """Ask through the guard, and write what the model is sent: images as PNG, audio as WAV.

    The files are `01_1.png` and so on: the number of the call and of the medium.

    Raises:
        SmoothGuardError: As `SmoothGuardRunnable.guard` does.
        OSError: The folder cannot be written to.
    """
    guard = Guard(config, model_info=ModelInfo.find(model))
    caller = SampleCaller(model, max_concurrency=config.max_concurrency)
    runs = SampleRuns(None, traced=False)
    folder.mkdir(parents=True, exist_ok=True)

    def call(effect: CallModel) -> list[Outcome]:
        for number, request in enumerate(effect.requests, effect.first_index + 1):
            for place, medium in enumerate(prepare(request, config.media).media, 1):
                data, suffix = _encoded(medium)
                (folder / f"{number:02}_{place}.{suffix}").write_bytes(data)
        return caller.call(effect, runs)

    return drive(guard.flow([message]), call)


def _encoded(medium: DecodedMedium) -> tuple[bytes, str]:
    if medium.kind == "image":
        return encode_png(medium.tensor), "png"
    return encode_audio(medium.tensor, medium.sampling_rate or 16_000).data, "wav"
