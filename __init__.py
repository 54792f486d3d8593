"""ICEdit for ComfyUI: instruction-based image editing with In-Context Edit (arXiv 2504.20690)."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The host's entry point. Nodes are imported here, so that the logic folders can be used without a host."""
    from .host.version import check_version

    check_version()
    from .nodes import ICEditExtension

    return ICEditExtension()


def __getattr__(name: str):
    # A ComfyUI from before comfy_entrypoint asks for this name and skips the pack without saying why.
    if name == "NODE_CLASS_MAPPINGS":
        from .host.version import tell_hosts_without_entrypoint

        tell_hosts_without_entrypoint()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
