"""The host's interrupt, for loops that take long."""

import comfy.model_management

INTERRUPTS: tuple[type[BaseException], ...] = (comfy.model_management.InterruptProcessingException,)


def poll() -> None:
    """Raises the host's interrupt when the user wants one."""
    comfy.model_management.throw_exception_if_processing_interrupted()
