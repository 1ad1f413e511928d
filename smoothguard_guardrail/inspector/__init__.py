"""The inspector: a page that shows what a guard does with one request, and lets you change how it decides."""
