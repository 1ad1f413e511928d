"""A local Hugging Face model that takes images or audio, as a LangChain chat model."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from smoothguard_guardrail.models.engine import Engine
from smoothguard_guardrail.models.generation import Completion, cut_stream
from smoothguard_guardrail.models.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun


class ChatTransformersMultimodal(BaseChatModel):
    """A local or hub model that takes images or audio, run in this process.

    Runs any model that `AutoModelForImageTextToText` or `AutoModelForMultimodalLM` loads, with its processor and chat
    template. Takes text, images and audio in every dialect that the guard knows, decoded exactly as the guard does,
    and tensors: `{"type": "image", "image": tensor}`, float (3, height, width) in [0, 1], and `{"type": "audio",
    "audio": tensor, "sampling_rate": Hz}`, float (num_samples,) or (channels, num_samples) in [-1, 1]. Never opens a
    URL or a path: a block that refers to one, or is not understood, is an error. Special tokens written out in a
    message reach the model as plain text.

    Images take one route, as floats with `do_rescale=False`: a tensor and the PNG of its values get the same answer.
    Greedy unless a temperature is set. Threads may share a model; a lock serialises its forward passes. To answer many
    conversations in one forward pass, call `generate_batch`.

    Example:
        >>> chat = ChatTransformersMultimodal.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> chat.invoke("What is a guardrail?").content  # doctest: +SKIP
        'A barrier...'
    """

    hf_model: Any = Field(exclude=True, repr=False)
    """The loaded model, a `torch.nn.Module` with `generate`."""
    processor: Any = Field(exclude=True, repr=False)
    """Its processor, with a tokenizer and a chat template. Its padding side is set to the left."""
    model_name: str = "transformers"
    """Folder or hub id, as reported in `response_metadata`."""
    revision: str | None = None
    """The requested branch, tag or commit, reported for tracing."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 is greedy."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Nucleus sampling; only used with a temperature above 0."""
    max_batch_size: int | None = Field(default=None, ge=1)
    """Largest number of conversations in one forward pass; None for all of them."""
    cache: BaseCache | bool | None = Field(default=False, exclude=True)
    """Off by default: LangChain's cache key abbreviates tensors, so two images may share one."""

    _engine: Engine = PrivateAttr()
    _executor: ThreadPoolExecutor = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Create what copies of this object share: the engine with its lock, and a thread for async calls."""
        super().model_post_init(context)
        self._engine = Engine(self.hf_model, self.processor)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transformers-chat")

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str,
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        revision: str | None = None,
        local_files_only: bool = False,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float | None = None,
        max_batch_size: int | None = None,
        **model_kwargs: Any,
    ) -> ChatTransformersMultimodal:
        """Load a model and its processor from a folder or the hub.

        Args:
            path_or_id: A folder, or a hub id such as "llava-hf/llava-1.5-7b-hf".
            device: "auto" (cuda, else mps, else cpu) or a torch device. Ignored with a `device_map`.
            dtype: "auto" (float32 on a CPU, else the checkpoint's), or a torch dtype or its name.
            revision: Branch, tag or commit on the hub.
            local_files_only: Never ask the hub.
            max_new_tokens: Longest answer, in tokens.
            temperature: 0 is greedy.
            top_p: Nucleus sampling.
            max_batch_size: Largest number of conversations in one forward pass; None for all of them.
            **model_kwargs: For the model's `from_pretrained`, such as `device_map`, `attn_implementation` or
                `quantization_config`; `token`, `cache_dir`, `subfolder` and `trust_remote_code` reach the
                processor too.

        Returns:
            The chat model, ready to answer.

        Raises:
            ConfigurationError: The checkpoint is not a multimodal chat model, or torchvision does not fit torch.
            OSError: The folder or the hub id does not exist, or lacks a file.
        """
        hf_model, processor = load(
            path_or_id,
            device=device,
            dtype=dtype,
            revision=revision,
            local_files_only=local_files_only,
            **model_kwargs,
        )
        return cls(
            hf_model=hf_model,
            processor=processor,
            model_name=str(path_or_id),
            revision=revision,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            max_batch_size=max_batch_size,
        )

    @property
    def engine(self) -> Engine:
        """The model with its processor, without LangChain, for white-box work such as attacks."""
        return self._engine

    @property
    def accepts_tensors(self) -> bool:
        """Whether messages may carry media as tensors: always."""
        return True

    def image_input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which the model sees an image of a height and width, measured."""
        if not self._engine.takes_images:
            return height, width
        return self._engine.image_input.size(height, width)

    def image_noise_gain(self, height: int, width: int) -> float:
        """Return the standard deviation at the model's input of white noise of 1 on an image of a height and width.

        Over everything that the model sees of the image, measured; in units of the image's own values.
        """
        return self._engine.image_input.gain(height, width) if self._engine.takes_images else 1.0

    @property
    def image_std(self) -> tuple[float, ...] | None:
        """Per-channel std by which the image processor divides pixels in [0, 1]; None if it has none."""
        std = getattr(getattr(self.processor, "image_processor", None), "image_std", None)
        return None if std is None else tuple(map(float, std))

    @property
    def sampling_rate(self) -> int | None:
        """Sampling rate of the model's audio input in Hz; None if it takes no audio."""
        return self._engine.sampling_rate

    def generate_batch(
        self, batch: Sequence[Sequence[BaseMessage]], *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> list[AIMessage]:
        """Answer many conversations in one forward pass, or in several of `max_batch_size`.

        Runs no callbacks; `invoke` and the other methods do.

        Args:
            batch: Conversations.
            stop: Strings that end an answer; they are not part of it.
            **kwargs: `max_new_tokens`, `temperature`, `top_p` or anything else that `generate` takes.

        Returns:
            One message per conversation, in order, with `usage_metadata` and, in `response_metadata`,
            `model_name` and `finish_reason` ("stop" or "length").

        Raises:
            ConfigurationError: The chat template rejects the messages, or tools are requested.
            InputError: A message is of a kind that chat templates do not know.
            MediaFetchError: A block refers to a URL or a path.
            UnsupportedMediaError: A block is not understood, or is a medium that the model does not take.
            MediaError: A medium cannot be decoded.
        """
        stop = list(stop or ())
        conversations = [self._engine.read(messages) for messages in batch]
        size = self.max_batch_size or max(len(conversations), 1)
        answers: list[AIMessage] = []
        for start in range(0, len(conversations), size):
            inputs = self._engine.encode(conversations[start : start + size])
            rows = self._engine.generate(inputs, self._options(kwargs), stop=stop)
            counts = inputs["attention_mask"].sum(dim=-1).tolist()
            for row, count in zip(rows, counts, strict=True):
                answers.append(self._message(self._engine.complete(row, stop=stop), input_tokens=count))
        return answers

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        (answer,) = self.generate_batch([messages], stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = partial(self._generate, messages, stop, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        stop = list(stop or ())
        inputs = self._engine.encode([self._engine.read(messages)])
        stream = self._engine.stream(inputs, self._options(kwargs), stop=stop)
        try:
            for piece in cut_stream(iter(stream), stop):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
        finally:
            stream.close()
        completion = self._engine.complete(stream.row, stop=stop)
        whole = self._message(completion, input_tokens=int(inputs["attention_mask"].sum()))
        last = AIMessageChunk(
            content="",
            usage_metadata=whole.usage_metadata,
            response_metadata=whole.response_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    @property
    def _llm_type(self) -> str:
        return "transformers-multimodal"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "revision": self.revision, **self._options({})}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        options = self._options(kwargs)
        params = LangSmithParams(
            ls_provider="huggingface",
            ls_model_name=self.model_name,
            ls_model_type="chat",
            ls_temperature=options["temperature"],
            ls_max_tokens=options["max_new_tokens"],
        )
        if stop:
            params["ls_stop"] = stop
        return params

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        own = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        return own | kwargs

    def _message(self, completion: Completion, *, input_tokens: int) -> AIMessage:
        return AIMessage(
            content=completion.text,
            usage_metadata=UsageMetadata(
                input_tokens=input_tokens,
                output_tokens=completion.output_tokens,
                total_tokens=input_tokens + completion.output_tokens,
            ),
            response_metadata={"model_name": self.model_name, "finish_reason": completion.finish_reason},
        )
