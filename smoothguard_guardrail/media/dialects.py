"""The dialects in which chat models are sent media: which types and keys mean what.

LangChain v0 and v1, OpenAI Chat Completions and Responses, vLLM, Anthropic, Google, Bedrock Converse, MCP, Hugging
Face.
"""

from __future__ import annotations

import re
from typing import Any

MEDIA_TYPES = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "computer_screenshot": "image",
    "image_generation_call": "image",
    "image_embeds": "embedding",
    "audio_embeds": "embedding",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "file": "file",
    "file_url": "file",
    "input_file": "file",
    "image_file": "image",
    "document": "file",
    "media": "file",
    "inline_data": "file",
    "file_data": "file",
    "container_upload": "file",
    "resource": "file",
    "resource_link": "file",
    "text-plain": "file",
}
"""Types of blocks that hold a medium, and the kind they claim."""

STRONG_KEYS = {
    "image_url": "image",
    "audio_url": "audio",
    "video_url": "video",
    "input_image": "image",
    "input_audio": "audio",
    "input_video": "video",
    "image_embeds": "embedding",
    "audio_embeds": "embedding",
    "inline_data": "file",
    "inlineData": "file",
    "file_data": "file",
    "fileData": "file",
}
"""Keys that mean a medium in a block of any type."""

WEAK_KEYS = {"image": "image", "audio": "audio", "video": "video", "document": "file"}
"""Keys that mean a medium if their value is not a string, or if the block has no type."""

WRAPPER_KEYS = STRONG_KEYS | WEAK_KEYS | {"source": None, "file": None, "media": None, "resource": None}
"""Keys under which a block nests its medium in a dict; None: the kind is the block's."""

DATA_KEYS = {"data", "base64", "bytes", "blob", "b64_json", "file_data", "result"}
"""Keys of encoded bytes."""
REFERENCE_KEYS = {"url", "uri", "file_uri", "fileUri", "file_url", "path", "file_path", *STRONG_KEYS, *WEAK_KEYS}
"""Keys of a URL, a data URI or a local path."""
ID_KEYS = {"file_id", "fileId"}
"""Keys of a file stored by the provider."""
MIME_KEYS = {"mime_type", "mimeType", "media_type", "mediaType", "format"}
"""Keys that declare the format of the bytes."""

CONTAINER_TYPES = {
    "tool_result",
    "search_result",
    "function_call_output",
    "custom_tool_call_output",
    "computer_call_output",
    "mcp_tool_result",
    "web_fetch_tool_result",
    "web_fetch_result",
    "non_standard",
    "message",
}
"""Types of blocks that hold other blocks and are safe themselves."""

SAFE_TYPES = {
    *("text", "input_text", "output_text", "refusal", "json", "summary_text", "reasoning_text"),
    *("reasoning", "reasoning_content", "thinking", "redacted_thinking", "compaction"),
    *("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function", "function_call"),
    *("custom_tool_call", "server_tool_use", "server_tool_call", "server_tool_call_chunk", "server_tool_result"),
    *("mcp_tool_use", "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
    *("web_search_call", "file_search_call", "code_interpreter_call", "computer_call", "tool_search_call"),
    *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "tool_search_output"),
    *("apply_patch_call", "apply_patch_call_output", "tool_reference", "logs"),
    *("function_call_signature", "reference"),
    *("web_search_tool_result", "web_search_result", "tool_search_tool_result", "tool_search_tool_search_result"),
    *("code_execution_tool_result", "code_execution_result", "code_execution_output", "executable_code"),
    *("bash_code_execution_tool_result", "bash_code_execution_result", "bash_code_execution_output"),
    *("text_editor_code_execution_tool_result", "text_editor_code_execution_view_result"),
    *("text_editor_code_execution_create_result", "text_editor_code_execution_str_replace_result"),
    *("citation", "citations", "citations_content", "cache_point", "cachePoint", "guard_content", "guardContent"),
}
"""Types of blocks that a language model reads as text, or that only the provider reads."""

UNTYPED_SAFE_KEYS = {
    *("text", "json", "toolUse", "toolResult", "tool_use", "tool_result", "cachePoint", "cache_point"),
    *("guardContent", "guard_content", "reasoningContent", "reasoning_content", "citationsContent", "searchResult"),
    *("functionCall", "function_call", "functionResponse", "function_response", "executableCode"),
    *("executable_code", "codeExecutionResult", "code_execution_result", "thought", "thoughtSignature"),
    *("thought_signature", "output_text"),
}
"""Keys that make a block without a type safe (Bedrock Converse, Google)."""

CONTENT_KEYS = {"content", "output", "value", "outputs", "toolResult", "tool_result", "parts"}
"""Keys of a container that hold its blocks."""

OPAQUE_KEYS = {"signature", "thought_signature", "thoughtSignature", "redactedContent", "redacted_content"}
"""Keys whose bytes only the provider reads."""

SIZE_HINTS = {"detail", "resized_height", "resized_width"}
"""Keys of a block by which a client chooses the size of an image, and which the guard obeys."""
UNKNOWN_SIZE_HINTS = {
    *("media_resolution", "mediaResolution", "min_pixels", "max_pixels", "min_dynamic_patch", "max_dynamic_patch"),
    *("mm_processor_kwargs", "image_processor_kwargs", "max_image_tokens", "min_image_tokens"),
}
"""Keys that change the size of an image in a way that depends on the model; they are removed from noisy copies."""

_NOT_IDENTITY = {"tool_use_id", "tool_call_id", "call_id"}
_IDENTITY = re.compile(
    r"(^|_)(id|ids|uuid|uuids|uid|guid|hash|md5|sha\d*|etag|digest|checksum|fingerprint|cache|cachepoint)(_|$)"
)


def is_identity(key: Any) -> bool:
    """Return whether a key of a block of media names what a server may know the medium by, instead of its bytes.

    Two copies that share one could share an answer, or be taken for the original.

    Example:
        >>> is_identity("uuid"), is_identity("mediaHash"), is_identity("cache_control"), is_identity("detail")
        (True, True, True, False)
    """
    if not isinstance(key, str) or key in _NOT_IDENTITY:
        return False
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_")
    return _IDENTITY.search(snake) is not None
