"""What every diagnostic is: its questions, what it needs, and the function that answers them."""

import dataclasses
from collections.abc import Callable

from diagnostics.finding import Finding, Question
from diagnostics.material import Material, Part


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Diagnostic:
    """A diagnostic. Its module ends with one, and `diagnostics.registry` lists it.

    Attributes:
      title: short name for progress lines and files, such as "duplicates".
      questions: that it answers, with one finding each.
      find: reads the material and answers all questions.
      needs: parts of the material without which it is not asked.
      needs_any: further parts, of which at least one has to be there; () for none.
    """

    title: str
    questions: tuple[Question, ...]
    find: Callable[[Material], list[Finding]]
    needs: tuple[Part, ...] = ()
    needs_any: tuple[Part, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its findings."""
        return tuple(question.name for question in self.questions)

    def applies(self, material: Material) -> bool:
        """Whether the material has what it needs."""
        has_any = not self.needs_any or any(map(material.has, self.needs_any))
        return has_any and all(map(material.has, self.needs))
