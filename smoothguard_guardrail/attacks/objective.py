"""How likely a model is to give a wanted answer to a picture, as a function with a gradient in the pixels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from smoothguard_guardrail.models.prompting import Conversation
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

_IGNORED = -100  # what torch's cross entropy leaves out by default


class AnswerLoss:
    """Negative log-likelihood of one answer per conversation, whose medium may change from call to call.

    Every call goes the user's way: chat template, the model's own processor, forward pass. The answers stand
    behind the prompts, all rows ending together (padding is on the left), so one slice of the logits holds all
    answers whatever their lengths, and no other logits are computed.

    Args:
        model: The model under attack.
        conversations: One per row, each with one medium.
        targets: The answer that is wanted, one per row.

    Raises:
        ConfigurationError: The chat template or the processor does not take the messages.
    """

    def __init__(
        self, model: ChatTransformersMultimodal, conversations: Sequence[Conversation], targets: Sequence[str]
    ) -> None:
        self._engine = model.engine
        self._conversations = list(conversations)
        self._answers = [
            self._engine.answer_ids(each, target) for each, target in zip(conversations, targets, strict=True)
        ]
        self._token_type = self._find_token_type()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the model for this thread, with parameters that ask for no gradient."""
        asking = [each for each in self._engine.hf_model.parameters() if each.requires_grad]
        with self._engine.lock:
            for parameter in asking:
                parameter.requires_grad_(False)
            try:
                yield
            finally:
                for parameter in asking:
                    parameter.requires_grad_(True)

    def _losses(
        self, conversations: Sequence[Conversation], rows: Sequence[int], **features: torch.Tensor
    ) -> torch.Tensor:
        """Compute float32 (num_rows,) nats per token, with some inputs replaced by `features`."""
        answers = [self._answers[row] for row in rows]
        inputs, labels = append_answers(
            self._engine.encode(conversations) | features, answers, token_type=self._token_type
        )
        # A model spread over devices answers on its last one.
        logits = self._logits(inputs, labels.shape[1] + 1)[:, :-1].to(labels.device)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return losses.sum(dim=1) / (labels != _IGNORED).sum(dim=1)

    def _logits(self, inputs: Mapping[str, torch.Tensor], keep: int) -> torch.Tensor:
        """Compute float32 (num_rows, keep, vocabulary), those of the last positions."""
        options = {"logits_to_keep": keep} if "logits_to_keep" in self._engine.forward_names else {}
        output: Any = self._engine.hf_model(**inputs, **options, use_cache=False)
        logits: torch.Tensor = output.logits[:, -keep:].float()
        return logits

    def _find_token_type(self) -> int:
        """Find the token type of answers: the one under which no position sees a later part of the answer.

        Some models see a part of their input in both directions, and tell it by `token_type_ids`. Generated
        tokens are of type 1 for PaliGemma, of type 0 for Gemma 3: with the other one the answer would give
        itself away.
        """
        prompt = self._engine.encode(self._conversations[:1])
        if "token_type_ids" not in prompt:
            return 0
        answer = self._answers[0]

        def change(token_type: int) -> float:
            whole, _ = append_answers(prompt, [answer], token_type=token_type)
            cut, _ = append_answers(prompt, [answer[:-1]], token_type=token_type)
            with self._engine.lock, torch.no_grad():
                difference = self._logits(whole, len(answer) + 1)[:, :-1] - self._logits(cut, len(answer))
            return float(difference.abs().max())

        return int(change(0) > 10 * change(1) + 1e-3)  # what is left without a leak is float noise


class TargetLoss(AnswerLoss):
    """Negative log-likelihood of one answer per picture, through the model's own processor.

    Works for every model whose image processor keeps a graph, which torchvision's do: it is asked, not written
    again, so resizing, tiling and the order of patches are those of a picture that a user sends.

    Args:
        model: The model under attack.
        images: Float32 (batch, 3, height, width) in [0, 1].
        questions: The user's words, one per picture.
        targets: The answer that is wanted, one per picture.

    Raises:
        ConfigurationError: The chat template or the processor does not take a picture with a question.
        MissingDependencyError: The image processor keeps no graph; torchvision's does.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        images: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        asked = zip(images.detach(), questions, strict=True)
        super().__init__(model, [model.engine.read([_ask(image, question)]) for image, question in asked], targets)
        probe = replace(self._conversations[0], images=[images[0].detach().clone().requires_grad_()])
        with torch.enable_grad():
            encoded = self._engine.encode([probe])
        if not any(value.requires_grad for value in encoded.values()):
            raise MissingDependencyError("torchvision (its image processors keep a gradient)", "vision")

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss of some pictures.

        Args:
            images: Float32 (num_rows, 3, height, width) in [0, 1].
            rows: Int64 (num_rows,): which question and target goes with which picture.

        Returns:
            Float32 (num_rows,): negative log-likelihood of the target, nats per token.
        """
        indices = rows.tolist()
        conversations = [
            replace(self._conversations[row], images=[image]) for row, image in zip(indices, images, strict=True)
        ]
        return self._losses(conversations, indices)


def append_answers(
    inputs: Mapping[str, torch.Tensor], answers: Sequence[Sequence[int]], *, token_type: int = 0
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Put answers behind prompts, all rows ending together.

    Args:
        inputs: What `Engine.encode` returned; what does not go by tokens stays as it is.
        answers: Token ids of one answer per row.
        token_type: What `token_type_ids` says of the answers.

    Returns:
        The longer inputs, and labels, int64 (num_rows, longest answer) with -100 for padding.
    """
    mask = inputs["attention_mask"].bool()
    device = mask.device
    per_token = {
        name: value for name, value in inputs.items() if value.shape[:2] == mask.shape and not value.is_floating_point()
    }
    lengths = [int(row.sum()) + len(answer) for row, answer in zip(mask, answers, strict=True)]
    total = max(lengths)
    extended = {name: value.new_zeros(len(answers), total, *value.shape[2:]) for name, value in per_token.items()}
    labels = torch.full((len(answers), max(map(len, answers))), _IGNORED, device=device)
    fill = {"attention_mask": 1, "token_type_ids": token_type}
    for row, answer in enumerate(answers):
        start = total - len(answer)
        answer_ids = torch.tensor(answer, dtype=torch.long, device=device)
        labels[row, labels.shape[1] - len(answer) :] = answer_ids
        for name, value in per_token.items():
            extended[name][row, total - lengths[row] : start] = value[row, mask[row]]
            # Mllama's mask says which tiles a token sees: an answer sees what the prompt's last token does.
            extended[name][row, start:] = fill.get(name, 0) if value.ndim == 2 else value[row, -1]
        extended["input_ids"][row, start:] = answer_ids
    return {**inputs, **extended}, labels


def _ask(image: torch.Tensor, question: str) -> HumanMessage:
    return HumanMessage(content=[{"type": "image", "image": image}, {"type": "text", "text": question}])
