"""The prompt on its way from the data set to the rollout."""

import pickle

import pytest

from verl_spark.rl.prompts import PromptPreparer, note_of
from verl_spark.settings import SparkSettings
from verl_spark.verification.prompts import policy_instruction

ROW = {
    "raw_prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}],
    "extra_info": {"index": 7},
    "index": 7,
    "question": "two and three?",
}


def prepare(row=ROW, validation=False, **settings):
    def keep(rows):
        return rows[0]

    return PromptPreparer(keep, SparkSettings(**settings), validation)([row])


def test_the_instruction_is_added_to_the_last_user_turn_only():
    prompt = prepare()["raw_prompt"]
    assert prompt[0] == ROW["raw_prompt"][0]
    assert prompt[1]["content"] == "What is 2 + 3?\n\n" + policy_instruction("tags")


def test_the_row_of_the_data_set_is_left_alone():
    before = pickle.dumps(ROW)
    prepare()
    assert pickle.dumps(ROW) == before


def test_as_is_changes_no_prompt():
    assert prepare(policy_prompt="as_is")["raw_prompt"] == ROW["raw_prompt"]


@pytest.mark.parametrize(("field", "problem"), [(None, "What is 2 + 3?"), ("question", "two and three?")])
def test_the_verifier_gets_the_problem_before_our_instruction_or_a_named_field(field, problem):
    assert note_of(prepare(problem_field=field)).problem == problem


def test_validation_is_a_property_of_the_call():
    assert note_of(prepare(validation=True)).validation
    assert not note_of(prepare()).validation


def test_what_the_data_set_said_is_kept():
    assert prepare()["extra_info"]["index"] == 7


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({**ROW, "raw_prompt": [{"role": "system", "content": "x"}]}, {}, "index 7.*no user turn"),
        ({k: v for k, v in ROW.items() if k != "raw_prompt"}, {}, "index 7.*raw_prompt"),
        (ROW, {"problem_field": "nope"}, "index 7.*problem_field=nope"),
    ],
)
def test_an_unusable_row_is_named(row, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare(row, **settings)


def test_a_row_that_did_not_come_through_the_hook_is_refused_with_the_cure():
    with pytest.raises(KeyError, match="extra_info"):
        note_of({"extra_info": {"index": 1}})


def test_it_survives_pickling_for_data_loader_workers():
    from verl.utils.dataset.rl_dataset import collate_fn

    preparer = pickle.loads(pickle.dumps(PromptPreparer(collate_fn, SparkSettings(), validation=True)))
    assert note_of({"extra_info": preparer([ROW])["extra_info"][0]}).validation
