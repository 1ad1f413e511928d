"""What puts a guard into LangChain: a Runnable, a chat model, an agent's middleware."""
