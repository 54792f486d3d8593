"""Running ICEdit without a browser: a client for any ComfyUI server, and an embedded server."""
