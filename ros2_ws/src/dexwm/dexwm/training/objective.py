"""What objectives of training have in common."""


class ObjectiveError(ValueError):
    """Raised for an objective that can't be, or a batch that lacks what it needs."""
