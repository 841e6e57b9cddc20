"""Proof: one file a metric, one a suite."""
