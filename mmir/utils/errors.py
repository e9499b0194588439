"""Errors that a user can put right: the tools print their message, no traceback."""


class UserError(Exception):
    """Something the user can put right; the message says what and how."""


class AnnotationError(UserError, ValueError):
    """An annotation file is broken or contradicts its images."""
