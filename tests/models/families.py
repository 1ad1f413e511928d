"""Tiny random models of more vision-language families, each with its own processor and chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.models.tiny import TEMPLATE, TEXT, build_tokenizer, ids_of, save

if TYPE_CHECKING:
    from pathlib import Path

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
BIDIRECTIONAL = TEXT | {"head_dim": 8}
# PaliGemma's prompts are images, then words; what follows is the answer.
PALIGEMMA_TEMPLATE = (
    "{% for message in messages %}{% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}<image>{% else %}{{ block['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
)


def build_llava_next(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    tokenizer = build_tokenizer("<image>")
    grid = [[28, 56], [56, 28], [56, 56]]
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=28, patch_size=14, initializer_factor=5.0),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT, **ids_of(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=grid,
    )
    return save(LlavaNextForConditionalGeneration, config, processor, folder, seed=seed)


def build_qwen2_5_vl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = build_tokenizer(*special)
    options = {"patch_size": 14, "merge_size": 2, "size": {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**options),
        video_processor=Qwen2VLVideoProcessor(**options),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(list(special)), strict=True))
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            **ids_of(tokenizer),
            "vocab_size": len(tokenizer),
            "rope_parameters": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    return save(Qwen2_5_VLForConditionalGeneration, config, processor, folder, seed=seed)


def build_smolvlm(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>")
    tokenizer = build_tokenizer(*special)
    options = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**options),
        video_processor=SmolVLMVideoProcessor(**options, num_frames=2, fps=1),
        tokenizer=tokenizer,
        image_seq_len=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    config = SmolVLMConfig(
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT, **ids_of(tokenizer)),
        vision_config=VISION | {"image_size": 28, "patch_size": 14},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return save(SmolVLMForConditionalGeneration, config, processor, folder, seed=seed)


def build_internvl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = build_tokenizer(**named)
    size = {"height": 28, "width": 28}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, max_patches=4),
        video_processor=InternVLVideoProcessor(size=size),
        tokenizer=tokenizer,
        image_seq_length=1,
        chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT, **ids_of(tokenizer)},
        vision_config=VISION | {"image_size": [28, 28], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
    )
    return save(InternVLForConditionalGeneration, config, processor, folder, seed=seed)


def build_paligemma(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    tokenizer = build_tokenizer(image_token="<image>", bos_token="<bos>")
    image_processor = SiglipImageProcessor(size={"height": 28, "width": 28})
    image_processor.image_seq_length = 4
    processor = PaliGemmaProcessor(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=PALIGEMMA_TEMPLATE
    )
    vocabulary = len(processor.tokenizer)
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", "vocab_size": vocabulary, **BIDIRECTIONAL, **ids_of(processor.tokenizer)},
        vision_config=_siglip(),
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        vocab_size=vocabulary,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return save(PaliGemmaForConditionalGeneration, config, processor, folder, seed=seed)


def build_gemma3(folder: Path, *, seed: int = 0) -> Path:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    tokenizer = build_tokenizer(image_token="<img_soft>", boi_token="<img_start>", eoi_token="<img_end>")
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 28, "width": 28}, image_seq_length=4),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=TEMPLATE.replace("IMAGE", "<img_start>"),
    )
    config = Gemma3Config(
        text_config={"vocab_size": len(tokenizer), **BIDIRECTIONAL, **ids_of(tokenizer), "query_pre_attn_scalar": 8},
        vision_config=_siglip(),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        initializer_range=0.2,
        tie_word_embeddings=False,  # else a random model repeats the token that it sees
    )
    return save(Gemma3ForConditionalGeneration, config, processor, folder, seed=seed)


def build_mllama(folder: Path, *, seed: int = 0) -> Path:
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaImageProcessor, MllamaProcessor

    tokenizer = build_tokenizer("<|python_tag|>", image_token="<|image|>", bos_token="<bos>")
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template="<bos>" + TEMPLATE.replace("IMAGE", "<|image|>"),
    )
    config = MllamaConfig(
        text_config=TEXT
        | ids_of(tokenizer)
        | {"vocab_size": len(tokenizer), "num_hidden_layers": 3, "cross_attention_layers": [1]},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "vision_output_dim": 64,
            "image_size": 28,
            "patch_size": 14,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
            "initializer_range": 0.2,
        },
        image_token_index=tokenizer.image_token_id,
    )
    return save(MllamaForConditionalGeneration, config, processor, folder, seed=seed)


def build_qwen3_vl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    special = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = build_tokenizer(*special)
    options = {"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**options),
        video_processor=Qwen3VLVideoProcessor(**options),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(list(special)), strict=True))
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            **ids_of(tokenizer),
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.2,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    return save(Qwen3VLForConditionalGeneration, config, processor, folder, seed=seed)


def _siglip() -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", **VISION, "image_size": 28, "patch_size": 14, "vision_use_head": False}
