"""Every prompt is a file in `prompts/`; this module fills it in and identifies it by its hash.

Placeholders are filled in one pass, so a problem that mentions a placeholder is not filled again, and a
placeholder without a value is an error. Stage I quotes texts in fences longer than any inside them: nothing in a
text can end its quotation. Files called `part_…` are included by others."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, TemplateNotFound, meta

from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import without_thinking

_SUFFIX = ".jinja"
_SLOT = "\0"  # stands for a text in a prompt; no prompt holds it
_LOADER = PackageLoader("verl_spark.verification", "prompts")
_ENVIRONMENT = Environment(
    loader=_LOADER,
    undefined=StrictUndefined,
    autoescape=False,  # prompts are plain text: `<`, `&` and quotes stay as they are
    keep_trailing_newline=False,
)


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


_ENVIRONMENT.filters["fenced"] = _fenced


def prompt_names() -> tuple[str, ...]:
    """Names of all prompt files, without their suffix, sorted."""
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in _ENVIRONMENT.list_templates(extensions=["jinja"])))


def verifier_prompt(kind: Kind) -> str:
    """Name of the prompt that a verifier of this kind gets: the yes/no question only for an ORM."""
    return "verifier_orm" if kind is Kind.ORM else "verifier_prm"


def verifier_message(kind: Kind, problem: str, solution: str) -> str:
    """User message for a verifier: problem, solution as rendered, and the request, a blank line between them."""
    return _template(verifier_prompt(kind)).render(problem=problem, solution=solution)


def asked(kind: Kind, message: str) -> tuple[str, str] | None:
    """Problem and solution in a user message as `verifier_message` writes it; None for any other text.

    The first place where the prompt could divide them counts, so a problem that repeats the prompt's own words there
    comes back shorter."""
    before, between, after = verifier_message(kind, _SLOT, _SLOT).split(_SLOT)
    if not (message.startswith(before) and message.endswith(after) and len(before + after) <= len(message)):
        return None
    problem, divided, solution = message[len(before) : len(message) - len(after)].partition(between)
    return (problem, solution) if divided else None


def generator_message(problem: str) -> str:
    """User message that asks for a solution in numbered steps with a last line `Answer: VALUE`."""
    return _template("generator").render(problem=problem)


def stage1_prompt(reference: bool) -> str:
    """Name of the prompt that an untrained verifier gets, with or without a reference answer."""
    return "verifier_reference" if reference else "verifier_stage1"


def stage1_message(
    problem: str, solution: str, n_steps: int, examples: bool = True, reference: str | None = None
) -> str:
    """User message for an untrained verifier: what to write, two worked `examples` if wanted, and then the item.

    The solution as rendered, with `n_steps` steps. `reference` is shown for the reference-guided method only."""
    shown = {} if reference is None else {"reference": reference}
    template = _template(stage1_prompt(reference is not None))
    return template.render(problem=problem, solution=solution, n_steps=n_steps, examples=examples, **shown)


def critique_message(problem: str, solution: str, verification: str) -> str:
    """User message that asks for a critique of a verification, which is shown without its thinking."""
    shown = without_thinking(verification).strip()
    return _template("critique").render(problem=problem, solution=solution, verification=shown)


def merge_message(problem: str, solution: str, n_steps: int, verification: str, critique: str) -> str:
    """User message that asks for one verification out of a verification and its critique, both without thinking.

    ValueError for a critique of which nothing is left: the verification would come back unreviewed."""
    remarks = without_thinking(critique).strip()
    if not remarks:
        raise ValueError("the critique says nothing: empty, or its thinking was never closed; do not merge it")
    return _template("merge").render(
        problem=problem,
        solution=solution,
        n_steps=n_steps,
        verification=without_thinking(verification).strip(),
        critique=remarks,
    )


def critic_message(problem: str, paragraphs: Sequence[str]) -> str:
    """User message that asks in which paragraph of a solution the first error is, counted from 0, or -1 for none."""
    return _template("critic").render(problem=problem, paragraphs=paragraphs)


def policy_message(problem: str, instruction: str) -> str:
    """User turn for a policy: the problem, and an instruction behind it if there is one, a blank line between them."""
    return f"{problem}\n\n{instruction}" if instruction else problem


def policy_instruction(name: str) -> str:
    """Text that asks the policy for its format; `name` is that of a policy format such as "tags", or `boxed`, which
    asks for nothing but a box.

    Raises ValueError, with the names there are, for a format without an instruction."""
    return _template(f"policy_{name}").render()


@cache
def prompt_hash(name: str, **settings: bool) -> str:
    """SHA-256 (hex) of a prompt file's text with the files it builds on, to be kept with what the prompt produced.

    `settings` are flags that change the prompt's wording, such as `examples`; they are part of the hash."""
    texts = [_source(part) for part in (name, *_parts(name))]
    return hashlib.sha256(
        "".join([*texts, json.dumps(settings, sort_keys=True) if settings else ""]).encode()
    ).hexdigest()


@cache
def _template(name: str) -> Template:
    _source(name)  # the error for an unknown name
    return _ENVIRONMENT.get_template(name + _SUFFIX)


def _parts(name: str) -> list[str]:
    """Names of all files that a prompt extends or includes, those of its parts after each."""
    found: list[str] = []
    for file in meta.find_referenced_templates(_ENVIRONMENT.parse(_source(name))):
        part = str(file).removesuffix(_SUFFIX)
        found += [part, *_parts(part)]
    return found


def _source(name: str) -> str:
    try:
        return _LOADER.get_source(_ENVIRONMENT, name + _SUFFIX)[0]
    except TemplateNotFound:
        raise ValueError(f"there is no prompt {name!r}; there are: {', '.join(prompt_names())}") from None
