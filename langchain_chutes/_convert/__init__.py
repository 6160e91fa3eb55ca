"""LangChain's messages, tools and chunks to the core's and back."""
