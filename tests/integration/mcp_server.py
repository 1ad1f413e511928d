"""An MCP server whose tools return every kind of content; `python -m tests.integration.mcp_server` speaks stdio."""

import base64

from mcp.server.fastmcp import FastMCP
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import AnyUrl, BaseModel

from tests.media.corpus import PDF64, PNG64, PNG_URI, WAV64

server = FastMCP("media", log_level="WARNING", stateless_http=True)
URI = AnyUrl("https://example.com/a")


class Report(BaseModel):
    """Structured content."""

    title: str
    image: str


@server.tool()
def image() -> list[ImageContent | TextContent]:
    return [TextContent(type="text", text="Seen."), ImageContent(type="image", data=PNG64, mimeType="image/png")]


@server.tool()
def audio() -> list[AudioContent]:
    return [AudioContent(type="audio", data=WAV64, mimeType="audio/wav")]


def _embedded(blob: str, mime_type: str | None) -> list[EmbeddedResource]:
    contents = BlobResourceContents(uri=URI, blob=blob, mimeType=mime_type)
    return [EmbeddedResource(type="resource", resource=contents)]


@server.tool()
def embedded_image() -> list[EmbeddedResource]:
    return _embedded(PNG64, "image/png")


@server.tool()
def embedded_image_without_type() -> list[EmbeddedResource]:
    return _embedded(PNG64, None)


@server.tool()
def embedded_audio() -> list[EmbeddedResource]:
    return _embedded(WAV64, "audio/wav")


@server.tool()
def embedded_text() -> list[EmbeddedResource]:
    contents = TextResourceContents(uri=URI, text=f"See {PNG_URI}.", mimeType="text/plain")
    return [EmbeddedResource(type="resource", resource=contents)]


@server.tool()
def embedded_unknown() -> list[EmbeddedResource]:
    return _embedded(base64.b64encode(b"\x01\x02\x03").decode(), "application/octet-stream")


@server.tool()
def embedded_pdf() -> list[EmbeddedResource]:
    return _embedded(PDF64, "application/pdf")


@server.tool()
def link() -> list[ResourceLink]:
    return [ResourceLink(type="resource_link", uri=URI, name="a", mimeType="image/png")]


@server.tool()
def structured() -> Report:
    return Report(title="A report", image=PNG64)


@server.tool()
def failing() -> CallToolResult:
    content = [ImageContent(type="image", data=PNG64, mimeType="image/png")]
    return CallToolResult(content=content, isError=True)


if __name__ == "__main__":
    server.run()
