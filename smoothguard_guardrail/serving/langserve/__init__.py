"""LangServe's routes for guards, forms and chains."""
