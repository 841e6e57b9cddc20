"""Take a concept out of a text-to-image diffusion model, keep the rest, and prove it. Knows nothing of ComfyUI."""
