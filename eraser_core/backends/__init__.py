"""Models from a user's disk, and the pocket model, as denoisers."""
