"""The goldens of a run: which ones tests name (`marks`), making them (`making`), and which of a store's are needed (`use`)."""
