"""How likely a model is to give a wanted answer to an image, with a gradient in the pixels."""

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

    Every call does what a user's request does: chat template, the model's own processor, forward pass. Padding is on
    the left and the answers follow the prompts, so all rows end together and one slice of the logits, the only one
    computed, holds all answers.

    Args:
        model: The model under attack.
        blocks: The content block of each row's medium.
        questions: What is asked, one per row.
        targets: The wanted answer, one per row.

    Raises:
        ConfigurationError: The chat template or the processor rejects the messages.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        blocks: Sequence[dict[str, Any]],
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        self._engine = model.engine
        self._conversations = [
            self._engine.read([HumanMessage(content=[block, {"type": "text", "text": question}])])
            for block, question in zip(blocks, questions, strict=True)
        ]
        self._answers = [
            self._engine.answer_ids(each, target) for each, target in zip(self._conversations, targets, strict=True)
        ]
        self._token_type = self._find_token_type()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the model for this thread, with parameters that need no gradient."""
        trainable = [each for each in self._engine.hf_model.parameters() if each.requires_grad]
        with self._engine.lock:
            for parameter in trainable:
                parameter.requires_grad_(False)
            try:
                yield
            finally:
                for parameter in trainable:
                    parameter.requires_grad_(True)

    def _losses(
        self, conversations: Sequence[Conversation], rows: Sequence[int], **features: torch.Tensor
    ) -> torch.Tensor:
        """Compute float32 (num_rows,) nats per token, with some inputs replaced by `features`."""
        answers = [self._answers[row] for row in rows]
        inputs, labels = append_answers(
            self._engine.encode(conversations) | features, answers, token_type=self._token_type
        )
        # A model spread over several devices puts its logits on the last one.
        logits = self._logits(inputs, labels.shape[1] + 1)[:, :-1].to(labels.device)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return losses.sum(dim=1) / (labels != _IGNORED).sum(dim=1)

    def _logits(self, inputs: Mapping[str, torch.Tensor], keep: int) -> torch.Tensor:
        """Compute float32 (num_rows, keep, vocabulary): the logits of the last positions."""
        options = {"logits_to_keep": keep} if "logits_to_keep" in self._engine.forward_names else {}
        output: Any = self._engine.hf_model(**inputs, **options, use_cache=False)
        logits: torch.Tensor = output.logits[:, -keep:].float()
        return logits

    def _find_token_type(self) -> int:
        """Find the token type of answers: the one that hides later parts of the answer from every position.

        Some models attend in both directions to the part of their input that `token_type_ids` marks. Generated
        tokens have type 1 in PaliGemma and type 0 in Gemma 3: with the other type the answer would see itself.
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

        return int(change(0) > 10 * change(1) + 1e-3)  # without a leak only float noise remains


class TargetLoss(AnswerLoss):
    """Negative log-likelihood of one answer per image, through the model's own processor.

    Works for every model whose image processor keeps a gradient, as torchvision's do. The processor itself is called,
    so resizing, tiling and the order of patches are those of an image that a user sends.

    Args:
        model: The model under attack.
        images: Float32 (batch, 3, height, width) in [0, 1].
        questions: What is asked, one per image.
        targets: The wanted answer, one per image.

    Raises:
        ConfigurationError: The chat template or the processor rejects an image with a question.
        MissingDependencyError: The image processor keeps no gradient; torchvision's does.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        images: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        blocks = [{"type": "image", "image": image} for image in images.detach()]
        super().__init__(model, blocks, questions, targets)
        probe = replace(self._conversations[0], images=[images[0].detach().clone().requires_grad_()])
        with torch.enable_grad():
            encoded = self._engine.encode([probe])
        if not any(value.requires_grad for value in encoded.values()):
            raise MissingDependencyError("torchvision (its image processors keep a gradient)", "local")

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss of images.

        Args:
            images: Float32 (num_rows, 3, height, width) in [0, 1].
            rows: Int64 (num_rows,): which question and target goes with each image.

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
    """Append answers to prompts so that all rows end together.

    Args:
        inputs: What `Engine.encode` returned; inputs that are not per token stay as they are.
        answers: Token ids of one answer per row.
        token_type: The `token_type_ids` of the answers.

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
            # Mllama's mask says which tiles a token sees: an answer sees what the prompt's last token sees.
            extended[name][row, start:] = fill.get(name, 0) if value.ndim == 2 else value[row, -1]
        extended["input_ids"][row, start:] = answer_ids
    return {**inputs, **extended}, labels
