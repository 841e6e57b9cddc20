"""Ways to bring an erased concept back: one file an attack."""
