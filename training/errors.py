"""What can go wrong with a training. Every message says what to do."""


class TrainingError(ValueError):
    """A training cannot start or go on; what it had saved is kept."""
