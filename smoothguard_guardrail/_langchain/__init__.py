"""The only room that touches LangChain's internals."""
