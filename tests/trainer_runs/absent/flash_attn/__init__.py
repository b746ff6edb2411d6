"""SkyRL imports flash-attn, which needs a GPU, and calls it on GPUs alone."""
