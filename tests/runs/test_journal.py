"""The journal: a line is whole or owed again, and what was written stays as it is."""

import tracemalloc

import pytest

from verl_spark.runs.journal import Journal, JournalError, Sample

KEY, OTHER = "a" * 64, "b" * 64


def samples(first, n, text="Hé\ud800\u2028\n"):
    return [Sample(i, text, "stop", 3, 5, 0.1) for i in range(first, first + n)]


def test_samples_come_back_as_they_were_and_grow_from_the_first_missing_one(tmp_path):
    with Journal(tmp_path / "j", write=True) as journal:
        journal.append(KEY, samples(0, 2))
        journal.append(OTHER, samples(0, 1))
        journal.append(KEY, samples(2, 1))
        with pytest.raises(ValueError, match="is 3, not 5"):
            journal.append(KEY, samples(5, 1))
    for write in (False, True):
        with Journal(tmp_path / "j", write) as journal:
            assert (journal.count(KEY), journal.count(OTHER), journal.count("c" * 64)) == (3, 1, 0)
            assert journal.samples(KEY) == samples(0, 3)
            assert [len(request) for request in journal.requests()] == [2, 1, 1]


@pytest.mark.parametrize("kept", range(0, 200, 7))
def test_a_torn_last_line_is_owed_again_and_the_rest_stays_byte_for_byte(tmp_path, kept):
    path = tmp_path / "j"
    with Journal(path, write=True) as journal:
        journal.append(KEY, samples(0, 2))
        whole = path.read_bytes()
        journal.append(OTHER, samples(0, 3))
    line = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + line[: min(kept, len(line) - 1)])
    with Journal(path, write=False) as journal:
        assert journal.count(OTHER) == 0
    with Journal(path, write=True) as journal:
        assert path.read_bytes() == whole
        assert (journal.count(KEY), journal.count(OTHER)) == (2, 0)
        journal.append(OTHER, samples(0, 3))
    assert path.read_bytes() == whole + line


def test_a_line_that_is_no_call_is_passed_over(tmp_path):
    path = tmp_path / "j"
    path.write_text("?\n")
    with Journal(path, write=True) as journal:
        journal.append(KEY, samples(0, 1))
    with Journal(path, write=False) as journal:
        assert journal.samples(KEY) == samples(0, 1)
        assert len(list(journal.requests())) == 1


def test_two_runs_cannot_write_one_journal(tmp_path):
    with (
        Journal(tmp_path / "j", write=True),
        pytest.raises(JournalError, match="in use"),
        Journal(tmp_path / "j", True),
    ):
        pass


def test_the_index_holds_no_texts(tmp_path):
    keys = [f"{i:064x}" for i in range(1000)]
    with Journal(tmp_path / "j", write=True) as journal:
        for key in keys:
            journal.append(key, samples(0, 2, "x" * 10_000))
    tracemalloc.start()
    with Journal(tmp_path / "j", write=False) as journal:
        held, _ = tracemalloc.get_traced_memory()
        assert len(journal) == len(keys)
    tracemalloc.stop()
    assert held / len(keys) < 400  # bytes, of 20,000 on disk
