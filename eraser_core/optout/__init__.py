"""Opting out: a register of names, and a model from which all of them are erased. The schema is in docs/opting_out.md."""
