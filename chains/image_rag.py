"""Retrieval over pages with images: captions make them findable, and both uses of the model are guarded.

`python -m chains.image_rag` runs it offline on the shipped reference model.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from pydantic import BaseModel

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable

CAPTION_QUESTION = "Describe the picture."


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An image, with or without text."""

    source: str
    """Its source: a file, a URL, a page number."""
    image: bytes
    """An encoded image, such as PNG or JPEG."""
    mime_type: str = "image/png"
    text: str = ""


class Answer(BaseModel):
    """The output of the chain."""

    text: str
    sources: list[str]
    """Sources of the pages that the model saw."""
    verdict: str
    """The guard's verdict: `passed`, `abstained` or `skipped`."""
    agreement: float


def index_pages(
    pages: Sequence[Page],
    model: Runnable[Any, Any] | str,
    embedding: Embeddings,
    config: SmoothGuardConfig | None = None,
    *,
    caption_question: str = CAPTION_QUESTION,
) -> InMemoryVectorStore:
    """Return a vector store of pages, indexed by their text and by captions from the guarded model.

    The guard keeps adversarial images from controlling their captions, and so from being found for what they do not
    show.

    Args:
        pages: Pages to index.
        model: A multimodal chat model, or a string for `init_chat_model`.
        embedding: Embeds texts, captions and questions.
        config: The guard's configuration.
        caption_question: The request for a caption.
    """
    requests = [[HumanMessage([_block(page), {"type": "text", "text": caption_question}])] for page in pages]
    captions = SmoothGuardRunnable(model, config=config).batch(list(requests), {"max_concurrency": 4})
    store = InMemoryVectorStore(embedding)
    store.add_documents(
        [
            Document(
                page_content=f"{page.text}\n{caption.text}".strip(),
                metadata={"source": page.source, "text": page.text, "image": _block(page)},
            )
            for page, caption in zip(pages, captions, strict=True)
        ]
    )
    return store


def build_chain(
    model: Runnable[Any, Any] | str, store: VectorStore, config: SmoothGuardConfig | None = None, *, num_pages: int = 1
) -> Runnable[str, Answer]:
    """Compose a chain from a question to an answer from the nearest pages, whose images are guarded.

    Args:
        model: A multimodal chat model, or a string for `init_chat_model`.
        store: The store from `index_pages`, or one whose documents have the same metadata.
        config: The guard's configuration.
        num_pages: Number of pages for the model.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
        >>> model = ScriptedChatModel(script=["A cat."])
        >>> build_chain(model, InMemoryVectorStore(WordEmbeddings())).invoke("What is it?").sources
        []
    """
    retrieve = store.as_retriever(search_kwargs={"k": num_pages})
    ask = RunnableLambda(_request) | SmoothGuardRunnable(model, config=config)
    chain: Runnable[str, Answer] = (
        {"question": RunnablePassthrough(), "pages": retrieve}
        | RunnablePassthrough.assign(message=ask)
        | RunnableLambda(_answer)
    )
    return chain


def _block(page: Page) -> dict[str, Any]:
    return {"type": "image", "base64": base64.b64encode(page.image).decode(), "mime_type": page.mime_type}


def _request(found: dict[str, Any]) -> list[BaseMessage]:
    content: list[str | dict[str, Any]] = []
    for page in found["pages"]:
        content += [{"type": "text", "text": page.metadata["text"]}] if page.metadata["text"] else []
        content.append(page.metadata["image"])
    return [HumanMessage([*content, {"type": "text", "text": found["question"]}])]


def _answer(found: dict[str, Any]) -> Answer:
    record = found["message"].response_metadata["smoothguard"]
    return Answer(
        text=found["message"].text,
        sources=[page.metadata["source"] for page in found["pages"]],
        verdict=record["verdict"],
        agreement=record["agreement"],
    )


def main() -> None:
    """Index six images of the reference model's world, and ask where each one's first shape is."""
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path
    from smoothguard_guardrail.models.reference.scenes import draw, scenes
    from smoothguard_guardrail.voting import default_embedder

    shown = list(scenes(6, seed=4))
    pages = []
    for number, scene in enumerate(shown):
        draw(scene).save(buffer := io.BytesIO(), "PNG")
        pages.append(Page(source=f"image {number}", image=buffer.getvalue()))
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    config = SmoothGuardConfig.reference()
    embedding: Any = default_embedder()
    store = index_pages(pages, model, embedding, config)
    chain = build_chain(model, store, config)
    for scene in shown:
        question = f"Where is the {scene.items[0].name}?"
        answer = chain.invoke(question)
        print(f"{question} {answer.text} ({', '.join(answer.sources)}; {answer.verdict}, {answer.agreement:.2f})")


if __name__ == "__main__":
    main()
