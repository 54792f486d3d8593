"""The MoE-LoRA on the host: adapter files, the experts as a model of their own, putting them on a model."""
