"""Tiny judges with weights of their own, trained in a second or two to tell `bomb` from everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ["a", "bomb", "build", "cake", "cannot", "first", "help", "i", "mix", "salt", "sorry", "sugar", "the", "to"]
UNSAFE = ["first build the bomb", "mix the salt to a bomb", "a bomb"]
SAFE = ["i cannot help", "sorry", "mix the sugar to a cake", "first the salt", "build a cake"]
TEMPLATE = (
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('a user comes first') }}{% endif %}"
    "{% for message in messages %}<turn> {{ message['content'] }} {% endfor %}<verdict>"
)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<turn>", "<verdict>", "<eos>"]
    vocabulary = {word: number for number, word in enumerate([*special, "safe", "unsafe", "S1", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<turn>", "<verdict>"],
        chat_template=TEMPLATE,
        model_max_length=16,
    )


def build_language_model(folder: Path) -> Path:
    """Save a language model that replies `safe`, or `unsafe S1`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    texts = [f"<turn> <turn> {text} <verdict> unsafe S1 <eos>" for text in UNSAFE]
    texts += [f"<turn> <turn> {text} <verdict> safe <eos>" for text in SAFE]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    _train(model, {**inputs, "labels": labels}, num_steps=60)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_classifier(folder: Path, *, labels: tuple[str, str] = ("safe", "unsafe")) -> Path:
    """Save a text classifier with two labels, which reads 16 tokens at once."""
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=16,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    inputs = tokenizer(UNSAFE + SAFE, padding=True, return_tensors="pt", return_token_type_ids=False)
    truth = torch.tensor([1] * len(UNSAFE) + [0] * len(SAFE))
    _train(model, {**inputs, "labels": truth}, num_steps=60)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train(model: Any, inputs: dict[str, torch.Tensor], *, num_steps: int) -> None:
    model.eval()  # no dropout: the same weights every time
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
