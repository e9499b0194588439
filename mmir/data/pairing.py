"""Rules that derive the file of one camera from that of another."""

import os
from dataclasses import dataclass


class PairRuleError(ValueError):
    """A pair rule does not fit a file name."""


@dataclass(frozen=True)
class PairRule:
    """Rule that derives the file name of one camera from that of another.

    Attributes:
        folder: Folder name and its replacement, such as ('visible', 'infrared');
            applies to the last folder of that name in the path.
        prefix: Start of the file name and its replacement, such as ('rgb_', 'ir_').
        stem: End of the file stem and its replacement, such as
            ('_RGB', '_PreviewData').
        suffix: New suffix including the dot; None keeps the old one.
    """

    folder: tuple[str, str] | None = None
    prefix: tuple[str, str] | None = None
    stem: tuple[str, str] | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        """Refuse a suffix without a dot."""
        if self.suffix is not None and not self.suffix.startswith('.'):
            raise PairRuleError(f'suffix {self.suffix!r} must start with a dot')

    def __call__(self, path: str) -> str:
        """Derive the partner of a file.

        Args:
            path: File of the reference camera, with forward slashes.

        Returns:
            The partner's path; it need not exist.

        Raises:
            PairRuleError: The path has no such folder, or its name starts or ends
                differently.
        """
        folder, slash, name = path.rpartition('/')
        stem, suffix = os.path.splitext(name)
        if self.folder is not None:
            folder = self._moved(folder, path)
        if self.prefix is not None:
            if not stem.startswith(self.prefix[0]):
                raise PairRuleError(
                    f'the name of {path} does not start with {self.prefix[0]!r} (pair '
                    f'rule {self})'
                )
            stem = self.prefix[1] + stem.removeprefix(self.prefix[0])
        if self.stem is not None:
            if not stem.endswith(self.stem[0]):
                raise PairRuleError(
                    f'the name of {path} does not end with {self.stem[0]!r} (pair rule '
                    f'{self})'
                )
            stem = stem.removesuffix(self.stem[0]) + self.stem[1]
        return f'{folder}{slash}{stem}{suffix if self.suffix is None else self.suffix}'

    def _moved(self, folder: str, path: str) -> str:
        """The partner's folder."""
        parts = folder.split('/')
        if self.folder[0] not in parts:
            raise PairRuleError(
                f'there is no folder {self.folder[0]!r} in {path} (pair rule {self})'
            )
        last = len(parts) - 1 - parts[::-1].index(self.folder[0])
        parts[last] = self.folder[1]
        return '/'.join(parts)
