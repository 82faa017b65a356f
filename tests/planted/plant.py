"""A rule of the production code, broken on purpose in this process: one module is compiled from altered source."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]


class Rule(NamedTuple):
    """A rule, and who notices when it is broken.

    Attributes:
        name: what happens without it.
        file: the module that keeps it, from the root of the source tree.
        old: the text that keeps it, which stands there once.
        new: the text that does not.
        caught_by: the test that turns red, as pytest names it; or the seed of a world, for the simulator.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str | int

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.file.removesuffix(".py").replace("/", ".")

    def breach(self) -> str:
        """Return the module's source without the rule.

        Raises:
            ValueError: if the text that keeps the rule is not there, or there more than once.
        """
        source = (ROOT / self.file).read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.file}")
        return source.replace(self.old, self.new)


class _Loader(SourceFileLoader):
    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.module, str(ROOT / rule.file))
        self._rule = rule

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._rule.breach(), self.path, "exec", dont_inherit=True)
        return code


class _Finder(MetaPathFinder):
    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._rule.module:
            return None
        loader = _Loader(self._rule)
        return spec_from_file_location(fullname, loader.path, loader=loader)


def plant(rule: Rule) -> None:
    """Break a rule in this process, whose module must not be imported yet."""
    if rule.module in sys.modules:
        raise ValueError(f"{rule.module} is imported already")
    sys.meta_path.insert(0, _Finder(rule))
