"""A loaded model with its processor, without LangChain: conversations in, rows of tokens out."""

from __future__ import annotations

import inspect
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.models.generation import Completion, GenerationStream, complete
from smoothguard_guardrail.models.image_input import ImageInput
from smoothguard_guardrail.models.prompting import Conversation, MessageReader, answer_ids, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNSUPPORTED = ("tools", "tool_choice", "response_format")


class Engine:
    """Prepares inputs for one model and generates with it, one call at a time.

    Args:
        hf_model: A Hugging Face model with `generate`; put into inference mode.
        processor: Its processor; the tokenizer's padding side is set to the left.
    """

    def __init__(self, hf_model: Any, processor: Any) -> None:
        self.hf_model: Any = hf_model.eval()
        self.processor: Any = processor
        self.tokenizer: Any = processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.lock: Any = threading.RLock()  # two threads must not use even a fast tokenizer at once
        self.takes_images: bool = getattr(processor, "image_processor", None) is not None
        self.read: MessageReader = MessageReader(
            processor, sampling_rate=self.sampling_rate, takes_images=self.takes_images
        )

    @property
    def device(self) -> torch.device:
        """Device of the model's inputs."""
        return torch.device(self.hf_model.device)

    @cached_property
    def sampling_rate(self) -> int | None:
        """Sampling rate of the model's audio input in Hz; None if it takes no audio."""
        for name in ("feature_extractor", "audio_processor"):
            rate = getattr(getattr(self.processor, name, None), "sampling_rate", None)
            if rate is not None:
                return int(rate)
        return None

    @cached_property
    def image_input(self) -> ImageInput:
        """What the whole processor does to images of a size."""
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
        patch_size = getattr(self.processor.image_processor, "patch_size", None)
        return ImageInput(
            lambda image: self.encode([Conversation(turns=turns, images=[image])]),
            patch_size=patch_size if isinstance(patch_size, int) else None,
        )

    def encode(self, conversations: Sequence[Conversation]) -> dict[str, torch.Tensor]:
        """Turn conversations into one left-padded batch of model inputs on the model's device.

        Images that require a gradient keep their graph if the image processor is torchvision's.

        Raises:
            ConfigurationError: The chat template or the processor rejects the messages.
        """
        prompts = [render(self.processor, each.turns, add_generation_prompt=True) for each in conversations]
        bos = self.tokenizer.bos_token
        has_bos = bool(bos) and all(prompt.startswith(bos) for prompt in prompts)
        arguments: dict[str, Any] = {
            "text": prompts,
            "text_kwargs": {"padding": True, "padding_side": "left", "add_special_tokens": not has_bos},
            "return_tensors": "pt",
        }
        if any(each.images for each in conversations):
            arguments["images"] = [[self._placed(image) for image in each.images] for each in conversations]
            arguments["images_kwargs"] = {"do_rescale": False}
        if any(each.audio for each in conversations):
            arguments["audio"] = [waveform for each in conversations for waveform in each.audio]
            arguments["audio_kwargs"] = {"sampling_rate": self.sampling_rate}
        inputs = self._processed(arguments)
        inputs.pop("labels", None)  # PaliGemma's, for training
        if "token_type_ids" not in self.forward_names:
            inputs.pop("token_type_ids", None)
        return self._to_device(inputs)

    def answer_ids(self, conversation: Conversation, answer: str) -> list[int]:
        """Tokenise an answer to a conversation as the model would generate it, end-of-turn token included.

        Raises:
            ConfigurationError: The chat template rejects the messages.
        """
        with self.lock:
            return answer_ids(self.processor, conversation.turns, answer)

    def generate(
        self, inputs: Mapping[str, torch.Tensor], options: Mapping[str, Any], *, stop: Sequence[str] = ()
    ) -> torch.Tensor:
        """Generate; returns int64 (batch, num_new_tokens), padded on the right.

        Args:
            inputs: From `encode`.
            options: `max_new_tokens`, `temperature` (0: greedy), `top_p`, and other arguments of `generate`.
            stop: Strings that end an answer.

        Raises:
            ConfigurationError: An option asks for tools or a response format.
            InputError: The prompt is longer than the model's positions.
        """
        self._check_length(inputs["input_ids"].shape[1])
        options = dict(options)
        unsupported = [name for name in _UNSUPPORTED if options.pop(name, None)]
        if unsupported:
            raise ConfigurationError(f"a local model does not support {', '.join(unsupported)}")
        if (options.get("temperature") or 0) > 0:
            options.setdefault("do_sample", True)
        else:
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if stop:
            options |= {"stop_strings": list(stop), "tokenizer": self.tokenizer}
        options.setdefault("pad_token_id", self.tokenizer.pad_token_id)
        with self.lock, torch.inference_mode():
            output = self.hf_model.generate(**inputs, **options)
        rows: torch.Tensor = output[:, inputs["input_ids"].shape[1] :]
        return rows

    def stream(
        self, inputs: Mapping[str, torch.Tensor], options: Mapping[str, Any], *, stop: Sequence[str] = ()
    ) -> GenerationStream:
        """Generate for one conversation in a thread, and stream the text."""

        def generate(**extra: Any) -> torch.Tensor:
            return self.generate(inputs, {**options, **extra}, stop=stop)[0]

        return GenerationStream(self.tokenizer, generate)

    def complete(self, row: torch.Tensor, *, stop: Sequence[str] = ()) -> Completion:
        """Read one row that `generate` returned."""
        eos = self.hf_model.generation_config.eos_token_id
        eos = self.tokenizer.eos_token_id if eos is None else eos
        eos_ids = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        with self.lock:
            return complete(row, self.tokenizer, eos_ids=eos_ids, pad_id=self.tokenizer.pad_token_id, stop=stop)

    @cached_property
    def forward_names(self) -> frozenset[str]:
        """Names of the arguments that the model's `forward` takes."""
        return frozenset(inspect.signature(self.hf_model.forward).parameters)

    def _check_length(self, num_tokens: int) -> None:
        config = self.hf_model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if isinstance(most, int) and num_tokens >= most:
            raise InputError(
                f"the prompt has {num_tokens:,} tokens, with its images; the model takes {most:,}: shorten the history,"
                " or send fewer or smaller images"
            )

    def _processed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with self.lock:
                return dict(self.processor(**arguments))
        except ValueError as error:
            raise ConfigurationError(f"the model's processor rejects these messages: {error}") from error

    def _placed(self, image: torch.Tensor) -> torch.Tensor:
        """Move an image to the device that the image processor reads from."""
        backend = getattr(self.processor.image_processor, "backend", "pil")
        return image.to(self.device) if backend == "torchvision" else image.detach().cpu()

    def _to_device(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        dtype = self.hf_model.dtype
        return {
            key: value.to(self.device, dtype if value.is_floating_point() else None) for key, value in inputs.items()
        }
