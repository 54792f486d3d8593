"""The MoE-LoRA checkpoint (paper section 3.2): reading, checking, computing. Needs torch and safetensors, no host."""
