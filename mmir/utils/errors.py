"""Errors that a user can fix: the tools print their message without a traceback."""


class UserError(Exception):
    """Error that the user can fix; the message says how."""


class AnnotationError(UserError, ValueError):
    """An annotation file is broken or does not match its images."""
