"""Stage II: generative reward models trained with verl's own SFT trainer, out of the files of Stage I. SPARK, Stage II.

Engine, optimiser, checkpoints, resume and trackers are verl's. Ours are the presets (`conf/sft`), the data set class
(`dataset`), the checks before the first step (`check`, `rows`, `tokens`), the guard of a run's folder (`claim`) and the
exported model (`export`). `callback` ties them to verl's command, `launch` starts that command."""
