"""How likely a model is to give a wanted answer to a picture, as a function with a gradient in the pixels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal


class TargetLoss:
    """Negative log-likelihood of one answer per picture, through the model's own image processor.

    Tokenises once: a call runs the image processor, the vision side and the language model alone, and computes
    logits on the answers' positions only. Every row ends with its answer (padding is on the left), so one
    slice of the logits holds all answers whatever their lengths.

    Args:
        model: The model under attack.
        images: Float32 (batch, 3, height, width) in [0, 1]; their sizes fix the number of image tokens.
        questions: The user's words, one per picture.
        targets: The answer that is wanted, one per picture.

    Raises:
        ConfigurationError: The model's image processor works only as part of its processor.
        MissingDependencyError: The image processor keeps no graph; torchvision's does.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        images: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        self._engine = model.engine
        conversations = [
            self._engine.read([_ask(image, question)]) for image, question in zip(images, questions, strict=True)
        ]
        inputs = self._engine.encode(conversations)
        pixels = images.detach().clone().requires_grad_()
        features = self._engine.process_images(pixels)
        if not any(value.requires_grad for value in features.values()):
            raise MissingDependencyError("torchvision (its image processors keep a gradient)", "vision")
        self._image_names = frozenset(features) & frozenset(inputs)
        if any(features[name].shape != inputs[name].shape for name in self._image_names):
            raise ConfigurationError("the model's image processor gives another shape alone than in its processor")
        answers = [self._engine.answer_ids(each, target) for each, target in zip(conversations, targets, strict=True)]
        self._inputs, self._labels = _append(inputs, answers, skip=self._image_names)

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

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss of some pictures.

        Args:
            images: Float32 (num_rows, 3, height, width) in [0, 1].
            rows: Int64 (num_rows,): which question and target goes with which picture.

        Returns:
            Float32 (num_rows,): negative log-likelihood of the target, nats per token.
        """
        inputs = {name: value[rows] for name, value in self._inputs.items()}
        features = self._engine.process_images(images)
        inputs |= {name: features[name] for name in self._image_names}
        labels = self._labels[rows]
        keep = labels.shape[1] + 1
        output: Any = self._engine.hf_model(**inputs, logits_to_keep=keep, use_cache=False)
        logits = output.logits[:, -keep:-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return losses.sum(dim=1) / (labels != _IGNORED).sum(dim=1)


_IGNORED = -100  # what torch's cross entropy leaves out by default


def _ask(image: torch.Tensor, question: str) -> HumanMessage:
    return HumanMessage(content=[{"type": "image", "image": image}, {"type": "text", "text": question}])


def _append(
    inputs: dict[str, torch.Tensor], answers: Sequence[Sequence[int]], *, skip: frozenset[str]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Put the answers behind the prompts, all rows ending together; returns text inputs and labels."""
    mask = inputs["attention_mask"].bool()
    device = mask.device
    longest = max(map(len, answers))
    lengths = [int(row.sum()) + len(answer) for row, answer in zip(mask, answers, strict=True)]
    shape = (len(answers), max(lengths))
    extended = {
        name: torch.zeros(shape, dtype=value.dtype, device=device)
        for name, value in inputs.items()
        if name not in skip and value.shape == mask.shape
    }
    labels = torch.full((len(answers), longest), _IGNORED, device=device)
    for row, answer in enumerate(answers):
        answer_ids = torch.tensor(answer, device=device)
        labels[row, -len(answer) :] = answer_ids
        prompt = slice(shape[1] - lengths[row], shape[1] - len(answer))
        for name, target in extended.items():
            target[row, prompt] = inputs[name][row, mask[row]]
        extended["input_ids"][row, -len(answer) :] = answer_ids
        extended["attention_mask"][row, -len(answer) :] = 1
    return extended, labels
