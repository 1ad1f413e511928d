"""Content blocks of Anthropic's Messages API, and the content blocks of LangChain that they become.

Every model that LangChain knows takes these: texts, and standard blocks of media, which the guard finds. A block of
another type, or with a key that is not known, is refused: what is not understood cannot be guarded.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Part = dict[str, Any]
"""A content block of LangChain."""


class Strict(BaseModel):
    """A part of a request that has no keys but the known ones."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class _Block(Strict):
    cache_control: Any = None
    """Without effect: every copy of a medium is different."""

    def parts(self) -> list[Part]:
        """Return the block in LangChain's content blocks."""
        return []


class _Base64Source(Strict):
    type: Literal["base64"]
    data: str
    media_type: str | None = None

    def part(self) -> Part:
        return {"base64": self.data} | ({"mime_type": self.media_type} if self.media_type else {})


class _UrlSource(Strict):
    type: Literal["url"]
    url: str

    def part(self) -> Part:
        return {"url": self.url}


class _FileSource(Strict):
    type: Literal["file"]
    file_id: str

    def part(self) -> Part:
        return {"file_id": self.file_id}


class TextBlock(_Block):
    """Text."""

    type: Literal["text"]
    text: str
    citations: Any = None

    def parts(self) -> list[Part]:
        """Return the text."""
        return [_text(self.text)]


class ImageBlock(_Block):
    """An image."""

    type: Literal["image"]
    source: Annotated[_Base64Source | _UrlSource | _FileSource, Field(discriminator="type")]
    transformations: Any = None

    def parts(self) -> list[Part]:
        """Return the image."""
        return [{"type": "image", **self.source.part()}]


def _as_blocks(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


Texts = Annotated[list[TextBlock], BeforeValidator(_as_blocks)]
"""Text, or a list of blocks of text."""


class _TextSource(Strict):
    type: Literal["text"]
    data: str
    media_type: Literal["text/plain"] = "text/plain"


class _ContentSource(Strict):
    type: Literal["content"]
    content: Annotated[
        list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]], BeforeValidator(_as_blocks)
    ]


class DocumentBlock(_Block):
    """A document: a file, text, or blocks."""

    type: Literal["document"]
    source: Annotated[
        _Base64Source | _UrlSource | _FileSource | _TextSource | _ContentSource, Field(discriminator="type")
    ]
    title: str | None = None
    context: str | None = None
    citations: Any = None

    def parts(self) -> list[Part]:
        """Return the title and the context as text, and the document: a file, or what it consists of."""
        head = [_text(text) for text in (self.title, self.context) if text]
        if isinstance(self.source, _TextSource):
            return [*head, _text(self.source.data)]
        if isinstance(self.source, _ContentSource):
            return [*head, *(part for block in self.source.content for part in block.parts())]
        return [*head, {"type": "file", "mime_type": "application/pdf", **self.source.part()}]


class SearchResultBlock(_Block):
    """A passage that the client's own search found."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]
    citations: Any = None

    def parts(self) -> list[Part]:
        """Return the title, the source and the passage as text."""
        return [_text(f"{self.title}\n{self.source}"), *(part for block in self.content for part in block.parts())]


class ThinkingBlock(_Block):
    """Reasoning of an earlier answer; the model does not need it."""

    type: Literal["thinking"]
    thinking: Any
    signature: Any = None


class RedactedThinkingBlock(_Block):
    """Encrypted reasoning of an earlier answer; the model does not need it."""

    type: Literal["redacted_thinking"]
    data: Any


class ToolUseBlock(_Block):
    """A tool call of an earlier answer."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None
    toolset_name: None = None


class ToolResultBlock(_Block):
    """What a tool returned."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        list[Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]] | None,
        BeforeValidator(_as_blocks),
    ] = None
    is_error: bool | None = None
    toolset_name: None = None

    def parts(self) -> list[Part]:
        """Return what the tool returned."""
        return [part for block in self.content or () for part in block.parts()]


UserBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolResultBlock
AssistantBlock = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock
UserContent = Annotated[list[Annotated[UserBlock, Field(discriminator="type")]], BeforeValidator(_as_blocks)]
AssistantContent = Annotated[list[Annotated[AssistantBlock, Field(discriminator="type")]], BeforeValidator(_as_blocks)]


def _text(text: str) -> Part:
    return {"type": "text", "text": text}
