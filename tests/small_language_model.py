"""A language model of a few words with random weights, for code that wraps SmolLM2."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.field.talker import Talker


def small_talker(*texts: str) -> Talker:
    """Return a model that knows the words of some texts, and reads and writes whole words only."""
    words = ["[unk]", "[end]", *(word for text in texts for word in text.split())]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="[end]")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=1.0,  # so that its answers depend on what it reads
    )
    return Talker(network=LlamaForCausalLM(config).eval(), tokenizer=tokenizer)
