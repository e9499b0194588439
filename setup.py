"""Puts configs, tools, indexes and the description into the package.

All else is in pyproject.toml.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('configs', 'tools', 'demo', 'model-index.yml', 'dataset-index.yml')


def place(source: Path, target: Path, link: bool) -> None:
    """Copy a file or folder, or link to it where links can be made."""
    if link:
        try:
            target.symlink_to(os.path.relpath(source, target.parent))
            return
        except OSError:  # Windows without the right to, some network drives
            pass
    if source.is_dir():
        ignored = shutil.ignore_patterns('__pycache__', '*.pyc')
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy2(source, target)


class BuildPyWithMim(build_py):
    """Fill `mmir/.mim`, where mim, `mmir::` configs and the model zoo look.

    The family fills it when it sees `develop` among the arguments, which pip no longer
    passes; here the folder belongs to the build itself. An editable install gets links,
    so that it shows the files of the checkout.
    """

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        mim = (ROOT if editable else Path(self.build_lib)) / 'mmir' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            place(ROOT / name, mim / name, link=editable)


def description(readme: str) -> str:
    """Rewrite README for an index page, where links to files of the checkout die.

    A link becomes its text with the path in brackets; pictures go, with the caption in
    italics below them.
    """
    text = re.sub(r'!\[[^]]*\]\([^)]*\)\n\n(\*[^*]+\*\n\n)?', '', readme)
    link = r'\[([^]]*)\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)'
    text = re.sub(link, r'\1 (`\2`)', text)
    title, _, rest = text.partition('\n')
    return f'{title}\n\nFiles named in brackets are in the source distribution.\n{rest}'


setup(
    cmdclass={'build_py': BuildPyWithMim},
    long_description=description((ROOT / 'README.md').read_text(encoding='utf-8')),
    long_description_content_type='text/markdown',
)
