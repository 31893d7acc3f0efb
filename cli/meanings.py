"""What outcomes, faults and exit codes mean: the sentences that stand below them in the source."""

import ast
import inspect
import itertools
from enum import Enum


def member_sentences(members: type[Enum]) -> dict[str, str]:
    """Return the sentences that stand below members in the source, by name: the one place where they are written."""
    (definition,) = ast.parse(inspect.getsource(members)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    sentences = {}
    for member, below in itertools.pairwise(body):
        match member, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                sentences[name] = " ".join(text.split())
    return sentences
