"""The MoE-LoRA checkpoint (paper section 3.2): reading, checking and computing it. Needs torch and safetensors, no host."""
