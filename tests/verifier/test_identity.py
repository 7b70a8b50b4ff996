"""The file that says how a trained verifier must be asked."""

import pytest

from verl_spark.verification.kinds import Kind
from verl_spark.verifier.identity import FILE, Identity


@pytest.mark.parametrize("kind", Kind)
def test_it_comes_back_as_it_was_written_and_fits_its_own_kind_alone(tmp_path, kind):
    identity = Identity.of_kind(kind, base_model="b", seed=1, training={"steps": 3})
    identity.write(tmp_path)
    assert Identity.of(tmp_path) == identity
    for other in Kind:
        problem = identity.misfit(other)
        if other is kind:
            assert problem is None
        else:
            assert problem is not None
            assert f"trained as {kind.value}" in problem
            assert f"asked as {other.value}" in problem


def test_another_wording_of_the_prompt_is_told_with_both_hashes_and_the_version():
    identity = Identity.of_kind(Kind.PRM, base_model="b", seed=1, versions={"verl-spark": "0.0.7"})
    here = identity.prompt_sha256
    problem = identity.model_copy(update={"prompt_sha256": "f" * 64}).misfit(Kind.PRM)
    assert problem is not None
    assert "f" * 12 in problem
    assert here[:12] in problem
    assert "0.0.7" in problem


def test_a_model_trained_elsewhere_has_none(tmp_path):
    assert Identity.of(tmp_path) is None
    assert Identity.of(tmp_path / "absent") is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"kind": "prm_kot"}', "\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=FILE):
        Identity.of(tmp_path)
