"""ICEdit for ComfyUI: instruction-based image editing with In-Context Edit (arXiv 2504.20690)."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The host's entry point. Nodes are imported here, so that the logic folders can be used without a host."""
    from .nodes import ICEditExtension

    return ICEditExtension()
