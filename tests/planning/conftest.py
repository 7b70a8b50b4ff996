"""A mock server and problems, as in the tests of Stage I."""

from tests.data.conftest import problems  # noqa: F401  (a fixture)
from tests.verifier.conftest import serve  # noqa: F401  (a fixture)
