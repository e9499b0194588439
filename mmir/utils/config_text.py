"""Config texts inside checkpoints, which mmengine executes as Python."""

import ast
from collections.abc import Mapping
from typing import Any

# An Inferencer without a config takes it from here, and a resumed run reads `config`.
_PLACES = (
    ('meta', 'config'),
    ('meta', 'cfg'),
    ('message_hub', 'runtime_info', 'cfg'),
)
_PLAIN = (
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.Name,
    ast.UnaryOp,
    ast.unaryop,
    ast.expr_context,
    ast.keyword,
)


def executable_configs(content: Any) -> list[str]:
    """Find the config texts of a checkpoint that do more than assign plain values.

    mmengine writes `key = value` lines of literals and `dict(...)`. A text with an
    import, another call or `_base_` was not written by it.

    Args:
        content: Content of a checkpoint file.

    Returns:
        Their places, such as 'meta.cfg'.
    """
    texts = {'.'.join(place): _at(content, place) for place in _PLACES}
    return [
        name
        for name, text in texts.items()
        if isinstance(text, str) and not _assigns_only(text)
    ]


def _at(content: Any, place: tuple[str, ...]) -> Any:
    """Value at a path of nested dicts; None if there is none."""
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _assigns_only(text: str) -> bool:
    """Check that a config text assigns literals and dicts of them, and nothing else."""
    if '{{' in text:  # replaced by other text before mmengine executes it
        return False
    try:
        tree = ast.parse(text)
    except SyntaxError:  # nor can mmengine execute it
        return True
    except (ValueError, RecursionError, MemoryError):
        return False
    for statement in tree.body:
        if not isinstance(statement, ast.Assign):
            return False
        names = [t.id for t in statement.targets if isinstance(t, ast.Name)]
        if len(names) != len(statement.targets) or '_base_' in names:
            return False
        if not all(_is_plain(node) for node in ast.walk(statement.value)):
            return False
    return True


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == 'dict'
    return isinstance(node, _PLAIN)
