"""The pocket model's own part of evaluation: its tasks, scores, suite and tables."""
