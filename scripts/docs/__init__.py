"""The documentation site: the repository's Markdown, with what only the code can say filled in."""
