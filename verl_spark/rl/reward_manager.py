"""verl's reward managers of this package (hook: `verl.experimental.reward_loop.reward_manager.register`).

`run_single` is called for one rollout at a time, while others still generate; it holds no state but the scorer.
Whether a rollout is training or validation, and the problem as it stood before our format instruction, come with
the row: `verl_spark.rl.prompts` puts them there."""

from dataclasses import replace
from functools import partial
from typing import Any

from omegaconf import OmegaConf
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from verl_spark.rewards.designs import Basis
from verl_spark.rewards.spans import step_spans
from verl_spark.rl.judge_actor import RemoteJudge
from verl_spark.rl.prompts import note_of, place_of, reference_of
from verl_spark.rl.row import reported_score
from verl_spark.rl.scoring import Facts, Scorer
from verl_spark.settings import SparkSettings


class SparkRewardManager(RewardManagerBase):  # type: ignore[misc]
    """Asks the run's generative verifier; `reward.spark` says which and how."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        # The router's address is not used: it hides status codes and admits 256 calls, so the judge talks to the
        # servers themselves.
        self._settings = SparkSettings.from_config(config.reward.spark)
        dumped = bool(OmegaConf.select(config, "trainer.rollout_data_dir"))
        self._scorer = Scorer(self._settings, RemoteJudge(), reward_model_tokenizer, dumped)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of the last output of one session, as verl's reward loop wants it."""
        item = data[-1:][0]
        length = item.batch["responses"].shape[-1]
        n_tokens = int(item.batch["attention_mask"][-length:].sum())
        ids = item.batch["responses"][:n_tokens].tolist()
        decode = partial(self.tokenizer.decode, skip_special_tokens=True)
        response = decode(ids)
        fields = item.non_tensor_batch
        note = note_of(fields)
        facts = Facts(n_tokens, self.config.data.max_response_length if self._settings.overlong_buffer.enable else None)
        if note.probe:
            info = await self._scorer.probe(response, note.problem, reference_of(fields), facts)
        elif note.validation:
            info = await self._scorer.validate(response, reference_of(fields))
        else:
            locate = partial(step_spans, ids, response, decode=decode)
            info = await self._scorer.train(response, note.problem, locate, self._of_training(facts, fields))
        return {"reward_score": reported_score(info), "reward_extra_info": info}

    def _of_training(self, facts: Facts, fields: Any) -> Facts:
        """Beside `facts` only what the design goes by: training looks at no reference unless its design is to."""
        basis = self._settings.basis
        return replace(
            facts,
            reference=reference_of(fields) if basis is Basis.REFERENCE else None,
            place=place_of(fields) if basis is Basis.CHANCE else None,
        )


class SparkPrmCot(SparkRewardManager):
    """A generative PRM that reasons about each step, then marks it, then gives its verdict."""


class SparkPrm(SparkRewardManager):
    """A generative PRM that marks each step, then gives its verdict."""


class SparkOrm(SparkRewardManager):
    """A generative outcome reward model that answers Yes or No."""


class SparkThinkPrm(SparkRewardManager):
    """A generative PRM that thinks, then writes what that of `SparkPrmCot` does."""


class SparkFormat(SparkRewardManager):
    """The format gate alone as reward: a control arm that asks no verifier, as all below."""


class SparkRlvr(SparkRewardManager):
    """The rule-based answer check against references."""


class SparkRandom(SparkRewardManager):
    """A seeded coin."""


class SparkMajority(SparkRewardManager):
    """The most frequent answer of the prompt's rollouts in place of a reference; the trainer hook counts the votes."""


MANAGERS: dict[str, type[SparkRewardManager]] = {
    "spark_prmcot": SparkPrmCot,
    "spark_prm": SparkPrm,
    "spark_orm": SparkOrm,
    "spark_thinkprm": SparkThinkPrm,
    "spark_format": SparkFormat,
    "spark_rlvr": SparkRlvr,
    "spark_random": SparkRandom,
    "spark_majority": SparkMajority,
}
"""Names as in `reward.reward_manager.name`. verl wants a class each; what differs is in `reward.spark`."""
