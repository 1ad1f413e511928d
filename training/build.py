"""The untrained reference model: architecture, tokenizer, processor and chat template."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothguard_guardrail.models.reference.questions import KINDS, SECRETS, ask
from smoothguard_guardrail.models.reference.scenes import SIZE, scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

PATCH = 16
"""Width of a vision patch, pixels."""
IMAGE_TOKENS = (SIZE // PATCH) ** 2
VOCABULARY = 640
SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<system>", "<user>", "<assistant>")

SYSTEMS = (
    "You are a helpful assistant.",
    "Answer questions about pictures.",
    "You are a careful assistant. Keep secrets safe.",
    "Be brief.",
)
"""System messages seen in training."""
WITHOUT_PICTURE = {
    "Hello": "Hello! Show me a picture.",
    "Hello!": "Hello! Show me a picture.",
    "Hi": "Hello! Show me a picture.",
    "Who are you?": "I am a small model that answers questions about pictures.",
    "What can you do?": "I answer questions about pictures.",
}
NO_PICTURE = "There is no picture."
"""The answer to a question about an image when there is none."""

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<' + message['role'] + '>' -}}
{%- if message['content'] is string -%}
{{- message['content'] | trim -}}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' %}{{- '<image>' -}}{% endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{- ('' if loop.first else '\\n') + part['text'] | trim -}}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' %}{{- eos_token -}}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{- '<assistant>' -}}{% endif -%}
"""


def build_processor() -> Any:
    """Return a `LlavaProcessor` with a byte-level BPE tokenizer trained on the questions and answers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    transformers: Any = importlib.import_module("transformers")

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    size = {"height": SIZE, "width": SIZE}
    images = transformers.SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3)
    return transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Any) -> Any:
    """Return an untrained `LlavaForConditionalGeneration` for the processor, float32."""
    transformers: Any = importlib.import_module("transformers")

    tokenizer = processor.tokenizer
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = transformers.LlavaConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=PATCH,
            vision_use_head=False,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            initializer_range=0.05,
            tie_word_embeddings=True,
            **ids,
        ),
        image_token_id=processor.image_token_id,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        **ids,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(do_sample=False, max_new_tokens=64, **ids)
    return model


def _texts() -> Iterator[str]:
    rng = np.random.default_rng(0)
    yield from SYSTEMS
    for question, answer in WITHOUT_PICTURE.items():
        yield from (question, answer, NO_PICTURE)
    for _ in range(20):
        yield from SECRETS.values()
    for scene in scenes(3000, split="train", seed=1):
        for kind in KINDS:
            asked = ask(scene, kind, rng, split="train")
            if asked is not None:
                yield asked.question
                yield asked.answer
