"""The only importer of ComfyUI's modules: files, conditioning, patching, sampling."""
