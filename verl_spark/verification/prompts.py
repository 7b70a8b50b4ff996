"""Every prompt is a file in `prompts/`; this module fills it in and identifies it by its hash.

Placeholders are filled in one pass, so a problem that mentions a placeholder is not filled again, and a
placeholder without a value is an error."""

import hashlib
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, TemplateNotFound

from verl_spark.verification.kinds import Kind

_SUFFIX = ".jinja"
_LOADER = PackageLoader("verl_spark.verification", "prompts")
_ENVIRONMENT = Environment(
    loader=_LOADER,
    undefined=StrictUndefined,
    autoescape=False,  # prompts are plain text: `<`, `&` and quotes stay as they are
    keep_trailing_newline=False,
)


def prompt_names() -> tuple[str, ...]:
    """Names of all prompt files, without their suffix, sorted."""
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in _ENVIRONMENT.list_templates(extensions=["jinja"])))


def verifier_prompt(kind: Kind) -> str:
    """Name of the prompt that a verifier of this kind gets: the yes/no question only for an ORM."""
    return "verifier_orm" if kind is Kind.ORM else "verifier_prm"


def verifier_message(kind: Kind, problem: str, solution: str) -> str:
    """User message for a verifier: problem, solution as rendered, and the request, a blank line between them."""
    return _template(verifier_prompt(kind)).render(problem=problem, solution=solution)


def policy_instruction(name: str) -> str:
    """Text that asks the policy for its format; `name` is that of a policy format such as "tags".

    Raises ValueError, with the names there are, for a format without an instruction."""
    return _template(f"policy_{name}").render()


def prompt_hash(name: str) -> str:
    """SHA-256 (hex) of a prompt file's text, to be kept with every record that the prompt produced."""
    return hashlib.sha256(_source(name).encode()).hexdigest()


@cache
def _template(name: str) -> Template:
    _source(name)  # the error for an unknown name
    return _ENVIRONMENT.get_template(name + _SUFFIX)


def _source(name: str) -> str:
    try:
        return _LOADER.get_source(_ENVIRONMENT, name + _SUFFIX)[0]
    except TemplateNotFound:
        raise ValueError(f"there is no prompt {name!r}; there are: {', '.join(prompt_names())}") from None
