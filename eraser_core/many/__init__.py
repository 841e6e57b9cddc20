"""Many erasures in one model: files combined into one, lists solved at once, a register, and the harm told beforehand."""
