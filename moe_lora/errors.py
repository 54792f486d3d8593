"""What can be wrong with an adapter file, or with the model it is put on. Every message says what to do."""


class AdapterError(ValueError):
    """An adapter was not applied; the model that came in is unchanged."""


class FileError(AdapterError):
    """The file cannot be read, or what it holds is no complete, sound adapter."""


class ModelMismatchError(AdapterError):
    """The file is sound but does not fit this model."""
