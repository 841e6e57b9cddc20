"""Folders to upload: an erasure with its picture, its figures, a card that says what it is, and a workflow."""
