"""How large a YAML text becomes once its aliases and interpolations are spelt out."""

from __future__ import annotations

import re
from collections import defaultdict

import yaml

MOST = 20_000_000
"""Characters of the largest tree that is taken for a sweep's."""

_NODE = 20
"""What a value counts beside its characters."""

NESTED = re.compile(r"\$\{[^}]*\$\{")
"""The beginning of an interpolation within another one, which may double at every level."""

_INTERPOLATION = re.compile(r"\$\{([^${}]*)\}")
_WORD = re.compile(r"[^\s.:,\[\]]+")


def spelt_out(text: str) -> float:
    """About as many characters, at most; ten lines can stand for a billion. Nothing is spelt out.

    Raises what PyYAML raises.
    """
    if "*" not in text and "${" not in text:
        return len(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)  # where aliases are the same nodes
    return 0 if root is None else _Sizes(root).of(root)


class _Sizes:
    """Sizes of the nodes of a YAML text, each computed once."""

    def __init__(self, root: yaml.Node) -> None:
        self._known: dict[int, float] = {}
        self._by_key: dict[str, list[yaml.Node]] = defaultdict(list)
        self._note(root, set())

    def _note(self, node: yaml.Node, seen: set[int]) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    self._by_key[key.value].append(value)
                self._note(key, seen)
                self._note(value, seen)
        elif isinstance(node, yaml.SequenceNode):
            for each in node.value:
                self._note(each, seen)

    def of(self, node: yaml.Node) -> float:
        """A circle counts as nothing: OmegaConf refuses it."""
        if id(node) not in self._known:
            self._known[id(node)] = 0.0
            self._known[id(node)] = _NODE + self._content(node)
        return self._known[id(node)]

    def _content(self, node: yaml.Node) -> float:
        if isinstance(node, yaml.MappingNode):
            return sum(self.of(key) + self.of(value) for key, value in node.value)
        if isinstance(node, yaml.SequenceNode):
            return sum(map(self.of, node.value))
        return len(node.value) + sum(map(self._meant, _INTERPOLATION.findall(node.value)))

    def _meant(self, path: str) -> float:
        """The largest of what `path` may lead to: all that has one of its words as its key."""
        found = [node for word in _WORD.findall(path) for node in self._by_key.get(word, ())]
        return max(map(self.of, found), default=0.0)
